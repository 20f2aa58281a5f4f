//! A job as its provider sees it: one attempt.

use alloc::vec::Vec;

use crate::{
    bucket::Bucket,
    digest::TextHash,
    event::ServedReason,
    id::{AttemptId, JobId, PeerId, StreamId},
    machine::{Cause, Timeout},
    time::{Instant, Millis},
    window::Window,
    wire::message::{Accepted, Award, DeclineReason, End, EndReason, Phase},
};

use super::{replay::Ring, service::Service};

/// Resumes in a row without progress that a provider bears; one more every second.
const RESUMES: u32 = 5;
/// A job without a stream keeps its slot so long while somebody waits for one.
const YIELD_AFTER: Millis = Millis::from_secs(5);
/// What is done before the first token is told so long after the last that was sent: so no more often, and nothing of what is
/// quickly done.
const WORD_AFTER: Millis = Millis::from_secs(1);

/// What follows from a step of a job's flow. Whoever had the step done does it.
#[derive(Debug)]
pub(super) enum Next {
    /// Nothing, until something comes or is due.
    Stay,
    /// A place has to be found for it: so much of its body is here.
    Place,
    /// A slot is free, or somebody waits for one.
    Fill,
    /// The job is forgotten.
    Forget(ServedReason, Farewell),
}

/// The last that is said on the stream of a job that is forgotten, if it has one.
#[derive(Debug)]
pub(super) enum Farewell {
    /// Nothing more.
    Close,
    /// The requester broke the protocol: nothing is answered.
    Reset,
    /// Why it is not computed.
    Decline(DeclineReason),
    /// It made room for another, and may come again: so many bytes of its body may still be on their way.
    Displace(DeclineReason, u64),
    /// The confirmation, on the stream on which the Cancel came: not always the job's.
    Cancelled(StreamId, End),
}

#[derive(Clone, Hash, Debug)]
pub(super) struct Job {
    pub(super) id: AttemptId,
    pub(super) peer: PeerId,
    pub(super) link: Link,
    /// The stream's epoch: only a higher one takes the job over.
    pub(super) epoch: u32,
    pub(super) award: Award,
    pub(super) state: JobState,
    pub(super) body: Vec<u8>,
    pub(super) prompt_tokens: u64,
    /// Of these, those that the engine had already.
    pub(super) cached: Option<u64>,
    pub(super) window: Window,
    pub(super) ring: Ring,
    /// How often the job may be resumed without progress.
    pub(super) resumes: Bucket,
    pub(super) text_bytes: u64,
    pub(super) text_hash: TextHash,
    /// Tokens written that were thought.
    pub(super) thought: u64,
    /// Since when the engine waits for room.
    pub(super) blocked: Option<Instant>,
    pub(super) awarded: Instant,
    /// The most bytes of its body that were here: after a cut they come again.
    pub(super) received: u64,
    /// When it got its slot.
    pub(super) started: Instant,
    pub(super) heard: Instant,
    pub(super) sent: Instant,
    /// What the engine does before its first token, as it says.
    pub(super) phase: Option<Phase>,
    /// What its requester was told last of it.
    pub(super) told: Option<Phase>,
    /// It was without a stream for so long that its slot is whoever's comes to wait.
    pub(super) may_yield: bool,
}

