//! The suite of all adapters, on this one.

mod market;

use std::{
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant as Clock},
};

use haggle_core::{Instant, Limits, PeerId, Provider, ProviderEvent, StreamId, provider::Service};
use haggle_sim::conformance::check;
use haggle_threads::{Around, Node};

#[test]
fn threads_pass_the_suite() {
    let played = check(&mut market::Market::default()).unwrap_or_else(|error| panic!("{error}"));
    assert!(played.len() >= 15, "{played:?}");
}

/// Takes nobody.
struct Closed;

impl Around<Provider> for Closed {
    fn hear(&mut self, _: ProviderEvent) {}

    fn work(&mut self, _: &mut Provider, _: Instant) -> bool {
        false
    }

    fn accept(&mut self, _: &mut Provider, _: Instant, _: PeerId) -> Option<StreamId> {
        None
    }
}

#[test]
fn a_node_whose_handle_is_dropped_leaves_nothing_open() {
    let machine = Provider::new(Service::default(), Limits::default(), [0; 32]).unwrap();
    let (handle, peer) = Node::seller(machine, Closed).unwrap();
    let at: SocketAddr = std::str::from_utf8(peer.as_bytes()).unwrap().parse().unwrap();
    TcpStream::connect(at).unwrap();
    drop(handle);
    let end = Clock::now() + Duration::from_secs(30);
    while TcpStream::connect(at).is_ok() {
        assert!(Clock::now() < end, "somebody still listens");
        std::thread::yield_now();
    }
}
