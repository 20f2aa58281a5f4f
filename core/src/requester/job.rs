//! A job and where it stands.

use alloc::{boxed::Box, collections::BTreeMap, string::String, vec::Vec};

use crate::{
    event::{Bill, BillLine, Failure, Finished, Interrupted, NoRetry, Outcome, PassedOver, Quote, TakeOver},
    id::{JobId, PeerId, StreamId},
    machine::{Cause, Timeout},
    money::{Account, Amount, Tariff},
    peers::table::Lift,
    spec::{Choose, Criteria, Failover, Haggle},
    time::{Instant, Millis},
    wire::message::{BodyKind, Sampling},
};

use super::{attempt::Attempt, transcript::Transcript};

/// What follows from a step of a job's flow. Whoever had the step done does it.
#[derive(Debug)]
pub(super) enum Next {
    /// Nothing, until something comes or is due.
    Stay,
    /// The choice among the offers.
    Choose,
    /// A look at who is known by now.
    Search,
    /// The attempt ended without an answer: somebody else goes on, or nobody.
    Broken(Interrupted),
    /// The job is over; where it was given up, why nothing further is tried.
    End(Outcome, Option<NoRetry>),
}

/// One request of the application: an answer, prices, or providers.
#[derive(Clone, Hash, Debug)]
pub(super) struct Job {
    pub(super) id: JobId,
    pub(super) goal: Goal,
    pub(super) criteria: Criteria,
    pub(super) max_tokens: u64,
    pub(super) haggle: Haggle,
    /// Adverts older than this are not believed.
    pub(super) not_before: Instant,
    /// When its search began: who failed since then is not asked again for it.
    pub(super) since: Instant,
    pub(super) until: Instant,
    pub(super) state: JobState,
    /// Conversations about prices, by provider.
    pub(super) negotiations: BTreeMap<PeerId, Negotiation>,
    /// The cheapest offer that was beyond the budget.
    pub(super) unaffordable: Option<u128>,
    /// What the last provider that fell out said.
    pub(super) last_out: Option<PassedOver>,
    pub(super) account: Account,
    /// Attempts awarded so far.
    pub(super) attempts: u32,
    /// Of these, those that count: an Award that was declined does not.
    pub(super) tries: u32,
    /// Attempts before the current run began.
    pub(super) before: u32,
    pub(super) transcript: Transcript,
    /// The run became too large to be kept: nobody can continue it, and no snapshot tells it again.
    pub(super) forgot_run: bool,
    /// Tokens delivered before a restart that the application has not taken yet.
    pub(super) leftover: u64,
    /// What the next attempt's tokens are to those before, if there are any.
    pub(super) take_over: TakeOver,
    /// What had to be overlooked so that enough providers may be asked.
    pub(super) lift: Lift,
    /// Somebody was busy and may be asked again after this time.
    pub(super) busy: Option<Millis>,
    /// Rounds of asking that ended with busy providers only.
    pub(super) rounds: u32,
    /// What the last attempt broke on.
    pub(super) broken: Option<Interrupted>,
    /// The first provider that said that the request itself is at fault: believed when another one says so, too.
    pub(super) refused: Option<(PeerId, Interrupted)>,
    /// A provider that had never served took it, and let it wait.
    pub(super) was_let_wait: bool,
    pub(super) lines: Vec<BillLine>,
    /// Every step of the choice is told.
    pub(super) explain: bool,
}

#[derive(Clone, Hash, Debug)]
pub(super) enum Goal {
    Answer(Answer),
    Quote { body_bytes: u64 },
    Discover,
}

/// What an answer needs beyond the common.
#[derive(Clone, Hash)]
pub(super) struct Answer {
    pub(super) kind: BodyKind,
    pub(super) prompt: Vec<u8>,
    pub(super) sampling: Sampling,
    pub(super) stop: Vec<String>,
    pub(super) budget: Amount,
    pub(super) time_value: Amount,
    pub(super) choose: Choose,
    pub(super) failover: Failover,
}

