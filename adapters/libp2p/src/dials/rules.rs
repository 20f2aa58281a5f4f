//! Which dials are allowed: a state that is told of time, and does nothing.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::SocketAddr,
    time::{Duration, Instant},
};

use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};

use crate::address::{Host, Place, Scope, place, scope_of, split_peer};

/// Why an address is not dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Forbidden {
    /// It names no peer, or is of a kind that this node can not dial.
    #[error("not dialled: an address has a host, a port and a peer")]
    Kind,
    /// It is on this machine or in its local network, and comes from outside.
    #[error("not dialled: a stranger's word leads no further inside than this node's own connections")]
    Inside,
    /// It is a system service's port.
    #[error("not dialled: ports below 1024 are dialled only where their owner says so, or you do")]
    Port,
    /// The peer is said to be in too many places.
    #[error("not dialled: the peer is said to be in too many places at once")]
    Places,
    /// It was dialled too often.
    #[error("not dialled: this place was dialled too often within a minute")]
    Often,
}

/// Places at which a stranger is dialled within [`SPAN`].
const MAX_PLACES: usize = 8;
/// Those of them that are on one public host.
const MAX_ON_HOST: usize = 2;
/// Dials of one place within [`SPAN`].
const MAX_OF_PLACE: usize = 8;
/// Dials at a stranger's word within [`SPAN`]; what is remembered is bounded by it.
const MAX_RECENT: usize = 4_096;
const SPAN: Duration = Duration::from_secs(60);
/// Peers of which it is remembered where they are, and how many places of each.
const MAX_KNOWN: usize = 4_096;
const MAX_OF_KNOWN: usize = 8;
/// Below, ports belong to the system's services.
const FIRST_PORT: u16 = 1_024;

#[derive(Debug, Default)]
pub(crate) struct Rules {
    given: BTreeSet<(PeerId, Place)>,
    known: BTreeMap<PeerId, VecDeque<Known>>,
    outside: Option<Scope>,
    recent: VecDeque<Recent>,
}

/// A place at which a peer says it is.
#[derive(Debug)]
struct Known {
    place: Place,
    /// It has answered there.
    proved: bool,
}

#[derive(Debug)]
struct Recent {
    at: Instant,
    /// `None` for where a name has led.
    peer: Option<PeerId>,
    place: Place,
}

impl Rules {
    pub(crate) fn give(&mut self, peer: PeerId, address: &Multiaddr) {
        self.given.extend(place(address).map(|place| (peer, place)));
    }

    pub(crate) fn tell(&mut self, peer: PeerId, address: &Multiaddr) {
        self.learn(peer, address, false);
    }

    pub(crate) fn set_outside(&mut self, outside: Option<Scope>) {
        self.outside = outside;
    }

    pub(crate) fn answered(&mut self, peer: PeerId, address: &Multiaddr) {
        self.learn(peer, address, true);
        if let Some(place) = place(address) {
            self.recent.retain(|recent| recent.peer != Some(peer) || recent.place != place);
        }
    }

    pub(crate) fn is_given(&self, address: &Multiaddr) -> bool {
        split_peer(address.clone()).1.zip(place(address)).is_some_and(|given| self.given.contains(&given))
    }

    /// What can be said without counting.
    pub(crate) fn believes(&self, peer: PeerId, address: &Multiaddr) -> Result<(), Forbidden> {
        let place = place(address).ok_or(Forbidden::Kind)?;
        if self.given.contains(&(peer, place.clone())) || self.known(peer, &place).is_some() {
            return Ok(());
        }
        match &place.host {
            Host::Ip(ip) if !self.is_outside(scope_of(*ip)) => Err(Forbidden::Inside),
            // Nobody is there before there is a connection. Where a name leads is judged when that is known.
            Host::Name(_) if self.outside.is_none() => Err(Forbidden::Inside),
            // Behind a proxy with TLS, a node is where web servers are.
            _ if place.port < FIRST_PORT && !(place.port == 443 && is_secure(address)) => Err(Forbidden::Port),
            _ => Ok(()),
        }
    }

