//! Strict canonical CBOR: a message has exactly one encoding, and nothing else is accepted.

use alloc::vec::Vec;
use core::fmt;

use minicbor::encode::Write;

use super::{MAX_FRAME, message::Message};

/// Why bytes are no message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DecodeError {
    /// Longer than [`MAX_FRAME`].
    TooLong,
    /// Not CBOR of a known message: cut off, of another type, beyond a limit, or not UTF-8.
    Malformed,
    /// Decodes, but not as this protocol writes it: trailing bytes, duplicate or unknown fields, another order,
    /// a longer form of a number, an indefinite length.
    NotCanonical,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLong => "the frame is longer than 16 KiB",
            Self::Malformed => "the frame is no message of this protocol version",
            Self::NotCanonical => "the message is not in its canonical encoding",
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
    let message = minicbor::decode(payload).map_err(|_| DecodeError::Malformed)?;
    // minicbor reads leniently (over-long numbers, duplicate keys, trailing bytes). Comparing with what we would
    // write closes all of that at once, without a copy.
    let mut rest = Unwritten(payload);
    match minicbor::encode(&message, &mut rest) {
        Ok(()) if rest.0.is_empty() => Ok(message),
        _ => Err(DecodeError::NotCanonical),
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
    out.extend_from_slice(&[0, 0]);
    encode(message, out);
    let len = out.len() - start - 2;
    debug_assert!((1..=MAX_FRAME).contains(&len), "senders keep their messages under the frame limit");
    out[start..start + 2].copy_from_slice(&(len as u16).to_be_bytes());
}

/// A writer that accepts only the bytes it was made with.
pub(super) struct Unwritten<'a>(pub(super) &'a [u8]);

pub(super) struct Differs;

impl Write for Unwritten<'_> {
    type Error = Differs;

    fn write_all(&mut self, buf: &[u8]) -> Result<(), Differs> {
        self.0 = self.0.strip_prefix(buf).ok_or(Differs)?;
        Ok(())
    }
}
