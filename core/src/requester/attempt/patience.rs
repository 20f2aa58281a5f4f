//! What an attempt waits for, until when, and at which pace.

use super::{Attempt, AttemptState, Link};
use crate::{
    event::Interrupted,
    limits::{MAX_ETA, Policy},
    machine::{Cause, Timeout},
    time::{Instant, Millis},
    wire::message::Phase,
};

impl Attempt {
    /// The provider says what it does for the first token, and how long that may take: word of it ends the silence, so that it
    /// is waited for anew, as long as a first token is waited for at all. Where it is not `alone`, somebody else may be quicker.
    /// Says whether it does something else than before.
    pub(in crate::requester) fn on_working(
        &mut self,
        now: Instant,
        policy: &Policy,
        (phase, eta): (Phase, Option<Millis>),
        alone: bool,
    ) -> bool {
        let AttemptState::Accepted { until } = self.state else { return false };
        if alone {
            // [C3]
            let patience = eta.unwrap_or_default().min(MAX_ETA).max(policy.work_gap);
            self.state = AttemptState::Accepted { until: until.max(self.first_token_by(now, policy, patience)) };
        }
        self.works_on.replace(phase) != Some(phase)
    }

    pub(in crate::requester) fn is_idle(&self, now: Instant) -> bool {
        self.is_heard() && self.times.heard.after(self.times.idle) <= now
    }

    pub(in crate::requester) fn has_token_gap(&self, now: Instant) -> bool {
        self.gap_at().is_some_and(|at| at <= now)
    }

    /// Tokens are counted from now on.
    pub(in crate::requester) fn count_pace(&mut self, now: Instant) {
        self.times.pace = (now, self.window.end());
    }

    pub(in crate::requester) fn is_pace_due(&self, now: Instant) -> bool {
        self.pace_at().is_some_and(|at| at <= now)
    }

    /// Whether fewer than `least` tokens were counted, and at this pace fewer than `left` would come in `time`. One more counts: it
    /// may be on its way.
    pub(in crate::requester) fn lags(&self, now: Instant, least: u32, left: u64, time: Millis) -> bool {
        let (since, next) = self.times.pace;
        let (came, took) = (self.window.end().saturating_sub(next).saturating_add(1), now.since(since));
        came <= u64::from(least) && u128::from(came) * u128::from(time.0) < u128::from(left) * u128::from(took.0)
    }

    /// Whether it was accepted, and the first token should have come by what the offer said: what Accepted says later is not
    /// what it was chosen for.
    pub(in crate::requester) fn is_late(&self, now: Instant) -> bool {
        self.was_accepted && self.tokens() == 0 && self.permit.age(now) >= self.quote.eta && self.may_be_blamed()
    }

    /// Whether the provider let the job wait, if the attempt ends for this. Who cannot be reached is away, as who is started
    /// again is: nothing was waited for that it could have sent.
    pub(in crate::requester) fn lets_wait(&self, why: Interrupted) -> bool {
        match why {
            Interrupted::Request | Interrupted::FirstToken | Interrupted::TokenGap => self.may_be_blamed(),
            Interrupted::Lost => self.let_wait && self.tokens() == 0,
            _ => false,
        }
    }

    fn may_be_blamed(&self) -> bool {
        self.let_wait || !self.waits_for_resume()
    }

    fn gap_at(&self) -> Option<Instant> {
        self.awaits_tokens().then(|| self.times.token.after(self.times.token_gap))
    }

    fn pace_at(&self) -> Option<Instant> {
        self.awaits_tokens().then(|| self.times.pace.0.after(self.times.pace_window))
    }

    /// Whether it is the provider alone that tokens wait for.
    fn awaits_tokens(&self) -> bool {
        matches!(self.state, AttemptState::Streaming) && self.is_heard() && !self.is_blocked()
    }

    pub(in crate::requester) fn timeout(&self) -> Timeout {
        let due = |at, cause| Timeout { at, cause };
        if self.waits_for_resume() {
            let over = due(self.grace, Cause::Resume);
            let state = match self.state {
                AttemptState::Sent { until } => over.min(due(until, Cause::Request)),
                AttemptState::Accepted { until } => over.min(due(until, Cause::FirstToken)),
                AttemptState::Streaming => over,
            };
            return match self.link {
                Link::Suspended { retry } => state.min(due(retry, Cause::Resume)),
                Link::Live(_) | Link::Resuming(_) => state,
            };
        }
        let life = due(self.times.sent.after(self.times.keepalive), Cause::Keepalive);
        let ack = self.ack_due.map_or(life, |at| life.min(due(at, Cause::Ack)));
        let idle = due(self.times.heard.after(self.times.idle), Cause::Idle);
        let state = match self.state {
            // Before it accepted, nothing else is expected of the provider.
            AttemptState::Sent { until } => return due(until, Cause::Request),
            AttemptState::Accepted { until } => due(until, Cause::FirstToken),
            AttemptState::Streaming => self
                .gap_at()
                .into_iter()
                .chain(self.pace_at())
                .map(|at| due(at, Cause::TokenGap))
                .fold(idle, Timeout::min),
        };
        state.min(idle).min(ack)
    }

    /// When the first token is due that is waited for so long from now on: never later than the setting says, counted from the
    /// Award, so that neither word of work nor a new stream moves it further.
    pub(super) fn first_token_by(&self, now: Instant, policy: &Policy, patience: Millis) -> Instant {
        // [C7]
        let left = Millis(policy.first_token.0.saturating_sub(self.permit.age(now).0));
        now.after(patience.min(left))
    }
}
