//! Listening on every interface, ports that are used for both, and WebSocket: real sockets of every runtime.

use std::{
    collections::BTreeSet,
    net::{IpAddr, TcpListener, TcpStream},
    process::Command,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::StreamExt;
use haggle::{
    AsyncStd, Config, Node, Smol,
    libp2p::{
        Multiaddr, PeerId, Swarm,
        core::ConnectedPoint,
        identity::Keypair,
        multiaddr::Protocol,
        swarm::{
            self, SwarmEvent,
            dial_opts::{DialOpts, PeerCondition},
            dummy,
        },
    },
    runtime::{Runtime, TransportLimits},
};

use crate::{
    bounded, namespace,
    world::{Does, Relay, Script, builder, local, port, runtime, sale, spec, until, words},
};

fn ip(address: &Multiaddr) -> IpAddr {
    match address.iter().next() {
        Some(Protocol::Ip4(ip)) => ip.into(),
        Some(Protocol::Ip6(ip)) => ip.into(),
        _ => panic!("{address} has no IP address"),
    }
}

/// Where a node says that it listens. An address of the link is dialled with the link's name only, which no Multiaddr has.
fn ips(node: &Node) -> BTreeSet<IpAddr> {
    let of_link = |ip: &IpAddr| matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
    node.listen_addresses().iter().map(ip).filter(|ip| !of_link(ip)).collect()
}

fn set<const N: usize>(ips: [&str; N]) -> BTreeSet<IpAddr> {
    ips.into_iter().map(|ip| ip.parse().expect("an address")).collect()
}

async fn seller(runtime: impl Runtime, listen: &[String]) -> Node {
    let config = Config { enable_dht: false, listen_addresses: listen.to_vec(), ..local() };
    builder(config).sell(sale(Script::new(Does::Writes))).start(runtime).await.expect("a node")
}

async fn buy_at(runtime: impl Runtime, address: &str) {
    let config = Config { enable_dht: false, providers: vec![address.to_owned()], ..local() };
    let buyer = builder(config).start(runtime).await.expect("a node");
    let job = buyer.submit(spec("Hello", 5)).await.expect("taken");
    assert_eq!(job.answer().await.unwrap_or_else(|error| panic!("{address}: {error}")).text, words(5));
    buyer.stop().await;
}

/// The addresses of one interface, beside the loopback.
const V4: &str = "10.9.9.1";
const V6: &str = "fd00:9::1";
const NETWORK: &str = "ip link add v0 type veth peer name v1 && ip addr add 10.9.9.1/24 dev v0 \
    && ip addr add fd00:9::1/64 dev v0 nodad && ip link set v0 up && ip link set v1 up";

/// In a network of its own: nobody outside is to reach what listens everywhere.
fn everywhere(test: &str, what: impl Future<Output = ()>) {
    if namespace::inside(test, NETWORK) {
        tokio::runtime::Runtime::new().expect("a runtime").block_on(bounded(what));
    }
}

#[test]
fn a_wildcard_is_told_as_every_address_of_its_family_and_reached_at_each() {
    async fn listens(sells: impl Runtime, buys: impl Runtime) {
        let families = [("ip4/0.0.0.0", set(["127.0.0.1", V4]), "::1"), ("ip6/::", set(["::1", V6]), "127.0.0.1")];
        for (any, expected, other) in families {
            for transport in ["", "/ws"] {
                let node = seller(sells.clone(), &[format!("/{any}/tcp/0{transport}")]).await;
                until(|| ips(&node) == expected).await;
                assert!(TcpStream::connect((other, port(&node))).is_err(), "{any} is reached by the other family");
                for address in node.listen_addresses().iter().filter(|address| ips(&node).contains(&ip(address))) {
                    assert!(
                        port(&node) > 0 && address.to_string().contains(&format!("/{}{transport}/p2p/", port(&node)))
                    );
                    buy_at(buys.clone(), &address.to_string()).await;
                }
                node.stop().await;
            }
        }
    }
    everywhere("sockets::a_wildcard_is_told_as_every_address_of_its_family_and_reached_at_each", async {
        listens(Smol::global(), AsyncStd).await;
        listens(AsyncStd, runtime()).await;
        listens(runtime(), Smol::global()).await;
    });
}

#[test]
fn both_wildcards_share_one_port() {
    async fn listens(runtime: impl Runtime) {
        let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").port();
        let node = seller(runtime, &[format!("/ip4/0.0.0.0/tcp/{port}"), format!("/ip6/::/tcp/{port}")]).await;
        until(|| ips(&node) == set(["127.0.0.1", V4, "::1", V6])).await;
        node.stop().await;
    }
    everywhere("sockets::both_wildcards_share_one_port", async {
        listens(Smol::global()).await;
        listens(AsyncStd).await;
        listens(runtime()).await;
    });
}

#[test]
fn a_wildcard_follows_the_addresses_that_come_and_go() {
    fn address(command: &str) {
        let args = ["addr", command, "10.9.8.7/24", "dev", "v0"];
        assert!(Command::new("ip").args(args).status().expect("ip").success());
    }
    async fn follows(sells: impl Runtime) {
        let node = seller(sells, &["/ip4/0.0.0.0/tcp/0".into()]).await;
        until(|| ips(&node) == set(["127.0.0.1", V4])).await;
        address("add");
        until(|| ips(&node) == set(["127.0.0.1", V4, "10.9.8.7"])).await;
        buy_at(runtime(), &format!("/ip4/10.9.8.7/tcp/{}/p2p/{}", port(&node), node.peer_id())).await;
        address("del");
        until(|| ips(&node) == set(["127.0.0.1", V4])).await;
        node.stop().await;
    }
    everywhere("sockets::a_wildcard_follows_the_addresses_that_come_and_go", async {
        follows(Smol::global()).await;
        follows(AsyncStd).await;
        follows(runtime()).await;
    });
}

/// A swarm that listens, and its port.
async fn listening(runtime: &impl Runtime, listen: &str) -> (Swarm<dummy::Behaviour>, Multiaddr) {
    let key = Keypair::generate_ed25519();
    let transport = runtime.transport(&key, &TransportLimits::default()).expect("a transport");
    let tasks = runtime.clone();
    let config = swarm::Config::with_executor(move |task| tasks.spawn(task))
        .with_idle_connection_timeout(Duration::from_secs(60));
    let mut swarm = Swarm::new(transport, dummy::Behaviour, key.public().to_peer_id(), config);
    swarm.listen_on(listen.parse().expect("an address")).expect("a port");
    loop {
        if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
            return (swarm, address);
        }
    }
}

