//! What an address says: how far it reaches, and whose it is.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};

/// How far an address reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// Within one machine.
    Loopback,
    /// Within a local network.
    Private,
    /// Everywhere.
    Global,
}

/// True if a node can listen on and dial this address: TCP or WebSocket on an IP or a DNS name.
pub fn supports(address: &Multiaddr) -> bool {
    use libp2p::multiaddr::Protocol as P;
    let mut parts = address.iter().peekable();
    let host = matches!(parts.next(), Some(P::Ip4(_) | P::Ip6(_) | P::Dns(_) | P::Dns4(_) | P::Dns6(_)));
    let port = matches!(parts.next(), Some(P::Tcp(_)));
    if matches!(parts.peek(), Some(P::Ws(_) | P::Wss(_))) {
        parts.next();
    }
    if matches!(parts.peek(), Some(P::P2p(_))) {
        parts.next();
    }
    host && port && parts.next().is_none()
}

/// A host and a port that a node can dial.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) host: Host,
    pub(crate) port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Host {
    /// In one form: an IPv4 address is never an IPv6 address.
    Ip(IpAddr),
    Name(String),
}

impl Host {
    pub(crate) fn named(name: &str) -> Self {
        Host::Name(name.trim_end_matches('.').to_ascii_lowercase())
    }
}

/// Where an address leads; `None` if a node cannot dial it.
pub(crate) fn place(address: &Multiaddr) -> Option<Place> {
    if !supports(address) {
        return None;
    }
    let mut parts = address.iter();
    let host = match parts.next()? {
        Protocol::Ip4(ip) => Host::Ip(ip.into()),
        Protocol::Ip6(ip) => Host::Ip(IpAddr::from(ip).to_canonical()),
        Protocol::Dns(name) | Protocol::Dns4(name) | Protocol::Dns6(name) => Host::named(&name),
        _ => return None,
    };
    match (&host, parts.next()?) {
        (Host::Ip(ip), _) if ip.is_unspecified() || ip.is_multicast() => None,
        (_, Protocol::Tcp(port @ 1..)) => Some(Place { host, port }),
        _ => None,
    }
}

pub(crate) fn ip(address: &Multiaddr) -> Option<IpAddr> {
    match address.iter().next()? {
        Protocol::Ip4(ip) => Some(ip.into()),
        Protocol::Ip6(ip) => Some(ip.into()),
        _ => None,
    }
}

pub(crate) fn scope_of(ip: IpAddr) -> Scope {
    match ip.to_canonical() {
        ip if ip.is_loopback() => Scope::Loopback,
        IpAddr::V4(ip) if private_v4(ip) => Scope::Private,
        IpAddr::V6(ip) if private_v6(ip) => Scope::Private,
        _ => Scope::Global,
    }
}

fn private_v4(ip: Ipv4Addr) -> bool {
    let carrier_grade_nat = ip.octets()[0] == 100 && ip.octets()[1] & 0xc0 == 64;
    ip.is_private() || ip.is_link_local() || carrier_grade_nat
}

fn private_v6(ip: Ipv6Addr) -> bool {
    ip.is_unique_local() || ip.is_unicast_link_local()
}

/// True if a peer seen at `seen` may tell us of `claimed`: nobody on the internet can make us dial our own machine or
/// our own office. Names are taken as global.
pub(crate) fn believable(claimed: &Multiaddr, seen: &Multiaddr) -> bool {
    let scope = |address| ip(address).map_or(Scope::Global, scope_of);
    let unusable = ip(claimed).is_some_and(|ip| ip.is_unspecified() || ip.is_multicast());
    !unusable && supports(claimed) && scope(claimed) >= scope(seen)
}

/// The peer id at the end of an address, and the address without it.
pub(crate) fn split_peer(mut address: Multiaddr) -> (Multiaddr, Option<PeerId>) {
    match address.iter().last() {
        Some(Protocol::P2p(peer)) => {
            address.pop();
            (address, Some(peer))
        }
        _ => (address, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_cannot_point_further_inside_than_it_is() {
        let parse = |text: &str| text.parse::<Multiaddr>().expect("an address");
        let table = [
            ("/ip4/127.0.0.1/tcp/1", "/ip4/127.0.0.1/tcp/2", true),
            ("/ip4/127.0.0.1/tcp/1", "/ip4/192.168.1.5/tcp/2", false),
            ("/ip4/127.0.0.1/tcp/1", "/ip4/8.8.8.8/tcp/2", false),
            ("/ip4/192.168.1.9/tcp/1", "/ip4/192.168.1.5/tcp/2", true),
            ("/ip4/100.64.0.1/tcp/1", "/ip4/8.8.8.8/tcp/2", false),
            ("/ip6/fe80::1/tcp/1", "/ip4/8.8.8.8/tcp/2", false),
            ("/ip6/::ffff:127.0.0.1/tcp/1", "/ip4/8.8.8.8/tcp/2", false),
            ("/ip4/9.9.9.9/tcp/1", "/ip4/8.8.8.8/tcp/2", true),
            ("/ip4/9.9.9.9/tcp/1/ws", "/ip4/127.0.0.1/tcp/2", true),
            ("/dns4/example.org/tcp/1", "/ip4/8.8.8.8/tcp/2", true),
            ("/ip4/0.0.0.0/tcp/1", "/ip4/127.0.0.1/tcp/2", false),
            ("/ip4/9.9.9.9/udp/1", "/ip4/8.8.8.8/tcp/2", false),
        ];
        for (claimed, seen, expected) in table {
            assert_eq!(believable(&parse(claimed), &parse(seen)), expected, "{claimed} seen at {seen}");
        }
    }
}
