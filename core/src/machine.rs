//! The one interface of both machines: facts in, orders out, one deadline.

use crate::{
    id::{Model, PeerId, QueryId, StreamId},
    time::Instant,
};

/// A sans-IO state machine: [`crate::Requester`] or [`crate::Provider`].
///
/// The run loop, in any runtime: drain [`poll_output`](Self::poll_output) and carry the orders out; wait for a fact or for
/// [`poll_timeout`](Self::poll_timeout), whichever comes first; hand it to [`handle_input`](Self::handle_input); again.
pub trait Machine {
    /// What it tells the application.
    type Event<'a>
    where
        Self: 'a;

    /// Takes a fact from outside. Infallible: what is late or repeated is ignored.
    /// `now` never runs backwards; if it does, the machine keeps the latest it has seen.
    fn handle_input(&mut self, now: Instant, input: Input<'_>);

    /// The next order, in causal order. Borrows, so that a token costs no allocation.
    fn poll_output(&mut self) -> Option<Output<'_, Self::Event<'_>>>;

    /// When to call [`handle_input`](Self::handle_input) with [`Input::Timeout`] if nothing else happens, and why.
    fn poll_timeout(&self) -> Option<Timeout>;
}

/// A fact from outside.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Input<'a> {
    /// Time passed: whatever is due at `now` happens.
    Timeout,
    /// A stream that was ordered is open: transmitted bytes go out.
    StreamOpened(StreamId),
    /// A stream that was ordered could not be opened.
    StreamFailed(StreamId, StreamFailure),
    /// Bytes arrived on a stream.
    Received(StreamId, &'a [u8]),
    /// A stream is over, whoever ended it. A clean end of file says nothing more than a cut: only End ends a job.
    StreamClosed(StreamId),
    /// A query, or a source that is not asked (static list, mDNS), names peers. Hints only.
    PeersFound(QueryId, &'a [PeerId]),
    /// A query is over: nothing more will be found.
    QueryDone(QueryId, QueryOutcome),
    /// A connection to a peer exists.
    PeerConnected(PeerId),
    /// The last connection to a peer is gone.
    PeerGone(PeerId),
}

/// Why a stream could not be opened.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, minicbor::Encode, minicbor::Decode)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[cbor(index_only)]
pub enum StreamFailure {
    /// No address is known, or none answered.
    #[n(0)]
    Unreachable,
    /// No answer within the dial timeout.
    #[n(1)]
    TimedOut,
    /// Another peer answered at the address.
    #[n(2)]
    WrongPeer,
    /// The peer does not speak this protocol version.
    #[n(3)]
    Unsupported,
    /// The peer, or a limit on this side, allows no more streams now.
    #[n(4)]
    Refused,
}

/// How a query ended.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, minicbor::Encode, minicbor::Decode)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[cbor(index_only)]
pub enum QueryOutcome {
    /// Every source answered.
    #[n(0)]
    Complete,
    /// A source did not answer in time: what was found may not be all.
    #[n(1)]
    TimedOut,
    /// No source of peers is there to be asked.
    #[n(2)]
    NoSource,
}

/// An order to the adapter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Output<'a, E> {
    /// Open a stream to a peer, dialling if need be; answer with `StreamOpened` or `StreamFailed`.
    Open {
        /// The name it has from now on.
        stream: StreamId,
        /// To whom.
        peer: PeerId,
    },
    /// Send bytes, in order, as soon as the stream can take them. May come before `StreamOpened`; the adapter keeps them.
    /// Credit and body limits bound what a stream can ever have waiting.
    Transmit {
        /// On which stream.
        stream: StreamId,
        /// One or more whole frames.
        bytes: &'a [u8],
    },
    /// Send what is waiting, then close the stream. Nothing more is said or heard on it.
    Close(StreamId),
    /// Drop the stream at once, with what is waiting.
    Reset(StreamId),
    /// Ask all sources for peers that serve a model; answer with `PeersFound`, any number of times, and one `QueryDone`.
    StartQuery {
        /// The query's name.
        query: QueryId,
        /// The model; [`crate::wire::dht_key`] makes the DHT's key of it.
        model: &'a Model,
    },
    /// The query takes too long: nothing more of it is listened to.
    CancelQuery(QueryId),
    /// Tell the application.
    Event(E),
}

/// The next deadline.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Timeout {
    /// When.
    pub at: Instant,
    /// Why.
    pub cause: Cause,
}

/// What a deadline is for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Cause {
    /// A query for peers takes too long.
    Query,
    /// A provider does not describe itself in time.
    Describe,
    /// Enough time was given to further adverts.
    SearchWindow,
    /// Enough time was given to further offers.
    OfferWindow,
    /// An offer expires.
    OfferExpiry,
    /// Accepted does not come in time.
    Request,
    /// The first token does not come in time.
    FirstToken,
    /// Nothing at all was heard for too long.
    Idle,
    /// No token came for too long, keepalives or not.
    TokenGap,
    /// An acknowledgement is due.
    Ack,
    /// A keepalive is due.
    Keepalive,
    /// The job's own deadline.
    JobDeadline,
    /// A body comes too slowly.
    BodyRate,
    /// An inbound stream says nothing.
    Handshake,
    /// A finished job's end was not acknowledged in time.
    Linger,
    /// A job whose stream was cut was not resumed in time.
    Cut,
    /// A cut stream is to be resumed, or was not in time.
    Resume,
    /// The pause before another attempt is over.
    Retry,
    /// A Cancel that was not confirmed is to be said again.
    PendingCancel,
    /// A provider that drains ends what is left.
    Drain,
    /// A dial of a bootstrap node is due, or took too long.
    Bootstrap,
}
