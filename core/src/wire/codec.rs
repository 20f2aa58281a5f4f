//! Strict canonical CBOR: a message has exactly one encoding, and nothing else is accepted.

use alloc::vec::Vec;
use core::fmt;

use minicbor::encode::Write;

use super::{MAX_FRAME, message::Message};

/// Levels of lists and maps in a message, at most. It takes 6 to describe a model's exactness.
const MAX_DEPTH: usize = 8;

/// Why bytes are no message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DecodeError {
    /// Longer than [`MAX_FRAME`].
    TooLong,
    /// Not CBOR of a known message: cut off, of another type, nested too deep, or not UTF-8.
    Malformed,
    /// Decodes, but not as this protocol writes it: trailing bytes, duplicate or unknown fields, another order,
    /// a longer form of a number, an indefinite length.
    NotCanonical,
    /// A field has a value that it can not have.
    OutOfBounds,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLong => "the frame is longer than 16 KiB",
            Self::Malformed => "the frame is no message of this protocol version",
            Self::NotCanonical => "the message is not in its canonical encoding",
            Self::OutOfBounds => "a field of the message is outside its bounds",
        })
    }
}

impl core::error::Error for DecodeError {}

/// Decodes one frame's payload. Text and bytes are borrowed from it.
///
/// # Errors
/// [`DecodeError`] for everything that [`encode`] does not write.
pub fn decode(payload: &[u8]) -> Result<Message<'_>, DecodeError> {
    if payload.len() > MAX_FRAME {
        return Err(DecodeError::TooLong);
    }
    check_shape::<{ MAX_DEPTH + 1 }>(payload)?;
    let message: Message<'_> = minicbor::decode(payload).map_err(|_| DecodeError::Malformed)?;
    // minicbor reads leniently (over-long numbers, duplicate keys, trailing bytes). Comparing with what we would
    // write closes all of that at once, without a copy.
    // [E1] [E2] [E3] [E4] One encoding: what is not ours byte by byte is refused.
    let mut rest = Unwritten(payload);
    match minicbor::encode(&message, &mut rest) {
        Ok(()) if !rest.0.is_empty() => Err(DecodeError::NotCanonical),
        Err(_) => Err(DecodeError::NotCanonical),
        Ok(()) if !message.is_in_bounds() => Err(DecodeError::OutOfBounds),
        Ok(()) => Ok(message),
    }
}

/// Appends a message's encoding to `out`.
pub fn encode(message: &Message<'_>, out: &mut Vec<u8>) {
    // Writing to a vector can not fail, and no message carries an encoder that does.
    let _infallible = minicbor::encode(message, out);
}

/// Appends a whole frame: two bytes of length, big endian, then the message.
pub fn encode_frame(message: &Message<'_>, out: &mut Vec<u8>) {
    let start = out.len();
    debug_assert!(message.is_in_bounds(), "a peer would refuse it");
    out.extend_from_slice(&[0, 0]);
    encode(message, out);
    let len = out.len() - start - 2;
    debug_assert!((1..=MAX_FRAME).contains(&len), "senders keep their messages under the frame limit");
    // [F1]
    out[start..start + 2].copy_from_slice(&(len as u16).to_be_bytes());
}

/// Walks over the items of one frame without keeping anything: what is indefinite, tagged, no integer, string, list, map or
/// boolean, nested in more than `LEVELS - 1` others or cut off goes no further. (minicbor skips over unknown fields with a stack
/// that grows up to sixteen times as large as they are.)
// [E1] [E4] What no message holds, and what is nested too deep, ends here. [E5] Before anything is allocated for it.
pub(crate) fn check_shape<const LEVELS: usize>(payload: &[u8]) -> Result<(), DecodeError> {
    let mut shape = Shape { rest: payload };
    // Items that are still to come on each level.
    let mut open = [0_u64; LEVELS];
    let mut depth = 0;
    open[0] = 1;
    loop {
        while open[depth] == 0 {
            if depth == 0 {
                // Trailing bytes are found when the encodings are compared.
                return Ok(());
            }
            depth -= 1;
        }
        open[depth] -= 1;
        let inside = shape.item().ok_or(DecodeError::Malformed)?;
        if inside > 0 {
            depth += 1;
            *open.get_mut(depth).ok_or(DecodeError::Malformed)? = inside;
        }
    }
}

struct Shape<'a> {
    rest: &'a [u8],
}

impl Shape<'_> {
    /// Passes one item, the inside of strings included; says how many items lie inside of it.
    fn item(&mut self) -> Option<u64> {
        let (&head, rest) = self.rest.split_first()?;
        self.rest = rest;
        let argument = match head & 0x1f {
            small @ 0..=23 => u64::from(small),
            info @ 24..=27 => self.skip(1 << (info - 24))?.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
            _ => return None,
        };
        match head >> 5 {
            0 | 1 => Some(0),
            2 | 3 => self.skip(argument).map(|_| 0),
            4 => Some(argument),
            5 => argument.checked_mul(2),
            7 if matches!(head, FALSE | TRUE) => Some(0),
            _ => None,
        }
    }

    fn skip(&mut self, len: u64) -> Option<&[u8]> {
        let (skipped, rest) = self.rest.split_at_checked(usize::try_from(len).ok()?)?;
        self.rest = rest;
        Some(skipped)
    }
}

const FALSE: u8 = 0xf4;
const TRUE: u8 = 0xf5;

/// A writer that accepts only the bytes it was made with.
pub(crate) struct Unwritten<'a>(pub(crate) &'a [u8]);

pub(crate) struct Differs;

impl Write for Unwritten<'_> {
    type Error = Differs;

    fn write_all(&mut self, buf: &[u8]) -> Result<(), Differs> {
        self.0 = self.0.strip_prefix(buf).ok_or(Differs)?;
        Ok(())
    }
}
