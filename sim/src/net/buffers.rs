//! Buffers that were used before, so that a message on its way costs no allocation.

/// Buffers kept.
const KEPT: usize = 256;
/// A larger one is given back to the system.
const KEPT_BYTES: usize = 4 << 10;

/// Empty buffers with some capacity.
#[derive(Debug, Default)]
pub(crate) struct Buffers(Vec<Vec<u8>>);

impl Clone for Buffers {
    /// A fork begins with none.
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl Buffers {
    /// A copy of some bytes.
    pub(crate) fn copy(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut buffer = self.0.pop().unwrap_or_default();
        buffer.extend_from_slice(bytes);
        buffer
    }

    pub(crate) fn give(&mut self, mut buffer: Vec<u8>) {
        if buffer.capacity() <= KEPT_BYTES && self.0.len() < KEPT {
            buffer.clear();
            self.0.push(buffer);
        }
    }
}
