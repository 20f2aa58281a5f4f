//! What a recorder holds: one step of one machine a line.

use haggle_core::{
    Input, Limits, PeerId, Policy, QueryId, StreamId,
    machine::{QueryOutcome, StreamFailure},
    provider::{self, Service},
    requester,
};
use serde::{Deserialize, Serialize};

use crate::hex;

/// One of the two machines of a node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Who {
    /// The one that buys.
    Requester,
    /// The one that sells.
    Provider,
}

/// A line: which machine did what, when, and what the call answered.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Line<'a> {
    /// Milliseconds on the node's clock.
    pub(crate) at: u64,
    pub(crate) who: Who,
    pub(crate) step: Step<'a>,
    /// What the call answered, in words; empty if it answers nothing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) got: String,
}

/// Everything that can be done to a machine, and what came out.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Step<'a> {
    NewRequester {
        policy: Policy,
        limits: Limits,
        seed: [u8; 32],
    },
    NewProvider {
        service: Service,
        limits: Limits,
        seed: [u8; 32],
    },
    Fact(Fact),
    /// A command to the requester, whichever it is.
    Requester(requester::Command),
    /// A command to the provider, whichever it is.
    Provider(provider::Command<'a>),
    /// So many outputs were taken, of this digest.
    Out {
        count: u64,
        digest: Bytes,
    },
    /// Of a redacted recorder: an output without its contents.
    Seen(serde_json::Value),
}

/// Bytes, written as hexadecimal digits.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Bytes(#[serde(with = "hex")] pub(crate) Vec<u8>);

/// An [`Input`], owned.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Fact {
    Timeout,
    StreamOpened(u64),
    StreamFailed(u64, StreamFailure),
    Received(u64, Bytes),
    StreamClosed(u64),
    PeersFound(u64, Vec<PeerId>),
    QueryDone(u64, QueryOutcome),
    PeerConnected(PeerId),
    PeerGone(PeerId),
}

impl Fact {
    pub(crate) fn of(input: &Input<'_>) -> Self {
        match *input {
            Input::Timeout => Self::Timeout,
            Input::StreamOpened(stream) => Self::StreamOpened(stream.0),
            Input::StreamFailed(stream, why) => Self::StreamFailed(stream.0, why),
            Input::Received(stream, bytes) => Self::Received(stream.0, Bytes(bytes.to_vec())),
            Input::StreamClosed(stream) => Self::StreamClosed(stream.0),
            Input::PeersFound(query, peers) => Self::PeersFound(query.0, peers.to_vec()),
            Input::QueryDone(query, outcome) => Self::QueryDone(query.0, outcome),
            Input::PeerConnected(peer) => Self::PeerConnected(peer),
            Input::PeerGone(peer) => Self::PeerGone(peer),
        }
    }

    pub(crate) fn input(&self) -> Input<'_> {
        match self {
            Self::Timeout => Input::Timeout,
            Self::StreamOpened(stream) => Input::StreamOpened(StreamId(*stream)),
            Self::StreamFailed(stream, why) => Input::StreamFailed(StreamId(*stream), *why),
            Self::Received(stream, Bytes(bytes)) => Input::Received(StreamId(*stream), bytes),
            Self::StreamClosed(stream) => Input::StreamClosed(StreamId(*stream)),
            Self::PeersFound(query, peers) => Input::PeersFound(QueryId(*query), peers),
            Self::QueryDone(query, outcome) => Input::QueryDone(QueryId(*query), *outcome),
            Self::PeerConnected(peer) => Input::PeerConnected(*peer),
            Self::PeerGone(peer) => Input::PeerGone(*peer),
        }
    }
}
