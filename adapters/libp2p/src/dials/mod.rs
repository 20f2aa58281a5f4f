//! The one gate that every dial of a node's swarm passes, whoever asked for it: Kademlia's running query, identify,
//! a search, the user. It stands in the transport, where nothing can be dialled beside it.

mod gate;
mod rules;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use libp2p::{Multiaddr, PeerId};

pub(crate) use self::gate::{Gate, who_else};
pub use self::rules::Forbidden;
use self::rules::Rules;
use crate::address::Scope;

/// What a node knows of whom it may dial where. Clones share it. The default allows every dial, for swarms whose other
/// behaviours are somebody else's; a node's own is [`guarded`](Self::guarded).
///
/// Behind the guard an address that the user gave is always dialled. One that a peer tells of itself, over its own
/// connection, is dialled within limits. What anybody else says is a stranger's word: it may point no further inside than
/// the furthest place this node has a connection to, at no port below 1024 (but 443 for `/wss`), at 8 addresses of a peer and 2 ports of a
/// public host a minute. No host and port is dialled more than 8 times a minute unless the peer sought has answered there.
/// Where a name leads is judged after it was resolved.
#[derive(Clone, Debug, Default)]
pub struct Dials(Option<Arc<Mutex<Rules>>>);

impl Dials {
    /// Dials nothing but what it is told of.
    pub fn guarded() -> Self {
        Dials(Some(Arc::default()))
    }

    /// The user wants this peer to be dialled at this address, as often as anything asks for it.
    pub fn give(&self, peer: PeerId, address: &Multiaddr) {
        self.rules(|rules| rules.give(peer, address));
    }

    /// A peer has said of itself, over its own connection, that it is at an address, and that can be true.
    pub fn tell(&self, peer: PeerId, address: &Multiaddr) {
        self.rules(|rules| rules.tell(peer, address));
    }

    /// The furthest place this node has a connection to: strangers may live there. `None` without a connection.
    pub fn set_outside(&self, outside: Option<Scope>) {
        self.rules(|rules| rules.set_outside(outside));
    }

    /// Whether an address of a peer, of whomever it comes, may be dialled if there is no hurry.
    pub fn believes(&self, peer: PeerId, address: &Multiaddr) -> bool {
        self.rules(|rules| rules.believes(peer, address).is_ok()).unwrap_or(true)
    }

    fn dial(&self, address: &Multiaddr) -> Result<(), Forbidden> {
        self.rules(|rules| rules.dial(address, Instant::now())).unwrap_or(Ok(()))
    }

    fn is_given(&self, address: &Multiaddr) -> bool {
        self.rules(|rules| rules.is_given(address)).unwrap_or(true)
    }

    /// The peer sought has answered at this address.
    fn answered(&self, peer: PeerId, address: &Multiaddr) {
        self.rules(|rules| rules.answered(peer, address));
    }

    /// Whether a name that was allowed may lead to this place: for transports that resolve names.
    ///
    /// # Errors
    /// Why not.
    pub fn may_lead(&self, name: &str, to: SocketAddr) -> Result<(), Forbidden> {
        self.rules(|rules| rules.may_lead(name, to, Instant::now())).unwrap_or(Ok(()))
    }

    fn rules<T>(&self, what: impl FnOnce(&mut Rules) -> T) -> Option<T> {
        let rules = self.0.as_ref()?;
        Some(what(&mut rules.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}
