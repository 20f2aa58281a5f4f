//! One attempt: an Award, its body, and the tokens that come back.

mod patience;
mod saved;

use alloc::string::String;

use crate::{
    digest::TextHash,
    event::{BillLine, Quote, Violation},
    id::{PeerId, StreamId},
    limits::{Limits, MAX_ETA, Policy},
    peers::table::Permit,
    time::{Instant, Millis},
    window::{self, Window},
    wire::message::{Accepted, Channel, End, Exactness, Phase},
};

pub(super) use self::saved::Saved;

use super::transcript::{Prefix, Transcript};

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
    /// Dials in a row that failed since.
    pub(super) dials: u32,
    /// Until when a lost stream has to be resumed.
    grace: Instant,
    pub(super) quote: Quote,
    /// What the provider promises of equal bytes.
    pub(super) class: Exactness,
    /// Leave to ask the provider: handed back when the attempt ends.
    pub(super) permit: Permit,
    /// Set aside in the job's and the node's account.
    pub(super) reserved: u128,
    /// SHA-256 of the Award: what Accepted has to echo.
    pub(super) terms: [u8; 32],
    pub(super) state: AttemptState,
    /// It was accepted once; a repeated award is accepted again.
    pub(super) was_accepted: bool,
    /// End came: the provider computes no more.
    pub(super) ended: bool,
    /// Body bytes sent.
    pub(super) body_sent: u64,
    /// It was reached, and fell silent or brought nothing again and again; until its next token.
    pub(super) let_wait: bool,
    /// It wrote other bytes than it promised.
    pub(super) differs: bool,
    pub(super) prefix: Prefix,
    /// The run's tokens when it was awarded: what comes before is evidence, what comes after is new.
    from: u64,
    /// Text of the evidence that is still to come.
    evidence: String,
    /// Tokens it may write, the evidence included.
    max_tokens: u64,
    text_bytes: u64,
    /// Bytes of the text that was new.
    new_bytes: u64,
    text_hash: TextHash,
    /// Tokens and bytes of the window that was asked for: the award may have to be sent again as it was.
    pub(super) asked: (u32, u32),
    window: Window,
    consumed: u64,
    ack_due: Option<Instant>,
    /// What its provider said last that it does.
    works_on: Option<Phase>,
    times: Times,
}

/// What an attempt begins with.
pub(super) struct Start<'a> {
    pub(super) number: u32,
    pub(super) stream: StreamId,
    /// Its cost is set aside.
    pub(super) quote: Quote,
    pub(super) class: Exactness,
    pub(super) permit: Permit,
    pub(super) prefix: Prefix,
    pub(super) transcript: &'a Transcript,
    /// Tokens of earlier runs that the application has not taken yet.
    pub(super) leftover: u64,
    /// Tokens it may write, the evidence included.
    pub(super) max_tokens: u64,
}

/// Whether the provider may not have begun: then it may not have read the prefix that its digest would be of.
const fn is_unbegun(end: &End) -> bool {
    end.tokens == 0 && !end.reason.is_complete()
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

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, minicbor::Encode, minicbor::Decode)]
#[cbor(map, context_bound = "crate::snapshot::Clock")]
pub(super) enum AttemptState {
    /// Waits for Accepted.
    #[n(0)]
    Sent {
        #[n(0)]
        until: Instant,
    },
    /// Waits for the first token.
    #[n(1)]
    Accepted {
        #[n(0)]
        until: Instant,
    },
    /// Tokens come.
    #[n(2)]
    Streaming,
}

#[derive(Clone, Copy, Hash, Debug)]
struct Times {
    idle: Millis,
    token_gap: Millis,
    pace_window: Millis,
    ack_delay: Millis,
    keepalive: Millis,
    heard: Instant,
    /// Since when tokens could have come: the last one, or when the window got room again.
    token: Instant,
    /// Since when tokens are counted, and which one came next then.
    pace: (Instant, u64),
    sent: Instant,
}

impl Times {
    const fn begin(now: Instant, policy: &Policy) -> Self {
        let Policy { idle, token_gap, pace_window, ack_delay, keepalive, .. } = *policy;
        Self { idle, token_gap, pace_window, ack_delay, keepalive, heard: now, token: now, pace: (now, 0), sent: now }
    }
}

