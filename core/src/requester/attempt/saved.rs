//! The current attempt in a snapshot.

use alloc::string::String;

use minicbor::{Decode, Encode};

use super::{Attempt, AttemptState, Link, Times};
use crate::{
    digest::TextHash,
    event::{BillLine, Quote},
    id::PeerId,
    limits::Policy,
    money::Tariff,
    peers::table::Permit,
    requester::transcript::{Prefix, Transcript},
    snapshot::{SnapshotError, require, wide},
    time::{Instant, Millis},
    window::Window,
    wire::{
        MAX_WINDOW_BYTES, MAX_WINDOW_TOKENS,
        message::{Channel, Exactness},
    },
};

/// Epochs that one restore skips: a snapshot may be older than the last streams of its attempt.
const EPOCHS: u32 = 1024;

/// An attempt as it is kept: without its stream, which is lost with the process.
#[derive(Encode, Decode)]
#[cbor(map, context_bound = "crate::snapshot::Clock")]
pub(in crate::requester) struct Saved {
    #[n(0)]
    pub(in crate::requester) number: u32,
    #[n(1)]
    pub(in crate::requester) peer: PeerId,
    #[n(2)]
    epoch: u32,
    #[n(3)]
    offer: Option<u64>,
    #[n(4)]
    tariff: Tariff,
    #[cbor(n(5), with = "wide")]
    pub(in crate::requester) cost: u128,
    #[n(6)]
    eta: Millis,
    #[n(7)]
    class: Exactness,
    #[n(8)]
    pub(in crate::requester) permit: Permit,
    #[cbor(n(9), with = "minicbor::bytes")]
    terms: [u8; 32],
    #[n(10)]
    state: AttemptState,
    #[n(11)]
    was_accepted: bool,
    #[n(12)]
    prefix: Prefix,
    #[n(13)]
    from: u64,
    #[n(14)]
    evidence: String,
    #[n(15)]
    max_tokens: u64,
    #[n(16)]
    text_bytes: u64,
    #[n(17)]
    new_bytes: u64,
    #[n(18)]
    end: u64,
    #[n(19)]
    window_tokens: u32,
    #[n(20)]
    window_bytes: u32,
    #[n(21)]
    asked: (u32, u32),
}

impl Saved {
    /// Nobody writes so many: sums of them, and of what they cost, do not overflow.
    pub(in crate::requester) const MAX_TOKENS: u64 = 1 << 50;

    /// What is so of every attempt, whether it can go on or not: `transcript` is as it left it.
    pub(in crate::requester) fn check(&self, transcript: &Transcript) -> Result<(), SnapshotError> {
        let overlap = self.from.checked_sub(self.prefix.tokens).ok_or(SnapshotError::Impossible)?;
        let written = self.end.checked_sub(self.prefix.tokens).ok_or(SnapshotError::Impossible)?;
        require(self.permit.peer() == &self.peer && self.number > 0 && self.epoch > 0)?;
        require(u64::from(self.prefix.overlap) == overlap && self.new_bytes <= self.text_bytes)?;
        require(
            self.end.max(self.from) == transcript.tokens() && written <= self.max_tokens && self.end < Self::MAX_TOKENS,
        )?;
        require(matches!(self.state, AttemptState::Streaming) == (written > 0))
    }

    /// What is owed for it if nothing more comes.
    pub(in crate::requester) fn line(&self) -> BillLine {
        let tokens = self.end.saturating_sub(self.from);
        BillLine {
            attempt: self.number,
            peer: self.peer,
            tariff: self.tariff,
            reread: self.prefix.tokens,
            tokens,
            text_bytes: self.new_bytes,
            owed: self.tariff.owed(tokens),
        }
    }
}

impl Attempt {
    pub(in crate::requester) fn keep(&self) -> Saved {
        Saved {
            number: self.number,
            peer: self.peer,
            epoch: self.epoch,
            offer: self.quote.offer,
            tariff: self.quote.tariff,
            cost: self.reserved,
            eta: self.quote.eta,
            class: self.class,
            permit: self.permit.clone(),
            terms: self.terms,
            state: self.state,
            was_accepted: self.was_accepted,
            prefix: self.prefix.clone(),
            from: self.from,
            evidence: self.evidence.clone(),
            max_tokens: self.max_tokens,
            text_bytes: self.text_bytes,
            new_bytes: self.new_bytes,
            end: self.window.end(),
            window_tokens: self.window.max_tokens(),
            window_bytes: self.window.max_bytes(),
            asked: self.asked,
        }
    }

