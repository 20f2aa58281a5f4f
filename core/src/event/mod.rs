//! What the machines tell the application, and how a job ends.

pub mod explain;
mod text;

use alloc::vec::Vec;
use core::fmt;

use crate::{
    id::{AttemptId, JobId, Model, PeerId},
    machine::{QueryOutcome, StreamFailure},
    money::Tariff,
    time::Millis,
    wire::{
        DecodeError, FrameError, Prompt,
        message::{Advert, DeclineReason, EndReason, ReleaseReason, Sampling},
    },
};

/// What a [`crate::Requester`] tells.
#[derive(Clone, PartialEq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
pub enum Event<'a> {
    /// A provider described itself.
    Discovered {
        /// Who.
        peer: PeerId,
        /// What it said.
        advert: Advert,
    },
    /// A step of the choice, and what it saw: for jobs that want it explained.
    Weighed {
        /// For which job.
        job: JobId,
        /// What.
        weighing: explain::Weighing,
    },
    /// A provider was asked for an offer.
    Asked {
        /// For which job.
        job: JobId,
        /// Who.
        peer: PeerId,
    },
    /// A provider made an offer.
    Offered {
        /// For which job.
        job: JobId,
        /// What.
        quote: Quote,
    },
    /// A provider did not make, or did not keep, an offer.
    PassedOver {
        /// For which job.
        job: JobId,
        /// Who.
        peer: PeerId,
        /// Why.
        why: PassedOver,
    },
    /// The offers are in and the application chooses ([`crate::Requester::award`]).
    ChoiceDue {
        /// For which job.
        job: JobId,
        /// Acceptable offers, best first.
        quotes: Vec<Quote>,
    },
    /// A provider was awarded.
    Awarded {
        /// Which job.
        job: JobId,
        /// Which attempt, from 1.
        attempt: u32,
        /// Under which terms.
        quote: Quote,
        /// Why this one.
        reason: ChoiceReason,
    },
    /// The provider accepted: price and provider are agreed.
    Negotiated {
        /// Which job.
        job: JobId,
        /// Which attempt.
        attempt: u32,
        /// With whom.
        peer: PeerId,
        /// At what price.
        tariff: Tariff,
    },
    /// The connection to the provider was lost. Its job goes on there, and is resumed.
    Cut {
        /// Which job.
        job: JobId,
        /// Which attempt.
        attempt: u32,
        /// Who.
        peer: PeerId,
        /// How long it is tried before the provider is given up.
        patience: Millis,
    },
    /// The provider goes on at the exact token.
    Resumed {
        /// Which job.
        job: JobId,
        /// Which attempt.
        attempt: u32,
        /// Who.
        peer: PeerId,
        /// Index of the token that comes next.
        seq: u64,
    },
    /// The tokens that follow come from another provider than those before.
    TakenOver {
        /// Which job.
        job: JobId,
        /// Which attempt goes on.
        attempt: u32,
        /// Who.
        peer: PeerId,
        /// Index of the first token that follows.
        seq: u64,
        /// Whether the text is the one that the first provider would have written.
        how: TakeOver,
    },
    /// Tokens, once and in order.
    Tokens {
        /// Of which job.
        job: JobId,
        /// From whom.
        peer: PeerId,
        /// Index of the first, dense from 0.
        seq: u64,
        /// How many.
        n: u32,
        /// Their text.
        text: &'a str,
        /// Their ids, four little-endian bytes each, if the provider knows them.
        ids: Option<&'a [u8]>,
    },
    /// The job is over. Nothing follows.
    Ended {
        /// Which job.
        job: JobId,
        /// How.
        ending: Ending,
    },
}

/// An offer as the requester holds it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
pub struct Quote {
    /// From whom.
    pub peer: PeerId,
    /// The offer's id; `None` for a posted price.
    pub offer: Option<u64>,
    /// The price.
    pub tariff: Tariff,
    /// What the job costs at most under it.
    pub cost: u128,
    /// Expected time to the first token.
    pub eta: Millis,
}

