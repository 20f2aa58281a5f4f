//! How a job ends, and what it costs.

use alloc::vec::Vec;

use crate::{
    id::PeerId,
    machine::QueryOutcome,
    money::Tariff,
    retry::NoRetry,
    snapshot::wide,
    wire::message::{Advert, EndReason},
};

use super::{PassedOver, Quote, Violation};

/// How a job ended. Every accepted job has exactly one.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
pub struct Ending {
    /// Finished, or failed and why.
    pub outcome: Outcome,
    /// Why nothing further was tried, after [`Failure::Declined`] and [`Failure::Interrupted`]. Every other outcome says itself
    /// why it is the last.
    pub no_retry: Option<NoRetry>,
    /// What it costs.
    pub bill: Bill,
}

/// Finished, or failed and why.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
pub enum Outcome {
    /// The answer is complete.
    Finished(Finished),
    /// It is not.
    Failed(Failure),
}

/// A complete answer, to each kind of request.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
pub enum Finished {
    /// A job's text has ended.
    Answer {
        /// By the model, by `max_tokens`, with a call of tools, by a filter, or because the context was full.
        reason: EndReason,
        /// Tokens read, as the provider counted them.
        prompt_tokens: u64,
        /// Tokens delivered, over all channels.
        tokens: u64,
        /// Of these, those that were thought, as the provider that ended it says; `None` if it does not.
        thought: Option<u64>,
        /// Of the tokens read, those that the provider's engine had already, as it says.
        cached: Option<u64>,
    },
    /// A quote's offers, best first; never empty.
    Quotes(Vec<Quote>),
    /// A discovery's providers, best posted price first; never empty.
    Providers {
        /// Who, and what they said.
        found: Vec<(PeerId, Advert)>,
        /// Whether every source answered.
        outcome: QueryOutcome,
    },
}

/// Why a job failed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, minicbor::Encode, minicbor::Decode)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
#[cbor(map)]
pub enum Failure {
    /// The application cancelled.
    #[n(0)]
    Cancelled,
    /// The job's deadline passed.
    #[n(1)]
    Deadline,
    /// Nobody serves the model, or nobody who fits the criteria.
    #[n(2)]
    NobodyFound {
        /// Whether every source answered.
        #[n(0)]
        outcome: QueryOutcome,
        /// Providers that serve the model, but do not fit, or are left out for a while.
        #[n(1)]
        unfit: u32,
    },
    /// Every provider that was asked declined or could not be reached; what the last one said.
    #[n(3)]
    Declined(#[n(0)] PassedOver),
    /// The cheapest offer is beyond the budget.
    #[n(4)]
    OverBudget {
        /// What the job would cost at most under it.
        #[cbor(n(0), with = "wide")]
        cheapest: u128,
        /// What there was.
        #[cbor(n(1), with = "wide")]
        budget: u128,
    },
    /// Prompt and answer do not fit the model's context: two providers say so, or one, and nobody else was there to ask.
    #[n(5)]
    Context,
    /// Engines can not make sense of the request: two providers say so, or one, and nobody else was there to ask.
    #[n(6)]
    BadRequest,
    /// The provider stopped in mid-answer; the prefix that was delivered stands.
    #[n(7)]
    Interrupted(#[n(0)] Interrupted),
}

/// What interrupted an answer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, minicbor::Encode, minicbor::Decode)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[cbor(map)]
pub enum Interrupted {
    /// The stream was lost.
    #[n(0)]
    Lost,
    /// The stream was lost, and the provider does not have the job any more.
    #[n(1)]
    Gone,
    /// Accepted did not come in time.
    #[n(2)]
    Request,
    /// The first token did not come in time.
    #[n(3)]
    FirstToken,
    /// No token came for too long, or so few that the rest would not have come in time.
    #[n(4)]
    TokenGap,
    /// The provider promised equal bytes and wrote others.
    #[n(5)]
    Differs,
    /// The provider's engine broke.
    #[n(6)]
    Engine,
    /// The provider stopped serving.
    #[n(7)]
    Shutdown,
    /// The provider found us too slow.
    #[n(8)]
    TooSlow,
    /// The provider broke the protocol.
    #[n(9)]
    Violation(#[n(0)] Violation),
    /// The provider says that we broke the protocol.
    #[n(10)]
    Accused,
    /// The provider says that it was not paid.
    #[n(11)]
    Settlement,
    /// The provider's engine can not make sense of the request. One provider's word: another one is asked.
    #[n(12)]
    BadRequest,
    /// Prompt and answer do not fit the model's context, one provider says: another one is asked.
    #[n(13)]
    Context,
}

impl Interrupted {
    /// The job's end, where the provider says that the request itself is at fault, and is believed.
    pub(crate) const fn fault_of_request(self) -> Option<Failure> {
        match self {
            Self::BadRequest => Some(Failure::BadRequest),
            Self::Context => Some(Failure::Context),
            _ => None,
        }
    }
}

/// What a job costs: the requester's own count.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
pub struct Bill {
    /// One line per attempt that was sent and not declined.
    pub lines: Vec<BillLine>,
    /// What is owed in all.
    pub owed: u128,
    /// Tokens delivered in all.
    pub tokens: u64,
    /// How it is paid.
    pub settlement: Settlement,
}

impl Bill {
    /// The sums of its lines.
    // [M5] Of what this side took, whatever the other one says.
    pub(crate) fn of(lines: Vec<BillLine>) -> Self {
        Self {
            owed: lines.iter().map(|line| line.owed).sum(),
            tokens: lines.iter().map(|line| line.tokens).sum(),
            lines,
            settlement: Settlement::None,
        }
    }
}

/// How a bill is paid.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Settlement {
    /// Not at all: bills are bookkeeping in this version.
    #[default]
    None,
    /// The network was simulated: nothing was bought, nobody owes anything. Said by adapters that simulate; the core never
    /// does.
    Simulated,
}

/// One attempt's line of a bill.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
pub struct BillLine {
    /// Which attempt.
    pub attempt: u32,
    /// At whom.
    pub peer: PeerId,
    /// At what price.
    pub tariff: Tariff,
    /// Tokens of earlier attempts that it read again before it went on; `fee_in` is for the prompt and these.
    pub reread: u64,
    /// Tokens accepted.
    pub tokens: u64,
    /// Bytes of their text.
    pub text_bytes: u64,
    /// Owed for it.
    pub owed: u128,
}
