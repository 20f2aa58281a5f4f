//! One attempt: an Award, its body, and the tokens that come back.

use crate::{
    digest::TextHash,
    event::{BillLine, Quote, Violation},
    id::{PeerId, StreamId},
    limits::{Limits, Policy},
    machine::{Cause, Timeout},
    time::{Instant, Millis},
    window::{self, Window},
    wire::message::{Accepted, End},
};

/// The state of the attempt that is current. The requester's side of a stream.
#[derive(Clone, Hash, Debug)]
pub(super) struct Attempt {
    pub(super) number: u32,
    pub(super) peer: PeerId,
    pub(super) link: Link,
    /// Of the stream; each one that takes the attempt over has a higher one.
    pub(super) epoch: u32,
    /// Streams lost in a row without a token.
    pub(super) cuts: u32,
    /// Until when a lost stream has to be resumed.
    grace: Instant,
    pub(super) quote: Quote,
    /// Set aside in the job's and the node's account.
    pub(super) reserved: u128,
    /// SHA-256 of the Award: what Accepted has to echo.
    pub(super) terms: [u8; 32],
    pub(super) stage: Stage,
    /// It was accepted once; a repeated award is accepted again.
    pub(super) was_accepted: bool,
    /// End came: the provider computes no more.
    pub(super) ended: bool,
    /// Body bytes sent.
    pub(super) body_sent: u64,
    max_tokens: u64,
    text_bytes: u64,
    text_hash: TextHash,
    window: Window,
    consumed: u64,
    ack_due: Option<Instant>,
    times: Times,
}

