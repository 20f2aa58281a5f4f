//! What was sent and not yet acknowledged: after a cut it is sent again.

use alloc::{collections::VecDeque, vec::Vec};

/// Frames of a job, oldest first. As large as the job's window: the provider stops computing before it would overflow.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Ring {
    bytes: VecDeque<u8>,
    frames: VecDeque<Frame>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Frame {
    /// Its first token.
    start: u64,
    /// The token after its last.
    end: u64,
    bytes: u32,
}

impl Ring {
    /// Keeps a frame that carries the tokens `start..end`.
    pub(super) fn keep(&mut self, start: u64, end: u64, frame: &[u8]) {
        self.bytes.extend(frame);
        // A frame has at most 16 KiB.
        self.frames.push_back(Frame { start, end, bytes: frame.len() as u32 });
    }

    /// Forgets frames that lie wholly before `next`.
    pub(super) fn free(&mut self, next: u64) {
        while let Some(frame) = self.frames.front().copied().filter(|frame| frame.end <= next) {
            self.frames.pop_front();
            self.bytes.drain(..frame.bytes as usize);
        }
    }

    /// The bytes of every frame from token `next` on; `None` if no frame begins there.
    pub(super) fn from(&self, next: u64, head: u64) -> Option<Vec<u8>> {
        if next == head {
            return Some(Vec::new());
        }
        let before: u64 = self.frames.iter().take_while(|frame| frame.start < next).map(|f| u64::from(f.bytes)).sum();
        // [R2]
        let begins = self.frames.iter().any(|frame| frame.start == next);
        begins.then(|| self.bytes.iter().skip(before as usize).copied().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replays_from_a_frames_first_token_only() {
        let mut ring = Ring::default();
        ring.keep(0, 2, b"aa");
        ring.keep(2, 3, b"b");
        ring.keep(3, 6, b"ccc");
        assert_eq!(ring.from(0, 6).unwrap(), b"aabccc");
        assert_eq!(ring.from(2, 6).unwrap(), b"bccc");
        assert_eq!(ring.from(6, 6).unwrap(), b"");
        assert_eq!(ring.from(1, 6), None);
        ring.free(2);
        assert_eq!(ring.from(0, 6), None, "freed");
        ring.free(4);
        assert_eq!(ring.from(3, 6).unwrap(), b"ccc", "a frame goes when its last token is acknowledged");
    }
}
