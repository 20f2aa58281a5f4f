//! The swarm of a node of our own, and the one loop that runs it.

use std::{
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use futures::{FutureExt, StreamExt, channel::oneshot, select};
use haggle_core::{Instant as CoreInstant, Model, bootstrap::Bootstrap};
use libp2p::{Multiaddr, Swarm, connection_limits, identify, identity::Keypair, multiaddr::Protocol, swarm};

use socket2::{Domain, Socket, Type};

use crate::{
    Config, Error, NodeEvent, address,
    config::{Settings, millis},
    dials::Dials,
    discovery,
    driver::{Driver, hang_up},
    entropy, groups,
    network::{self, Behaviour, Network},
    runtime::{Mdns, Runtime, TransportLimits},
    sessions,
    timers::Alarm,
};

/// A swarm, and what its dials are guarded by.
type Guarded<M> = (Swarm<Behaviour<M>>, Dials);

/// A swarm as the configuration wants it. Call it inside the runtime: it opens sockets.
pub(crate) fn swarm<R: Runtime>(
    runtime: &R,
    key: &Keypair,
    config: &Config,
    settings: &Settings,
) -> Result<Guarded<R::Mdns>, Error> {
    let me = key.public().to_peer_id();
    let dials = Dials::guarded();
    let limits = TransportLimits { dials: dials.clone(), ..config.transport_limits() };
    let transport = runtime.transport(key, &limits).map_err(Error::Runtime)?;
    let identity = identify::Config::new(sessions::PROTOCOL.to_string(), key.public())
        .with_agent_version(concat!("haggle/", env!("CARGO_PKG_VERSION")).into())
        // What peers say of themselves is remembered by the sessions, after it was checked.
        .with_cache_size(0)
        // Who is connected hears at once of a new address.
        .with_push_listen_addr_updates(true)
        // Who announces other addresses cannot be reached at those it listens on.
        .with_hide_listen_addrs(!config.announce_addresses.is_empty());
    let query_timeout = Duration::from_millis(settings.policy.query_timeout.0);
    let kad = || discovery::kademlia(me, !settings.listen.is_empty(), query_timeout, settings.store);
    let mdns = config.enable_mdns.then(|| runtime.mdns(me)).transpose()?;
    let behaviour = Behaviour {
        limits: connection_limits::Behaviour::new(config.connection_limits()),
        groups: groups::Behaviour::new(settings.groups),
        sessions: sessions::Behaviour::new(me, config.session_limits()),
        identify: identify::Behaviour::new(identity),
        ping: network::pings(),
        kad: config.enable_dht.then(kad).into(),
        mdns: mdns.into(),
    };
    let tasks = runtime.clone();
    let swarm_config = swarm::Config::with_executor(move |task| tasks.spawn(task))
        .with_dial_concurrency_factor(sessions::at_once(0))
        .with_idle_connection_timeout(config.idle_connection_timeout);
    Ok((Swarm::new(transport, behaviour, me, swarm_config), dials))
}

/// Listens, tells that the node is ready, and runs it.
pub(crate) async fn run<M: Mdns>(
    (mut swarm, dials): Guarded<M>,
    driver: Driver,
    config: Config,
    settings: Settings,
    models: Vec<Model>,
    ready: oneshot::Sender<Result<(), Error>>,
) {
    let prepared = entropy::seed().map_err(Error::Runtime).and_then(|seed| {
        let nodes = network::by_peer(settings.bootstrap.clone()).len();
        let schedule = Bootstrap::new(CoreInstant::ZERO, nodes, millis(config.dial_timeout), &settings.policy, seed);
        let parts = network::Parts {
            network: config.network,
            bootstrap: settings.bootstrap,
            providers: settings.providers,
            announced: !settings.announce.is_empty(),
            mdns: config.enable_mdns,
            models,
            schedule,
            dials,
        };
        let mut network = Network::new(parts, &mut swarm);
        listen(&settings.listen, &mut swarm, &mut network)?;
        settings.announce.iter().for_each(|address| swarm.add_external_address(address.clone()));
        Ok(network)
    });
    match prepared {
        Ok(network) => {
            driver.tell(NodeEvent::Started { peer: *swarm.local_peer_id() });
            drive(swarm, driver, network, ready).await;
        }
        Err(error) => {
            // Whoever is told may start again at once, on the same ports and the same state.
            drop((swarm, driver));
            drop(ready.send(Err(error)));
        }
    }
}

fn listen<M: Mdns>(
    addresses: &[Multiaddr],
    swarm: &mut Swarm<Behaviour<M>>,
    network: &mut Network,
) -> Result<(), Error> {
    for wanted in addresses {
        let failed = |source| Error::Listen { address: wanted.to_string(), source };
        free(wanted).map_err(failed)?;
        let id = swarm.listen_on(wanted.clone()).map_err(|error| match error {
            libp2p::TransportError::Other(source) => failed(source),
            error => failed(io::Error::other(error.to_string())),
        })?;
        network.listening(id, wanted);
    }
    Ok(())
}

/// libp2p shares its ports (SO_REUSEPORT): two nodes on one port would both start, and each get half of the connections.
fn free(address: &Multiaddr) -> io::Result<()> {
    let port = address.iter().find_map(|part| if let Protocol::Tcp(port) = part { Some(port) } else { None });
    let (Some(ip), Some(port @ 1..)) = (address::ip(address), port) else { return Ok(()) };
    let at = SocketAddr::new(ip, port);
    let socket = Socket::new(Domain::for_address(at), Type::STREAM, None)?;
    if ip.is_ipv6() {
        // The port of all IPv4 addresses may well be taken: by this node.
        socket.set_only_v6(true)?;
    }
    // What remains of connections that were closed does not take it.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    socket.bind(&at.into())?;
    socket.listen(1)
}

/// The one loop of a node.
async fn drive<M: Mdns>(
    mut swarm: Swarm<Behaviour<M>>,
    mut driver: Driver,
    mut network: Network,
    ready: oneshot::Sender<Result<(), Error>>,
) {
    let mut alarm = Alarm::default();
    let mut ready = Some(ready);
    loop {
        while let Some(order) = driver.pump(&mut swarm.behaviour_mut().sessions) {
            network.on_order(order, &mut swarm, &mut driver);
        }
        if network.is_ready()
            && let Some(ready) = ready.take()
        {
            let _ = ready.send(Ok(()));
        }
        if driver.is_over() {
            break;
        }
        let due: Option<Instant> = network.due();
        select! {
            event = swarm.select_next_some() => network.on_event(event, &mut swarm, &mut driver),
            () = driver.next().fuse() => {}
            () = alarm.at(due).fuse() => network.on_timeout(&mut swarm, &mut driver),
        }
    }
    hang_up(&mut swarm).await;
    drop(swarm);
    driver.finish();
}
