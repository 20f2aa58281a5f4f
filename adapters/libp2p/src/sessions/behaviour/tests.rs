use libp2p::core::{ConnectedPoint, Endpoint, transport::PortUse};

use super::*;

/// The connection has the order to open a stream, and ends before it could: whoever waits for the stream is told.
#[test]
fn an_open_in_negotiation_is_answered_when_its_connection_ends() {
    let (me, peer, id) = (PeerId::random(), PeerId::random(), ConnectionId::new_unchecked(1));
    let mut sessions = Behaviour::new(me, Config::default());
    let endpoint = ConnectedPoint::Dialer {
        address: "/ip4/127.0.0.1/tcp/1".parse().expect("an address"),
        role_override: Endpoint::Dialer,
        port_use: PortUse::New,
    };
    sessions.connected(ConnectionEstablished {
        peer_id: peer,
        connection_id: id,
        endpoint: &endpoint,
        failed_addresses: &[],
        other_established: 0,
    });
    sessions.open(peer).expect("room");
    assert!(sessions.peers[&peer].waiting.is_empty(), "the connection has the order");
    sessions.disconnected(peer, id, "reset".into());
    assert!(sessions.opens.is_empty(), "nobody waits for what nobody does any more");
    let told = |event: &ToSwarm<Event, _>| {
        let text = format!("{event:?}");
        text.contains("ConnectionLost") && text.contains("reset")
    };
    assert!(sessions.out.iter().any(told), "{:?}", sessions.out);
}
