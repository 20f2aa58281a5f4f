//! When a provider is given up: another one goes on, from the first token or from where it broke off. Rules F2 and F3.

use alloc::vec::Vec;

use crate::{
    backoff,
    event::{Failure, Finished, Interrupted, Outcome, PassedOver, TakeOver, Violation},
    id::{JobId, PeerId},
    peers::score::Severity,
    retry::Retry,
    spec::Failover,
    time::Millis,
    wire::message::{EndReason, ReleaseReason},
};

use super::{
    Requester,
    job::{Goal, Job, Phase, TalkState},
    run::Run,
    stream::Verdict,
};

impl Requester {
    /// The attempt ended without an answer: it is fenced for good, and who goes on is looked for after a pause.
    pub(super) fn on_broken(&mut self, id: JobId, why: Interrupted) {
        let Some(Job { phase: Phase::Awarded(attempt), .. }) = self.jobs.get(&id) else { return };
        let (peer, differs) = (attempt.peer, attempt.differs);
        let in_vain = self.waited_in_vain(id);
        self.close_attempt(id, verdict(why));
        if differs {
            // It may go on, but is not held to any bytes; to promise them costs score.
            self.peers.violation(self.now, peer, Severity::Slight);
            self.forget_talk(id, peer);
        } else {
            self.pass_over(id, peer, PassedOver::Interrupted(why));
        }
        let Some(job) = self.jobs.get_mut(&id) else { return };
        job.broken = Some(why);
        let delivered = job.run.tokens() > 0;
        if delivered && job.left() == 0 {
            if why == Interrupted::Violation(Violation::Digest) {
                // All tokens are there, but not as they were written: nobody can mend that.
                return self.fail_job(id, Failure::Interrupted(why));
            }
            // Only the End is missing.
            let answer = Finished::Answer { reason: EndReason::Length, prompt_tokens: 0, tokens: job.run.tokens() };
            return self.end_job(id, Outcome::Finished(answer));
        }
        let base = self.policy.retry_delay.max(in_vain);
        let pause = backoff::pause(&mut self.rng, base, backoff::CAP, job.tries.saturating_sub(1));
        let retry = Retry {
            attempts: job.tries,
            max_retries: self.policy.max_retries,
            deadline: job.until,
            pause,
            pushback: None,
            timed_out: is_timeout(why),
            delivered,
        };
        let may =
            if delivered && !job.can_be_taken_over() { None } else { self.quota.may_retry(self.now, &retry).ok() };
        let Some(until) = may else {
            let failure = job.broken_off();
            return self.fail_job(id, failure);
        };
        job.phase = Phase::Waiting { until };
        if delivered {
            // The body is another one now: what was offered for the old one does not bind.
            self.release_talks(id, ReleaseReason::Late);
            self.forget_offers(id);
        }
    }

    /// A provider did not even answer the dial: who goes on is looked for after a pause.
    pub(super) fn pause(&mut self, id: JobId, in_vain: Millis) {
        let pause = backoff::pause(&mut self.rng, in_vain, backoff::CAP, 0);
        self.set_phase(id, Phase::Waiting { until: self.now.after(pause) });
    }

    /// The base of the next pause: half of what the attempt waited for its first token, and not more than a quarter of the
    /// job's time. Jobs that an outage held up for equally long are not to come back together.
    pub(super) fn waited_in_vain(&self, id: JobId) -> Millis {
        let Some(job @ Job { phase: Phase::Awarded(attempt), .. }) = self.jobs.get(&id) else { return Millis::ZERO };
        match attempt.tokens() {
            0 => Millis((attempt.permit.age(self.now).0 / 2).min(job.until.since(self.now).0 / 4)),
            _ => Millis::ZERO,
        }
    }

    /// Nobody is left but those that were busy: they are asked again after a pause, as often as a broken attempt is retried.
    pub(super) fn wait_for_busy(&mut self, id: JobId) -> bool {
        let Some(job) = self.jobs.get_mut(&id) else { return false };
        let Some(after) = job.busy.take().filter(|_| job.rounds < self.policy.max_retries) else { return false };
        let pause = backoff::pause(&mut self.rng, self.policy.retry_delay, backoff::CAP, job.rounds).max(after);
        job.rounds += 1;
        job.phase = Phase::Waiting { until: self.now.after(pause) };
        self.searching.remove(&id);
        self.forget_offers(id);
        true
    }

    /// The pause is over.
    pub(super) fn retry(&mut self, id: JobId) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        if job.run.tokens() == 0 && job.talks.values().any(|talk| talk.offered(self.now).is_some()) {
            return self.choose(id);
        }
        // Offers that ran out in the meantime: their providers may be asked again.
        let offered = job.talks.iter().filter(|(_, talk)| matches!(talk.state, TalkState::Offered { .. }));
        let expired: Vec<PeerId> = offered.map(|(peer, _)| *peer).collect();
        expired.into_iter().for_each(|peer| self.forget_talk(id, peer));
        let Some(job) = self.jobs.get_mut(&id) else { return };
        if let Goal::Answer(answer) = &job.goal
            && answer.failover == Failover::Restart
            && job.run.tokens() > 0
        {
            job.stale = job.stale.saturating_add(job.run.tokens() - job.run.consumed());
            self.held = self.held.saturating_sub(job.run.bytes());
            job.run = Run::default();
            job.forgot_run = false;
            job.before = job.attempts;
            job.how = TakeOver::Restarted;
        }
        job.since = self.now;
        job.unaffordable = None;
        job.phase = Phase::Searching { window: Some(self.now) };
        self.searching.insert(id);
        self.begin_search(id);
    }
}

impl Job {
    /// Tokens that are still to be written.
    pub(super) const fn left(&self) -> u64 {
        self.max_tokens.saturating_sub(self.run.tokens())
    }

    /// Whether another provider may go on after the first token.
    pub(super) fn can_be_taken_over(&self) -> bool {
        match &self.goal {
            Goal::Answer(answer) => match answer.failover {
                Failover::Continue => !self.forgot_run,
                Failover::Restart => true,
                Failover::Never => false,
            },
            Goal::Quote { .. } | Goal::Discover => false,
        }
    }

    /// What the current attempt's tokens are to those before; `None` if there are none.
    pub(super) fn taken_over(&self) -> Option<TakeOver> {
        self.lines.iter().any(|line| line.tokens > 0).then_some(self.how)
    }

    /// Whether tokens were delivered, in this run or before a restart.
    pub(super) fn has_delivered(&self) -> bool {
        self.run.tokens() > 0 || self.lines.iter().any(|line| line.tokens > 0)
    }

    /// How the job ends if nobody takes it over any more.
    pub(super) fn broken_off(&self) -> Failure {
        let why = self.broken.unwrap_or(Interrupted::Lost);
        if self.has_delivered() { Failure::Interrupted(why) } else { Failure::Declined(PassedOver::Interrupted(why)) }
    }
}

/// What a broken attempt says of its provider.
const fn verdict(why: Interrupted) -> Verdict {
    match why {
        // It accuses us, promised too much, or goes in order.
        Interrupted::Accused | Interrupted::TooSlow | Interrupted::Differs | Interrupted::Shutdown => Verdict::None,
        _ => Verdict::Failed,
    }
}

const fn is_timeout(why: Interrupted) -> bool {
    matches!(why, Interrupted::Request | Interrupted::FirstToken | Interrupted::TokenGap)
}
