//! A run of tokens, as whoever takes it has to count: in order, within the window, and what its End says of it.
//!
//! Written anew and not taken from the core: it is the judge.

use std::collections::VecDeque;

use haggle_core::wire::message::{Channel, End, EndReason};
use sha2::{Digest, Sha256};

use crate::verdict::{Step, broken, demand};

/// What a chunk costs beyond its bytes.
const COST: u64 = 64;
/// The channel of the answer's text, in which every run begins.
pub(crate) const TEXT: u8 = 0;
/// What is hashed before a channel's number.
pub(crate) const NO_UTF8: u8 = 0xff;

/// A channel, as a run's hash knows it.
pub(crate) const fn number(channel: Option<Channel>) -> u8 {
    match channel {
        None => TEXT,
        Some(Channel::Thought) => 1,
        Some(Channel::Refusal) => 2,
        Some(Channel::ToolCall) => 3,
    }
}

/// Whether an answer that ends so is whole.
pub(crate) const fn is_complete(reason: EndReason) -> bool {
    matches!(reason, EndReason::Stop | EndReason::Length | EndReason::ToolCalls | EndReason::Filtered)
}

/// Whether a text is one JSON object.
pub(crate) fn is_object(text: &str) -> bool {
    serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(text).is_ok()
}

/// A chunk as it came.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) seq: u64,
    pub(crate) n: u64,
    pub(crate) payload: Vec<u8>,
    text: Vec<u8>,
    channel: u8,
    cost: u64,
}

impl Taken {
    fn end(&self) -> u64 {
        self.seq + self.n
    }
}

/// What is known of an answer.
pub(crate) struct Run {
    first: u64,
    max_tokens: u64,
    window: (u64, u64),
    prefix: Vec<u8>,
    pub(crate) chunks: Vec<Taken>,
    acked: u64,
    /// What was sent before a cut, and has to come again as it was.
    again: VecDeque<Vec<u8>>,
    pub(crate) end: Option<End>,
}

impl Run {
    pub(crate) fn new(first: u64, prefix: &[u8], max_tokens: u64, window: (u32, u32)) -> Self {
        Self {
            first,
            max_tokens,
            window: (window.0.into(), window.1.into()),
            prefix: prefix.to_vec(),
            chunks: Vec::new(),
            acked: first,
            again: VecDeque::new(),
            end: None,
        }
    }

    /// The token that comes next.
    pub(crate) fn next(&self) -> u64 {
        self.chunks.last().map_or(self.first, Taken::end)
    }

    pub(crate) fn tokens(&self) -> u64 {
        self.next() - self.first
    }

    /// Tokens that may still come without an Ack.
    pub(crate) fn room(&self) -> u64 {
        self.window.0.saturating_sub(self.next() - self.acked)
    }

    /// Takes a chunk: its message's payload, where it begins and how long it is, what it says, and in which channel.
    pub(crate) fn take(
        &mut self,
        payload: &[u8],
        (seq, n): (u64, u32),
        (text, ids): (&str, Option<&[u8]>),
        channel: Option<Channel>,
    ) -> Step {
        demand("X2", self.end.is_none(), || format!("a Chunk of {n} tokens after End"))?;
        demand("W1", seq == self.next(), || format!("a Chunk begins at token {seq}, not at {}", self.next()))?;
        if let Some(again) = self.again.pop_front() {
            demand("R1", again == payload, || format!("from token {seq} on it came in another Chunk before the cut"))?;
        }
        let is_call = channel == Some(Channel::ToolCall);
        demand("W2", !is_call || is_object(text), || {
            format!("{text:?} is not one JSON object: a piece of a tool call is")
        })?;
        let (n, payload) = (u64::from(n), payload.to_vec());
        let cost = (text.len() + ids.map_or(0, <[u8]>::len)) as u64 + COST;
        self.chunks.push(Taken { seq, n, payload, text: text.into(), channel: number(channel), cost });
        let (tokens, bytes) = (self.tokens(), self.chunks.iter().map(|chunk| chunk.text.len() as u64).sum::<u64>());
        demand("W2", tokens <= self.max_tokens, || format!("{tokens} tokens where {} were ordered", self.max_tokens))?;
        demand("W2", tokens <= bytes, || format!("{tokens} tokens in {bytes} bytes of text"))?;
        let open = self.chunks.iter().filter(|chunk| chunk.end() > self.acked);
        let cost: u64 = open.map(|chunk| chunk.cost).sum();
        let sent = self.next() - self.acked;
        demand("W4", sent <= self.window.0 && cost <= self.window.1, || {
            let (window_tokens, window_bytes) = self.window;
            format!("{sent} tokens that cost {cost} beyond {}; {window_tokens} and {window_bytes} may be", self.acked)
        })
    }

    pub(crate) fn ack(&mut self, next: u64) {
        self.acked = self.acked.max(next);
    }

