//! The market beside libp2p's ping, in a swarm of your own.
use std::{error::Error, sync::Arc};

use haggle::engine::{Llama, TINY_STORIES};
use haggle::libp2p::{Swarm, identity::Keypair, ping, swarm};
use haggle::{Config, Driver, JobSpec, Model, Node, Prompt, Sale, Tokio, driver, runtime::Runtime, sessions};

#[derive(swarm::NetworkBehaviour)]
#[behaviour(prelude = "haggle::libp2p::swarm::derive_prelude")]
struct Mine {
    market: sessions::Behaviour,
    ping: ping::Behaviour, // and whatever else your node speaks
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let runtime = Tokio::current().ok_or("no runtime")?;
    let local = Config { enable_mdns: false, enable_dht: false, ..Config::default() };
    let config = Config { listen_addresses: vec!["/ip4/127.0.0.1/tcp/0".into()], ..local };
    let sale = Sale::new(Arc::new(Llama::tiny_stories()?));
    let seller = Node::builder(config).sell(sale).start(runtime.clone()).await?;

    let (key, tasks) = (Keypair::generate_ed25519(), runtime.clone());
    let me = key.public().to_peer_id();
    let mine = Mine { market: sessions::Behaviour::new(me, Default::default()), ping: Default::default() };
    let config = swarm::Config::with_executor(move |task| tasks.spawn(task));
    let swarm = Swarm::new(runtime.transport(&key, &Default::default())?, mine, me, config);
    let (driver, node) = Driver::new(driver::Parts::new(me, &runtime))?;
    let theirs = |event| match event {
        MineEvent::Market(event) => Some(event),
        MineEvent::Ping(ping) => {
            println!("{ping:?}");
            None
        }
    };
    runtime.spawn(Box::pin(driver::drive(swarm, driver, |mine| &mut mine.market, theirs)));

    node.connect(&seller.listen_addresses()[0].to_string()).await?;
    let spec = JobSpec::new(Model::new(TINY_STORIES.as_bytes()).ok_or("no name")?, Prompt::Raw("Once".into()), 30);
    println!("Once{}", node.submit(spec).await?.answer().await?.text);
    Ok(())
}
