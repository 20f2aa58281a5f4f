//! What a node needs of an async runtime, as a value. Timers are the same everywhere (`futures-timer`).

#[cfg(feature = "async-io")]
pub mod async_io;
#[cfg(feature = "async-std")]
mod async_std;
mod capped;
#[cfg(any(feature = "async-io", feature = "tokio"))]
mod names;
#[cfg(feature = "smol")]
mod smol;
#[cfg(feature = "tokio")]
mod tokio;

use std::{convert::Infallible, fmt, future::Future, io, num::NonZeroUsize, pin::Pin, time::Duration};

use futures::{AsyncRead, AsyncWrite};
use libp2p::{
    Multiaddr, PeerId, Transport,
    core::{
        muxing::StreamMuxerBox,
        transport::{Boxed, timeout::TransportTimeout},
        upgrade::Version,
    },
    identity::Keypair,
    noise,
    swarm::NetworkBehaviour,
    websocket, yamux,
};

#[cfg(feature = "async-std")]
pub use self::async_std::AsyncStd;
use self::capped::Capped;
#[cfg(feature = "smol")]
pub use self::smol::Smol;
#[cfg(feature = "tokio")]
pub use self::tokio::Tokio;
use crate::dials::Gate;
pub use crate::{
    address::supports,
    dials::{Dials, Forbidden},
};

/// A task for a runtime to run.
pub type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The transport of a node, ready for a [`Swarm`](libp2p::Swarm).
pub type NodeTransport = Boxed<(PeerId, StreamMuxerBox)>;

/// An async runtime: how to run tasks, open sockets and hear multicast.
pub trait Runtime: Clone + fmt::Debug + Send + Sync + 'static {
    /// Local discovery on this runtime's sockets.
    type Mdns: Mdns;

    /// Runs a task to its end in the background.
    fn spawn(&self, task: Task);

    /// Runs a future to its end on this thread. Not to be called inside of a task.
    fn block_on<F: Future>(&self, future: F) -> F::Output {
        futures::executor::block_on(future)
    }

    /// TCP and WebSocket over DNS names, encrypted by Noise and multiplexed by Yamux.
    ///
    /// # Errors
    /// When the key cannot be used for Noise.
    fn transport(&self, key: &Keypair, limits: &TransportLimits) -> io::Result<NodeTransport>;

    /// Whether this runtime has [`mdns`](Self::mdns): what a program asks before it turns it on by default.
    fn has_mdns(&self) -> bool {
        true
    }

    /// Multicast discovery on the local network.
    ///
    /// # Errors
    /// [`MdnsError::Unsupported`] where this runtime has none, [`MdnsError::Io`] when there is no interface to listen on.
    fn mdns(&self, me: PeerId) -> Result<Self::Mdns, MdnsError>;
}

/// Why there is no local discovery.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MdnsError {
    /// The runtime has none.
    #[error("there is no mDNS on the {runtime} runtime; these have it: {}", available.join(", "))]
    Unsupported {
        /// Which runtime.
        runtime: &'static str,
        /// The runtimes that have it.
        available: &'static [&'static str],
    },
    /// This machine cannot do it now.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Local discovery, whatever sockets it uses.
pub trait Mdns: NetworkBehaviour<ToSwarm: Into<Local>> + Send {}

impl<T: NetworkBehaviour<ToSwarm: Into<Local>> + Send> Mdns for T {}

/// What local discovery tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Local {
    /// Nodes, and where they are.
    Found(Vec<(PeerId, Multiaddr)>),
    /// Nodes that were not heard of for a while.
    Gone(Vec<PeerId>),
}

/// Of a runtime without local discovery.
impl From<Infallible> for Local {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

/// Bounds of a node's transport.
#[derive(Clone, Debug)]
pub struct TransportLimits {
    /// From the first packet of a dial to the proved key.
    pub dial_timeout: Duration,
    /// From the first packet of an inbound connection to the proved key.
    pub accept_timeout: Duration,
    /// Streams of one connection that the behaviours have a use for, at most [`MAX_STREAMS`](Self::MAX_STREAMS); each may
    /// hold 256 KiB unread. What a peer opens beyond is reset, and costs the connection nothing.
    pub max_streams: NonZeroUsize,
    /// Whom may be dialled where. By default, everybody everywhere.
    pub dials: Dials,
}

impl TransportLimits {
    /// What Yamux can carry at most (256 KiB a stream, 1 GiB a connection) without those that are not yet refused.
    pub const MAX_STREAMS: usize = YAMUX_STREAMS - UNREFUSED;
}

impl Default for TransportLimits {
    fn default() -> Self {
        TransportLimits {
            dial_timeout: Duration::from_secs(30),
            accept_timeout: Duration::from_secs(10),
            max_streams: NonZeroUsize::new(64).unwrap_or(NonZeroUsize::MIN),
            dials: Dials::default(),
        }
    }
}

/// Streams that Yamux's windows suffice for.
const YAMUX_STREAMS: usize = 4_096;
/// Streams that a peer may have opened before it hears that there are too many: libp2p holds 256 that nobody has looked at.
/// Yamux itself would end the connection, with all that runs on it.
const UNREFUSED: usize = 512;

/// A WebSocket frame comes before the peer is known, and libp2p would take 256 MiB of it.
const MAX_WEBSOCKET_FRAME: usize = 128 * 1024;

/// Puts WebSocket, Noise, Yamux and a timeout on two instances of a runtime's byte transport. WebSocket comes first: TCP
/// would take its addresses too and ignore their `/ws`.
///
/// # Errors
/// When the key cannot be used for Noise.
pub fn secure<T>(for_websocket: T, plain: T, key: &Keypair, limits: &TransportLimits) -> io::Result<NodeTransport>
where
    T: Transport<Output: AsyncRead + AsyncWrite + Send + Unpin + 'static> + Send + Unpin + 'static,
    T::Error: Send + Sync + 'static,
    T::Dial: Send + 'static,
    T::ListenerUpgrade: Send + 'static,
{
    let mut websocket = websocket::Config::new(for_websocket);
    websocket.set_max_data_size(MAX_WEBSOCKET_FRAME);
    // [T1] Noise proves who speaks, Yamux carries the conversations.
    let mut muxer = yamux::Config::default();
    let max_streams = limits.max_streams.get().min(TransportLimits::MAX_STREAMS);
    muxer.set_max_num_streams(max_streams + UNREFUSED);
    let security = noise::Config::new(key).map_err(io::Error::other)?;
    let upgraded = websocket
        .or_transport(plain)
        .upgrade(Version::V1)
        .authenticate(security)
        .multiplex(muxer)
        .map(move |(peer, muxer), _| (peer, StreamMuxerBox::new(Capped::new(muxer, max_streams))));
    let outgoing = TransportTimeout::with_outgoing_timeout(upgraded, limits.dial_timeout);
    let bounded = TransportTimeout::with_ingoing_timeout(outgoing, limits.accept_timeout).boxed();
    Ok(Gate::new(bounded, limits.dials.clone(), limits.dial_timeout).boxed())
}
