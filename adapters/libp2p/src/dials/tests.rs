use super::*;

fn at(peer: PeerId, text: &str) -> Multiaddr {
    let address: Multiaddr = text.parse().expect("an address");
    address.with(Protocol::P2p(peer))
}

/// A node that has a connection so far outside.
fn outside(scope: Scope) -> Rules {
    let mut rules = Rules::default();
    rules.set_outside(Some(scope));
    rules
}

#[test]
fn a_strangers_word_leads_no_further_inside_than_the_node_is_connected() {
    use Scope::{Global, Loopback, Private};
    let table = [
        ("/ip4/127.0.0.1/tcp/7999", [Ok(()), Err(Forbidden::Inside), Err(Forbidden::Inside)]),
        ("/ip6/::ffff:127.0.0.1/tcp/7999", [Ok(()), Err(Forbidden::Inside), Err(Forbidden::Inside)]),
        ("/ip4/10.1.2.3/tcp/7999", [Ok(()), Ok(()), Err(Forbidden::Inside)]),
        ("/ip4/192.168.1.1/tcp/7999/ws", [Ok(()), Ok(()), Err(Forbidden::Inside)]),
        ("/ip6/fe80::1/tcp/7999", [Ok(()), Ok(()), Err(Forbidden::Inside)]),
        ("/ip4/203.0.113.7/tcp/7999", [Ok(()); 3]),
        ("/ip4/203.0.113.7/tcp/22", [Err(Forbidden::Port); 3]),
        ("/ip4/203.0.113.7/tcp/443", [Err(Forbidden::Port); 3]),
        ("/ip4/203.0.113.7/tcp/443/wss", [Ok(()); 3]),
        ("/ip4/203.0.113.7/udp/7999", [Err(Forbidden::Kind); 3]),
        ("/ip4/0.0.0.0/tcp/7999", [Err(Forbidden::Kind); 3]),
        ("/ip4/224.0.0.1/tcp/7999", [Err(Forbidden::Kind); 3]),
    ];
    for (address, expected) in table {
        for (scope, expected) in [Loopback, Private, Global].into_iter().zip(expected) {
            let dialled = outside(scope).dial(&at(PeerId::random(), address), Instant::now());
            assert_eq!(dialled, expected, "{address} from {scope:?}");
        }
        assert!(Rules::default().dial(&at(PeerId::random(), address), Instant::now()).is_err(), "nobody was met yet");
    }
}

#[test]
fn what_the_user_gave_is_always_dialled_and_by_nobody_elses_name() {
    let (mut rules, peer, now) = (outside(Scope::Global), PeerId::random(), Instant::now());
    for address in ["/ip4/127.0.0.1/tcp/22", "/dns4/localhost/tcp/22"] {
        rules.give(peer, &address.parse().expect("an address"));
        for _ in 0..100 {
            assert_eq!(rules.dial(&at(peer, address), now), Ok(()));
            assert!(rules.is_given(&at(peer, address)));
        }
        assert!(rules.dial(&at(PeerId::random(), address), now).is_err(), "{address} of another peer");
    }
    assert_eq!(rules.may_lead("LOCALHOST", "127.0.0.1:22".parse().expect("a place"), now), Ok(()));
}

#[test]
fn a_place_is_dialled_eight_times_a_minute_whoever_is_said_to_be_there() {
    let (mut rules, start) = (outside(Scope::Loopback), Instant::now());
    let dial = |rules: &mut Rules, now| rules.dial(&at(PeerId::random(), "/ip4/127.0.0.1/tcp/7999"), now);
    assert_eq!((0..80).filter(|_| dial(&mut rules, start).is_ok()).count(), MAX_OF_PLACE);
    assert_eq!(dial(&mut rules, start + SPAN - Duration::from_millis(1)), Err(Forbidden::Often));
    assert_eq!(dial(&mut rules, start + SPAN), Ok(()));
}

#[test]
fn who_has_answered_at_a_place_is_dialled_there_as_often_as_it_takes() {
    let (mut rules, peer, now) = (outside(Scope::Loopback), PeerId::random(), Instant::now());
    let address = at(peer, "/ip4/127.0.0.1/tcp/7999");
    for _ in 0..100 {
        assert_eq!(rules.dial(&address, now), Ok(()));
        rules.answered(peer, &address);
    }
    assert!(rules.recent.is_empty());
}

#[test]
fn a_peer_is_looked_for_in_eight_places_and_at_two_ports_of_a_public_host() {
    let (mut rules, peer, now) = (outside(Scope::Global), PeerId::random(), Instant::now());
    let one_host = (0..20).map(|n| at(peer, &format!("/ip4/203.0.113.7/tcp/{}", 7_000 + n)));
    assert_eq!(one_host.filter(|address| rules.dial(address, now).is_ok()).count(), MAX_ON_HOST);
    let many: Vec<_> = (0..20).map(|n| at(peer, &format!("/ip4/198.51.100.{n}/tcp/7000"))).collect();
    assert_eq!(many.iter().filter(|address| rules.dial(address, now).is_ok()).count(), MAX_PLACES - MAX_ON_HOST);
    assert_eq!(rules.dial(&many[0], now), Ok(()), "a place counts once");
}

#[test]
fn where_a_name_leads_is_judged_and_counted() {
    let (mut rules, now) = (outside(Scope::Global), Instant::now());
    let place = |text: &str| text.parse::<SocketAddr>().expect("a place");
    for inside in ["127.0.0.1:7999", "10.0.0.1:7999", "[::1]:7999", "[::ffff:10.0.0.1]:7999", "0.0.0.0:7999"] {
        assert_eq!(rules.may_lead("example.org", place(inside), now), Err(Forbidden::Inside), "{inside}");
    }
    let led = (0..80).filter(|n| rules.may_lead(&format!("{n}.example.org"), place("203.0.113.7:7999"), now).is_ok());
    assert_eq!(led.count(), MAX_OF_PLACE, "many names of one place are one place");
}

#[test]
fn what_a_peer_tells_of_itself_may_have_any_port_and_no_more_dials() {
    let (mut rules, peer, now) = (outside(Scope::Global), PeerId::random(), Instant::now());
    let address = at(peer, "/ip4/192.168.1.9/tcp/443");
    rules.tell(peer, &address);
    assert!(rules.believes(peer, &address).is_ok());
    assert_eq!((0..80).filter(|_| rules.dial(&address, now).is_ok()).count(), MAX_OF_PLACE);
    assert!(rules.dial(&at(PeerId::random(), "/ip4/192.168.1.9/tcp/443"), now).is_err(), "of itself only");
}

#[test]
fn what_is_remembered_is_bounded() {
    let (mut rules, now) = (outside(Scope::Global), Instant::now());
    for n in 0..2 * MAX_RECENT as u32 {
        let ip = std::net::Ipv4Addr::from(0x0801_0000 + n);
        let (peer, address) = (PeerId::random(), format!("/ip4/{ip}/tcp/7000"));
        let _ = rules.dial(&at(peer, &address), now);
        (0..2 * MAX_OF_KNOWN).for_each(|n| rules.tell(peer, &at(peer, &format!("/ip4/{ip}/tcp/{}", 2_000 + n))));
    }
    assert_eq!((rules.recent.len(), rules.known.len()), (MAX_RECENT, MAX_KNOWN));
    assert!(rules.known.values().all(|places| places.len() <= MAX_OF_KNOWN));
}
