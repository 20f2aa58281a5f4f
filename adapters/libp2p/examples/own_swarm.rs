//! The market inside of a swarm of your own: compose `sessions::Behaviour` with yours, and let a `Driver` run on it.

use std::{error::Error, sync::Arc, time::Duration};

use futures::{FutureExt, StreamExt, select};
use haggle::{
    Config, Driver, JobSpec, Limits, Model, Node, Policy, Prompt, Sale, Tokio,
    core::{machine::QueryOutcome, provider::Service},
    driver::{Order, Parts},
    engine::{Llama, TINY_STORIES},
    libp2p::{
        Multiaddr, PeerId, Swarm, identify,
        identity::Keypair,
        swarm::{self, NetworkBehaviour, SwarmEvent},
    },
    runtime::{Runtime, TransportLimits},
    sessions,
};

#[derive(NetworkBehaviour)]
#[behaviour(prelude = "haggle::libp2p::swarm::derive_prelude")]
struct Mine {
    sessions: sessions::Behaviour,
    identify: identify::Behaviour, // and whatever else your node speaks
}

/// Your loop: yours are the swarm, its events and where providers come from; the driver's are the jobs.
async fn run(mut swarm: Swarm<Mine>, mut driver: Driver, known: Vec<(PeerId, Multiaddr)>) {
    while !driver.is_over() {
        while let Some(order) = driver.pump(&mut swarm.behaviour_mut().sessions) {
            if let Order::StartQuery { query, .. } = order {
                for (peer, address) in &known {
                    swarm.add_peer_address(*peer, address.clone());
                }
                driver.peers_found(query, known.iter().map(|(peer, _)| *peer));
                driver.query_done(query, QueryOutcome::Complete);
            }
        }
        select! {
            () = driver.next().fuse() => {}
            event = swarm.select_next_some() => match event {
                SwarmEvent::Behaviour(MineEvent::Sessions(event)) => driver.on_session(event),
                SwarmEvent::ConnectionEstablished { peer_id, .. } => driver.on_connected(peer_id),
                SwarmEvent::ConnectionClosed { peer_id, num_established: 0, .. } => driver.on_gone(peer_id),
                _ => {}
            },
        }
    }
    drop(swarm);
    driver.finish();
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let runtime = Tokio::current().ok_or("no runtime")?;
    let config = Config {
        listen_addresses: vec!["/ip4/127.0.0.1/tcp/0".into()],
        enable_mdns: false,
        enable_dht: false,
        ..Config::default()
    };
    let sale = Sale::new(Arc::new(Llama::tiny_stories()?));
    let seller = Node::builder(config).sell(sale).start(runtime.clone()).await?;

    let key = Keypair::generate_ed25519();
    let me = key.public().to_peer_id();
    let mine = Mine {
        sessions: sessions::Behaviour::new(me, sessions::Config::default()),
        identify: identify::Behaviour::new(identify::Config::new("/mine/1".into(), key.public())),
    };
    let (tasks, spawner) = (runtime.clone(), runtime.clone());
    let swarm = Swarm::new(
        runtime.transport(&key, &TransportLimits::default())?,
        mine,
        me,
        swarm::Config::with_executor(move |task| tasks.spawn(task))
            .with_idle_connection_timeout(Duration::from_secs(90)),
    );
    let (driver, node) = Driver::new(Parts {
        state: None,
        stored: Vec::new(),
        me,
        network: "main".into(),
        limits: Limits::default(),
        policy: Policy::default(),
        service: Service::default(),
        engines: Vec::new(),
        spawn: Arc::new(move |task| spawner.spawn(task)),
        tape: None,
    })?;
    let running = tokio::spawn(run(swarm, driver, vec![(seller.peer_id(), seller.listen_addresses()[0].clone())]));

    let model = Model::new(TINY_STORIES.as_bytes()).ok_or("no name")?;
    let job = node.submit(JobSpec::new(model, Prompt::Raw("Once upon a time".into()), 30)).await?;
    println!("Once upon a time{}", job.answer().await?.text);
    node.stop().await;
    running.await?;
    Ok(())
}
