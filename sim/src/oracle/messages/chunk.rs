//! Chunk: within the window, and remembered until it is acknowledged.

use haggle_core::{JobId, PeerId, wire::message::Channel};

use super::Sent;
use crate::{
    dice::mix,
    oracle::{Judge, Rule},
};

/// What a frame of text costs of the window beyond its bytes, as the protocol says.
const CHUNK_COST: u64 = 64;

impl Judge {
    pub(super) fn chunk_sent(
        &mut self,
        sent: Sent,
        (job, attempt): (JobId, u32),
        (seq, n): (u64, u32),
        (text, ids): (&str, Option<&[u8]>),
        channel: Option<Channel>,
    ) {
        let end = seq + u64::from(n);
        let known = self.attempts.entry((sent.provider, job, attempt)).or_default();
        known.texts.entry((seq, end)).or_insert_with(|| hash_of(text, channel));
        let acked = known.acked;
        while let Some(first) = known.texts.first_entry()
            && first.key().1 <= acked
        {
            first.remove();
        }
        if !sent.core {
            return;
        }
        let cost = text.len() as u64 + ids.map_or(0, <[u8]>::len) as u64 + CHUNK_COST;
        let before = known.costs.insert(seq, (end, cost)).map_or(0, |(_, cost)| cost);
        known.held = known.held + cost - before;
        known.sent = known.sent.max(end);
        while let Some(first) = known.costs.first_entry()
            && first.get().0 <= acked
        {
            known.held -= first.remove().1;
        }
        let (held, window) = (known.held, known.window);
        let ahead = known.sent.saturating_sub(acked);
        if !window.is_some_and(|(tokens, bytes)| ahead <= tokens && held <= bytes) {
            self.fail(Rule::Window, format_args!("{ahead} tokens, {held} bytes ahead; window {window:?}"));
        }
    }

    /// Whether the provider sent tokens up to `end` with this text, in this channel. Of a chunk that begins with evidence only the rest is told.
    pub(in crate::oracle) fn was_sent(
        &self,
        (job, attempt, peer): (JobId, u32, PeerId),
        end: u64,
        (text, channel): (&str, Option<Channel>),
    ) -> bool {
        let Some(known) = self.attempts.get(&(peer, job, attempt)) else { return false };
        let (prefix, texts) = (known.prefix, &known.texts);
        let mut sent = texts.range(..(end, 0)).rev().filter(|((_, own_end), _)| *own_end == end);
        sent.any(|((start, _), hash)| *hash == hash_of(text, channel) || *start < prefix + 16)
    }
}

fn hash_of(text: &str, channel: Option<Channel>) -> u64 {
    let channel = channel.map_or(0, Channel::number);
    text.bytes().fold(text.len() as u64 ^ (u64::from(channel) << 32), |hash, byte| mix(hash ^ u64::from(byte)))
}
