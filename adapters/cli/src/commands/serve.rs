//! Sells a model.

use std::{
    io::{self, Write},
    sync::Arc,
};

use futures::{FutureExt, select};
use haggle::{
    Node, Sale,
    engine::{Engine, TINY_STORIES},
};
use serde_json::json;

use crate::{
    args::{Global, Serve},
    exit::{Exit, Failed},
    money::decimal,
    narrator::print_json,
    node::{self, Signals},
    paced::Paced,
    settings::Settings,
    upstream,
};

pub(crate) async fn run(global: &Global, args: &Serve) -> Result<Exit, Failed> {
    let mut settings = Settings::load(global, &args.node)?;
    settings.add_serve(args)?;
    settings.listen_by_default()?;
    let mut config = settings.config()?;
    let (mut sales, price_in, price_out) = settings.sales()?;
    let upstream = upstream::open(&settings, &sales)?;
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
    let engine = Paced::limit(engine, sales.tokens_per_second);
    let sale = Sale {
        aliases: sales.aliases.clone(),
        price_in,
        price_out,
        floor_permille: sales.floor_permille,
        ..Sale::new(engine)
    };
    let key = node::lasting_key(&settings, &args.node, "provider")?;
    let slots = config.slots;
    let mut signals = Signals::listen()?;
    let builder = node::record(Node::builder(config), &args.record)?;
    let node = node::start(builder.key(key).sell(sale)).await?;
    let addresses: Vec<String> = node.listen_addresses().iter().map(ToString::to_string).collect();
    if global.json {
        print_json(&json!({
            "event": "serving", "peer": node.peer_id().to_string(), "addresses": addresses, "model": sales.model,
            "aliases": sales.aliases, "price_in": decimal(price_in), "price_out": decimal(price_out), "slots": slots,
            "upstream": upstream.as_deref().map(upstream::described),
        }))?;
    } else {
        let mut out = io::stdout().lock();
        let (price_in, price_out) = (decimal(price_in), decimal(price_out));
        writeln!(out, "selling {} at {price_in} in, {price_out} out per million tokens, on", sales.model)?;
        addresses.iter().try_for_each(|address| writeln!(out, "  {address}"))?;
        if let Some(upstream) = &upstream {
            writeln!(out, "{}", upstream::line(upstream, slots))?;
        }
        if addresses.iter().all(|address| address.starts_with("/ip4/127.") || address.starts_with("/ip6/::1/")) {
            writeln!(out, "only this machine can reach it; for others: --listen /ip4/0.0.0.0/tcp/4001")?;
        }
        if let Some(address) = addresses.first() {
            let model = if sales.model == TINY_STORIES { String::new() } else { format!("--model {:?} ", sales.model) };
            let prompt = if chat { "--chat \"What is the capital of France?\"" } else { "\"Once upon a time\"" };
            writeln!(out, "try: haggle ask --provider {address} {model}--budget 0.01 {prompt}")?;
        }
    }
    until_ended(&node, &mut signals).await?;
    Ok(Exit::Done)
}

/// The first signal drains, the second ends the jobs that still run.
async fn until_ended(node: &Node, signals: &mut Signals) -> Result<(), Failed> {
    signals.next().await;
    writeln!(io::stderr(), "haggle: taking no new jobs; waiting for those that run (again to end them)")?;
    select! {
        drained = node.drain(std::time::Duration::from_secs(30)).fuse() => drained?,
        () = signals.next().fuse() => {}
    }
    node.stop().await;
    Ok(())
}