impl Attempt {
    pub(super) fn new(now: Instant, policy: &Policy, limits: &Limits, start: Start<'_>) -> Self {
        let Start { number, stream, quote, class, permit, prefix, transcript, leftover, max_tokens } = start;
        let backlog =
            u32::try_from((transcript.tokens() - transcript.consumed()).saturating_add(leftover)).unwrap_or(u32::MAX);
        // What the application has still to take of earlier attempts waits in the same queue.
        let asked = (limits.window_tokens.saturating_sub(backlog).max(1), limits.window_bytes);
        let (start, from) = (prefix.tokens, transcript.tokens());
        let (before, evidence) =
            transcript.text().split_at_checked(prefix.text_bytes).unwrap_or((transcript.text(), ""));
        let mut text_hash = TextHash::default();
        text_hash.update(None, before);
        Self {
            number,
            peer: quote.peer,
            link: Link::Live(stream),
            epoch: 1,
            cuts: 0,
            dials: 0,
            grace: Instant::MAX,
            reserved: quote.cost,
            quote,
            class,
            permit,
            terms: [0; 32],
            was_accepted: false,
            ended: false,
            state: AttemptState::Sent { until: now.after(policy.request_timeout) },
            body_sent: 0,
            let_wait: false,
            differs: false,
            from,
            evidence: evidence.into(),
            max_tokens,
            prefix,
            text_bytes: 0,
            new_bytes: 0,
            text_hash,
            asked,
            window: Window::new(start, asked.0, asked.1),
            consumed: start,
            ack_due: None,
            works_on: None,
            times: Times::begin(now, policy),
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
        self.dials = 0;
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
        lost || (self.cuts > 0 && matches!(self.state, AttemptState::Sent { .. }))
    }

    /// Goes on over another stream: with Resume once a token was taken, else by the same award again.
    pub(super) fn reattach(&mut self, now: Instant, stream: StreamId, again: Option<Instant>) {
        // [R4]
        self.epoch = self.epoch.saturating_add(1);
        match again {
            None => self.link = Link::Resuming(stream),
            Some(until) => {
                self.link = Link::Live(stream);
                self.state = AttemptState::Sent { until };
                self.body_sent = 0;
            }
        }
        self.times.sent = now;
    }

    /// The provider goes on where we are: what was consumed is told at once, the last Ack may be lost.
    pub(super) fn resumed(&mut self, now: Instant, next: u64) -> Result<(), Violation> {
        let Link::Resuming(stream) = self.link else { return Err(Violation::Unexpected) };
        // [R1]
        if next != self.next() {
            return Err(Violation::Seq);
        }
        self.link = Link::Live(stream);
        (self.times.heard, self.times.token) = (now, now);
        self.count_pace(now);
        self.ack_due = Some(now);
        Ok(())
    }

    /// New tokens accepted so far.
    pub(super) const fn tokens(&self) -> u64 {
        if self.differs { 0 } else { self.window.end().saturating_sub(self.from) }
    }

    /// Index of the token that comes next.
    pub(super) const fn next(&self) -> u64 {
        self.window.end()
    }

    /// Whether nothing came yet, neither evidence nor new.
    pub(super) const fn is_fresh(&self) -> bool {
        self.window.end() == self.prefix.tokens
    }

    /// Tokens it may write, the evidence included.
    pub(super) const fn max_tokens(&self) -> u64 {
        self.max_tokens
    }

    /// What is owed for it if it ended now.
    // [M3]
    pub(super) const fn owed(&self) -> u128 {
        self.quote.tariff.owed(self.tokens())
    }

    pub(super) fn line(&self) -> BillLine {
        BillLine {
            attempt: self.number,
            peer: self.peer,
            tariff: self.quote.tariff,
            reread: self.prefix.tokens,
            tokens: self.tokens(),
            text_bytes: self.new_bytes,
            owed: self.owed(),
        }
    }

    /// Whether evidence is still to come.
    pub(super) const fn lacks_evidence(&self) -> bool {
        self.window.end() < self.from
    }

    pub(super) fn heard(&mut self, now: Instant) {
        self.times.heard = now;
    }

    /// The provider took the job. From here the window is the one that it granted, never a wider one than was asked for.
    pub(super) fn accept(&mut self, now: Instant, policy: &Policy, accepted: &Accepted) -> Result<(), Violation> {
        if !matches!(self.state, AttemptState::Sent { .. }) {
            return Err(Violation::Unexpected);
        }
        let granted =
            (1..=self.asked.0).contains(&accepted.window_tokens) && (1..=self.asked.1).contains(&accepted.window_bytes);
        // [A8] [A9]
        if accepted.terms != self.terms || !granted {
            return Err(Violation::Terms);
        }
        self.was_accepted = true;
        self.window = Window::new(self.prefix.tokens, accepted.window_tokens, accepted.window_bytes);
        self.times.heard = now;
        // [C3]
        let eta = self.quote.eta.max(accepted.eta.unwrap_or_default().min(MAX_ETA));
        self.state = AttemptState::Accepted { until: self.first_token_by(now, policy, policy.patience(eta)) };
        Ok(())
    }

    /// Takes a chunk in order, within the window, and within what was ordered; or says which rule it broke. What is
    /// evidence is compared; says how many of the tokens, and of the bytes, are new.
    pub(super) fn take(
        &mut self,
        now: Instant,
        seq: u64,
        n: u32,
        text: &str,
        ids: Option<&[u8]>,
        channel: Option<Channel>,
    ) -> Result<(u32, usize), Violation> {
        if matches!(self.state, AttemptState::Sent { .. }) || !matches!(self.link, Link::Live(_)) {
            return Err(Violation::Unexpected);
        }
        // [W1]
        if seq != self.window.end() {
            return Err(Violation::Seq);
        }
        let written = (seq - self.prefix.tokens).saturating_add(u64::from(n));
        // [W2]
        if n == 0 || written > self.max_tokens {
            return Err(Violation::TooMany);
        }
        let text_bytes = self.text_bytes.saturating_add(text.len() as u64);
        // [W2] [B7]
        if written > text_bytes || ids.is_some_and(|ids| ids.len() as u64 != 4 * u64::from(n)) {
            return Err(Violation::Count);
        }
        // [W4]
        if !self.window.take(n, window::cost(text, ids)) {
            return Err(Violation::Window);
        }
        self.text_bytes = text_bytes;
        self.text_hash.update(channel, text);
        self.times.token = now;
        self.cuts = 0;
        self.let_wait = false;
        if !matches!(self.state, AttemptState::Streaming) {
            self.count_pace(now);
        }
        self.state = AttemptState::Streaming;
        let new = u32::try_from(self.window.end().saturating_sub(self.from.max(seq))).unwrap_or(n).min(n);
        let new_bytes = self.compare(text, channel, new == 0);
        self.new_bytes = self.new_bytes.saturating_add(new_bytes as u64);
        Ok((new, new_bytes))
    }

    /// Compares a chunk's text with the evidence that is due; says how many of its bytes are new. Where the tokens that
    /// are known end, the text that is known has to end too.
    ///
    /// A provider may cut the same text into other chunks than the one before it did, so a chunk may end within the evidence,
    /// at its end, or beyond. But the evidence was chosen to end with a token: text that ends with it and tokens that do not,
    /// or the other way round, are not the tokens that were promised, even where all bytes are equal.
    fn compare(&mut self, text: &str, channel: Option<Channel>, all_known: bool) -> usize {
        if self.evidence.is_empty() && !all_known {
            return text.len();
        }
        let due = self.evidence.len().min(text.len());
        // [R9]
        let equal = text.as_bytes().get(..due) == self.evidence.as_bytes().get(..due);
        let in_step = if all_known { due == text.len() } else { due == self.evidence.len() };
        let ends_in_step = !all_known || (self.window.end() == self.from) == (due == self.evidence.len());
        if channel.is_some() || !equal || !in_step || !ends_in_step || !text.is_char_boundary(due) {
            self.differs = true;
            return 0;
        }
        self.evidence.drain(..due);
        text.len() - due
    }

    /// Checks an End against what was received.
    pub(super) fn check_end(&self, end: &End) -> Result<(), Violation> {
        let written = self.window.end() - self.prefix.tokens;
        // [X1]
        let agrees = end.tokens == written && (end.hash == self.text_hash.value() || is_unbegun(end));
        if agrees { Ok(()) } else { Err(Violation::Digest) }
    }

    /// The application has taken the run's tokens up to `consumed`.
    pub(super) fn consume(&mut self, now: Instant, consumed: u64) {
        let before = self.consumed;
        // [W5] What the application took, and never less than before.
        self.consumed = consumed.clamp(before, self.window.end());
        if self.consumed == before {
            return;
        }
        // [W6]
        if self.window.is_ripe(self.consumed) {
            self.ack_due = Some(now);
        } else if self.ack_due.is_none() {
            self.ack_due = Some(now.after(self.times.ack_delay));
        }
    }

    /// Whether an Ack, or a sign of life, is due; with the token it names.
    pub(super) fn take_ack(&mut self, now: Instant) -> Option<u64> {
        // [W6] Or a sign of life.
        let due = self.ack_due.is_some_and(|at| at <= now) || self.times.sent.after(self.times.keepalive) <= now;
        if !due || !self.is_heard() {
            return None;
        }
        if self.is_blocked() {
            // Tokens can come again only from now on.
            self.times.token = now;
            self.count_pace(now);
        }
        self.window.free(self.consumed);
        self.ack_due = None;
        self.times.sent = now;
        Some(self.consumed)
    }

    /// The application holds everything up: no token can come, and none is waited for.
    fn is_blocked(&self) -> bool {
        // How large the next piece is, the provider alone knows: one that fits half of the window is waited for.
        self.window.is_half_full()
    }

    /// Whether the provider listens: it accepted, and the stream is not lost.
    fn is_heard(&self) -> bool {
        matches!(self.link, Link::Live(_)) && !matches!(self.state, AttemptState::Sent { .. })
    }
}
