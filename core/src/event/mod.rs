//! What the machines tell the application.

mod ending;
pub mod explain;
mod provider;
mod text;

use alloc::vec::Vec;

use crate::{
    id::{JobId, PeerId},
    machine::StreamFailure,
    money::Tariff,
    time::Millis,
    wire::{
        DecodeError, FrameError,
        message::{Advert, Channel, DeclineReason, Phase},
    },
};

pub use crate::retry::NoRetry;
pub use ending::{Bill, BillLine, Ending, Failure, Finished, Interrupted, Outcome, Settlement};
pub use provider::{ProviderEvent, ServedReason, Work};

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
    /// The provider works on the first token: it does something else than it said before.
    Working {
        /// Which job.
        job: JobId,
        /// Which attempt.
        attempt: u32,
        /// Who.
        peer: PeerId,
        /// What it says that it does.
        phase: Phase,
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
        /// What they are, if not the answer's text.
        channel: Option<Channel>,
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
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, minicbor::Encode, minicbor::Decode)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[cbor(map)]
pub enum PassedOver {
    /// It could not be reached.
    #[n(0)]
    Stream(#[n(0)] StreamFailure),
    /// The stream broke.
    #[n(1)]
    Lost,
    /// It said no.
    #[n(2)]
    Declined(#[n(0)] DeclineReason),
    /// It did not answer in time.
    #[n(3)]
    Late,
    /// It broke the protocol.
    #[n(4)]
    Violation(#[n(0)] Violation),
    /// It was awarded and broke off before the first token.
    #[n(5)]
    Interrupted(#[n(0)] Interrupted),
    /// Its offer is beyond the budget.
    #[n(6)]
    OverBudget,
    /// Its offer is beyond the deadline.
    #[n(7)]
    TooSlow,
    /// It failed lately, or is banned, and is left out for a while.
    #[n(8)]
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
    /// Somebody offers less, but let a job wait lately and never brought an answer; or this job was let wait, and who
    /// has served, or asks another price, goes first.
    Proven,
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
    /// A voucher where none belongs, or not the one that is due.
    #[n(11)]
    Voucher,
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
