//! Connections that died without a word, peers that are elsewhere now, and the own move to another address.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use libp2p::{
    Multiaddr, PeerId, Swarm, kad, ping,
    swarm::dial_opts::{DialOpts, PeerCondition},
};

use super::{Behaviour, MAX_ADDRESSES, Network};
use crate::{
    address::split_peer,
    runtime::Mdns,
    sessions::{self, OpenError},
};

/// How often a connection is asked whether it lives.
const INTERVAL: Duration = Duration::from_secs(5);
/// The answer comes within this time. A connection that owes two of them is given up.
const PATIENCE: Duration = Duration::from_secs(5);
/// Peers that are looked for at once.
const MAX_SOUGHT: usize = 8;
/// How often the DHT is asked for one of them, and how many times: the peer may have noticed its own move later than we.
const ASK: Duration = Duration::from_secs(3);
const ASKS: u32 = 5;
/// Addresses of one of them that are dialled, those that were known before included.
const MAX_TRIED: usize = 2 * MAX_ADDRESSES;
/// How often it is looked what the DHT has answered so far: Kademlia tells only the end of a query.
const LOOK: Duration = Duration::from_millis(250);

/// TCP does not tell for a quarter of an hour that the other side, or the own address, is gone.
pub(crate) fn pings() -> ping::Behaviour {
    ping::Behaviour::new(ping::Config::new().with_interval(INTERVAL).with_timeout(PATIENCE))
}

/// Peers that are not where they were.
#[derive(Debug, Default)]
pub(super) struct Sought {
    peers: HashMap<PeerId, Whereabouts>,
    look_at: Option<Instant>,
}

/// What is known of where a peer is.
#[derive(Debug)]
struct Whereabouts {
    query: Option<kad::QueryId>,
    ask_at: Instant,
    asked: u32,
    /// Addresses that are dialled already, or were.
    tried: Vec<Multiaddr>,
}

impl Sought {
    pub(super) fn due(&self) -> Option<Instant> {
        self.look_at
    }

    /// The DHT has no more to say.
    pub(super) fn answered(&mut self, query: kad::QueryId) {
        let asked = self.peers.values_mut().find(|whereabouts| whereabouts.query == Some(query));
        if let Some(whereabouts) = asked {
            whereabouts.query = None;
        }
    }
}

impl Network {
    pub(super) fn on_ping<M: Mdns>(&mut self, event: &ping::Event, swarm: &mut Swarm<Behaviour<M>>) {
        // Who does not speak it may live nevertheless.
        if let Err(ping::Failure::Timeout | ping::Failure::Other { .. }) = event.result {
            tracing::debug!(peer = %event.peer, "the connection is dead");
            swarm.close_connection(event.connection);
            if swarm.behaviour().sessions.outbound_streams(&event.peer) > 0 {
                self.seek(event.peer, swarm);
            }
        }
    }

    /// Looks for a peer that could not be reached.
    pub(super) fn on_open_failed<M: Mdns>(&mut self, event: &sessions::Event, swarm: &mut Swarm<Behaviour<M>>) {
        if let sessions::Event::OpenFailed { peer, error, .. } = event
            && matches!(error, OpenError::NoAddress | OpenError::Unreachable(_) | OpenError::TimedOut)
        {
            self.seek(*peer, swarm);
        }
    }

    /// Looks for a peer that is, or soon will be, unconnected, if the DHT can be asked.
    fn seek<M: Mdns>(&mut self, peer: PeerId, swarm: &mut Swarm<Behaviour<M>>) {
        let room = self.sought.peers.len() < MAX_SOUGHT && !self.sought.peers.contains_key(&peer);
        let behaviour = swarm.behaviour_mut();
        if !room || behaviour.kad.as_ref().is_none() {
            return;
        }
        let dialled = behaviour.sessions.addresses_of(&peer).into_iter().map(|address| split_peer(address).0);
        let (now, tried) = (Instant::now(), dialled.take(MAX_ADDRESSES).collect());
        self.sought.peers.insert(peer, Whereabouts { query: None, ask_at: now, asked: 0, tried });
        self.sought.look_at.get_or_insert(now + LOOK);
    }

    /// Dials those that are sought where the DHT says they are now, and asks it again.
    pub(super) fn look<M: Mdns>(&mut self, swarm: &mut Swarm<Behaviour<M>>) {
        let now = Instant::now();
        if self.sought.look_at.is_none_or(|at| now < at) {
            return;
        }
        let mut sought = std::mem::take(&mut self.sought);
        sought.peers.retain(|peer, whereabouts| {
            if swarm.is_connected(peer) || (whereabouts.query.is_none() && whereabouts.asked >= ASKS) {
                return false;
            }
            self.dial_where_told(*peer, whereabouts, swarm);
            if whereabouts.query.is_none() && whereabouts.ask_at <= now {
                let Some(kad) = swarm.behaviour_mut().kad.as_mut() else { return false };
                // It would be asked first, where it is not, and what others say of it be ignored.
                kad.remove_peer(peer);
                whereabouts.query = Some(kad.get_closest_peers(*peer));
                whereabouts.asked += 1;
                whereabouts.ask_at = now + ASK;
            }
            true
        });
        sought.look_at = (!sought.peers.is_empty()).then(|| now + LOOK);
        self.sought = sought;
    }

    /// Beside a dial that is under way: that one may wait for the old address as long as a dial may last.
    fn dial_where_told<M: Mdns>(&self, peer: PeerId, known: &mut Whereabouts, swarm: &mut Swarm<Behaviour<M>>) {
        let told = self.believed(peer, super::dht::addresses_in_queries(swarm, &peer));
        let room = MAX_TRIED.saturating_sub(known.tried.len());
        let fresh: Vec<Multiaddr> = told.filter(|address| !known.tried.contains(address)).take(room).collect();
        if fresh.is_empty() {
            return;
        }
        known.tried.extend(fresh.iter().cloned());
        fresh.iter().for_each(|address| swarm.add_peer_address(peer, address.clone()));
        let opts = DialOpts::peer_id(peer).condition(PeerCondition::Always).addresses(fresh).build();
        if let Err(error) = swarm.dial(opts) {
            tracing::debug!(%peer, %error, "not dialled where it is said to be");
        }
    }

    /// This node is at another address than it has announced: it announces itself once more, to those it can reach.
    pub(super) fn moved<M: Mdns>(&mut self, swarm: &mut Swarm<Behaviour<M>>) {
        if self.announced.is_some() {
            self.has_moved = true;
            self.plan_announcement(swarm);
        }
    }
}
