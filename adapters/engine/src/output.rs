//! Turns tokens into pieces: whole characters only, and nothing that may still become a stop string.

use crate::Piece;

/// Tokens chosen but not delivered yet.
pub(crate) struct Output {
    stop: Vec<String>,
    /// Ids of the tokens held back and where the bytes of each one end.
    held: Vec<(u32, usize)>,
    bytes: Vec<u8>,
}

impl Output {
    pub(crate) fn new(stop: Vec<String>) -> Self {
        Self { stop, held: Vec::new(), bytes: Vec::new() }
    }

    /// The bytes of an unfinished character at the end of what is held back.
    pub(crate) fn open(&self) -> &[u8] {
        &self.bytes[self.whole()..]
    }

    /// Takes the next token. Returns what can be delivered now, and whether a stop string has ended the answer.
    pub(crate) fn push(&mut self, id: u32, bytes: &[u8]) -> (Option<Piece>, bool) {
        self.bytes.extend_from_slice(bytes);
        self.held.push((id, self.bytes.len()));
        let text = self.text();
        // [A11] In what is written here, and nowhere else.
        if let Some(at) = self.stop.iter().filter_map(|stop| text.find(stop)).min() {
            return (self.deliver(at), true);
        }
        (self.deliver_tokens(self.free()), false)
    }

    /// What is still held back, without the tokens of an unfinished character: there will be no more.
    pub(crate) fn flush(&mut self) -> Option<Piece> {
        self.deliver_tokens(self.whole())
    }

    /// Bytes that make whole characters.
    fn whole(&self) -> usize {
        match str::from_utf8(&self.bytes) {
            Ok(text) => text.len(),
            Err(error) => error.valid_up_to(),
        }
    }

    fn text(&self) -> &str {
        str::from_utf8(&self.bytes[..self.whole()]).unwrap_or_default()
    }

    /// Bytes before the first place where a stop string may have begun.
    fn free(&self) -> usize {
        let text = self.text();
        let begins = |at: &usize| self.stop.iter().any(|stop| stop.as_bytes().starts_with(&self.bytes[*at..]));
        (0..text.len()).find(begins).unwrap_or(text.len())
    }

    /// Delivers the tokens that end before a place, as far as they make whole characters.
    fn deliver_tokens(&mut self, limit: usize) -> Option<Piece> {
        let text = self.text();
        let ends = self.held.iter().map(|&(_, end)| end).take_while(|&end| end <= limit);
        let end = ends.filter(|&end| text.is_char_boundary(end)).last()?;
        self.deliver(end)
    }

    /// Delivers the text up to a place between characters, with all tokens that begin before it.
    fn deliver(&mut self, end: usize) -> Option<Piece> {
        let text = self.text().get(..end).filter(|text| !text.is_empty())?.to_string();
        let begun = |i: &usize| i.checked_sub(1).map_or(0, |last| self.held[last].1) < end;
        let count = (0..self.held.len()).take_while(begun).count();
        let ids: Vec<u32> = self.held.drain(..count).map(|(id, _)| id).collect();
        self.bytes.drain(..end);
        self.held.iter_mut().for_each(|(_, token_end)| *token_end -= end);
        Some(Piece { n: ids.len() as u32, text, ids: Some(ids), channel: None })
    }
}