/// Dials, and tells the port that the other side sees.
async fn seen(
    dialler: &mut Swarm<dummy::Behaviour>,
    other: &mut Swarm<dummy::Behaviour>,
    peer: PeerId,
    address: &Multiaddr,
    new_port: bool,
) -> u16 {
    let opts = DialOpts::peer_id(peer).condition(PeerCondition::Always).addresses(vec![address.clone()]);
    let opts = if new_port { opts.allocate_new_port() } else { opts };
    dialler.dial(opts.build()).expect("a dial");
    let mut from = None;
    let mut connected = false;
    loop {
        futures::select! {
            event = other.select_next_some() => match event {
                SwarmEvent::ConnectionEstablished { endpoint: ConnectedPoint::Listener { send_back_addr, .. }, .. } => {
                    from = Some(tcp(&send_back_addr));
                }
                SwarmEvent::IncomingConnectionError { error, .. } => panic!("{error}"),
                _ => {}
            },
            event = dialler.select_next_some() => match event {
                SwarmEvent::ConnectionEstablished { .. } => connected = true,
                SwarmEvent::OutgoingConnectionError { error, .. } => panic!("{error}"),
                _ => {}
            },
        }
        if let (Some(from), true) = (from, connected) {
            return from;
        }
    }
}

fn tcp(address: &Multiaddr) -> u16 {
    address.iter().find_map(|part| if let Protocol::Tcp(port) = part { Some(port) } else { None }).expect("a port")
}

/// Behind a NAT, only the port that others were dialled from leads back.
#[tokio::test]
async fn a_node_dials_from_the_port_it_listens_on() {
    async fn dials(runtime: impl Runtime, transport: &str) {
        let listen = format!("/ip4/127.0.0.1/tcp/0{transport}");
        let (mut dialler, own) = listening(&runtime, &listen).await;
        let (mut other, address) = listening(&runtime, &listen).await;
        let peer = *other.local_peer_id();
        assert_eq!(seen(&mut dialler, &mut other, peer, &address, false).await, tcp(&own), "{runtime:?}{transport}");
        // There is a connection from that port to this place already.
        assert_ne!(seen(&mut dialler, &mut other, peer, &address, false).await, tcp(&own), "{runtime:?}{transport}");
        assert_ne!(seen(&mut dialler, &mut other, peer, &address, true).await, tcp(&own), "{runtime:?}{transport}");
        let (mut third, address) = listening(&runtime, &listen).await;
        let peer = *third.local_peer_id();
        assert_ne!(seen(&mut dialler, &mut third, peer, &address, true).await, tcp(&own), "{runtime:?}{transport}");
        assert_eq!(seen(&mut dialler, &mut third, peer, &address, false).await, tcp(&own), "{runtime:?}{transport}");
    }
    bounded(async {
        for transport in ["", "/ws"] {
            dials(Smol::global(), transport).await;
            dials(AsyncStd, transport).await;
        }
    })
    .await;
}

#[tokio::test]
async fn websocket_is_spoken_where_it_is_said_and_nowhere_else() {
    async fn speaks(sells: impl Runtime, buys: impl Runtime) {
        let node = seller(sells, &["/ip4/127.0.0.1/tcp/0/ws".into()]).await;
        let relay = Relay::start(Arc::new(Mutex::new(port(&node)))).await;
        buy_at(buys.clone(), &format!("/ip4/127.0.0.1/tcp/{}/ws/p2p/{}", relay.port, node.peer_id())).await;
        assert!(relay.saw("Upgrade: websocket") || relay.saw("upgrade: websocket"), "it was no WebSocket");

        let plain = Config {
            enable_dht: false,
            providers: vec![format!("/ip4/127.0.0.1/tcp/{}/p2p/{}", port(&node), node.peer_id())],
            dial_timeout: Duration::from_secs(1),
            ..local()
        };
        let buyer = builder(plain).start(buys).await.expect("a node");
        let job = buyer.submit(spec("Hello", 5)).await.expect("taken");
        job.answer().await.expect_err("plain TCP where WebSocket is spoken");
        assert_eq!(buyer.connected_peers(), []);
        for node in [buyer, node] {
            node.stop().await;
        }
    }
    bounded(async {
        speaks(Smol::global(), AsyncStd).await;
        speaks(AsyncStd, runtime()).await;
        speaks(runtime(), Smol::global()).await;
    })
    .await;
}
