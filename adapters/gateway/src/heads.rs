//! Heads of requests as they come, looked at before hyper reads them.
//!
//! hyper forgives what is not safe behind whatever stands in front of it: of two lengths it takes one and forgets that there were two,
//! and a line may end without CR. Two readers that find the next request in two places is how one is smuggled past the other, so a head
//! that can be read in two ways is refused. What hyper refuses by itself it refuses without a word; the words are here, too.

use hyper::StatusCode;

use crate::errors::Refused;

/// Bytes of a request's head, at most.
pub(crate) const MAX_HEAD: usize = 64 << 10;
/// Lines of a request's head, at most.
pub(crate) const MAX_LINES: usize = 100;

/// Why a head can be read in two ways.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fault {
    /// It says more than once how long its body is.
    Length,
    /// A line of it ends without CR.
    LineEnd,
}

impl Fault {
    pub(crate) fn refused(self) -> Refused {
        let (code, text) = match self {
            Fault::Length => ("ambiguous_length", "a body has one length: one Content-Length, or Transfer-Encoding"),
            Fault::LineEnd => ("malformed_request", "the lines of a request's head end with CR and LF"),
        };
        Refused::new(StatusCode::BAD_REQUEST, code, text).closing()
    }
}

/// Follows what comes on a connection from head to head.
#[derive(Debug, Default)]
pub(crate) struct Heads {
    at: At,
    head: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum At {
    #[default]
    Head,
    /// So many bytes of a body are to come.
    Body(u64),
    /// Behind this the connection is closed.
    Rest,
}

impl Heads {
    /// Whether a head was begun and is not complete.
    pub(crate) fn is_open(&self) -> bool {
        !self.head.is_empty()
    }

    /// Whether more of a request is to come, or may be.
    pub(crate) fn is_within_request(&self) -> bool {
        self.is_open() || self.at != At::Head
    }

    /// Takes what came. What is wrong with each head that is complete by it, in turn.
    pub(crate) fn look_at(&mut self, mut bytes: &[u8], mut found: impl FnMut(Option<Fault>)) {
        while !bytes.is_empty() {
            match self.at {
                At::Rest => return,
                At::Body(left) => {
                    let n = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                    bytes = &bytes[n..];
                    let left = left.saturating_sub(n as u64);
                    self.at = if left == 0 { At::Head } else { At::Body(left) };
                }
                At::Head => {
                    let Some(rest) = self.add(bytes) else { return };
                    bytes = rest;
                    let fault;
                    (self.at, fault) = read(&self.head);
                    self.head = Vec::new();
                    found(fault);
                }
            }
        }
    }

    /// Adds to the head. What is behind its end, if that came.
    fn add<'a>(&mut self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        // Empty lines before a request are none of it.
        let blank =
            if self.head.is_empty() { bytes.iter().take_while(|byte| b"\r\n".contains(byte)).count() } else { 0 };
        for (at, byte) in bytes.iter().enumerate().skip(blank) {
            self.head.push(*byte);
            if *byte == b'\n' && (self.head.ends_with(b"\n\r\n") || self.head.ends_with(b"\n\n")) {
                return Some(&bytes[at + 1..]);
            }
            if self.head.len() > MAX_HEAD {
                // hyper says so.
                self.at = At::Rest;
                return None;
            }
        }
        None
    }
}

/// What follows a head, and what is wrong with it.
fn read(head: &[u8]) -> (At, Option<Fault>) {
    let mut lengths = Vec::new();
    let (mut is_chunked, mut is_plain) = (false, true);
    for line in head.split_inclusive(|byte| *byte == b'\n') {
        is_plain &= line.ends_with(b"\r\n");
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let (name, value) = (line[..colon].trim_ascii(), line[colon + 1..].trim_ascii());
        is_chunked |= name.eq_ignore_ascii_case(b"transfer-encoding");
        if name.eq_ignore_ascii_case(b"content-length") {
            lengths.push(value);
        }
    }
    let length = |value: &[u8]| str::from_utf8(value).ok().and_then(|text| text.parse().ok());
    match (is_plain, is_chunked, lengths.as_slice()) {
        (false, _, _) => (At::Rest, Some(Fault::LineEnd)),
        (true, true, []) => (At::Rest, None),
        (true, false, []) => (At::Head, None),
        // What is no number hyper refuses.
        (true, false, [one]) => (length(one).map_or(At::Rest, |n| if n == 0 { At::Head } else { At::Body(n) }), None),
        (true, _, _) => (At::Rest, Some(Fault::Length)),
    }
}

