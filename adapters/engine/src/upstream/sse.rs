//! Server-sent events: bytes in, events out, however the bytes were cut. No I/O, bounded memory.

use std::fmt;

use super::json::Nesting;

/// Bytes of one event that are held, at most; a whole answer in one event fits.
pub const MAX_EVENT: usize = 1 << 20;

/// Cuts a stream of bytes into events, by the rules of the HTML standard: lines end with CR, LF or both, a blank line ends
/// an event, several `data` lines are one text with line feeds between them, a line that begins with a colon is a comment,
/// one byte order mark at the beginning is left out. An event without data is none.
///
/// Servers forget blank lines, and the whole framing where something broke. So data that begins with a bracket ends where
/// that is closed, with the line it is on, and lines that begin with a bracket are data. What follows the last line's end
/// or the last blank line is an event only if it is such data.
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
    /// The brackets of the data.
    nesting: Nesting,
    /// The data came without the name of its field, and so does the rest of it.
    bare: bool,
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
        self.forget();
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
                return Ok(Some(self.event()));
            }
        }
    }

    /// The bytes are over: the event that they end with, if it is complete but for line ends.
    pub fn finish(&mut self) -> Option<Event<'_>> {
        self.forget();
        (!self.too_long && !self.line.is_empty() && self.end_line()).then(|| self.event())
    }

    /// Bytes that are held: never more than [`MAX_EVENT`].
    pub fn held(&self) -> usize {
        self.line.len() + self.data.len() + self.name.len()
    }

    /// The event that was returned last is over.
    fn forget(&mut self) {
        if std::mem::take(&mut self.returned) {
            self.data.clear();
            self.name.clear();
            (self.nesting, self.bare) = Default::default();
        }
    }

    fn event(&mut self) -> Event<'_> {
        self.returned = true;
        Event { name: &self.name, data: self.data.strip_suffix(b"\n").unwrap_or_default() }
    }

    /// Takes the line that is complete. True if it ends an event.
    fn end_line(&mut self) -> bool {
        if !std::mem::replace(&mut self.begun, true) && self.line.starts_with(b"\xef\xbb\xbf") {
            self.line.drain(..3);
        }
        let line = std::mem::take(&mut self.line);
        self.bare |= self.data.is_empty() && is_bracket(&line);
        let ends = match line.is_empty() {
            _ if self.bare => self.take_data(&line),
            true => {
                // What has no data is no event.
                if self.data.is_empty() {
                    self.name.clear();
                }
                !self.data.is_empty()
            }
            false => self.take_field(&line),
        };
        // Its memory is used again.
        self.line = line;
        self.line.clear();
        ends
    }

    fn take_field(&mut self, line: &[u8]) -> bool {
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let (field, value) = line.split_at(colon);
        let value = value.strip_prefix(b":").unwrap_or(value);
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match field {
            b"data" => return self.take_data(value),
            b"event" => {
                self.name.clear();
                self.name.extend_from_slice(value);
            }
            // `id` and `retry` are for clients that reconnect; a colon first is a comment; others are for the future.
            _ => {}
        }
        false
    }

    /// Takes a line of data. True if a bracket that it began with is closed.
    fn take_data(&mut self, line: &[u8]) -> bool {
        self.data.extend_from_slice(line);
        self.data.push(b'\n');
        line.iter().for_each(|byte| self.nesting.push(*byte));
        is_bracket(&self.data) && self.nesting.is_closed()
    }
}

/// Whether an object or a list begins here.
fn is_bracket(bytes: &[u8]) -> bool {
    matches!(bytes.trim_ascii_start(), [b'{' | b'[', ..])
}
