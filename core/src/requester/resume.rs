//! After a cut: the same provider first, at the exact token ([R1], [R3], [R7]).

use crate::{
    backoff,
    event::{Event, Interrupted, Violation},
    id::{JobId, PeerId},
    machine::StreamFailure,
    wire::Message,
};

use super::{
    attempt::{Attempt, Link},
    context::{Context, Role},
    job::{Job, JobState, Next},
};

/// Resumes in a row that bring no token; then the provider is given up.
const TRIES: u32 = 3;

/// Dials in a row that found nobody; then the provider is given up, if somebody else is known.
const VAIN_DIALS: u32 = 2;

impl Job {
    /// The attempt's stream is lost. The first resume goes out at once, further ones after a pause.
    ///
    /// The provider is waited for as long as that is cheaper than somebody else: where another one is known, a moment, as that
    /// one has to read the prompt and all tokens again; where none is, as long as the provider keeps the job. A provider that
    /// is reached again and again but brings no token in between is given up even so, or it could be resumed for ever.
    pub(super) fn on_cut(&mut self, cx: &mut Context) -> Next {
        debug_assert!(self.attempt().is_some(), "only an attempt can be cut");
        let others = self.knows_others(cx);
        // [R7]
        let grace = if others { cx.policy.resume_grace } else { cx.policy.resume_timeout };
        let JobState::Awarded(attempt) = &mut self.state else { return Next::Stay };
        attempt.cut(cx.now, grace);
        let (cuts, number, peer) = (attempt.cuts, attempt.number, attempt.peer);
        // [R7]
        if cuts > TRIES {
            attempt.let_wait = true;
            return Next::Broken(Interrupted::Lost);
        }
        let until = cx.now.after(grace).min(self.until);
        cx.tell(Event::Cut { job: self.id, attempt: number, peer, patience: until.since(cx.now) });
        if cuts == 1 { self.resume(cx) } else { attempt.resume_later(cx, cuts - 2) }
    }

    /// Nothing was heard for too long: the stream is taken for lost.
    pub(super) fn on_silence(&mut self, cx: &mut Context) -> Next {
        if let Some(attempt) = self.attempt_mut() {
            attempt.let_wait = true;
            if let Some(stream) = attempt.stream() {
                cx.reset_stream(stream);
            }
        }
        self.on_cut(cx)
    }

    /// Reattaches the attempt to another stream.
    pub(super) fn resume(&mut self, cx: &mut Context) -> Next {
        debug_assert!(self.attempt().is_some(), "only an attempt can be resumed");
        let JobState::Awarded(attempt) = &mut self.state else { return Next::Stay };
        let stream = cx.open_stream(attempt.peer, Role::Job(self.id));
        // A refusal, or a fresh offer with it, comes on this stream, and so does its answer.
        if let Some(negotiation) = self.negotiations.get_mut(&attempt.peer) {
            negotiation.stream = stream;
        }
        // [R3] Nothing came yet: the Award again. [R1] Else Resume.
        if attempt.is_fresh() {
            self.award_again(cx, stream);
        } else {
            let next = attempt.next();
            attempt.reattach(cx.now, stream, None);
            attempt.send(cx, &Message::Resume { job: self.id, attempt: attempt.number, epoch: attempt.epoch, next });
        }
        Next::Stay
    }

    /// The provider could not be dialled: that tells nothing of the job, and is tried again as long as the grace lasts. A silence
    /// may end. But where nobody listens any more the job is hardly kept, and who goes on elsewhere has no time to lose.
    pub(super) fn on_resume_not_sent(&mut self, cx: &mut Context, failure: StreamFailure) -> Next {
        debug_assert!(self.attempt().is_some(), "only an attempt can be resumed");
        let others = self.knows_others(cx);
        let JobState::Awarded(attempt) = &mut self.state else { return Next::Stay };
        let failures = attempt.dials;
        attempt.dials = failures.saturating_add(1);
        // [R7]
        if failure == StreamFailure::Unreachable && others {
            if attempt.dials >= VAIN_DIALS {
                return Next::Broken(Interrupted::Lost);
            }
            attempt.retry_at(cx.now.after(backoff::FLOOR));
            return Next::Stay;
        }
        attempt.resume_later(cx, failures)
    }

    /// Whether it waits for its provider to be reached.
    pub(super) fn waits_for(&self, peer: PeerId) -> bool {
        let waits = |attempt: &Attempt| attempt.peer == peer && matches!(attempt.link, Link::Suspended { .. });
        self.attempt().is_some_and(waits)
    }
}

impl Attempt {
    /// Nobody listens any more where it was.
    pub(super) const fn is_deserted(&self) -> bool {
        self.dials >= VAIN_DIALS
    }

    fn resume_later(&mut self, cx: &mut Context, failures: u32) -> Next {
        let pause = backoff::pause(&mut cx.rng, cx.policy.retry_delay, backoff::CAP, failures);
        self.retry_at(cx.now.after(pause));
        Next::Stay
    }

    /// The provider goes on.
    pub(super) fn on_resumed(&mut self, cx: &mut Context, job: JobId, next: u64) -> Result<Next, Violation> {
        self.resumed(cx.now, next)?;
        cx.tell(Event::Resumed { job, attempt: self.number, peer: self.peer, seq: next });
        self.acknowledge(cx);
        Ok(Next::Stay)
    }

    /// The provider has nothing to resume: there is nothing to wait for.
    pub(super) fn on_gone(&mut self) -> Result<Next, Violation> {
        if !matches!(self.link, Link::Resuming(_)) {
            return Err(Violation::Unexpected);
        }
        self.ended = true;
        Ok(Next::Broken(Interrupted::Gone))
    }
}
