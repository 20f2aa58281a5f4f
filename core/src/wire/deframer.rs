//! Cuts a byte stream into frames.

use alloc::vec::Vec;
use core::fmt;

use super::MAX_FRAME;

/// Collects bytes as they arrive and yields whole frame payloads. Holds at most one frame.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Deframer {
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

impl Deframer {
    /// Takes the next frame's payload from what was kept and `input`, and advances `input` past it.
    /// `None`: all of `input` was kept, and more is needed.
    ///
    /// # Errors
    /// [`FrameError`] on a length that no frame has; what follows can not be told apart.
    pub fn next<'a>(&'a mut self, input: &mut &'a [u8]) -> Result<Option<&'a [u8]>, FrameError> {
        let _ = input;
        Ok(None)
    }
}
