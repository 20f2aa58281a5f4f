//! The window of a job: how far tokens may run ahead of what the application consumed. Both sides keep the same books.

use alloc::collections::VecDeque;

use crate::limits::CHUNK_COST;

/// Chunks sent and not yet acknowledged. The provider moves it when it hears an Ack, the requester when it sends one.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Window {
    max_tokens: u32,
    max_bytes: u32,
    /// Each chunk's end and cost, oldest first.
    chunks: VecDeque<(u64, u32)>,
    /// First token that is not acknowledged.
    start: u64,
    /// Token after the last one sent.
    end: u64,
    cost: u32,
}

/// What a chunk takes of the window's bytes.
// [W3]
pub(crate) const fn cost(text: &str, ids: Option<&[u8]>) -> u32 {
    let ids = match ids {
        Some(ids) => ids.len(),
        None => 0,
    };
    // Both are bounded by the frame.
    (text.len() + ids) as u32 + CHUNK_COST
}

impl Window {
    /// An empty window; the first token is `start`.
    pub(crate) const fn new(start: u64, max_tokens: u32, max_bytes: u32) -> Self {
        Self { max_tokens, max_bytes, chunks: VecDeque::new(), start, end: start, cost: 0 }
    }

    pub(crate) const fn start(&self) -> u64 {
        self.start
    }

    pub(crate) const fn end(&self) -> u64 {
        self.end
    }

    pub(crate) const fn max_tokens(&self) -> u32 {
        self.max_tokens
    }

    pub(crate) const fn max_bytes(&self) -> u32 {
        self.max_bytes
    }

    /// Tokens that still fit, if their bytes do.
    pub(crate) fn room(&self) -> u32 {
        if self.max_bytes.saturating_sub(self.cost) <= CHUNK_COST {
            return 0;
        }
        let used = u32::try_from(self.end - self.start).unwrap_or(u32::MAX);
        self.max_tokens.saturating_sub(used)
    }

    /// Whether more than half of the tokens, or of the bytes, are taken.
    pub(crate) fn is_half_full(&self) -> bool {
        let tokens = self.end - self.start;
        2 * tokens > u64::from(self.max_tokens) || 2 * u64::from(self.cost) > u64::from(self.max_bytes)
    }

    /// Takes a chunk in; `false`, and nothing changes, if it does not fit.
    #[must_use]
    pub(crate) fn take(&mut self, n: u32, cost: u32) -> bool {
        // [W4]
        let fits = n <= self.room() && cost <= self.max_bytes.saturating_sub(self.cost);
        if fits {
            self.end += u64::from(n);
            self.cost += cost;
            self.chunks.push_back((self.end, cost));
        }
        fits
    }

    /// Frees what lies before `next`, which is within `start..=end`.
    pub(crate) fn free(&mut self, next: u64) {
        self.start = next.clamp(self.start, self.end);
        // [W4] A chunk counts until its end is acknowledged.
        while let Some((_, cost)) = self.chunks.front().filter(|(end, _)| *end <= self.start) {
            self.cost -= cost;
            self.chunks.pop_front();
        }
    }

    /// Whether an acknowledgement up to `next` is worth sending at once: 32 chunks, or half of the window.
    pub(crate) fn is_ripe(&self, next: u64) -> bool {
        let tokens = next.saturating_sub(self.start);
        if tokens >= u64::from(self.max_tokens / 2).max(1) {
            return true;
        }
        // Chunks are in order: the 32nd tells whether that many are consumed.
        if self.chunks.get(31).is_some_and(|(end, _)| *end <= next) {
            return true;
        }
        let freed: u32 = self.chunks.iter().take_while(|(end, _)| *end <= next).map(|(_, cost)| cost).sum();
        freed >= self.max_bytes / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_is_freed_when_its_last_token_is_consumed() {
        let mut window = Window::new(0, 10, 1000);
        assert!(window.take(4, 100));
        assert!(window.take(4, 100));
        assert!(!window.take(3, 100), "12 tokens in a window of 10");
        window.free(3);
        assert_eq!((window.start(), window.cost), (3, 200));
        window.free(4);
        assert_eq!((window.cost, window.room()), (100, 6));
        assert!(!window.take(1, 901), "1,001 bytes in a window of 1,000");
        assert!(window.take(1, 900));
        assert_eq!(window.room(), 0);
    }

    #[test]
    fn ripe_by_tokens_chunks_or_bytes() {
        let mut window = Window::new(0, 1024, 100_000);
        for _ in 0..40 {
            assert!(window.take(1, 65));
        }
        assert!(!window.is_ripe(31));
        assert!(window.is_ripe(32));
        let mut window = Window::new(0, 10, 1000);
        assert!(window.take(2, 600));
        assert!(window.is_ripe(2));
        assert!(!window.is_ripe(1));
    }
}