/// How the provider is reached.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Link {
    Live(StreamId),
    /// Resume was sent.
    Resuming(StreamId),
    /// The stream was lost; another try is due.
    Suspended {
        retry: Instant,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Stage {
    /// Waits for Accepted.
    Sent { until: Instant },
    /// Waits for the first token.
    Accepted { until: Instant },
    /// Tokens come.
    Streaming,
}

#[derive(Clone, Copy, Hash, Debug)]
struct Times {
    idle: Millis,
    token_gap: Millis,
    ack_delay: Millis,
    keepalive: Millis,
    heard: Instant,
    /// Since when tokens could have come: the last one, or when the window got room again.
    token: Instant,
    sent: Instant,
}

impl Attempt {
    #[expect(clippy::too_many_arguments, reason = "each is a different fact about the award")]
    pub(super) fn new(
        now: Instant,
        policy: &Policy,
        number: u32,
        stream: StreamId,
        quote: Quote,
        reserved: u128,
        terms: [u8; 32],
        max_tokens: u64,
        limits: &Limits,
    ) -> Self {
        Self {
            number,
            peer: quote.peer,
            link: Link::Live(stream),
            epoch: 1,
            cuts: 0,
            grace: Instant::MAX,
            quote,
            reserved,
            terms,
            was_accepted: false,
            ended: false,
            stage: Stage::Sent { until: now.after(policy.request_timeout) },
            body_sent: 0,
            max_tokens,
            text_bytes: 0,
            text_hash: TextHash::default(),
            window: Window::new(limits.window_tokens, limits.window_bytes),
            consumed: 0,
            ack_due: None,
            times: Times {
                idle: policy.idle,
                token_gap: policy.token_gap,
                ack_delay: policy.ack_delay,
                keepalive: policy.keepalive,
                heard: now,
                token: now,
                sent: now,
            },
        }
    }

    /// The stream it is on, unless that was lost.
    pub(super) const fn stream(&self) -> Option<StreamId> {
        match self.link {
            Link::Live(stream) | Link::Resuming(stream) => Some(stream),
            Link::Suspended { .. } => None,
        }
    }

    /// The stream was lost, and has to be resumed within `grace`.
    pub(super) fn cut(&mut self, now: Instant, grace: Millis) {
        self.cuts = self.cuts.saturating_add(1);
        self.grace = now.after(grace);
        self.link = Link::Suspended { retry: now };
    }

    pub(super) fn retry_at(&mut self, retry: Instant) {
        self.link = Link::Suspended { retry };
    }

    pub(super) fn is_resume_over(&self, now: Instant) -> bool {
        self.waits_for_resume() && self.grace <= now
    }

    /// Whether another try is due.
    pub(super) fn is_resume_due(&self, now: Instant) -> bool {
        matches!(self.link, Link::Suspended { retry } if retry <= now)
    }

    /// Whether the provider has not been reached again since the stream was lost.
    fn waits_for_resume(&self) -> bool {
        let lost = !matches!(self.link, Link::Live(_));
        lost || (self.cuts > 0 && matches!(self.stage, Stage::Sent { .. }))
    }

    /// Goes on over another stream: with Resume once a token was taken, else by the same award again.
    pub(super) fn take_over(&mut self, now: Instant, stream: StreamId, again: Option<([u8; 32], Instant)>) {
        self.epoch = self.epoch.saturating_add(1);
        match again {
            None => self.link = Link::Resuming(stream),
            Some((terms, until)) => {
                self.link = Link::Live(stream);
                self.terms = terms;
                self.stage = Stage::Sent { until };
                self.body_sent = 0;
            }
        }
        self.times.sent = now;
    }

    /// The provider goes on where we are: what was consumed is told at once, the last Ack may be lost.
    pub(super) fn resumed(&mut self, now: Instant, next: u64) -> Result<(), Violation> {
        let Link::Resuming(stream) = self.link else { return Err(Violation::Unexpected) };
        if next != self.tokens() {
            return Err(Violation::Seq);
        }
        self.link = Link::Live(stream);
        (self.times.heard, self.times.token) = (now, now);
        self.ack_due = Some(now);
        Ok(())
    }

    /// Tokens accepted so far.
    pub(super) const fn tokens(&self) -> u64 {
        self.window.end()
    }

    /// What is owed for it if it ended now.
    pub(super) const fn owed(&self) -> u128 {
        self.quote.tariff.owed(self.tokens())
    }

    pub(super) fn line(&self) -> BillLine {
        BillLine {
            attempt: self.number,
            peer: self.peer,
            tariff: self.quote.tariff,
            tokens: self.tokens(),
            text_bytes: self.text_bytes,
            owed: self.owed(),
        }
    }

    pub(super) fn heard(&mut self, now: Instant) {
        self.times.heard = now;
    }

    /// The provider took the job. From here the window is the one that it granted, never a wider one than was asked for.
    pub(super) fn accept(
        &mut self,
        now: Instant,
        policy: &Policy,
        limits: &Limits,
        accepted: &Accepted,
    ) -> Result<(), Violation> {
        if !matches!(self.stage, Stage::Sent { .. }) {
            return Err(Violation::Unexpected);
        }
        let granted = (1..=limits.window_tokens).contains(&accepted.window_tokens)
            && (1..=limits.window_bytes).contains(&accepted.window_bytes);
        if accepted.terms != self.terms || !granted {
            return Err(Violation::Terms);
        }
        self.was_accepted = true;
        self.window = Window::new(accepted.window_tokens, accepted.window_bytes);
        self.times.heard = now;
        let patience = self.quote.eta.times(4).max(policy.first_token);
        self.stage = Stage::Accepted { until: now.after(patience) };
        Ok(())
    }

    /// Takes a chunk in order, within the window, and within what was ordered; or says which rule it broke.
    pub(super) fn take(
        &mut self,
        now: Instant,
        seq: u64,
        n: u32,
        text: &str,
        ids: Option<&[u8]>,
    ) -> Result<(), Violation> {
        if matches!(self.stage, Stage::Sent { .. }) || !matches!(self.link, Link::Live(_)) {
            return Err(Violation::Unexpected);
        }
        if seq != self.window.end() {
            return Err(Violation::Seq);
        }
        let tokens = seq.saturating_add(u64::from(n));
        if n == 0 || tokens > self.max_tokens {
            return Err(Violation::TooMany);
        }
        let text_bytes = self.text_bytes.saturating_add(text.len() as u64);
        if tokens > text_bytes || ids.is_some_and(|ids| ids.len() as u64 != 4 * u64::from(n)) {
            return Err(Violation::Count);
        }
        if !self.window.take(n, window::cost(text, ids)) {
            return Err(Violation::Window);
        }
        self.text_bytes = text_bytes;
        self.text_hash.update(text.as_bytes());
        self.times.token = now;
        self.cuts = 0;
        self.stage = Stage::Streaming;
        Ok(())
    }

    /// Checks an End against what was received.
    pub(super) fn check_end(&self, end: &End) -> Result<(), Violation> {
        let agrees = end.tokens == self.tokens() && end.hash == self.text_hash.value();
        if agrees { Ok(()) } else { Err(Violation::Digest) }
    }

    /// The application took tokens; what it was never given does not count.
    pub(super) fn consume(&mut self, now: Instant, tokens: u64) {
        let before = self.consumed;
        self.consumed = before.saturating_add(tokens).min(self.window.end());
        if self.consumed == before {
            return;
        }
        if self.window.is_ripe(self.consumed) {
            self.ack_due = Some(now);
        } else if self.ack_due.is_none() {
            self.ack_due = Some(now.after(self.times.ack_delay));
        }
    }

    /// Whether an Ack, or a sign of life, is due; with the token it names.
    pub(super) fn take_ack(&mut self, now: Instant) -> Option<u64> {
        let due = self.ack_due.is_some_and(|at| at <= now) || self.times.sent.after(self.times.keepalive) <= now;
        if !due || !self.is_heard() {
            return None;
        }
        if self.is_blocked() {
            // Tokens can come again only from now on.
            self.times.token = now;
        }
        self.window.free(self.consumed);
        self.ack_due = None;
        self.times.sent = now;
        Some(self.consumed)
    }

    /// The application holds everything up: no token can come, and none is waited for.
    fn is_blocked(&self) -> bool {
        self.window.room() == 0
    }

    /// Whether the provider listens: it accepted, and the stream is not lost.
    fn is_heard(&self) -> bool {
        matches!(self.link, Link::Live(_)) && !matches!(self.stage, Stage::Sent { .. })
    }

    pub(super) fn is_idle(&self, now: Instant) -> bool {
        self.is_heard() && self.times.heard.after(self.times.idle) <= now
    }

    pub(super) fn has_token_gap(&self, now: Instant) -> bool {
        self.gap_at().is_some_and(|at| at <= now)
    }

    fn gap_at(&self) -> Option<Instant> {
        let waits = matches!(self.stage, Stage::Streaming) && self.is_heard() && !self.is_blocked();
        waits.then(|| self.times.token.after(self.times.token_gap))
    }

    pub(super) fn timeout(&self) -> Timeout {
        let due = |at, cause| Timeout { at, cause };
        if self.waits_for_resume() {
            let over = due(self.grace, Cause::Resume);
            let stage = match self.stage {
                Stage::Sent { until } => over.min(due(until, Cause::Request)),
                Stage::Accepted { until } => over.min(due(until, Cause::FirstToken)),
                Stage::Streaming => over,
            };
            return match self.link {
                Link::Suspended { retry } => stage.min(due(retry, Cause::Resume)),
                Link::Live(_) | Link::Resuming(_) => stage,
            };
        }
        let life = due(self.times.sent.after(self.times.keepalive), Cause::Keepalive);
        let ack = self.ack_due.map_or(life, |at| life.min(due(at, Cause::Ack)));
        let idle = due(self.times.heard.after(self.times.idle), Cause::Idle);
        let stage = match self.stage {
            // Before it accepted, nothing else is expected of the provider.
            Stage::Sent { until } => return due(until, Cause::Request),
            Stage::Accepted { until } => due(until, Cause::FirstToken),
            Stage::Streaming => self.gap_at().map_or(idle, |at| due(at, Cause::TokenGap)),
        };
        stage.min(idle).min(ack)
    }
}
