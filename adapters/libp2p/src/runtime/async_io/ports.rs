//! The ports that this node listens on, from which it also dials when asked to: a NAT then keeps one mapping for both.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

#[derive(Clone, Debug, Default)]
pub(super) struct Ports(Arc<Mutex<BTreeSet<(IpAddr, u16)>>>);

impl Ports {
    pub(super) fn insert(&self, ip: IpAddr, port: u16) {
        self.lock().insert((ip, port));
    }

    pub(super) fn remove(&self, ip: IpAddr, port: u16) {
        self.lock().remove(&(ip, port));
    }

    /// Where to dial from: a listener reaches what is of its family, and loopback only from loopback.
    pub(super) fn for_dialling(&self, to: IpAddr) -> Option<SocketAddr> {
        let fits = |ip: IpAddr| ip.is_ipv4() == to.is_ipv4() && ip.is_loopback() == to.is_loopback();
        let (ip, port) = self.lock().iter().copied().find(|(ip, _)| fits(*ip))?;
        let any = if ip.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        Some(SocketAddr::new(any, port))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<(IpAddr, u16)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_used_again_for_what_its_listener_reaches() {
        let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
        let ports = Ports::default();
        assert_eq!(ports.for_dialling(ip("127.0.0.1")), None);
        ports.insert(ip("127.0.0.1"), 1);
        ports.insert(ip("192.0.2.1"), 2);
        ports.insert(ip("2001:db8::1"), 3);
        let from = |to: &str| ports.for_dialling(ip(to)).map(|from| from.to_string());
        assert_eq!(from("127.0.0.9"), Some("0.0.0.0:1".into()));
        assert_eq!(from("198.51.100.7"), Some("0.0.0.0:2".into()));
        assert_eq!(from("2001:db8::2"), Some("[::]:3".into()));
        assert_eq!(from("::1"), None);
        ports.remove(ip("127.0.0.1"), 1);
        assert_eq!(from("127.0.0.9"), None);
    }
}