#[derive(Clone, Hash, Debug)]
pub(super) enum JobState {
    /// Waits for adverts. Once one fits, the others get until it `closes`.
    Searching { closes: Option<Instant> },
    /// Waits for offers, until `until`. Once one is acceptable, the others get until it `closes`.
    Asking { until: Instant, closes: Option<Instant> },
    /// The application chooses.
    Choosing,
    /// A provider was lost; who goes on is looked for after a pause.
    Waiting { until: Instant },
    /// One provider is awarded.
    Awarded(Box<Attempt>),
    /// The attempt is over, and what follows is decided in the same step: no job stays here.
    Deciding,
}

/// A conversation with one provider about a price.
#[derive(Clone, Hash, Debug)]
pub(super) struct Negotiation {
    pub(super) stream: StreamId,
    pub(super) rfq: u64,
    pub(super) state: NegotiationState,
    /// The first price that was asked: bids are measured by it.
    pub(super) first: Option<Tariff>,
    /// The last one: asks only fall.
    pub(super) last: Option<Tariff>,
    /// Counters sent.
    pub(super) rounds: u32,
    /// It was passed over: it is not asked again for this job.
    pub(super) failed: bool,
    /// Awards by this provider's terms that it found stale.
    pub(super) stale: u32,
}

#[derive(Clone, Hash, Debug)]
pub(super) enum NegotiationState {
    /// An offer is waited for.
    Asked,
    Offered {
        quote: Quote,
        expires: Instant,
    },
    /// The current attempt is this provider's.
    Awarded,
    /// Nothing more comes of it.
    Out,
}

impl Next {
    pub(super) const fn finish(finished: Finished) -> Self {
        Self::End(Outcome::Finished(finished), None)
    }

    /// A failure that says itself why it is the last.
    pub(super) const fn fail(failure: Failure) -> Self {
        Self::End(Outcome::Failed(failure), None)
    }

    /// A failure after which another attempt could have been made.
    pub(super) const fn give_up(failure: Failure, why: NoRetry) -> Self {
        Self::End(Outcome::Failed(failure), Some(why))
    }
}

impl Job {
    /// A job that nothing has happened to yet.
    pub(super) fn new(
        id: JobId,
        goal: Goal,
        mut criteria: Criteria,
        max_tokens: u64,
        haggle: Haggle,
        now: Instant,
        until: Instant,
    ) -> Self {
        criteria.only.sort_unstable();
        criteria.only.dedup();
        Self {
            id,
            account: Account::new(goal.budget()),
            goal,
            not_before: if criteria.refresh { now } else { Instant::ZERO },
            criteria,
            max_tokens,
            haggle,
            since: now,
            until,
            state: JobState::Searching { closes: None },
            negotiations: BTreeMap::new(),
            unaffordable: None,
            last_out: None,
            attempts: 0,
            tries: 0,
            before: 0,
            transcript: Transcript::default(),
            forgot_run: false,
            leftover: 0,
            take_over: TakeOver::Spliced,
            lift: Lift::Nothing,
            busy: None,
            rounds: 0,
            broken: None,
            refused: None,
            was_let_wait: false,
            lines: Vec::new(),
            explain: false,
        }
    }

    pub(super) const fn attempt(&self) -> Option<&Attempt> {
        match &self.state {
            JobState::Awarded(attempt) => Some(attempt),
            _ => None,
        }
    }

    pub(super) const fn attempt_mut(&mut self) -> Option<&mut Attempt> {
        match &mut self.state {
            JobState::Awarded(attempt) => Some(attempt),
            _ => None,
        }
    }

    /// Takes the attempt out: it is over.
    pub(super) fn take_attempt(&mut self) -> Option<Attempt> {
        match core::mem::replace(&mut self.state, JobState::Deciding) {
            JobState::Awarded(attempt) => Some(*attempt),
            other => {
                self.state = other;
                None
            }
        }
    }