/// Why a provider is out for a job.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
pub enum PassedOver {
    /// It could not be reached.
    Stream(StreamFailure),
    /// The stream broke.
    Lost,
    /// It said no.
    Declined(DeclineReason),
    /// It did not answer in time.
    Late,
    /// It broke the protocol.
    Violation(Violation),
    /// It was awarded and broke off before the first token.
    Interrupted(Interrupted),
    /// Its offer is beyond the budget.
    OverBudget,
    /// Its offer is beyond the deadline.
    TooSlow,
    /// It failed lately, or is banned, and is left out for a while.
    Excluded,
}

/// Why a provider was chosen.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
pub enum ChoiceReason {
    /// The only acceptable offer.
    Only,
    /// The least cost plus time value.
    Cheapest,
    /// Equal in cost, faster.
    Fastest,
    /// Equal in cost and time: drawn by lot.
    Lot,
    /// The best known posted price, awarded without asking.
    Posted,
    /// The application's choice.
    Application,
}

/// What another provider's tokens are to those before.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, minicbor::Encode, minicbor::Decode)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[cbor(index_only)]
pub enum TakeOver {
    /// The same text as if nothing had happened: both promise equal bytes, and the last tokens, written again, were equal.
    /// Evidence, not proof.
    #[n(0)]
    Exact,
    /// A new sample after an exact prefix.
    #[n(1)]
    Spliced,
    /// A new answer from its first token; what was delivered before belongs to another one.
    #[n(2)]
    Restarted,
}

/// A way of breaking the protocol.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, minicbor::Encode, minicbor::Decode)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[cbor(index_only)]
pub enum Violation {
    /// A frame of impossible length.
    #[n(0)]
    Frame,
    /// Bytes that are no message.
    #[n(1)]
    Decode,
    /// A message that does not belong here.
    #[n(2)]
    Unexpected,
    /// Tokens out of order, twice, or with a gap.
    #[n(3)]
    Seq,
    /// More than the window allows.
    #[n(4)]
    Window,
    /// More than `max_tokens`.
    #[n(5)]
    TooMany,
    /// More tokens than bytes of text, or another number of ids than tokens.
    #[n(6)]
    Count,
    /// End's usage or digest is not what was received.
    #[n(7)]
    Digest,
    /// Accepted does not echo the awarded terms.
    #[n(8)]
    Terms,
    /// Too many frames without progress.
    #[n(9)]
    Flood,
    /// A body of another size or digest than awarded.
    #[n(10)]
    Body,
}

impl From<FrameError> for Violation {
    fn from(_: FrameError) -> Self {
        Self::Frame
    }
}

impl From<DecodeError> for Violation {
    fn from(_: DecodeError) -> Self {
        Self::Decode
    }
}

