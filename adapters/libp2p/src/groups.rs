//! Accept limits per address group, applied before the handshake costs anything.
//!
//! Peer ids are free to make, addresses are not: connections are counted by IPv4 /24 and IPv6 /48. Loopback and private
//! ranges are exempt; whole offices and test networks share them.

use std::{
    collections::{BTreeMap, HashMap},
    convert::Infallible,
    net::IpAddr,
    task::{Context, Poll},
    time::Instant,
};

use libp2p::{
    Multiaddr, PeerId,
    core::{Endpoint, transport::PortUse},
    swarm::{
        ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent, THandlerOutEvent,
        ToSwarm, dummy,
    },
};

use crate::{address, bucket::Bucket};

/// What one group of addresses may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupLimits {
    /// Inbound connections at a time, those in their handshake included.
    pub max_connections: u32,
    /// New inbound connections a second; a second's worth may come at once.
    pub max_accepts_per_second: u32,
}

impl Default for GroupLimits {
    fn default() -> Self {
        GroupLimits { max_connections: 64, max_accepts_per_second: 16 }
    }
}

/// The limit an inbound connection ran into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GroupFull {
    /// [`GroupLimits::max_connections`].
    #[error("too many connections from this group of addresses")]
    Connections,
    /// [`GroupLimits::max_accepts_per_second`].
    #[error("connections from this group of addresses come too fast")]
    Rate,
}

/// Groups that are remembered although they have no connection; more are forgotten at once.
const MAX_IDLE_GROUPS: usize = 4_096;

/// Refuses inbound connections over [`GroupLimits`].
#[derive(Debug)]
pub struct Behaviour {
    limits: GroupLimits,
    groups: BTreeMap<u64, Group>,
    connections: HashMap<ConnectionId, u64>,
}

#[derive(Debug)]
struct Group {
    live: u32,
    accepts: Bucket,
}

impl Behaviour {
    /// A behaviour with these limits.
    pub fn new(limits: GroupLimits) -> Self {
        Behaviour { limits, groups: BTreeMap::new(), connections: HashMap::new() }
    }

    fn accept(&mut self, id: ConnectionId, ip: IpAddr, now: Instant) -> Result<(), GroupFull> {
        if self.groups.len() >= MAX_IDLE_GROUPS + self.connections.len() {
            self.groups.retain(|_, group| group.live > 0);
        }
        let limits = self.limits;
        let key = group_of(ip);
        let group = self
            .groups
            .entry(key)
            .or_insert_with(|| Group { live: 0, accepts: Bucket::new(limits.max_accepts_per_second, now) });
        if group.live >= limits.max_connections {
            return Err(GroupFull::Connections);
        }
        if !group.accepts.take(0, now) {
            return Err(GroupFull::Rate);
        }
        group.accepts.take(1, now);
        group.live += 1;
        self.connections.insert(id, key);
        Ok(())
    }

    fn release(&mut self, id: ConnectionId) {
        if let Some(group) = self.connections.remove(&id).and_then(|key| self.groups.get_mut(&key)) {
            group.live -= 1;
        }
    }
}

