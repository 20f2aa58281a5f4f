//! When a provider is given up: another one goes on, from the first token or from where it broke off ([R8], [R9]).

use alloc::vec::Vec;

use crate::{
    backoff,
    event::{Failure, Finished, Interrupted, NoRetry, PassedOver, TakeOver, Violation},
    id::PeerId,
    peers::{score::Severity, table},
    retry::Retry,
    spec::Failover,
    time::{Instant, Millis},
    wire::message::{BodyKind, EndReason, ReleaseReason},
};

use super::{
    attempt::Attempt,
    context::Context,
    job::{Answer, Goal, Job, JobState, NegotiationState, Next},
    selection::Doubts,
    settle::Assessment,
    transcript::Transcript,
};

impl Job {
    /// The attempt ended without an answer: it is fenced for good, and who goes on is looked for after a pause.
    pub(super) fn on_broken(&mut self, cx: &mut Context, why: Interrupted) -> Next {
        let Some(attempt) = self.take_attempt() else {
            debug_assert!(false, "only an attempt can break");
            return Next::Stay;
        };
        let (peer, differs, in_vain) = (attempt.peer, attempt.differs, self.waited_in_vain(cx.now, &attempt));
        let is_deserted = attempt.is_deserted();
        let assessment = if attempt.lets_wait(why) { Assessment::LetWait } else { Assessment::of(why) };
        self.close_attempt(cx, attempt, assessment);
        if differs {
            // It may go on, but is not held to any bytes; to promise them costs score.
            cx.peers.violation(cx.now, peer, Severity::Slight);
            self.forget_negotiation(cx, peer);
        } else {
            self.pass_over(cx, peer, PassedOver::Interrupted(why));
        }
        self.broken = Some(why);
        if let Some(fault) = why.fault_of_request()
            && self.is_believed(cx, peer, why)
        {
            return self.at_fault(fault);
        }
        let delivered = self.transcript.tokens() > 0;
        if delivered && self.left() == 0 {
            return self.lacks_end(why);
        }
        let is_refused = why.fault_of_request().is_some();
        let base = match (is_refused, is_deserted) {
            // Who refuses the request is not overloaded: nothing has to recover before another one is asked.
            (true, _) => backoff::FLOOR,
            // Nor is who is gone, but all that it served come at once.
            (false, true) => Millis(cx.policy.retry_delay.0 / 4).max(in_vain),
            (false, false) => cx.policy.retry_delay.max(in_vain),
        };
        let pause = backoff::pause(&mut cx.rng, base, backoff::CAP, self.tries.saturating_sub(1));
        let retry = Retry {
            attempts: self.tries,
            max_retries: cx.policy.max_retries,
            deadline: self.until,
            pause,
            timed_out: is_timeout(why),
            exempt: delivered || is_refused,
        };
        let may = if delivered { self.may_be_taken_over() } else { Ok(()) };
        match may.and_then(|()| cx.quota.may_retry(cx.now, &retry)) {
            Ok(until) => self.state = JobState::Waiting { until },
            Err(why) => return self.give_up(why),
        }
        if delivered {
            // The body is another one now: what was offered for the old one does not bind.
            self.release_negotiations(cx, ReleaseReason::Late);
            self.forget_offers();
        }
        Next::Stay
    }

    /// All tokens that were ordered are there, and only the End is missing.
    fn lacks_end(&self, why: Interrupted) -> Next {
        if why == Interrupted::Violation(Violation::Digest) {
            // They are not as they were written: nobody can mend that.
            return Next::give_up(Failure::Interrupted(why), NoRetry::Complete);
        }
        self.ends_here(EndReason::Length)
    }

    /// The request is at fault. But what was written until the context was full is an answer, as far as it goes: nobody who is
    /// known has more room.
    fn at_fault(&self, fault: Failure) -> Next {
        match fault {
            Failure::Context if self.transcript.tokens() > 0 => self.ends_here(EndReason::Context),
            fault => Next::fail(fault),
        }
    }

    /// The answer is what was delivered, though the provider that was asked last did not end it.
    fn ends_here(&self, reason: EndReason) -> Next {
        let tokens = self.transcript.tokens();
        Next::finish(Finished::Answer { reason, prompt_tokens: 0, tokens, thought: None, cached: None })
    }

    /// Whether it is the request's fault, as this provider says. One may lie or be sick: another one has to agree, unless there
    /// is none.
    fn is_believed(&mut self, cx: &Context, peer: PeerId, why: Interrupted) -> bool {
        let (first, _) = *self.refused.get_or_insert((peer, why));
        first != peer || !self.knows_others(cx)
    }

    /// A provider did not even answer the dial: who goes on is looked for after a pause.
    pub(super) fn pause(&mut self, cx: &mut Context, in_vain: Millis) -> Next {
        let pause = backoff::pause(&mut cx.rng, in_vain, backoff::CAP, 0);
        self.state = JobState::Waiting { until: cx.now.after(pause) };
        Next::Stay
    }

    /// The base of the next pause: half of what the attempt waited for its first token, and not more than a quarter of the
    /// job's time. Jobs that an outage held up for equally long are not to come back together.
    pub(super) fn waited_in_vain(&self, now: Instant, attempt: &Attempt) -> Millis {
        match attempt.tokens() {
            0 => Millis((attempt.permit.age(now).0 / 2).min(self.until.since(now).0 / 4)),
            _ => Millis::ZERO,
        }
    }

