//! Streams of `/haggle/2` between peers: a [`Behaviour`] for any [`Swarm`](libp2p::Swarm).
//!
//! It opens streams (dialling when there is no connection, reusing the one there is) and accepts them. Everything asked
//! for is answered: an open ends in [`Event::Opened`] or in [`Event::OpenFailed`] with a reason, an inbound stream in
//! [`Event::Inbound`] or in [`Event::Refused`]. Every table is bounded by [`Config`].
//!
//! Addresses come from the swarm: [`Swarm::add_peer_address`](libp2p::Swarm::add_peer_address) and whatever the other
//! behaviours of the swarm offer when a peer is dialled.

mod behaviour;
mod gate;
mod handler;
mod stream;
mod stream_task;

use std::time::Duration;

use libp2p::{PeerId, StreamProtocol};

pub use behaviour::Behaviour;
pub(crate) use behaviour::at_once;
pub use handler::{FromHandler, Handler, ToHandler};
pub use stream::SessionStream;
pub use stream_task::{FromStream, SendBuffer, StreamTask};

/// The one protocol of version 1. Any change of the wire is a new name.
// [T2] Every stream is opened for it, and no other is accepted.
pub const PROTOCOL: StreamProtocol = StreamProtocol::new(haggle_core::wire::PROTOCOL);

/// Names one open until it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpenId(pub(crate) u64);

/// What the behaviour allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// From the call of `open` to its answer, the dial and the negotiation included.
    pub open_timeout: Duration,
    /// Opens that may wait for one peer at a time; the next is refused.
    pub max_waiting_per_peer: usize,
    /// Opens that may wait in all.
    pub max_waiting: usize,
    /// Negotiations at once on one connection; further opens wait their turn.
    pub max_negotiating: usize,
    /// Live streams to one peer that this node opened; further opens wait until one ends. A peer resets what is more
    /// than it likes.
    pub max_outbound_per_peer: u32,
    /// Live inbound streams of one peer, over all its connections.
    pub max_inbound_per_peer: u32,
    /// Live inbound streams in all.
    pub max_inbound: u32,
    /// Inbound streams a second that one peer may end without having sent a byte. A second's worth may come at once.
    pub max_resets_per_second: u32,
    /// Peers whose addresses are remembered; the least recently used one goes first.
    pub max_known_peers: usize,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            open_timeout: Duration::from_secs(30),
            max_waiting_per_peer: 256,
            max_waiting: 2_048,
            max_negotiating: 16,
            max_outbound_per_peer: 24,
            max_inbound_per_peer: 32,
            max_inbound: 256,
            max_resets_per_second: 8,
            max_known_peers: 4_096,
        }
    }
}

/// What happened to a stream.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// An open succeeded.
    Opened {
        /// Which open.
        id: OpenId,
        /// To whom.
        peer: PeerId,
        /// The stream; dropping it ends it.
        stream: SessionStream,
    },
    /// An open failed, for good.
    OpenFailed {
        /// Which open.
        id: OpenId,
        /// To whom.
        peer: PeerId,
        /// Why.
        error: OpenError,
    },
    /// A peer opened a stream.
    Inbound {
        /// Who.
        peer: PeerId,
        /// The stream; it holds one of the peer's slots until it is dropped.
        stream: SessionStream,
    },
    /// A peer opened a stream and it was closed at once.
    Refused {
        /// Who.
        peer: PeerId,
        /// Why.
        reason: Refusal,
    },
}

/// Why a stream could not be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Too many opens wait already.
    #[error("too many streams are waiting to be opened to this peer")]
    Busy,
    /// No address of the peer is known.
    #[error("no address of this peer is known")]
    NoAddress,
    /// No address of the peer answered.
    #[error("the peer cannot be reached: {0}")]
    Unreachable(String),
    /// Someone else answers at the peer's address.
    #[error("another peer, {0}, answers at this address")]
    WrongPeer(PeerId),
    /// It is this node itself.
    #[error("the peer is this node itself")]
    Myself,
    /// A limit of this node, or a block, forbids the connection.
    #[error("the connection is not allowed here: {0}")]
    Denied(String),
    /// The peer does not speak `/haggle/2`.
    #[error("the peer does not speak /haggle/2")]
    Unsupported,
    /// The connection went away before the stream was there.
    #[error("the connection was lost before the stream was open: {0}")]
    ConnectionLost(String),
    /// Nothing happened in time.
    #[error("the stream was not open in time")]
    TimedOut,
}

impl OpenError {
    /// A stable name for logs and metrics.
    pub fn code(&self) -> &'static str {
        match self {
            OpenError::Busy => "busy",
            OpenError::NoAddress => "no_address",
            OpenError::Unreachable(_) => "unreachable",
            OpenError::WrongPeer(_) => "wrong_peer",
            OpenError::Myself => "myself",
            OpenError::Denied(_) => "denied",
            OpenError::Unsupported => "unsupported",
            OpenError::ConnectionLost(_) => "connection_lost",
            OpenError::TimedOut => "timed_out",
        }
    }
}

/// Why an inbound stream was closed at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// The peer has [`Config::max_inbound_per_peer`] streams open.
    PeerFull,
    /// The node has [`Config::max_inbound`] streams open.
    NodeFull,
    /// The peer opens streams and drops them unused, faster than [`Config::max_resets_per_second`].
    TooManyResets,
}

impl Refusal {
    /// A stable name for logs and metrics.
    pub fn code(&self) -> &'static str {
        match self {
            Refusal::PeerFull => "peer_full",
            Refusal::NodeFull => "node_full",
            Refusal::TooManyResets => "too_many_resets",
        }
    }
}