/// How a job ended. Every accepted job has exactly one.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
pub struct Ending {
    /// Finished, or failed and why.
    pub outcome: Outcome,
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
        /// By the model or by `max_tokens`.
        reason: EndReason,
        /// Tokens read, as the provider counted them.
        prompt_tokens: u64,
        /// Tokens delivered.
        tokens: u64,
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
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
pub enum Failure {
    /// The application cancelled.
    Cancelled,
    /// The job's deadline passed.
    Deadline,
    /// Nobody serves the model, or nobody who fits the criteria.
    NobodyFound {
        /// Whether every source answered.
        outcome: QueryOutcome,
        /// Providers that serve the model, but do not fit, or are left out for a while.
        unfit: u32,
    },
    /// Every provider that was asked declined or could not be reached; what the last one said.
    Declined(PassedOver),
    /// The cheapest offer is beyond the budget.
    OverBudget {
        /// What the job would cost at most under it.
        cheapest: u128,
        /// What there was.
        budget: u128,
    },
    /// Prompt and answer do not fit the model's context.
    Context,
    /// The provider's engine can not make sense of the request.
    BadRequest,
    /// The provider stopped in mid-answer; the prefix that was delivered stands.
    Interrupted(Interrupted),
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
    /// No token came for too long.
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
}

/// What a job costs: the requester's own count (rule M2).
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

/// What a [`crate::Provider`] tells.
#[derive(Clone, PartialEq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
pub enum ProviderEvent {
    /// A requester asked for a quote and was answered.
    Quoted {
        /// Who asked.
        peer: PeerId,
        /// For which model.
        model: Model,
        /// The price, or why not.
        answer: Result<Tariff, DeclineReason>,
    },
    /// An award, or a bid, was refused.
    Declined {
        /// Whose.
        peer: PeerId,
        /// Why.
        reason: DeclineReason,
    },
    /// An award was accepted.
    Accepted {
        /// Whose.
        peer: PeerId,
        /// Of which model, by name or alias.
        model: Model,
        /// The requester's job.
        job: JobId,
        /// Which attempt of it.
        attempt: u32,
        /// At what price.
        tariff: Tariff,
    },
    /// A requester chose another provider, or none.
    Released {
        /// Who.
        peer: PeerId,
        /// Why.
        reason: ReleaseReason,
    },
    /// A job is to be computed: a slot is taken and the body is complete.
    Start {
        /// Its handle for `push` and `finish`.
        attempt: AttemptId,
        /// What to compute.
        work: Work,
    },
    /// The window has room again, after `push` said that it was full.
    Room {
        /// Which attempt.
        attempt: AttemptId,
        /// Tokens that may be pushed.
        tokens: u32,
    },
    /// An attempt is to be computed no further: drop it. Its slot is free already.
    Stop {
        /// Which attempt.
        attempt: AttemptId,
    },
    /// An attempt is over, and what came of it.
    Served {
        /// For whom.
        peer: PeerId,
        /// Of which model, by name or alias.
        model: Model,
        /// The requester's job.
        job: JobId,
        /// Which attempt of it.
        attempt: u32,
        /// At what price.
        tariff: Tariff,
        /// How it ended.
        reason: ServedReason,
        /// Tokens written.
        tokens: u64,
        /// Of these, acknowledged as consumed.
        acked: u64,
        /// Owed for the tokens acknowledged, by this side's book.
        owed: u128,
    },
}

/// How an attempt ended at its provider.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
pub enum ServedReason {
    /// End was sent and acknowledged.
    Acknowledged(EndReason),
    /// End was sent; nobody acknowledged it in time.
    Unacknowledged(EndReason),
    /// The requester cancelled.
    Cancelled,
    /// The stream was lost, or nothing was heard, and nobody resumed in time.
    Lost,
    /// The requester broke the protocol.
    Violation(Violation),
}

/// What a provider computes for one attempt.
#[derive(Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
pub struct Work {
    /// For whom.
    pub peer: PeerId,
    /// The model, by its own name.
    pub model: Model,
    /// What it is given.
    #[cfg_attr(feature = "serde", serde(skip))]
    pub prompt: Prompt,
    /// Text already delivered, to be continued.
    #[cfg_attr(feature = "serde", serde(skip))]
    pub prefix: alloc::string::String,
    /// Tokens in the prefix: the first one to be written has this index.
    pub prefix_tokens: u64,
    /// Their ids, if the requester knows them.
    #[cfg_attr(feature = "serde", serde(skip))]
    pub prefix_ids: Option<Vec<u32>>,
    /// Tokens to write, at most.
    pub max_tokens: u64,
    /// How to draw them.
    pub sampling: Sampling,
    /// Texts that end the answer.
    #[cfg_attr(feature = "serde", serde(skip))]
    pub stop: Vec<alloc::string::String>,
    /// Tokens that one piece may have, at most.
    pub window_tokens: u32,
}

impl fmt::Debug for Work {
    // Without the prompt: events are logged.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Work")
            .field("peer", &self.peer)
            .field("model", &self.model)
            .field("max_tokens", &self.max_tokens)
            .finish_non_exhaustive()
    }
}