    /// Nobody is left but those that were busy: they are asked again after a pause, as often as a broken attempt is retried.
    ///
    /// # Errors
    /// Why nobody is asked again.
    pub(super) fn wait_for_busy(&mut self, cx: &mut Context) -> Result<(), NoRetry> {
        let after = self.busy.take().ok_or(NoRetry::Nobody)?;
        if self.rounds >= cx.policy.max_retries {
            return Err(NoRetry::Attempts);
        }
        let pause = backoff::pause(&mut cx.rng, cx.policy.retry_delay, backoff::CAP, self.rounds).max(after);
        self.rounds += 1;
        self.state = JobState::Waiting { until: cx.now.after(pause) };
        self.forget_offers();
        Ok(())
    }

    /// The pause is over.
    pub(super) fn retry(&mut self, cx: &mut Context) -> Next {
        if self.transcript.tokens() == 0
            && self.negotiations.values().any(|negotiation| negotiation.offered(cx.now).is_some())
        {
            return Next::Choose;
        }
        // Offers that ran out in the meantime: their providers may be asked again.
        let offered = self
            .negotiations
            .iter()
            .filter(|(_, negotiation)| matches!(negotiation.state, NegotiationState::Offered { .. }));
        let expired: Vec<PeerId> = offered.map(|(peer, _)| *peer).collect();
        expired.into_iter().for_each(|peer| self.forget_negotiation(cx, peer));
        if !self.can_be_continued() {
            self.begin_anew(cx);
        }
        self.since = cx.now;
        self.unaffordable = None;
        self.state = JobState::Searching { closes: Some(cx.now) };
        self.begin_search(cx)
    }

    /// Whoever goes on begins anew: what was delivered is owed, and continued by nobody. Says whether there was anything.
    pub(super) fn begin_anew(&mut self, cx: &mut Context) -> bool {
        if self.transcript.tokens() == 0 {
            return false;
        }
        self.leftover = self.leftover.saturating_add(self.transcript.tokens() - self.transcript.consumed());
        cx.held = cx.held.saturating_sub(self.transcript.bytes());
        self.transcript = Transcript::default();
        self.forgot_run = false;
        self.before = self.attempts;
        self.take_over = TakeOver::Restarted;
        true
    }

    /// Tokens that are still to be written.
    pub(super) const fn left(&self) -> u64 {
        self.max_tokens.saturating_sub(self.transcript.tokens())
    }

    /// Whether another provider may be shown what was delivered, and go on after it.
    fn can_be_continued(&self) -> bool {
        let Goal::Answer(Answer { failover, kind, .. }) = &self.goal else { return false };
        failover.may_continue() && !self.forgot_run && *kind != BodyKind::Request
    }

    /// Whether another provider may go on after the first token.
    ///
    /// # Errors
    /// Why none may.
    pub(super) fn may_be_taken_over(&self) -> Result<(), NoRetry> {
        match &self.goal {
            Goal::Answer(Answer { failover: Failover::Continue, .. }) if !self.can_be_continued() => {
                Err(NoRetry::Forgotten)
            }
            Goal::Answer(answer) if answer.failover != Failover::Never => Ok(()),
            Goal::Answer(_) | Goal::Quote { .. } | Goal::Discover => Err(NoRetry::Failover),
        }
    }

    /// Whether somebody may begin anew where nobody can continue.
    pub(super) fn may_begin_anew(&self) -> bool {
        matches!(self.goal, Goal::Answer(Answer { failover: Failover::ContinueOrRestart, .. }))
    }

    /// Whether the last provider that was awarded said that the request is at fault.
    pub(super) fn is_refused(&self) -> bool {
        self.broken.is_some_and(|why| why.fault_of_request().is_some())
    }

    /// Who is in doubt for this job.
    pub(super) fn doubts(&self, cx: &Context) -> Doubts {
        let bait = cx.bait.filter(|(at, _)| cx.now < at.after(table::MEMORY)).map(|(_, price)| price);
        Doubts { was_let_wait: self.was_let_wait, bait }
    }

    /// Whether there is somebody who could go on, and leave and time for one more attempt.
    pub(super) fn may_go_elsewhere(&self, cx: &Context) -> bool {
        let in_time = cx.now.after(cx.policy.pace_window.max(backoff::CAP)) < self.until;
        self.tries <= cx.policy.max_retries && in_time && self.may_be_taken_over().is_ok() && self.knows_others(cx)
    }

    /// What the current attempt's tokens are to those before; `None` if there are none.
    pub(super) fn taken_over(&self) -> Option<TakeOver> {
        self.lines.iter().any(|line| line.tokens > 0).then_some(self.take_over)
    }

    /// Whether tokens were delivered, in this run or before a restart.
    pub(super) fn has_delivered(&self) -> bool {
        self.transcript.tokens() > 0 || self.lines.iter().any(|line| line.tokens > 0)
    }

    /// How the job ends if nobody takes it over any more. Who said last that the request is at fault is contradicted by nobody.
    pub(super) fn give_up(&self, no_retry: NoRetry) -> Next {
        let why = self.broken.unwrap_or(Interrupted::Lost);
        match why.fault_of_request() {
            Some(fault) => self.at_fault(fault),
            None if self.has_delivered() => Next::give_up(Failure::Interrupted(why), no_retry),
            None => Next::give_up(Failure::Declined(PassedOver::Interrupted(why)), no_retry),
        }
    }
}

const fn is_timeout(why: Interrupted) -> bool {
    matches!(why, Interrupted::Request | Interrupted::FirstToken | Interrupted::TokenGap)
}