/// How the job's requester can be reached.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Link {
    Attached(StreamId),
    /// The stream was cut. The job goes on as far as its window carries.
    Cut {
        since: Instant,
        until: Instant,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum JobState {
    /// The body comes.
    Receiving,
    /// Waits for a slot.
    Queued,
    /// Has a slot.
    Running,
    /// End was sent; it waits to be acknowledged.
    Ended { reason: EndReason, until: Instant },
}

impl Job {
    pub(super) fn new(
        now: Instant,
        id: AttemptId,
        (peer, stream): (PeerId, StreamId),
        award: Award,
        accepted: &Accepted,
    ) -> Self {
        Self {
            id,
            peer,
            link: Link::Attached(stream),
            epoch: award.epoch,
            state: JobState::Receiving,
            body: Vec::new(),
            prompt_tokens: 0,
            cached: None,
            window: Window::new(award.prefix_tokens, accepted.window_tokens, accepted.window_bytes),
            ring: Ring::default(),
            // [R6]
            resumes: Bucket::per_second(now, RESUMES, 1),
            text_bytes: 0,
            text_hash: TextHash::default(),
            thought: 0,
            blocked: None,
            awarded: now,
            received: 0,
            started: now,
            heard: now,
            sent: now,
            phase: None,
            told: None,
            may_yield: false,
            award,
        }
    }

    /// The name that its requester has for it.
    pub(super) const fn name(&self) -> (PeerId, JobId, u32) {
        (self.peer, self.award.job, self.award.attempt)
    }

    /// Its End, with what was written so far.
    // [X1]
    pub(super) fn last_message(&self, reason: EndReason) -> End {
        End {
            reason,
            prompt_tokens: self.prompt_tokens,
            tokens: self.written(),
            hash: self.text_hash.value(),
            thought: (self.thought > 0).then_some(self.thought),
            cached: self.cached,
            receipt: None,
        }
    }

    /// Tokens written, the overlap included.
    pub(super) const fn written(&self) -> u64 {
        self.window.end() - self.award.prefix_tokens
    }

    /// Tokens acknowledged beyond the overlap, which is not owed.
    pub(super) const fn acked(&self) -> u64 {
        let acked = self.window.start() - self.award.prefix_tokens;
        acked.saturating_sub(self.award.overlap as u64)
    }

    /// The stream it is on, unless that was cut.
    pub(super) const fn stream(&self) -> Option<StreamId> {
        match self.link {
            Link::Attached(stream) => Some(stream),
            Link::Cut { .. } => None,
        }
    }

    pub(super) const fn is_running(&self) -> bool {
        matches!(self.state, JobState::Running)
    }

    pub(super) const fn is_ended(&self) -> bool {
        matches!(self.state, JobState::Ended { .. })
    }

    /// How it ended, if it did.
    pub(super) const fn ended(&self) -> Option<EndReason> {
        match self.state {
            JobState::Ended { reason, .. } => Some(reason),
            _ => None,
        }
    }

    pub(super) const fn is_cut(&self) -> bool {
        matches!(self.link, Link::Cut { .. })
    }

    /// When its slot is whoever's waits: it had it for a while with nobody there to hear.
    pub(super) fn yields_at(&self) -> Instant {
        match self.link {
            Link::Cut { since, .. } => since.max(self.started).after(YIELD_AFTER),
            Link::Attached(_) => Instant::from_millis(u64::MAX),
        }
    }

    /// Whether its body is still to come, or what is left of it.
    pub(super) const fn is_receiving(&self) -> bool {
        matches!(self.state, JobState::Receiving)
    }

    /// Bytes of its body that were credited and did not come yet.
    pub(super) const fn body_to_come(&self) -> u64 {
        if self.is_receiving() { self.award.body_bytes.saturating_sub(self.body.len() as u64) } else { 0 }
    }

    /// When the body would be too slow: it has a while to begin, then a rate to keep.
    pub(super) fn body_due(&self, service: &Service) -> Instant {
        // [A6]
        let spent = self.received.saturating_mul(1000) / service.body_rate.max(1);
        self.awarded.after(service.handshake).after(Millis(spent))
    }

    /// What is done for its first token, as far as that is known.
    pub(super) const fn doing(&self) -> Option<Phase> {
        match self.state {
            JobState::Queued => Some(Phase::Queued),
            JobState::Running if self.written() == 0 => self.phase,
            _ => None,
        }
    }

    /// When a sign of life is due: soon if there is news.
    // [C7]
    pub(super) fn sign_due(&self, service: &Service) -> Instant {
        let doing = self.doing();
        let is_news = doing.is_some() && doing != self.told;
        self.sent.after(if is_news { WORD_AFTER.min(service.keepalive) } else { service.keepalive })
    }

    pub(super) fn timeout(&self, service: &Service) -> Timeout {
        let due = |at, cause| Timeout { at, cause };
        if let Link::Cut { until, .. } = self.link {
            // From then on somebody who comes to wait takes the slot at once.
            let waits = self.is_running() && !self.may_yield;
            return due(if waits { self.yields_at().min(until) } else { until }, Cause::Cut);
        }
        let idle = due(self.heard.after(service.idle), Cause::Idle);
        let life = due(self.sign_due(service), Cause::Keepalive);
        match self.state {
            JobState::Receiving => due(self.body_due(service), Cause::BodyRate).min(idle).min(life),
            JobState::Queued => idle.min(life),
            JobState::Running => {
                let stall = self.blocked.map(|since| due(since.after(service.stall), Cause::TokenGap));
                stall.map_or(idle, |stall| stall.min(idle)).min(life)
            }
            JobState::Ended { until, .. } => due(until, Cause::Linger),
        }
    }
}