    /// The attempt that was kept and [checked](Saved::check), with its stream lost just now. `transcript`, and its `text` by channels, are as it
    /// left them.
    pub(in crate::requester) fn restore(
        now: Instant,
        policy: &Policy,
        mut kept: Saved,
        transcript: &Transcript,
        text: &str,
        spans: &[(Option<Channel>, &str)],
    ) -> Result<Self, SnapshotError> {
        if transcript.text().is_empty() || transcript.ids().is_empty() {
            // The run was forgotten, or its ids were when a provider told none: nobody is given them any more.
            kept.prefix.id_bytes = 0;
        }
        let Saved { prefix, from, end, evidence, .. } = &kept;
        let known = text.len().checked_sub(evidence.len()).and_then(|known| text.split_at_checked(known));
        let (written, due) = known.ok_or(SnapshotError::Impossible)?;
        require(
            due == evidence.as_str() && prefix.text_bytes <= written.len() && text.is_char_boundary(prefix.text_bytes),
        )?;
        require(prefix.id_bytes <= transcript.ids().len() && kept.text_bytes <= text.len() as u64)?;
        require(evidence.is_empty() || end < from)?;
        require((1..=MAX_WINDOW_TOKENS).contains(&kept.asked.0) && (1..=MAX_WINDOW_BYTES).contains(&kept.asked.1))?;
        require((1..=kept.asked.0).contains(&kept.window_tokens) && (1..=kept.asked.1).contains(&kept.window_bytes))?;
        let mut text_hash = TextHash::default();
        let mut left = written.len();
        for (channel, span) in spans {
            if left == 0 {
                // What was stored beyond is caught up with: here its channel would begin twice.
                break;
            }
            let span = span.get(..left.min(span.len())).ok_or(SnapshotError::Impossible)?;
            text_hash.update(*channel, span);
            left -= span.len();
        }
        require(left == 0)?;
        let mut attempt = Self {
            number: kept.number,
            peer: kept.peer,
            link: Link::Suspended { retry: now },
            epoch: kept.epoch.saturating_add(EPOCHS),
            cuts: 0,
            dials: 0,
            grace: Instant::MAX,
            quote: Quote { peer: kept.peer, offer: kept.offer, tariff: kept.tariff, cost: kept.cost, eta: kept.eta },
            class: kept.class,
            permit: kept.permit,
            reserved: kept.cost,
            terms: kept.terms,
            was_accepted: kept.was_accepted,
            ended: false,
            state: kept.state,
            body_sent: 0,
            let_wait: false,
            differs: false,
            from: kept.from,
            evidence: kept.evidence,
            max_tokens: kept.max_tokens,
            text_bytes: kept.text_bytes,
            new_bytes: kept.new_bytes,
            text_hash,
            asked: kept.asked,
            // What was told before the crash is stored or told again: the provider need not keep it.
            window: Window::new(kept.end, kept.window_tokens, kept.window_bytes),
            consumed: kept.end,
            prefix: kept.prefix,
            ack_due: None,
            works_on: None,
            times: Times::begin(now, policy),
        };
        attempt.cut(now, policy.resume_timeout);
        Ok(attempt)
    }

    /// Takes what the application has stored since the attempt was kept. Says whether the provider may have written it.
    pub(in crate::requester) fn catch_up(
        &mut self,
        now: Instant,
        n: u32,
        text: &str,
        channel: Option<Channel>,
    ) -> bool {
        let evidence = core::mem::take(&mut self.evidence);
        let overlap = self.from.saturating_sub(self.window.end());
        self.text_bytes = self.text_bytes.saturating_add((evidence.len() + text.len()) as u64);
        self.new_bytes = self.new_bytes.saturating_add(text.len() as u64);
        let end = self.window.end().saturating_add(overlap).saturating_add(u64::from(n));
        let written = end.saturating_sub(self.prefix.tokens);
        if n == 0 || written > self.max_tokens || written > self.text_bytes {
            return false;
        }
        if !evidence.is_empty() {
            self.text_hash.update(None, &evidence);
        }
        self.text_hash.update(channel, text);
        self.window = Window::new(end, self.window.max_tokens(), self.window.max_bytes());
        self.consumed = end;
        self.was_accepted = true;
        self.state = AttemptState::Streaming;
        self.times.token = now;
        true
    }
}