    /// Allows a dial, and counts it.
    pub(crate) fn dial(&mut self, address: &Multiaddr, now: Instant) -> Result<(), Forbidden> {
        let place = place(address).ok_or(Forbidden::Kind)?;
        let peer = split_peer(address.clone()).1.ok_or(Forbidden::Kind)?;
        self.believes(peer, address)?;
        if self.given.contains(&(peer, place.clone())) {
            return Ok(());
        }
        self.forget(now);
        let known = self.known(peer, &place);
        let is_ip = matches!(place.host, Host::Ip(_));
        match known {
            Some(known) if known.proved && is_ip => return Ok(()),
            Some(_) => {}
            None => self.has_room_for(peer, &place)?,
        }
        // Of a name it counts where it leads.
        if is_ip {
            self.is_quiet(&place)?;
        }
        self.count(Some(peer), place, now)
    }

    /// Where a name leads, that was allowed.
    pub(crate) fn may_lead(&mut self, name: &str, to: SocketAddr, now: Instant) -> Result<(), Forbidden> {
        let named = Place { host: Host::named(name), port: to.port() };
        if self.given.iter().any(|(_, place)| *place == named) {
            return Ok(());
        }
        if !self.is_outside(scope_of(to.ip())) || to.ip().is_unspecified() || to.ip().is_multicast() {
            return Err(Forbidden::Inside);
        }
        self.forget(now);
        let place = Place { host: Host::Ip(to.ip().to_canonical()), port: to.port() };
        self.is_quiet(&place)?;
        self.count(None, place, now)
    }

    fn is_outside(&self, scope: Scope) -> bool {
        self.outside.is_some_and(|outside| scope >= outside)
    }

    fn known(&self, peer: PeerId, place: &Place) -> Option<&Known> {
        self.known.get(&peer)?.iter().find(|known| known.place == *place)
    }

    fn learn(&mut self, peer: PeerId, address: &Multiaddr, proved: bool) {
        let Some(place) = place(address) else { return };
        if self.known.len() >= MAX_KNOWN && !self.known.contains_key(&peer) {
            self.known.pop_first();
        }
        let places = self.known.entry(peer).or_default();
        match places.iter_mut().find(|known| known.place == place) {
            Some(known) => known.proved |= proved,
            None => places.push_back(Known { place, proved }),
        }
        if places.len() > MAX_OF_KNOWN {
            places.pop_front();
        }
    }

    fn has_room_for(&self, peer: PeerId, place: &Place) -> Result<(), Forbidden> {
        let of_peer = self.recent.iter().filter(|recent| recent.peer == Some(peer) && recent.place != *place);
        let others: BTreeSet<_> = of_peer.map(|recent| &recent.place).collect();
        let on_host = others.iter().filter(|other| other.host == place.host).count();
        // Whole offices share a private address, and every test this machine's own.
        let public = match &place.host {
            Host::Ip(ip) => scope_of(*ip) == Scope::Global,
            Host::Name(_) => true,
        };
        let full = others.len() >= MAX_PLACES || (public && on_host >= MAX_ON_HOST);
        if full { Err(Forbidden::Places) } else { Ok(()) }
    }

    fn is_quiet(&self, place: &Place) -> Result<(), Forbidden> {
        let dialled = self.recent.iter().filter(|recent| recent.place == *place).count();
        if dialled < MAX_OF_PLACE { Ok(()) } else { Err(Forbidden::Often) }
    }

    fn count(&mut self, peer: Option<PeerId>, place: Place, at: Instant) -> Result<(), Forbidden> {
        if self.recent.len() >= MAX_RECENT {
            return Err(Forbidden::Often);
        }
        self.recent.push_back(Recent { at, peer, place });
        Ok(())
    }

    fn forget(&mut self, now: Instant) {
        while self.recent.front().is_some_and(|recent| now.saturating_duration_since(recent.at) >= SPAN) {
            self.recent.pop_front();
        }
        debug_assert!(self.recent.len() <= MAX_RECENT);
    }
}

fn is_secure(address: &Multiaddr) -> bool {
    address.iter().any(|part| matches!(part, Protocol::Wss(_)))
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