    pub(crate) fn finish(&mut self, end: End) -> Step {
        if !self.again.is_empty() {
            return Err(broken("R1", "End came before what was sent and not acknowledged"));
        }
        let (tokens, reason) = (self.tokens(), end.reason);
        demand("X1", end.tokens == tokens, || format!("End tells of {} tokens, and {tokens} came", end.tokens))?;
        let says_nothing = tokens == 0 && !is_complete(reason);
        demand("X1", says_nothing || end.hash == self.hash(), || {
            "End's hash is not the one of the run's text over all channels, its prefix included".into()
        })?;
        self.end = Some(end);
        Ok(())
    }

    pub(crate) fn hash(&self) -> [u8; 32] {
        let mut hash = Sha256::new().chain_update(&self.prefix);
        let mut last = TEXT;
        for Taken { text, channel, .. } in &self.chunks {
            if *channel != last {
                hash.update([NO_UTF8, *channel]);
                last = *channel;
            }
            hash.update(text);
        }
        hash.finalize().into()
    }

    /// The stream was cut: the run goes on at `next`, which is where a chunk began, or its end.
    pub(crate) fn rewind(&mut self, next: u64) {
        let kept = self.chunks.iter().filter(|chunk| chunk.end() <= next).count();
        let again = self.chunks.split_off(kept);
        again.into_iter().rev().for_each(|chunk| self.again.push_front(chunk.payload));
        self.end = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::Fault;

    fn rule(step: Step) -> &'static str {
        match step {
            Ok(()) => "kept",
            Err(Fault::Broken(broken)) => broken.rule,
            Err(Fault::Unplayed(_)) => "unplayed",
        }
    }

    #[test]
    fn what_is_off_is_told_by_its_rule() {
        let mut run = Run::new(2, b"ab", 6, (4, 16_512));
        assert_eq!(rule(run.take(b"1", (2, 2), ("cd", None), None)), "kept");
        assert_eq!(rule(run.take(b"2", (5, 1), ("e", None), None)), "W1");
        assert_eq!(rule(run.take(b"2", (4, 3), ("efg", None), None)), "W4");
        run.ack(4);
        run.rewind(4);
        assert_eq!((run.next(), run.hash()), (4, Sha256::digest(b"abcd").into()));
        assert_eq!(rule(run.take(b"3", (4, 3), ("efg", None), None)), "R1");
        assert_eq!(rule(run.take(b"3", (4, 3), ("efg", None), None)), "kept");
        let hash = Sha256::digest(b"abcdefg").into();
        let end = |tokens, hash| End {
            reason: EndReason::Stop,
            prompt_tokens: 0,
            tokens,
            hash,
            thought: None,
            cached: None,
            receipt: None,
        };
        assert_eq!(rule(run.finish(end(7, hash))), "X1");
        assert_eq!(rule(run.finish(end(5, [0; 32]))), "X1");
        assert_eq!(rule(run.finish(end(5, hash))), "kept");
        assert_eq!(rule(run.take(b"4", (7, 1), ("h", None), None)), "X2");
        let mut run = Run::new(0, b"", 1, (4, 16_512));
        assert_eq!(rule(run.take(b"1", (0, 2), ("ab", None), None)), "W2");
        let mut run = Run::new(0, b"", 4, (4, 16_512));
        assert_eq!(rule(run.take(b"1", (0, 2), ("a", None), None)), "W2");
    }

    #[test]
    fn channels_are_counted_and_hashed_together() {
        let (thought, call) = (Some(Channel::Thought), Some(Channel::ToolCall));
        let mut run = Run::new(0, b"", 5, (8, 16_512));
        assert_eq!(rule(run.take(b"1", (0, 1), (" hm", None), thought)), "kept");
        assert_eq!(rule(run.take(b"2", (1, 1), ("Hi", None), None)), "kept");
        assert_eq!(run.hash(), <[u8; 32]>::from(Sha256::digest(b"\xff\x01 hm\xff\x00Hi")), "as in PROTOCOL.md");
        assert_eq!(rule(run.take(b"3", (2, 1), ("{}", None), call)), "kept");
        assert_eq!(rule(run.take(b"4", (3, 1), ("{}", None), call)), "kept");
        assert_eq!(run.hash(), <[u8; 32]>::from(Sha256::digest(b"\xff\x01 hm\xff\x00Hi\xff\x03{}{}")));
        for no_call in ["{}{}", "[]", "{", "1"] {
            assert_eq!(rule(run.take(b"5", (4, 1), (no_call, None), call)), "W2", "{no_call}");
        }
        run.rewind(2);
        assert_eq!(run.hash(), <[u8; 32]>::from(Sha256::digest(b"\xff\x01 hm\xff\x00Hi")));
        assert_eq!(rule(run.take(b"6", (2, 1), ("{}", None), thought)), "R1", "in another channel");
    }
}
