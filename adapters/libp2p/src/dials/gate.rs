//! The gate in the transport.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures::{
    FutureExt, TryFutureExt,
    future::{BoxFuture, Either, select},
};
use libp2p::{
    Multiaddr, PeerId, Transport,
    core::{
        muxing::StreamMuxerBox,
        transport::{Boxed, DialOpts, ListenerId, TransportError, TransportEvent},
    },
    swarm::DialError,
};

use super::Dials;
use crate::{address::split_peer, timers::Delay};

/// At a stranger's word an address is waited for so long at most, so that the others have their turn.
const PATIENCE: Duration = Duration::from_secs(8);

/// A transport whose connections have proved their key.
type Inner = Boxed<(PeerId, StreamMuxerBox)>;

/// Asks before each dial, and gives an address up at which another peer answers, so that the swarm goes on with the others:
/// by itself it would give the peer up.
#[derive(Debug)]
pub(crate) struct Gate {
    inner: Inner,
    dials: Dials,
    patience: Duration,
}

/// Somebody else answers at the address.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("another peer, {0}, answers there")]
struct WrongPeer(PeerId);

/// Who answered instead, if somebody else answered at every address that was dialled.
pub(crate) fn who_else(error: &DialError) -> Option<PeerId> {
    match error {
        DialError::WrongPeerId { obtained, .. } => Some(*obtained),
        DialError::Transport(errors) => {
            let others = errors.iter().map(|(_, error)| wrong_peer(error)).collect::<Option<Vec<_>>>();
            others.and_then(|others| others.first().copied())
        }
        _ => None,
    }
}

fn wrong_peer(error: &TransportError<io::Error>) -> Option<PeerId> {
    let TransportError::Other(error) = error else { return None };
    let mut error = error.get_ref()?;
    // Each box around a transport is one more error around this one.
    while let Some(inner) = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        error = inner;
    }
    error.downcast_ref::<WrongPeer>().map(|WrongPeer(peer)| *peer)
}

impl Gate {
    pub(crate) fn new(inner: Inner, dials: Dials, dial_timeout: Duration) -> Self {
        // The swarm dials four addresses at once: two rounds of them fit into the time of a dial.
        Gate { inner, dials, patience: PATIENCE.min(dial_timeout / 3) }
    }
}

impl Transport for Gate {
    type Output = (PeerId, StreamMuxerBox);
    type Error = io::Error;
    type ListenerUpgrade = <Inner as Transport>::ListenerUpgrade;
    type Dial = BoxFuture<'static, io::Result<Self::Output>>;

    fn listen_on(&mut self, id: ListenerId, address: Multiaddr) -> Result<(), TransportError<io::Error>> {
        self.inner.listen_on(id, address)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.inner.remove_listener(id)
    }

    fn dial(&mut self, address: Multiaddr, opts: DialOpts) -> Result<Self::Dial, TransportError<io::Error>> {
        self.dials.dial(&address).map_err(|forbidden| TransportError::Other(io::Error::other(forbidden)))?;
        let patience = (!self.dials.is_given(&address)).then_some(self.patience);
        let dial = self.inner.dial(address.clone(), opts)?;
        let dials = self.dials.clone();
        let dial = within(dial, patience).and_then(async move |(peer, muxer)| match split_peer(address.clone()).1 {
            Some(wanted) if wanted != peer => Err(io::Error::other(WrongPeer(peer))),
            _ => {
                dials.answered(peer, &address);
                Ok((peer, muxer))
            }
        });
        Ok(dial.boxed())
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<TransportEvent<Self::ListenerUpgrade, io::Error>> {
        Pin::new(&mut self.inner).poll(cx)
    }
}

async fn within<T>(dial: impl Future<Output = io::Result<T>> + Unpin, patience: Option<Duration>) -> io::Result<T> {
    let Some(patience) = patience else { return dial.await };
    match select(dial, Delay::new(patience)).await {
        Either::Left((dialled, _)) => dialled,
        Either::Right(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}
