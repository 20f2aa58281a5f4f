//! Cuts a byte stream into frames.

use alloc::vec::Vec;
use core::fmt;

use super::MAX_FRAME;

/// Bytes of a frame's length, big endian, before its payload.
const HEAD: usize = 2;

/// Collects bytes as they arrive and yields whole frame payloads. Holds at most one frame, and never more than twice
/// what arrived of it: an announced length reserves nothing.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Deframer {
    /// The frame that is not yet whole, length included; or the one yielded last.
    partial: Vec<u8>,
}

/// A frame of impossible length: zero, or beyond [`MAX_FRAME`]. The stream is of no more use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FrameError(pub u16);

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a frame of {} bytes: 1 to {MAX_FRAME} are allowed", self.0)
    }
}

impl core::error::Error for FrameError {}

impl fmt::Debug for Deframer {
    // Without the bytes: they may be a prompt.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deframer").field("held", &self.held()).finish()
    }
}

impl Deframer {
    /// Takes the next frame's payload from what was kept and `input`, and advances `input` past it. A frame that lies in
    /// `input` as a whole is not copied. `None`: all of `input` was kept, and more is needed.
    ///
    /// ```
    /// # use haggle_core::wire::{Deframer, FrameError};
    /// # fn main() -> Result<(), FrameError> {
    /// let mut deframer = Deframer::default();
    /// let mut payloads = Vec::new();
    /// for mut input in [&b"\0\x02h"[..], b"i\0\x01!"] {
    ///     while let Some(payload) = deframer.next(&mut input)? {
    ///         payloads.push(payload.to_vec());
    ///     }
    /// }
    /// assert_eq!(payloads, [b"hi".to_vec(), b"!".to_vec()]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`FrameError`] on a length that no frame has; what follows can not be told apart. The same error comes again.
    // [F3] How the bytes came makes no difference.
    pub fn next<'r, 'i: 'r>(&'r mut self, input: &mut &'i [u8]) -> Result<Option<&'r [u8]>, FrameError> {
        if self.held() == 0 {
            self.partial.clear();
            if let Some(total) = frame_len(input)?
                && let Some((frame, rest)) = input.split_at_checked(total)
            {
                *input = rest;
                return Ok(Some(&frame[HEAD..]));
            }
        }
        self.keep(HEAD, input);
        if let Some(total) = frame_len(&self.partial)? {
            self.keep(total, input);
            if self.partial.len() == total {
                return Ok(Some(&self.partial[HEAD..]));
            }
        }
        Ok(None)
    }

    /// Bytes that are kept of a frame that is not yet whole.
    #[must_use]
    pub fn held(&self) -> usize {
        let yielded = frame_len(&self.partial) == Ok(Some(self.partial.len()));
        if yielded { 0 } else { self.partial.len() }
    }

    /// Moves bytes from `input` until `goal` are kept.
    fn keep(&mut self, goal: usize, input: &mut &[u8]) {
        let missing = goal.saturating_sub(self.partial.len());
        let (taken, rest) = input.split_at(missing.min(input.len()));
        if self.partial.capacity() < self.partial.len() + taken.len() {
            // Doubling, but never beyond the frame.
            // [E5] Memory follows what arrived, not what was announced.
            let room = (2 * self.partial.len()).clamp(taken.len(), missing);
            self.partial.reserve_exact(room);
        }
        self.partial.extend_from_slice(taken);
        *input = rest;
    }
}

/// The length of the frame that `bytes` begin, its head included; `None` while the head is not whole.
fn frame_len(bytes: &[u8]) -> Result<Option<usize>, FrameError> {
    let Some(head) = bytes.first_chunk::<HEAD>() else { return Ok(None) };
    // [F1] [F2] Looked at as soon as both bytes are there.
    let len = u16::from_be_bytes(*head);
    match usize::from(len) {
        payload @ 1..=MAX_FRAME => Ok(Some(HEAD + payload)),
        _ => Err(FrameError(len)),
    }
}
