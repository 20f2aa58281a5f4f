//! What an address names, and the socket addresses behind it.

use std::{
    io,
    net::{IpAddr, SocketAddr, ToSocketAddrs},
};

use libp2p::{Multiaddr, multiaddr::Protocol};

/// Addresses of one name that are tried.
const MAX_ADDRESSES: usize = 16;

/// The host and the port of a TCP address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Ip(SocketAddr),
    Name { name: String, family: Family, port: u16 },
}

/// Which addresses of a name are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    Any,
    V4,
    V6,
}

impl Target {
    /// `None` for whatever is not exactly a host and a TCP port, perhaps followed by a peer id.
    pub(super) fn of(address: &Multiaddr) -> Option<Self> {
        let mut parts = address.iter();
        let (host, port) = (parts.next()?, parts.next()?);
        let rest = (parts.next(), parts.next());
        let (Protocol::Tcp(port), (None | Some(Protocol::P2p(_)), None)) = (port, rest) else { return None };
        let name = |name: &str, family| Target::Name { name: name.to_owned(), family, port };
        Some(match host {
            Protocol::Ip4(ip) => Target::Ip((ip, port).into()),
            Protocol::Ip6(ip) => Target::Ip((ip, port).into()),
            Protocol::Dns(host) => name(&host, Family::Any),
            Protocol::Dns4(host) => name(&host, Family::V4),
            Protocol::Dns6(host) => name(&host, Family::V6),
            _ => return None,
        })
    }

    /// The socket addresses of a target, never none.
    pub(super) async fn resolve(self) -> io::Result<Vec<SocketAddr>> {
        let (name, family, port) = match self {
            Target::Ip(at) => return Ok(vec![at]),
            Target::Name { name, family, port } => (name, family, port),
        };
        let asked = name.clone();
        let found = blocking::unblock(move || (asked.as_str(), port).to_socket_addrs()).await?;
        let found: Vec<_> = found.filter(|at| family.has(at.ip())).take(MAX_ADDRESSES).collect();
        match found.is_empty() {
            true => {
                Err(io::Error::new(io::ErrorKind::NotFound, format!("{name} has no address of the family asked for")))
            }
            false => Ok(found),
        }
    }
}

impl Family {
    fn has(self, ip: IpAddr) -> bool {
        match self {
            Family::Any => true,
            Family::V4 => ip.is_ipv4(),
            Family::V6 => ip.is_ipv6(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_host_and_a_port_are_a_target() {
        let of = |text: &str| Target::of(&text.parse().expect("an address"));
        assert_eq!(of("/ip4/192.0.2.1/tcp/7"), Some(Target::Ip("192.0.2.1:7".parse().expect("an address"))));
        assert_eq!(of("/ip6/::1/tcp/7"), Some(Target::Ip("[::1]:7".parse().expect("an address"))));
        let named = |family| Some(Target::Name { name: "example.org".into(), family, port: 7 });
        assert_eq!(of("/dns/example.org/tcp/7"), named(Family::Any));
        assert_eq!(of("/dns4/example.org/tcp/7"), named(Family::V4));
        let peer = "12D3KooWQYzqnLASJqjWpVjWmBRUFwZYbPbPwaLPoYkbbZNGwwSc";
        assert!(of(&format!("/dns6/example.org/tcp/7/p2p/{peer}")).is_some());
        for other in ["/ip4/192.0.2.1", "/ip4/192.0.2.1/udp/7", "/ip4/192.0.2.1/tcp/7/ws", "/tcp/7", "/dnsaddr/a/tcp/7"]
        {
            assert_eq!(of(other), None, "{other}");
        }
    }

    #[test]
    fn names_are_resolved_by_the_family_asked_for() {
        let resolve = |text: &str| {
            let target = Target::of(&text.parse().expect("an address")).expect("a target");
            futures::executor::block_on(target.resolve())
        };
        assert_eq!(resolve("/dns4/localhost/tcp/7").expect("known"), ["127.0.0.1:7".parse().expect("an address")]);
        let error = resolve("/dns6/127.0.0.1/tcp/7").expect_err("of the other family");
        assert!(error.to_string().contains("127.0.0.1 has no address"), "{error}");
    }
}
