//! Connections that died without a word, peers that are elsewhere now, and the own move to another address.

use std::{collections::HashMap, time::Duration};

use libp2p::{PeerId, Swarm, kad, ping};

use super::{Behaviour, Network};
use crate::{
    runtime::Mdns,
    sessions::{self, OpenError},
};

/// How often a connection is asked whether it lives.
const INTERVAL: Duration = Duration::from_secs(5);
/// The answer comes within this time. A connection that owes two of them is given up.
const PATIENCE: Duration = Duration::from_secs(5);
/// Peers that are looked for at once.
const MAX_SOUGHT: usize = 8;

/// TCP does not tell for a quarter of an hour that the other side, or the own address, is gone.
pub(crate) fn pings() -> ping::Behaviour {
    ping::Behaviour::new(ping::Config::new().with_interval(INTERVAL).with_timeout(PATIENCE))
}

/// Peers that are not where they were, each with the query that asks the DHT for it.
#[derive(Debug, Default)]
pub(super) struct Sought(HashMap<kad::QueryId, PeerId>);

impl Sought {
    pub(super) fn found(&mut self, query: kad::QueryId) {
        self.0.remove(&query);
    }
}

impl Network {
    pub(super) fn on_ping<M: Mdns>(&self, event: &ping::Event, swarm: &mut Swarm<Behaviour<M>>) {
        // Who does not speak it may live nevertheless.
        if let Err(ping::Failure::Timeout | ping::Failure::Other { .. }) = event.result {
            tracing::debug!(peer = %event.peer, "the connection is dead");
            swarm.close_connection(event.connection);
        }
    }

    /// Asks the DHT where a peer is that could not be reached. Kademlia connects to it on the way, and whatever waits for
    /// the peer goes on.
    pub(super) fn seek<M: Mdns>(&mut self, event: &sessions::Event, swarm: &mut Swarm<Behaviour<M>>) {
        let sessions::Event::OpenFailed { peer, error, .. } = event else { return };
        let elsewhere = matches!(error, OpenError::NoAddress | OpenError::Unreachable(_) | OpenError::TimedOut);
        let asked = self.sought.0.len() >= MAX_SOUGHT || self.sought.0.values().any(|sought| sought == peer);
        let Some(kad) = swarm.behaviour_mut().kad.as_mut().filter(|_| elsewhere && !asked) else { return };
        self.sought.0.insert(kad.get_closest_peers(*peer), *peer);
    }

    /// This node is at another address than it has announced: it announces itself once more, to those it can reach.
    pub(super) fn moved<M: Mdns>(&mut self, swarm: &mut Swarm<Behaviour<M>>) {
        if self.announced.is_some() {
            self.has_moved = true;
            self.plan_announcement(swarm);
        }
    }
}
