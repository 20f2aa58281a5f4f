//! A node of the DHT that neither buys nor sells.

use std::io::Write;

use haggle::Node;
use serde_json::json;

use crate::{
    args::{Bootstrap, Global},
    exit::{Exit, Failed},
    node::{self, Signals},
    screen::{Screen, print_json},
    settings::Settings,
};

pub(crate) async fn run(global: &Global, args: &Bootstrap) -> Result<Exit, Failed> {
    let mut settings = Settings::load(global, &args.node)?;
    settings.listen_by_default()?;
    let config = settings.config()?;
    if !config.enable_dht {
        return Err(Failed::config("enable_dht: a bootstrap node without the DHT helps nobody; leave it on"));
    }
    let key = node::lasting_key(&settings, &args.node, "bootstrap")?;
    let mut signals = Signals::listen()?;
    let node = node::start(Node::builder(config).key(key)).await?;
    let addresses: Vec<String> = node.listen_addresses().iter().map(ToString::to_string).collect();
    if global.json {
        print_json(&json!({"event": "ready", "peer": node.peer_id().to_string(), "addresses": addresses}))?;
    } else {
        let mut out = Screen::Out;
        writeln!(out, "others enter the network by")?;
        addresses.iter().try_for_each(|address| writeln!(out, "  --bootstrap {address}"))?;
    }
    signals.next().await;
    node.stop().await;
    Ok(Exit::Done)
}