/// The first 24 bits of an IPv4 address, the first 48 of an IPv6 address, told apart by a bit above them.
fn group_of(ip: IpAddr) -> u64 {
    match ip.to_canonical() {
        IpAddr::V4(ip) => u64::from(ip.to_bits() >> 8),
        IpAddr::V6(ip) => (1 << 48) | (ip.to_bits() >> 80) as u64,
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        id: ConnectionId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        match address::ip(remote) {
            Some(ip) if address::scope_of(ip) == address::Scope::Global => {
                self.accept(id, ip, Instant::now()).map_err(ConnectionDenied::new)
            }
            _ => Ok(()),
        }
    }

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(dummy::ConnectionHandler)
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(dummy::ConnectionHandler)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionClosed(event) => self.release(event.connection_id),
            FromSwarm::ListenFailure(event) => self.release(event.connection_id),
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use libp2p::swarm::{ListenError, behaviour::ListenFailure};

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn a_group_has_a_rate_and_a_room() {
        let start = Instant::now();
        let mut groups = Behaviour::new(GroupLimits { max_connections: 6, max_accepts_per_second: 4 });
        let id = ConnectionId::new_unchecked;
        for n in 0..4 {
            assert_eq!(groups.accept(id(n), ip(&format!("203.0.113.{n}")), start), Ok(()));
        }
        assert_eq!(groups.accept(id(4), ip("203.0.113.9"), start), Err(GroupFull::Rate));
        assert_eq!(groups.accept(id(5), ip("203.0.114.9"), start), Ok(()), "the next /24 is another group");
        let later = start + Duration::from_secs(1);
        assert_eq!(groups.accept(id(6), ip("203.0.113.9"), later), Ok(()));
        assert_eq!(
            groups.accept(id(7), ip("::ffff:203.0.113.9"), later),
            Ok(()),
            "mapped addresses are the same group"
        );
        assert_eq!(groups.accept(id(8), ip("203.0.113.9"), later), Err(GroupFull::Connections));
        groups.release(id(0));
        assert_eq!(groups.accept(id(9), ip("203.0.113.9"), later), Ok(()));
    }

    /// A connection that fails in its handshake is never established, and so is never closed: its place comes back even so.
    #[test]
    fn a_handshake_that_fails_gives_its_place_back() {
        let mut groups = Behaviour::new(GroupLimits { max_connections: 1, max_accepts_per_second: 9 });
        let local: Multiaddr = "/ip4/127.0.0.1/tcp/1".parse().expect("an address");
        let remote: Multiaddr = "/ip4/8.8.8.8/tcp/9".parse().expect("an address");
        let comes = |groups: &mut Behaviour, n| {
            let id = ConnectionId::new_unchecked(n);
            groups.handle_pending_inbound_connection(id, &local, &remote).is_ok()
        };
        for n in 0..3 {
            assert!(comes(&mut groups, 2 * n), "place {n}");
            assert!(!comes(&mut groups, 2 * n + 1), "it is taken");
            groups.on_swarm_event(FromSwarm::ListenFailure(ListenFailure {
                local_addr: &local,
                send_back_addr: &remote,
                error: &ListenError::Aborted,
                connection_id: ConnectionId::new_unchecked(2 * n),
                peer_id: None,
            }));
        }
    }

    #[test]
    fn groups_without_connections_are_forgotten() {
        let mut groups = Behaviour::new(GroupLimits::default());
        let now = Instant::now();
        for n in 0..20_000_u32 {
            let id = ConnectionId::new_unchecked(n as usize);
            assert_eq!(groups.accept(id, IpAddr::V4((0x0100_0000 + (n << 8)).into()), now), Ok(()));
            groups.release(id);
        }
        assert!(groups.groups.len() <= MAX_IDLE_GROUPS + 1 && groups.connections.is_empty());
    }

    #[test]
    fn loopback_and_private_ranges_are_exempt() {
        let mut groups = Behaviour::new(GroupLimits { max_connections: 1, max_accepts_per_second: 1 });
        let local: Multiaddr = "/ip4/127.0.0.1/tcp/1".parse().expect("an address");
        for (n, remote) in
            ["/ip4/127.0.0.1/tcp/9", "/ip4/10.1.2.3/tcp/9", "/ip6/fe80::1/tcp/9"].repeat(9).iter().enumerate()
        {
            let id = ConnectionId::new_unchecked(n);
            let remote = remote.parse().expect("an address");
            assert!(groups.handle_pending_inbound_connection(id, &local, &remote).is_ok());
        }
        let remote = "/ip4/8.8.8.8/tcp/9".parse().expect("an address");
        assert!(groups.handle_pending_inbound_connection(ConnectionId::new_unchecked(90), &local, &remote).is_ok());
        assert!(groups.handle_pending_inbound_connection(ConnectionId::new_unchecked(91), &local, &remote).is_err());
    }
}
