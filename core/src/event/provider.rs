//! What a provider tells.

use alloc::{string::String, vec::Vec};
use core::fmt;

use crate::{
    id::{AttemptId, JobId, Model, PeerId},
    money::Tariff,
    wire::{
        Prompt,
        message::{DeclineReason, EndReason, ReleaseReason, Sampling},
    },
};

use super::Violation;

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
    /// It had not begun, and made room for another peer's job.
    Displaced,
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
    pub prefix: String,
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
    pub stop: Vec<String>,
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