    /// The last Award does not count: nothing came of it that could have failed.
    pub(super) fn uncount_try(&mut self) {
        debug_assert!(self.tries > 0, "every award counts first");
        self.tries = self.tries.saturating_sub(1);
    }

    /// Bytes of the body as it is priced.
    pub(super) const fn body_bytes(&self) -> u64 {
        match &self.goal {
            Goal::Answer(answer) => answer.prompt.len() as u64 + self.transcript.bytes(),
            Goal::Quote { body_bytes } => *body_bytes,
            Goal::Discover => 0,
        }
    }

    /// What the job can still spend by its own budget; `None` where nothing will be bought.
    pub(super) fn funds(&self) -> Option<u128> {
        match self.goal {
            Goal::Answer(_) => self.account.remaining(),
            Goal::Quote { .. } | Goal::Discover => None,
        }
    }

    pub(super) fn bill(&self) -> Bill {
        let mut lines = self.lines.clone();
        lines.extend(self.attempt().map(Attempt::line));
        Bill::of(lines)
    }

    /// The next moment at which something happens to the job by itself.
    pub(super) fn timeout(&self) -> Timeout {
        let deadline = Timeout { at: self.until, cause: Cause::JobDeadline };
        let own = match &self.state {
            JobState::Searching { closes: Some(at) } => Some(Timeout { at: *at, cause: Cause::SearchWindow }),
            JobState::Searching { closes: None } | JobState::Deciding => None,
            JobState::Asking { until, closes } => {
                let offers = Timeout { at: *until, cause: Cause::OfferWindow };
                Some(closes.map_or(offers, |at| offers.min(Timeout { at, cause: Cause::OfferWindow })))
            }
            JobState::Waiting { until } => Some(Timeout { at: *until, cause: Cause::Retry }),
            JobState::Choosing => self.last_expiry().map(|at| Timeout { at, cause: Cause::OfferExpiry }),
            JobState::Awarded(attempt) => Some(attempt.timeout()),
        };
        own.map_or(deadline, |own| own.min(deadline))
    }

    /// When the last of the offers expires.
    pub(super) fn last_expiry(&self) -> Option<Instant> {
        self.negotiations
            .values()
            .filter_map(|negotiation| match negotiation.state {
                NegotiationState::Offered { expires, .. } => Some(expires),
                _ => None,
            })
            .max()
    }
}

impl Goal {
    /// What may be spent; `None` where nothing is bought.
    pub(super) fn budget(&self) -> Option<Amount> {
        match self {
            Self::Answer(answer) => Some(answer.budget),
            Self::Quote { .. } | Self::Discover => None,
        }
    }
}

impl Answer {
    pub(super) const fn is_chosen_by_application(&self) -> bool {
        matches!(self.choose, Choose::Application)
    }
}

impl core::fmt::Debug for Answer {
    // Without the prompt: state is printed in failing tests and logs.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Answer")
            .field("kind", &self.kind)
            .field("body", &format_args!("{} bytes", self.prompt.len()))
            .field("budget", &self.budget)
            .finish_non_exhaustive()
    }
}

impl Negotiation {
    pub(super) const fn new(stream: StreamId, rfq: u64) -> Self {
        Self {
            stream,
            rfq,
            state: NegotiationState::Asked,
            first: None,
            last: None,
            rounds: 0,
            failed: false,
            stale: 0,
        }
    }

    /// Whether an answer is waited for.
    pub(super) const fn is_open(&self) -> bool {
        matches!(self.state, NegotiationState::Asked)
    }

    /// The offer, as long as it binds.
    pub(super) fn offered(&self, now: Instant) -> Option<&Quote> {
        match &self.state {
            NegotiationState::Offered { quote, expires } if now < *expires => Some(quote),
            _ => None,
        }
    }
}
