//! Server-sent events: bytes in, events out, however the bytes were cut. No I/O, bounded memory.

use std::fmt;

/// Bytes of one event that are held, at most; a whole answer in one event fits.
pub const MAX_EVENT: usize = 1 << 20;

/// Cuts a stream of bytes into events, by the rules of the HTML standard: lines end with CR, LF or both, a blank line ends
/// an event, several `data` lines are one text with line feeds between them, a line that begins with a colon is a comment,
/// one byte order mark at the beginning is left out. An event without data, and what follows the last blank line, is none.
///
/// ```
/// use haggle_engine::upstream::sse::Parser;
///
/// let mut parser = Parser::default();
/// let mut bytes: &[u8] = b": hello\n\ndata: one\ndata: two\n\n";
/// let event = parser.next(&mut bytes)?.expect("one event");
/// assert_eq!((event.name, event.data), (&b""[..], &b"one\ntwo"[..]));
/// # Ok::<(), haggle_engine::upstream::sse::TooLong>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Parser {
    /// The line that is not complete yet.
    line: Vec<u8>,
    /// The data of the event that is not complete yet, each line with its line feed.
    data: Vec<u8>,
    name: Vec<u8>,
    /// The event that was returned last is to be forgotten.
    returned: bool,
    /// The last byte was a CR: an LF that follows belongs to it.
    after_cr: bool,
    /// The first line was seen.
    begun: bool,
    too_long: bool,
}

/// One event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// Its `event` field; empty if there is none.
    pub name: &'a [u8],
    /// Its data, not necessarily UTF-8.
    pub data: &'a [u8],
}

/// An event is longer than [`MAX_EVENT`]. Nothing more can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an event is longer than {MAX_EVENT} bytes")
    }
}

impl std::error::Error for TooLong {}

impl Parser {
    /// The next event in `bytes`, which are consumed up to its end; `None` if they are all consumed and none is complete.
    ///
    /// # Errors
    /// [`TooLong`], now and for ever.
    pub fn next(&mut self, bytes: &mut &[u8]) -> Result<Option<Event<'_>>, TooLong> {
        if std::mem::take(&mut self.returned) {
            self.data.clear();
            self.name.clear();
        }
        loop {
            if self.after_cr && !bytes.is_empty() {
                self.after_cr = false;
                *bytes = bytes.strip_prefix(b"\n").unwrap_or(bytes);
            }
            let end = bytes.iter().position(|byte| matches!(byte, b'\r' | b'\n'));
            let (part, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
            self.too_long |= self.held() + part.len() > MAX_EVENT;
            if self.too_long {
                return Err(TooLong);
            }
            self.line.extend_from_slice(part);
            let Some((ending, rest)) = rest.split_first() else {
                *bytes = rest;
                return Ok(None);
            };
            *bytes = rest;
            self.after_cr = *ending == b'\r';
            if self.end_line() {
                self.returned = true;
                let data = self.data.strip_suffix(b"\n").unwrap_or_default();
                return Ok(Some(Event { name: &self.name, data }));
            }
        }
    }

    /// Bytes that are held: never more than [`MAX_EVENT`].
    pub fn held(&self) -> usize {
        self.line.len() + self.data.len() + self.name.len()
    }

    /// Takes the line that is complete. True if it ends an event.
    fn end_line(&mut self) -> bool {
        if !std::mem::replace(&mut self.begun, true) && self.line.starts_with(b"\xef\xbb\xbf") {
            self.line.drain(..3);
        }
        if self.line.is_empty() {
            // What has no data is no event.
            if self.data.is_empty() {
                self.name.clear();
            }
            return !self.data.is_empty();
        }
        let colon = self.line.iter().position(|byte| *byte == b':').unwrap_or(self.line.len());
        let (field, value) = self.line.split_at(colon);
        let value = value.strip_prefix(b":").unwrap_or(value);
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match field {
            b"data" => {
                self.data.extend_from_slice(value);
                self.data.push(b'\n');
            }
            b"event" => {
                self.name.clear();
                self.name.extend_from_slice(value);
            }
            // `id` and `retry` are for clients that reconnect; a colon first is a comment; others are for the future.
            _ => {}
        }
        self.line.clear();
        false
    }
}
