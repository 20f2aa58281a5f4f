//! What a message can tell of its own soundness. What takes knowledge of the conversation is the machines' to check.

use super::{MAX_BODY_PIECE, MAX_CHUNK_IDS, MAX_CHUNK_TEXT, message::*, settlement};
use crate::money::BODY_QUANTUM;

/// What a chunk costs beyond its text and ids: many small frames are the classic flood.
pub const CHUNK_COST: u32 = 64;
/// Tokens in a window, at most.
pub const MAX_WINDOW_TOKENS: u32 = 8192;
/// Bytes in a window, at least: two chunks of the largest text fit.
pub const MIN_WINDOW_BYTES: u32 = 2 * (MAX_CHUNK_TEXT as u32 + CHUNK_COST);
/// Bytes in a window, at most.
pub const MAX_WINDOW_BYTES: u32 = 1 << 20;
/// Tokens of an answer that a failover asks to be written again, at most.
pub const MAX_OVERLAP: u32 = 8;
/// Bids that a requester makes for one request for quote, at most: then an offer is taken as it is, or not.
// [N3]
pub const MAX_BIDS: u32 = 2;

impl Message<'_> {
    /// Whether every field is within its bounds. A decoded message is; one that is to be encoded has to be.
    #[must_use]
    pub fn is_in_bounds(&self) -> bool {
        match self {
            Self::Describe | Self::Release(_) | Self::Keepalive | Self::Ack { .. } => true,
            Self::Resumed { .. } | Self::Gone(_) | Self::Working { .. } => true,
            // [B9]
            Self::End(end) => end.thought.is_none_or(|thought| thought <= end.tokens),
            Self::Advert(advert) => advert.is_in_bounds(),
            // [B2]
            Self::Rfq(rfq) => rfq.rfq > 0 && rfq.body_bytes.is_multiple_of(BODY_QUANTUM) && rfq.max_tokens > 0,
            // [B3]
            Self::Offer(offer) => offer.rfq > 0 && offer.is_in_bounds(),
            Self::Counter(counter) => counter.rfq > 0 && counter.offer > 0,
            Self::Decline(decline) => decline.is_in_bounds(),
            Self::Award(award) => award.is_in_bounds(),
            // [B6]
            Self::Body { bytes, .. } => (1..=MAX_BODY_PIECE).contains(&bytes.len()),
            Self::Accepted(accepted) => window_is_in_bounds(accepted.window_tokens, accepted.window_bytes),
            Self::Chunk { n, text, ids, .. } => {
                // [B7]
                let counted = ids.is_none_or(|ids| ids.len() <= MAX_CHUNK_IDS && ids.len() as u64 == 4 * u64::from(*n));
                *n > 0 && (1..=MAX_CHUNK_TEXT).contains(&text.len()) && counted
            }
            // [B8]
            Self::Cancel { attempt, .. } => *attempt > 0,
            Self::Resume { attempt, epoch, .. } => *attempt > 0 && *epoch > 0,
        }
    }
}

impl Advert {
    fn is_in_bounds(&self) -> bool {
        // [B1]
        let sound = |model: &ModelAdvert| model.aliases.len() <= MAX_ALIASES && model.bytes_per_token > 0;
        let paid = self.methods.as_ref().is_none_or(|methods| settlement::are_in_bounds(methods));
        self.models.len() <= MAX_MODELS && self.models.iter().all(sound) && paid
    }
}

impl Decline {
    fn is_in_bounds(&self) -> bool {
        // [B4]
        let sells_otherwise = matches!(self.reason, DeclineReason::Stale | DeclineReason::TooCheap);
        let offered = self.offer.as_ref().is_none_or(|offer| sells_otherwise && offer.is_in_bounds());
        offered && (self.shown.is_none() || self.reason == DeclineReason::Settlement)
    }
}

impl Offer {
    fn is_in_bounds(&self) -> bool {
        // [B3]
        self.offer > 0 && self.methods.as_ref().is_none_or(|methods| settlement::are_in_bounds(methods))
    }
}

impl Award {
    fn is_in_bounds(&self) -> bool {
        // [B5]
        let named = self.attempt > 0 && self.epoch > 0 && self.offer != Some(0);
        let tail = self.prefix_bytes.saturating_add(self.prefix_id_bytes.unwrap_or(0));
        let prefix = tail < self.body_bytes
            && self.prefix_tokens <= self.prefix_bytes
            && (self.prefix_tokens == 0) == (self.prefix_bytes == 0)
            && self.prefix_id_bytes.is_none_or(|ids| ids > 0 && self.prefix_tokens.checked_mul(4) == Some(ids))
            && self.overlap <= MAX_OVERLAP
            && u64::from(self.overlap) < self.max_tokens
            && (self.overlap == 0 || self.prefix_tokens > 0);
        let stops =
            self.stop.len() <= MAX_STOPS && self.stop.iter().all(|stop| (1..=MAX_STOP_BYTES).contains(&stop.len()));
        // A request is never continued.
        let body = self.kind != BodyKind::Request || (self.body_bytes >= 2 && self.prefix_bytes == 0);
        let paid =
            self.choice.is_some() == self.voucher.is_some() && self.choice.as_ref().is_none_or(Choice::is_in_bounds);
        let ordered = self.max_tokens > 0 && prefix && stops && body && paid;
        named && ordered && window_is_in_bounds(self.window_tokens, self.window_bytes)
    }
}

fn window_is_in_bounds(tokens: u32, bytes: u32) -> bool {
    // [B5] [B6]
    (1..=MAX_WINDOW_TOKENS).contains(&tokens) && (MIN_WINDOW_BYTES..=MAX_WINDOW_BYTES).contains(&bytes)
}