/// What hyper is about to send where it could not read a head: a status and nothing else. Where that begins, and what to send instead.
pub(crate) fn unread(bytes: &[u8]) -> Option<(usize, Refused)> {
    const HEADERS: [&str; 3] = ["content-length: 0", "connection: close", "date: "];
    let text = bytes.strip_suffix(b"\r\n\r\n")?;
    let at = text.windows(10).rposition(|ten| ten == b"HTTP/1.1 4")?;
    let mut lines = str::from_utf8(&text[at..]).ok()?.split("\r\n");
    let (status, code, why) = match lines.next()? {
        "HTTP/1.1 400 Bad Request" => {
            (StatusCode::BAD_REQUEST, "malformed_request", "the head of the request is malformed")
        }
        "HTTP/1.1 431 Request Header Fields Too Large" => (
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            "headers_too_large",
            "a request's head has at most 64 KiB and 100 lines",
        ),
        _ => return None,
    };
    if !lines.all(|line| HEADERS.iter().any(|header| line.starts_with(header))) {
        return None;
    }
    Some((at, Refused::new(status, code, why).closing()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn faults(text: &[u8], cuts: &[usize]) -> Vec<Option<Fault>> {
        let (mut heads, mut found) = (Heads::default(), Vec::new());
        let mut rest = text;
        for cut in cuts {
            let (piece, more) = rest.split_at((*cut).min(rest.len()));
            heads.look_at(piece, |fault| found.push(fault));
            rest = more;
        }
        heads.look_at(rest, |fault| found.push(fault));
        found
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_seen_however_it_is_written() {
        for (head, fault) in [
            ("POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", Some(Fault::Length)),
            ("POST / HTTP/1.1\r\ntransfer-encoding : chunked\r\nCONTENT-LENGTH:5\r\n\r\n", Some(Fault::Length)),
            ("POST / HTTP/1.1\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n", Some(Fault::Length)),
            ("GET / HTTP/1.1\nHost: a\r\n\r\n", Some(Fault::LineEnd)),
            ("GET / HTTP/1.1\r\nHost: a\n\n", Some(Fault::LineEnd)),
            ("POST / HTTP/1.1\r\nContent-Length: 0\nTransfer-Encoding: chunked\r\n\r\n", Some(Fault::LineEnd)),
            ("POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n", None),
            ("\r\nPOST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nX-Content-Length: 5\r\n\r\n", None),
        ] {
            assert_eq!(faults(head.as_bytes(), &[]), [fault], "{head:?}");
        }
    }

    #[test]
    fn only_what_hyper_says_by_itself_is_replaced() {
        let said = "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\ndate: today\r\n\r\n";
        assert_eq!(unread(said.as_bytes()).map(|(at, refused)| (at, refused.code)), Some((0, "malformed_request")));
        let behind = format!("5\r\nhello\r\n0\r\n\r\n{said}");
        assert_eq!(unread(behind.as_bytes()).map(|(at, _)| at), Some(15));
        for ours in [
            said.replace("date", "x-request-id: req_1\r\ndate"),
            said.replace("\r\n\r\n", "\r\n\r\nbody"),
            said.replace(" 0\r\n", " 7\r\n"),
            format!("9\r\n{}\r\n0\r\n\r\n", said.trim_end()),
        ] {
            assert!(unread(ours.as_bytes()).is_none(), "{ours:?}");
        }
    }

    fn request() -> impl Strategy<Value = (String, Option<Fault>)> {
        (0..40_usize, 0..8_u8).prop_map(|(body, kind)| {
            let line = if kind == 1 { "X: 1\n" } else { "X: 1\r\n" };
            // A body that looks like the next request.
            let body = "GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n".get(..body).unwrap_or_default();
            let length = format!("Content-Length: {}\r\n", body.len());
            let (lengths, fault) = match kind {
                1 => (length, Some(Fault::LineEnd)),
                2 => (length.repeat(2), Some(Fault::Length)),
                3 => (format!("{length}Transfer-Encoding: chunked\r\n"), Some(Fault::Length)),
                _ => (length, None),
            };
            (format!("POST / HTTP/1.1\r\n{line}{lengths}\r\n{body}"), fault)
        })
    }

    proptest! {
        /// Whatever comes, in whatever pieces: each head up to the first that is refused is judged, and no body is taken for one.
        #[test]
        fn every_head_is_judged_wherever_it_is_cut(
            requests in prop::collection::vec(request(), 1..6),
            cuts in prop::collection::vec(1..90_usize, 0..12),
        ) {
            let text: String = requests.iter().map(|(text, _)| text.as_str()).collect();
            let all: Vec<_> = requests.iter().map(|(_, fault)| *fault).collect();
            let refused = all.iter().position(Option::is_some).map_or(all.len(), |at| at + 1);
            prop_assert_eq!(faults(text.as_bytes(), &cuts), &all[..refused]);
        }
    }
}
