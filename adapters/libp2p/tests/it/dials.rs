//! The one gate of all dials: strangers do not make a node dial whom they like.

use std::{
    convert::Infallible,
    io::ErrorKind,
    net::TcpListener,
    task::{Context, Poll},
    time::Duration,
};

use futures::StreamExt;
use haggle::{
    AsyncStd, Config, NodeEvent, Scope, Smol,
    libp2p::{
        Multiaddr, PeerId, Swarm,
        core::{Endpoint, transport::PortUse},
        identity::Keypair,
        swarm::{
            self, ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, SwarmEvent, THandler, THandlerInEvent,
            THandlerOutEvent, ToSwarm, dial_opts::DialOpts, dummy,
        },
    },
    runtime::{Dials, Runtime, TransportLimits},
};

use crate::{bounded, namespace, world::*};

/// A machine that never asked to be dialled.
struct Victim(TcpListener);

impl Victim {
    fn at(place: &str) -> Self {
        let listener = TcpListener::bind(place).expect("a port");
        listener.set_nonblocking(true).expect("a socket");
        Victim(listener)
    }

    fn port(&self) -> u16 {
        self.0.local_addr().expect("a port").port()
    }

    /// Connections that came since it was asked.
    fn seen(&self) -> usize {
        let mut seen = 0;
        loop {
            match self.0.accept() {
                Ok(_) => seen += 1,
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::WouldBlock);
                    return seen;
                }
            }
        }
    }
}

/// Asks for a dial of each address, of a peer that it names as Kademlia names those of its running query.
struct Pushy(Vec<(PeerId, Multiaddr)>);

impl NetworkBehaviour for Pushy {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

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

    fn on_swarm_event(&mut self, _: FromSwarm<'_>) {}

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Infallible, THandlerInEvent<Self>>> {
        match self.0.pop() {
            Some((peer, address)) => {
                Poll::Ready(ToSwarm::Dial { opts: DialOpts::peer_id(peer).addresses(vec![address]).build() })
            }
            None => Poll::Pending,
        }
    }
}

/// Lets a behaviour ask for all these dials, and waits until each of them has failed.
async fn ask_for(runtime: &impl Runtime, dials: Dials, wanted: Vec<(PeerId, Multiaddr)>) {
    let key = Keypair::generate_ed25519();
    let limits = TransportLimits { dials, dial_timeout: Duration::from_millis(500), ..TransportLimits::default() };
    let transport = runtime.transport(&key, &limits).expect("a transport");
    let tasks = runtime.clone();
    let config = swarm::Config::with_executor(move |task| tasks.spawn(task));
    let mut left = wanted.len();
    let mut swarm = Swarm::new(transport, Pushy(wanted), key.public().to_peer_id(), config);
    while left > 0 {
        if let SwarmEvent::OutgoingConnectionError { .. } = swarm.select_next_some().await {
            left -= 1;
        }
    }
}

fn wanted(addresses: &[String]) -> Vec<(PeerId, Multiaddr)> {
    addresses.iter().map(|text| (PeerId::random(), text.parse().expect("an address"))).collect()
}

#[tokio::test]
async fn no_behaviour_has_a_forbidden_dial() {
    async fn asks(runtime: impl Runtime) {
        let victim = Victim::at("127.0.0.1:0");
        let port = victim.port();
        let inside = [
            format!("/ip4/127.0.0.1/tcp/{port}"),
            format!("/ip4/127.0.0.1/tcp/{port}/ws"),
            format!("/ip6/::ffff:127.0.0.1/tcp/{port}"),
            format!("/dns4/localhost/tcp/{port}"),
            format!("/dns/localhost/tcp/{port}/ws"),
        ];
        let guarded = |outside| {
            let dials = Dials::guarded();
            dials.set_outside(outside);
            dials
        };
        ask_for(&runtime, guarded(Some(Scope::Global)), wanted(&inside)).await;
        ask_for(&runtime, guarded(Some(Scope::Private)), wanted(&inside)).await;
        ask_for(&runtime, guarded(None), wanted(&inside)).await;
        assert_eq!(victim.seen(), 0, "{runtime:?}");
        let often = vec![inside[0].clone(); 80];
        ask_for(&runtime, guarded(Some(Scope::Loopback)), wanted(&often)).await;
        assert_eq!(victim.seen(), 8, "{runtime:?}");
        ask_for(&runtime, Dials::default(), wanted(&often[..20])).await;
        assert_eq!(victim.seen(), 20, "{runtime:?}: without the gate");
        let given = guarded(None);
        let of_user = wanted(&inside[3..4]);
        of_user.iter().for_each(|(peer, address)| given.give(*peer, address));
        ask_for(&runtime, given, of_user).await;
        assert_eq!(victim.seen(), 1, "{runtime:?}: what the user gave");
    }
    bounded(async {
        asks(Smol::global()).await;
        asks(AsyncStd).await;
        asks(runtime()).await;
    })
    .await;
}

/// A public address, as far as anybody can tell, and one of an office.
const NETWORK: &str = "ip link add v0 type veth peer name v1 && ip addr add 203.0.113.1/24 dev v0 \
    && ip addr add 10.9.9.1/24 dev v0 && ip link set v0 up && ip link set v1 up";

/// Fifteen peers announce addresses that are not theirs, through a public bootstrap node.
#[test]
fn records_that_point_inside_are_dialled_by_nobody() {
    async fn discovers(buys: impl Runtime) {
        let listen = || vec!["/ip4/203.0.113.1/tcp/0".to_owned()];
        let bootstrap = start(builder(Config { listen_addresses: listen(), ..local() })).await;
        let victim = Victim::at("0.0.0.0:0");
        let hosts = ["ip4/127.0.0.1", "ip4/10.9.9.1", "dns4/localhost"];
        let (mut records, known) = (Vec::new(), vec![address(&bootstrap)]);
        for n in 0..15 {
            let announce_addresses = vec![format!("/{}/tcp/{}", hosts[n % 3], victim.port())];
            let config =
                Config { listen_addresses: listen(), announce_addresses, bootstrap_nodes: known.clone(), ..local() };
            let node = start(builder(config).sell(sale(Script::new(Does::Writes)))).await;
            let mut events = node.events();
            while !matches!(events.next().await.expect("it runs"), NodeEvent::Announced { .. }) {}
            records.push(node);
        }
        let before = victim.seen();
        assert_eq!(before, 0, "{buys:?}: they themselves");
        let buyer = builder(Config { bootstrap_nodes: known, ..local() }).start(buys.clone()).await.expect("a node");
        let job = buyer.submit(spec("Hello", 5)).await.expect("taken");
        job.answer().await.expect_err("nobody is there");
        assert_eq!(victim.seen(), 0, "{buys:?}");
        for node in records.into_iter().chain([buyer, bootstrap]) {
            node.stop().await;
        }
    }
    if namespace::inside("dials::records_that_point_inside_are_dialled_by_nobody", NETWORK) {
        tokio::runtime::Runtime::new().expect("a runtime").block_on(bounded(async {
            discovers(Smol::global()).await;
            discovers(AsyncStd).await;
            discovers(runtime()).await;
        }));
    }
}
