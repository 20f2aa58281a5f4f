//! Sells models.

use std::{
    io::{self, Write},
    net::SocketAddr,
};

use haggle::{Config, Node, engine::TINY_STORIES, state::State};
use serde_json::{Value, json};

use crate::{
    args::{Global, Serve},
    counter,
    entrance::{self, Entrance},
    exit::{Exit, Failed},
    goods::Good,
    ledger::Books,
    money::decimal,
    node,
    screen::{Screen, tell_json},
    shop::Shop,
    signals::Signals,
    upstream,
    vitals::Vitals,
    watch::Watch,
};

pub(crate) async fn run(global: &Global, args: &Serve) -> Result<Exit, Failed> {
    let shop = Shop::open(global, args)?;
    let (settings, config) = (shop.settings(), shop.config()?);
    let books = settings.ledger()?.map(Books::new);
    let state = args.state.as_deref().map(State::open).transpose().map_err(haggle::Error::from)?;
    let (key, _lock) = match &state {
        Some(state) if args.node.key.is_none() => (state.key().map_err(haggle::Error::from)?, None),
        _ => node::lasting_key(settings, &args.node, "provider").map(|(key, lock)| (key, Some(lock)))?,
    };
    let (announced, entrances) = (config.announce_addresses.clone(), config.bootstrap_nodes.len());
    let network = config.network.clone();
    let mut signals = Signals::of_service()?;
    let builder = node::record(Node::builder(config), &args.record)?.key(key);
    let mut builder = shop.sales().into_iter().fold(builder, |builder, sale| builder.sell(sale));
    if let Some(state) = state {
        builder = builder.state(state);
    }
    let node = node::start(builder).await?;
    let addresses: Vec<String> = node.listen_addresses().iter().map(ToString::to_string).collect();
    let vitals = Vitals::new(node.clone(), Entrance::new(&settings.config()?));
    vitals.sells(shop.described());
    let (metrics, _bell) = match counter::of(settings, &vitals) {
        Ok(open) => open,
        Err(failed) => {
            node.stop().await;
            return Err(failed);
        }
    };
    let told = Told { goods: shop.goods(), metrics, entrances, network, announced, addresses };
    if global.json {
        tell_json(&told.to_json(&node));
    } else {
        // Who does not listen even now is sold for all the same.
        let _ = told.print(&node);
    }
    Watch::new(global.json, shop, books, vitals)?.until_ended(&node, &mut signals).await?;
    Ok(Exit::Done)
}

/// What is told at the start.
struct Told<'a> {
    goods: &'a [Good],
    metrics: Option<SocketAddr>,
    entrances: usize,
    network: String,
    announced: Vec<String>,
    addresses: Vec<String>,
}

impl Told<'_> {
    /// Programs that know of one model only read the first one's fields.
    fn to_json(&self, node: &Node) -> Value {
        let mut told = json!({
            "event": "serving", "peer": node.peer_id().to_string(), "addresses": self.addresses, "network": self.network,
            "announced": self.announced, "reachability": "unknown", "metrics": self.metrics.map(|at| at.to_string()),
            "models": self.goods.iter().map(Good::to_json).collect::<Vec<_>>(),
        });
        if let (Some(told), Some(Value::Object(first))) = (told.as_object_mut(), self.goods.first().map(Good::to_json))
        {
            told.extend(first);
        }
        told
    }

    fn print(&self, node: &Node) -> io::Result<()> {
        let Told { goods, metrics, addresses, announced, entrances, network } = self;
        let mut out = Screen::Out;
        let price = |good: &Good| {
            format!(
                "{} at {} in, {} out per million tokens",
                good.name,
                decimal(good.price_in),
                decimal(good.price_out)
            )
        };
        // Who is in the usual one need not be told.
        let is_usual = *network == Config::default().network;
        let flag = if is_usual { String::new() } else { format!("--network {network:?} ") };
        let network = if is_usual { String::new() } else { format!(" in the network {network:?}") };
        match goods {
            [good] => writeln!(out, "selling {}{network}, on", price(good))?,
            goods => writeln!(out, "selling {} models{network}, on", goods.len())?,
        }
        addresses.iter().try_for_each(|address| writeln!(out, "  {address}"))?;
        if !announced.is_empty() {
            writeln!(out, "announced as")?;
            announced.iter().try_for_each(|address| writeln!(out, "  {address}/p2p/{}", node.peer_id()))?;
        }
        for good in *goods {
            if goods.len() > 1 {
                writeln!(out, "{}", price(good))?;
            }
            print_good(good)?;
        }
        if entrance::all_local(addresses) {
            writeln!(out, "only this machine can reach it; for others: --listen /ip4/0.0.0.0/tcp/4001")?;
        } else {
            writeln!(out, "whether others can reach it is not known yet; it is told as soon as somebody has")?;
        }
        match entrances {
            0 => {}
            1 => writeln!(out, "entering the network by 1 bootstrap node; it is told when that answers")?,
            n => writeln!(out, "entering the network by {n} bootstrap nodes; it is told when one answers")?,
        }
        if let Some(at) = metrics {
            writeln!(out, "watched over at http://{at}/metrics, /health and /ready")?;
        }
        if let (Some(address), Some(good)) = (addresses.first(), goods.first()) {
            let model = if good.name == TINY_STORIES { String::new() } else { format!("--model {:?} ", good.name) };
            let prompt = match good.made.is_chat {
                true => "--chat \"What is the capital of France?\"",
                false => "\"Once upon a time\"",
            };
            writeln!(out, "try: haggle ask --provider {address} {flag}{model}--budget 0.01 {prompt}")?;
        }
        Ok(())
    }
}

/// What more there is to know of a model.
fn print_good(good: &Good) -> io::Result<()> {
    let mut out = Screen::Out;
    if !good.aliases().is_empty() {
        writeln!(out, "also known as {}", good.aliases().join(", "))?;
    }
    let jobs = if good.slots == 1 { "job" } else { "jobs" };
    writeln!(out, "{} {jobs} at once, {} tokens of prompt and answer together", good.slots, good.context())?;
    match good.made.upstream.as_deref() {
        Some(upstream) => writeln!(out, "{}", upstream::line(upstream, good.slots)),
        None => Ok(()),
    }
}
