//! A node of the DHT that neither buys nor sells.

use std::io::{self, Write};

use haggle::Node;
use serde_json::json;

use crate::{
    args::{Bootstrap, Global},
    counter,
    entrance::{self, Entrance},
    exit::{Exit, Failed},
    node,
    screen::{Screen, tell_json},
    settings::Settings,
    signals::{Signals, Wish},
    vitals::Vitals,
};

pub(crate) async fn run(global: &Global, args: &Bootstrap) -> Result<Exit, Failed> {
    let mut settings = Settings::load(global, &args.node)?;
    settings.listen_by_default()?;
    settings.add_metrics(args.metrics.as_deref())?;
    let config = settings.config()?;
    if !config.enable_dht {
        return Err(Failed::config("enable_dht: a bootstrap node without the DHT helps nobody; leave it on"));
    }
    let (key, _lock) = node::lasting_key(&settings, &args.node, "bootstrap")?;
    let mut signals = Signals::of_service()?;
    let node = node::start(Node::builder(config).key(key)).await?;
    let vitals = Vitals::new(node.clone(), Entrance::new(&settings.config()?));
    let (metrics, _bell) = match counter::of(&settings, &vitals) {
        Ok(open) => open,
        Err(failed) => {
            node.stop().await;
            return Err(failed);
        }
    };
    let metrics = metrics.map(|at| at.to_string());
    let addresses: Vec<String> = node.listen_addresses().iter().map(ToString::to_string).collect();
    if global.json {
        tell_json(
            &json!({"event": "ready", "peer": node.peer_id().to_string(), "addresses": addresses, "metrics": metrics}),
        );
    } else {
        // It helps others whether or not anybody listens here.
        let _ = print(&addresses, metrics.as_deref());
    }
    while signals.wish().await == Wish::Reload {
        let _ = writeln!(Screen::Err, "haggle: a bootstrap node has no settings that change while it runs; restart it");
    }
    node.stop().await;
    Ok(Exit::Done)
}

fn print(addresses: &[String], metrics: Option<&str>) -> io::Result<()> {
    let mut out = Screen::Out;
    writeln!(out, "others enter the network by")?;
    addresses.iter().try_for_each(|address| writeln!(out, "  --bootstrap {address}"))?;
    if entrance::all_local(addresses) {
        writeln!(out, "only this machine can reach it; for others: --listen /ip4/0.0.0.0/tcp/4000")?;
    }
    metrics.map_or(Ok(()), |at| writeln!(out, "watched over at http://{at}/metrics, /health and /ready"))
}
