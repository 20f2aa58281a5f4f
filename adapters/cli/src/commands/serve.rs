//! Sells a model.

use std::{
    io::{self, Write},
    sync::Arc,
};

use haggle::{
    Node, Sale,
    core::money::Price,
    engine::{Engine, TINY_STORIES, upstream::Upstream},
    state::State,
};
use serde_json::{Value, json};

use crate::{
    args::{Global, Serve},
    exit::{Exit, Failed},
    ledger::Books,
    money::decimal,
    node,
    paced::Paced,
    screen::{Screen, tell_json},
    settings::Sales,
    shop::Shop,
    signals::Signals,
    upstream,
    watch::Watch,
};

pub(crate) async fn run(global: &Global, args: &Serve) -> Result<Exit, Failed> {
    let shop = Shop::open(global, args)?;
    let settings = shop.settings();
    let mut config = settings.config()?;
    let (mut sales, price_in, price_out) = settings.sales()?;
    let upstream = upstream::open(settings, &sales)?;
    if let Some(upstream) = upstream.as_ref().filter(|_| settings.is_default("slots")) {
        config.slots = upstream.slots();
    }
    let (engine, chat): (Arc<dyn Engine>, bool) = if let Some(upstream) = &upstream {
        (upstream.clone(), true)
    } else if sales.model_file.is_empty() {
        (node::engine(&sales.model)?, false)
    } else {
        let llama = node::model_file(&sales)?;
        sales.model.clone_from(&llama.info().name);
        let chat = llama.is_chat();
        (Arc::new(llama), chat)
    };
    let context = engine.info().context;
    let engine = Paced::limit(engine, sales.tokens_per_second);
    let sale = Sale {
        aliases: sales.aliases.clone(),
        price_in,
        price_out,
        floor_permille: sales.floor_permille,
        ..Sale::new(engine)
    };
    let books = settings.ledger()?.map(Books::new);
    let state = args.state.as_deref().map(State::open).transpose().map_err(haggle::Error::from)?;
    let (key, _lock) = match &state {
        Some(state) if args.node.key.is_none() => (state.key().map_err(haggle::Error::from)?, None),
        _ => node::lasting_key(settings, &args.node, "provider").map(|(key, lock)| (key, Some(lock)))?,
    };
    let (slots, announced) = (config.slots, config.announce_addresses.clone());
    let entrances = config.bootstrap_nodes.len();
    let mut signals = Signals::of_service()?;
    let mut builder = node::record(Node::builder(config), &args.record)?.key(key).sell(sale);
    if let Some(state) = state {
        builder = builder.state(state);
    }
    let node = node::start(builder).await?;
    let addresses: Vec<String> = node.listen_addresses().iter().map(ToString::to_string).collect();
    let told = Told { sales: &sales, price_in, price_out, context, slots, entrances, announced, addresses };
    if global.json {
        tell_json(&told.to_json(&node, upstream.as_deref()));
    } else {
        // Who does not listen even now is sold for all the same.
        let _ = told.print(&node, upstream.as_deref(), chat);
    }
    Watch::new(global.json, shop, books)?.until_ended(&node, &mut signals).await?;
    Ok(Exit::Done)
}

/// What is told at the start.
struct Told<'a> {
    sales: &'a Sales,
    price_in: Price,
    price_out: Price,
    context: u32,
    slots: u32,
    entrances: usize,
    announced: Vec<String>,
    addresses: Vec<String>,
}

impl Told<'_> {
    fn to_json(&self, node: &Node, upstream: Option<&Upstream>) -> Value {
        json!({
            "event": "serving", "peer": node.peer_id().to_string(), "addresses": self.addresses,
            "announced": self.announced, "reachability": "unknown", "model": self.sales.model,
            "aliases": self.sales.aliases, "price_in": decimal(self.price_in), "price_out": decimal(self.price_out),
            "context": self.context, "slots": self.slots, "upstream": upstream.map(upstream::described),
        })
    }

    fn print(&self, node: &Node, upstream: Option<&Upstream>, chat: bool) -> io::Result<()> {
        let Told { sales, addresses, announced, context, slots, entrances, .. } = self;
        let mut out = Screen::Out;
        let (price_in, price_out) = (decimal(self.price_in), decimal(self.price_out));
        writeln!(out, "selling {} at {price_in} in, {price_out} out per million tokens, on", sales.model)?;
        addresses.iter().try_for_each(|address| writeln!(out, "  {address}"))?;
        if !announced.is_empty() {
            writeln!(out, "announced as")?;
            announced.iter().try_for_each(|address| writeln!(out, "  {address}/p2p/{}", node.peer_id()))?;
        }
        if !sales.aliases.is_empty() {
            writeln!(out, "also known as {}", sales.aliases.join(", "))?;
        }
        let jobs = if *slots == 1 { "job" } else { "jobs" };
        writeln!(out, "{slots} {jobs} at once, {context} tokens of prompt and answer together")?;
        if let Some(upstream) = upstream {
            writeln!(out, "{}", upstream::line(upstream, *slots))?;
        }
        let local = |address: &String| address.starts_with("/ip4/127.") || address.starts_with("/ip6/::1/");
        if addresses.iter().all(local) {
            writeln!(out, "only this machine can reach it; for others: --listen /ip4/0.0.0.0/tcp/4001")?;
        } else {
            writeln!(out, "whether others can reach it is not known yet; it is told as soon as somebody has")?;
        }
        match entrances {
            0 => {}
            1 => writeln!(out, "entering the network by 1 bootstrap node; it is told when that answers")?,
            n => writeln!(out, "entering the network by {n} bootstrap nodes; it is told when one answers")?,
        }
        if let Some(address) = addresses.first() {
            let model = if sales.model == TINY_STORIES { String::new() } else { format!("--model {:?} ", sales.model) };
            let prompt = if chat { "--chat \"What is the capital of France?\"" } else { "\"Once upon a time\"" };
            writeln!(out, "try: haggle ask --provider {address} {model}--budget 0.01 {prompt}")?;
        }
        Ok(())
    }
}
