//! How many tokens a text is. Servers send text, seldom counts, and not every piece is one token.
//!
//! The rule: where the server says with each piece how many tokens it has written so far, that is believed; else a piece
//! is one token, and the last one is held back, so that it can carry what the usage says in the end beyond that. Never
//! more than asked for, never more than bytes of text, never less than one a piece: a server that cuts its pieces finer
//! than tokens without saying so is counted by its pieces. Where the usage says more than text is left to carry, the
//! requester owes less.

use crate::Piece;

/// Text of one piece, in bytes, at most.
pub(super) const MAX_TEXT: usize = 8 << 10;

/// Counts one answer.
#[derive(Clone, Debug)]
pub(super) struct Tally {
    max: u32,
    /// Tokens delivered.
    counted: u32,
    /// Bytes delivered.
    bytes: u64,
    /// Text that waits: for its count, or for the end.
    held: String,
}

/// The answer has all the text that fits its last token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;

impl Tally {
    pub(super) fn new(max_tokens: u32) -> Self {
        Self { max: max_tokens, counted: 0, bytes: 0, held: String::new() }
    }

    /// Tokens delivered so far.
    pub(super) fn counted(&self) -> u32 {
        self.counted
    }

    /// True if there was no text yet.
    pub(super) fn is_empty(&self) -> bool {
        self.bytes == 0 && self.held.is_empty()
    }

    /// Takes text, at most [`MAX_TEXT`], and how many tokens the server says it has written with it in all. Returns what
    /// can be delivered.
    ///
    /// # Errors
    /// [`Full`]: the answer ends here, whatever else the server writes.
    pub(super) fn push(&mut self, text: &str, total: Option<u64>) -> Result<Option<Piece>, Full> {
        // The last token that may be written waits for the end: whatever text is left belongs to it.
        let last = self.max.saturating_sub(self.counted) <= 1;
        let ready = match total {
            None if last || self.held.is_empty() => None,
            None => self.deliver(1),
            Some(_) => None,
        };
        if self.held.len() + text.len() > MAX_TEXT {
            if last {
                return Err(Full);
            }
            // More than one token can be.
            let ready = self.deliver(1);
            self.held.push_str(text);
            return Ok(ready);
        }
        self.held.push_str(text);
        let Some(total) = total else { return Ok(ready) };
        let n = self.fitting(total);
        Ok(if n >= 1 && n < self.max - self.counted { self.deliver(n) } else { None })
    }

    /// The answer is over; the server says that it wrote `total` tokens.
    pub(super) fn finish(&mut self, total: Option<u64>) -> Option<Piece> {
        let n = total.map_or(1, |total| self.fitting(total)).max(1);
        self.deliver(n)
    }

    /// How many tokens of a total are not counted yet, as far as they can be: `counted` stays below `max` before.
    fn fitting(&self, total: u64) -> u32 {
        let text = self.bytes + self.held.len() as u64;
        let fitting = total.min(text).min(self.max.into());
        u32::try_from(fitting).unwrap_or(u32::MAX).saturating_sub(self.counted)
    }

    fn deliver(&mut self, n: u32) -> Option<Piece> {
        if self.held.is_empty() {
            return None;
        }
        self.counted += n;
        self.bytes += self.held.len() as u64;
        Some(Piece { n, text: std::mem::take(&mut self.held), ids: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(max: u32, pushes: &[(&str, Option<u64>)], total: Option<u64>) -> Vec<(u32, String)> {
        let mut tally = Tally::new(max);
        let mut pieces = Vec::new();
        for (text, total) in pushes {
            pieces.extend(tally.push(text, *total).expect("fits"));
        }
        pieces.extend(tally.finish(total));
        assert_eq!(pieces.iter().map(|piece| piece.n).sum::<u32>(), tally.counted());
        pieces.into_iter().map(|piece| (piece.n, piece.text)).collect()
    }

    fn pieces(expected: &[(u32, &str)]) -> Vec<(u32, String)> {
        expected.iter().map(|(n, text)| (*n, (*text).to_owned())).collect()
    }

    #[test]
    fn a_piece_is_a_token_unless_the_usage_says_more() {
        let three = [("one", None), (" two", None), (" three", None)];
        assert_eq!(run(9, &three, None), pieces(&[(1, "one"), (1, " two"), (1, " three")]));
        assert_eq!(run(9, &three, Some(7)), pieces(&[(1, "one"), (1, " two"), (5, " three")]));
        assert_eq!(
            run(9, &three, Some(1)),
            pieces(&[(1, "one"), (1, " two"), (1, " three")]),
            "delivered is delivered"
        );
        assert_eq!(
            run(6, &three, Some(99)),
            pieces(&[(1, "one"), (1, " two"), (4, " three")]),
            "never more than asked"
        );
        assert_eq!(run(9, &[("ab", None), ("c", None)], Some(8)), pieces(&[(1, "ab"), (2, "c")]), "nor than bytes");
        assert_eq!(run(9, &[], Some(3)), pieces(&[]), "without text nothing is owed");
    }

    #[test]
    fn what_the_server_says_with_each_piece_is_believed() {
        let said = [("one", Some(1)), (" two three", Some(3)), (" fo", Some(3)), ("ur", Some(4)), (" five", Some(5))];
        assert_eq!(run(9, &said, Some(5)), pieces(&[(1, "one"), (2, " two three"), (1, " four"), (1, " five")]));
    }

    #[test]
    fn the_last_token_takes_all_text_that_is_left() {
        let four = [("a", None), ("b", None), ("c", None), ("d", None)];
        assert_eq!(run(2, &four, None), pieces(&[(1, "a"), (1, "bcd")]));
        assert_eq!(run(1, &four, None), pieces(&[(1, "abcd")]));
        let mut tally = Tally::new(1);
        let long = "x".repeat(MAX_TEXT);
        assert_eq!(tally.push(&long, None), Ok(None));
        assert_eq!(tally.push("y", None), Err(Full));
        assert_eq!(tally.finish(None).map(|piece| (piece.n, piece.text.len())), Some((1, MAX_TEXT)));
    }
}
