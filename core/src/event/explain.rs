//! Why a job went where it went: what each step of its choice saw.

use alloc::vec::Vec;
use core::fmt;

use super::ChoiceReason;
use crate::{
    id::PeerId,
    machine::StreamFailure,
    money::Amount,
    peers::table::Lift,
    time::{Instant, Millis},
};

/// What one step of a job's choice saw. Told only to jobs that want it ([`crate::JobSpec::explain`]).
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
pub struct Weighing {
    /// Which step.
    pub step: Step,
    /// What could still be spent in micro-units, by the job's budget and the node's; `None` where nothing is bought.
    pub funds: Option<u128>,
    /// What was left of the job's time.
    pub time_left: Millis,
    /// What a second of waiting is worth.
    pub time_value: Amount,
    /// What had to be overlooked so that enough providers were left.
    pub lift: Lift,
    /// Everybody who was looked at, best first.
    pub candidates: Vec<Weighed>,
}

/// A step of a job's choice.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
pub enum Step {
    /// Who is asked for an offer.
    Asking,
    /// Whose offer or posted price is taken.
    Choosing,
    /// Nobody is left who could be asked.
    Nobody,
}

/// How one provider fared.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
pub struct Weighed {
    /// Who.
    pub peer: PeerId,
    /// How it fared.
    pub verdict: Verdict,
    /// What the job costs at most there, in micro-units; `None` if no price is known.
    pub cost: Option<u128>,
    /// The time to its first token that was reckoned with; `None` if it did not come to that.
    pub expected: Option<Millis>,
}

/// How a provider fared in one step.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
pub enum Verdict {
    /// It is awarded, and why.
    Awarded(ChoiceReason),
    /// It is acceptable, and the application chooses.
    Acceptable,
    /// It is asked for an offer.
    Asked,
    /// It would do, and was not drawn.
    NotDrawn,
    /// Another one is cheaper, faster, or had the luck.
    Beaten,
    /// Its posted price is acceptable, but it has no free slot: it is to be asked.
    NotFree,
    /// Beyond what can be spent.
    OverBudget,
    /// Beyond the time that is left.
    TooSlow,
    /// It does not come into question.
    LeftOut(LeftOut),
}

/// Why a provider does not come into question.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
pub enum LeftOut {
    /// It posts a price above the job's limit.
    Price,
    /// Its context is smaller than the job wants.
    Context,
    /// It can not continue another provider's text.
    Capability,
    /// It is banned, for so long; `None` is for good.
    Banned(Option<Millis>),
    /// Its score is too low.
    Score,
    /// Its breaker is open, or waits for a probe, for so long.
    Breaker(Millis),
    /// It was banned lately, and the job is too large for it, or not the only one.
    Probation,
    /// As many peers are known as there is room for, all of them at work.
    TableFull,
    /// It could not be asked what it serves.
    Unreachable(StreamFailure),
}

impl LeftOut {
    /// Whether it serves the model, as far as is known.
    pub(crate) const fn is_unfit(self) -> bool {
        !matches!(self, Self::Unreachable(_))
    }

    pub(crate) fn excluded(now: Instant, why: crate::peers::table::Excluded) -> Self {
        use crate::peers::table::Excluded;
        let left = why.until().map(|until| until.since(now));
        match why {
            Excluded::Manual | Excluded::Fatal(_) | Excluded::Banned(_) => Self::Banned(left),
            Excluded::Open(until) | Excluded::Probing(until) => Self::Breaker(until.since(now)),
            Excluded::Avoided => Self::Score,
            Excluded::Probation => Self::Probation,
            Excluded::TableFull => Self::TableFull,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Awarded(ChoiceReason::Only) => "awarded: the only acceptable offer",
            Self::Awarded(ChoiceReason::Cheapest) => "awarded: the least cost, waiting counted",
            Self::Awarded(ChoiceReason::Fastest) => "awarded: equal in cost, the fastest",
            Self::Awarded(ChoiceReason::Lot) => "awarded: equal in cost and time, drawn by lot",
            Self::Awarded(ChoiceReason::Posted) => "awarded: the best known posted price",
            Self::Awarded(ChoiceReason::Application) => "awarded: the application's choice",
            Self::Awarded(ChoiceReason::Proven) => "awarded: more is to be expected than of who offers less",
            Self::Acceptable => "acceptable",
            Self::Asked => "asked",
            Self::NotDrawn => "not drawn: enough others were",
            Self::Beaten => "beaten by another offer",
            Self::NotFree => "no free slot: it has to be asked",
            Self::OverBudget => "beyond the budget",
            Self::TooSlow => "beyond the deadline",
            Self::LeftOut(why) => return write!(f, "left out: {why}"),
        })
    }
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Price => "it posts a price above the limit",
            Self::Context => "its context is too small",
            Self::Capability => "it can not continue another provider's text",
            Self::Banned(None) => "it is banned for good",
            Self::Banned(Some(left)) => return write!(f, "it is banned for {} s", left.0.div_ceil(1000)),
            Self::Score => "its score is too low",
            Self::Breaker(left) => {
                return write!(f, "it failed lately; its breaker is tried again in {} s", left.0.div_ceil(1000));
            }
            Self::Probation => "it was banned lately, and the job is too large for a first one",
            Self::TableFull => "as many providers are at work as there is room for",
            Self::Unreachable(failure) => return failure.fmt(f),
        };
        f.write_str(text)
    }
}
