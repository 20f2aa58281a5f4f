//! The nodes by which the network is entered, and whether it was.

use std::{collections::BTreeSet, fmt};

use haggle::{
    Config, Scope,
    libp2p::{Multiaddr, PeerId, multiaddr::Protocol},
};
use serde_json::{Value, json};

/// The bootstrap nodes that a node was given.
#[derive(Clone, Debug)]
pub(crate) struct Entrance(BTreeSet<PeerId>);

/// Who is connected at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) peers: usize,
    /// Bootstrap nodes among them.
    met: usize,
    /// Bootstrap nodes that were given.
    given: usize,
}

impl Entrance {
    pub(crate) fn new(config: &Config) -> Self {
        // The addresses were checked with the settings.
        let named = |address: &String| match address.parse::<Multiaddr>().ok()?.iter().last() {
            Some(Protocol::P2p(peer)) => Some(peer),
            _ => None,
        };
        Entrance(config.bootstrap_nodes.iter().filter_map(named).collect())
    }

    pub(crate) fn leads_through(&self, peer: &PeerId) -> bool {
        self.0.contains(peer)
    }

    pub(crate) fn standing(&self, connected: &[PeerId]) -> Standing {
        let met = connected.iter().filter(|peer| self.leads_through(peer)).count();
        Standing { peers: connected.len(), met, given: self.0.len() }
    }
}

impl Standing {
    /// Whether the network was entered, if it is by bootstrap nodes that this is done.
    pub(crate) const fn has_entered(self) -> bool {
        self.given == 0 || self.met > 0
    }

    pub(crate) fn to_json(self) -> Value {
        json!({"connected": self.met, "given": self.given})
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Standing { peers, met, given } = self;
        match peers {
            1 => f.write_str("1 peer")?,
            peers => write!(f, "{peers} peers")?,
        }
        match given {
            0 => f.write_str(", no bootstrap node was given"),
            given => write!(f, ", {met} of {given} bootstrap nodes"),
        }
    }
}

/// Whether nobody but this machine can dial any of the addresses.
pub(crate) fn all_local(addresses: &[String]) -> bool {
    addresses.iter().all(|address| address.starts_with("/ip4/127.") || address.starts_with("/ip6/::1/"))
}

/// What being dialled from there shows.
pub(crate) fn dialled(from: Scope) -> &'static str {
    match from {
        Scope::Loopback => "reached from this machine; from further away is not known yet",
        Scope::Private => "reached from the local network; from the internet is not known yet",
        Scope::Global => "reached from the internet",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_connected_is_told_apart_from_who_leads_into_the_network() {
        let (entry, other) = (PeerId::random(), PeerId::random());
        let address = format!("/ip4/127.0.0.1/tcp/1/p2p/{entry}");
        let with = Entrance::new(&Config { bootstrap_nodes: vec![address.clone(), address], ..Config::default() });
        let without = Entrance::new(&Config::default());
        assert_eq!(with.standing(&[other]).to_string(), "1 peer, 0 of 1 bootstrap nodes");
        assert_eq!(with.standing(&[other, entry]).to_string(), "2 peers, 1 of 1 bootstrap nodes");
        assert_eq!(without.standing(&[]).to_string(), "0 peers, no bootstrap node was given");
    }
}
