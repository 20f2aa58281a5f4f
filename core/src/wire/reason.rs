//! Why something is refused, released, over or gone.

use minicbor::{Decode, Encode};

/// Why a provider refuses.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Encode, Decode)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[cbor(index_only)]
pub enum DeclineReason {
    /// All slots and the queue are taken.
    #[n(0)]
    Busy,
    /// The awarded terms are not, or no longer, offered.
    #[n(1)]
    Stale,
    /// The model is not served.
    #[n(2)]
    UnknownModel,
    /// Prompt and answer do not fit the model's context.
    #[n(3)]
    Context,
    /// The bid is below what the provider takes.
    #[n(4)]
    TooCheap,
    /// The peer has as much open here as one peer may.
    #[n(5)]
    PeerLimit,
    /// The provider takes no new jobs.
    #[n(6)]
    Draining,
    /// The same job and attempt are known with another body, or were lost with an earlier process of the provider.
    #[n(7)]
    Conflict,
    /// The request asks for something the provider can not do.
    #[n(8)]
    Unsupported,
    /// The body does not have the awarded size or hash.
    #[n(9)]
    BodyMismatch,
    /// The method of settlement is not taken, or its voucher is not the next one.
    #[n(10)]
    Settlement,
}

/// Why a provider that was asked is not awarded.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Encode, Decode)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[cbor(index_only)]
pub enum ReleaseReason {
    /// Another offer was cheaper.
    #[n(0)]
    Price,
    /// Another offer was faster.
    #[n(1)]
    Time,
    /// The offer came too late.
    #[n(2)]
    Late,
    /// Only the price was asked for, or the job ended without an award.
    #[n(3)]
    NoJob,
    /// The offer is beyond the budget or the deadline.
    #[n(4)]
    Unaffordable,
}

/// Why an answer ended.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Encode, Decode)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[cbor(index_only)]
pub enum EndReason {
    /// The model ended its answer, or a stop string came.
    #[n(0)]
    Stop,
    /// `max_tokens` were written.
    #[n(1)]
    Length,
    /// Prompt and answer did not fit the context.
    #[n(2)]
    Context,
    /// The engine could not make sense of the request; no other provider could.
    #[n(3)]
    BadRequest,
    /// The engine broke; another provider may do better.
    #[n(4)]
    Engine,
    /// The provider stopped serving.
    #[n(5)]
    Shutdown,
    /// The requester cancelled: the answer to Cancel.
    #[n(6)]
    Cancelled,
    /// The requester broke the protocol or its limits.
    #[n(7)]
    Violation,
    /// The requester was too slow: its body or its acknowledgements did not come in time.
    #[n(8)]
    TooSlow,
    /// The model calls tools: a complete answer.
    #[n(9)]
    ToolCalls,
    /// The answer was cut short by a filter of its content: complete, and owed.
    #[n(10)]
    Filtered,
    /// What was owed was not paid.
    #[n(11)]
    Settlement,
}

impl EndReason {
    /// Whether the answer is complete.
    #[must_use]
    pub const fn is_complete(self) -> bool {
        matches!(self, Self::Stop | Self::Length | Self::ToolCalls | Self::Filtered)
    }
}

/// Why there is nothing to resume.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Encode, Decode)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[cbor(index_only)]
pub enum GoneReason {
    /// The job is not known here.
    #[n(0)]
    Unknown,
    /// The tokens asked for are no longer held: they were acknowledged, or lost with an earlier process of the provider.
    #[n(1)]
    Evicted,
    /// A later epoch is known.
    #[n(2)]
    Stale,
}
