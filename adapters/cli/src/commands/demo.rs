//! A market on this machine: a bootstrap node, three providers and a requester, each a node of its own on 127.0.0.1.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    time::{Duration, Instant},
};

use haggle::{
    Config, Criteria, JobSpec, Model, Node, Prompt, Sale,
    core::{money::Price, spec::Haggle, time::Millis, wire::message::Sampling},
    engine::TINY_STORIES,
    libp2p::PeerId,
};
use serde_json::json;

use super::ask::follow;
use crate::{
    args::{Demo, Global},
    exit::{Exit, Failed},
    money::decimal,
    narrator::{Narrator, Style, print_json, short},
    node::{self, Signals},
    paced::Paced,
};

/// A provider of the demo: name, price read, price written (micro-units per 1,000,000 tokens), tokens a second.
const PROVIDERS: [(&str, Price, Price, u32); 3] =
    [("Hare", 20_000_000, 90_000_000, 200), ("Fox", 10_000_000, 40_000_000, 60), ("Snail", 10_000_000, 55_000_000, 20)];
const MAX_TOKENS: u64 = 120;
/// Units: more than enough for the cheapest.
const BUDGET: u64 = 50_000;
/// The nodes find each other within this time even on a slow machine.
const PATIENCE: Duration = Duration::from_secs(5);

pub(crate) async fn run(global: &Global, args: &Demo) -> Result<Exit, Failed> {
    let stage = Stage { json: global.json, style: Style::of(&io::stdout()) };
    let mut signals = Signals::listen()?;
    tokio::select! {
        ended = Box::pin(play(&stage, &args.prompt)) => ended,
        () = signals.next() => Ok(Exit::Cancelled),
    }
}

async fn play(stage: &Stage, prompt: &str) -> Result<Exit, Failed> {
    let begun = Instant::now();
    stage.title("A market of five nodes on this machine: real sockets, real keys, a real (tiny) model.")?;
    let bootstrap = node::start(Node::builder(local(&[]))).await?;
    stage.node("bootstrap", "", &bootstrap, "knows who is there")?;
    let known: Vec<String> = bootstrap.listen_addresses().iter().map(ToString::to_string).collect();
    let mut providers = Vec::new();
    for (name, price_in, price_out, speed) in PROVIDERS {
        let engine = Paced::limit(node::engine(TINY_STORIES)?, speed);
        let eta = Millis(1_000 / u64::from(speed) * 4);
        let sale = Sale { price_in, price_out, eta, ..Sale::new(engine) };
        let provider = node::start(Node::builder(local(&known)).sell(sale)).await?;
        let (price_in, price_out) = (decimal(price_in), decimal(price_out));
        let offer = format!("{price_in} in, {price_out} out per million tokens, {speed} tokens/s");
        stage.node("provider", name, &provider, &offer)?;
        providers.push((name, provider));
    }
    let requester = node::start(Node::builder(Config { listen_addresses: Vec::new(), ..local(&known) })).await?;
    stage.node("requester", "You", &requester, "knows the bootstrap node only")?;

    let found = find_all(&requester, providers.len()).await?;
    let took = begun.elapsed().as_millis();
    stage.found(found, took)?;
    let names: BTreeMap<PeerId, String> =
        providers.iter().map(|(name, node)| (node.peer_id(), (*name).to_owned())).collect();
    let spec = JobSpec {
        budget: Some(BUDGET),
        haggle: Haggle::Offers,
        sampling: Sampling { seed: 1, ..Sampling::default() },
        ..JobSpec::new(model()?, Prompt::Raw(prompt.into()), MAX_TOKENS)
    };
    let job = requester.submit(spec).await?;
    let mut narrator = Narrator::on_stdout(stage.json, names);
    let mut signals = Signals::listen()?;
    narrator.opening(prompt);
    let ended = follow(job, &mut narrator, &mut signals).await?;
    requester.stop().await;
    for (_, provider) in providers {
        provider.stop().await;
    }
    bootstrap.stop().await;
    ended.map_err(haggle::Error::Job)?;
    stage.closing()?;
    Ok(Exit::Done)
}

/// Searches until everybody is found: what was announced takes a moment to arrive.
async fn find_all(requester: &Node, all: usize) -> Result<usize, Failed> {
    let begun = Instant::now();
    loop {
        let criteria = Criteria { refresh: true, ..Criteria::new(model()?) };
        let found = requester.discover(criteria, Some(Millis(2_000))).await;
        match found {
            Ok(found) if found.providers.len() == all => return Ok(all),
            Ok(found) if begun.elapsed() > PATIENCE => return Ok(found.providers.len()),
            Err(error) if begun.elapsed() > PATIENCE => return Err(error.into()),
            _ => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

fn model() -> Result<Model, Failed> {
    node::model(TINY_STORIES)
}

fn local(bootstrap: &[String]) -> Config {
    Config {
        bootstrap_nodes: bootstrap.to_vec(),
        listen_addresses: vec!["/ip4/127.0.0.1/tcp/0".into()],
        enable_mdns: false,
        ..Config::default()
    }
}

/// Where the demo is shown.
struct Stage {
    json: bool,
    style: Style,
}

impl Stage {
    fn title(&self, text: &str) -> io::Result<()> {
        self.say(&format!("{}\n", self.style.bold(text)))
    }

    fn node(&self, role: &str, name: &str, node: &Node, note: &str) -> io::Result<()> {
        let address = node.listen_addresses().first().map(ToString::to_string);
        if self.json {
            let (peer, name) = (node.peer_id().to_string(), if name.is_empty() { role } else { name });
            return print_json(&json!({"event": "demo:node", "role": role, "name": name, "peer": peer,
                "address": address, "note": note}));
        }
        let at = address.as_deref().and_then(|address| address.split("/p2p/").next()).unwrap_or("dials only");
        let peer = self.style.dim(&short(&node.peer_id()));
        self.say(&format!("  {role:<10} {name:<6} {peer}  {at:<26} {note}"))
    }

    fn found(&self, providers: usize, millis: u128) -> io::Result<()> {
        if self.json {
            return print_json(&json!({"event": "demo:found", "providers": providers, "millis": millis}));
        }
        self.say(&format!(
            "\n  You ask the network who serves {TINY_STORIES}: {providers} do ({millis} ms after the start).\n"
        ))
    }

    fn closing(&self) -> io::Result<()> {
        self.say(&format!(
            "\n{}\n  haggle bootstrap\n  haggle serve --bootstrap ADDR --price-out 40\n  \
             haggle ask --bootstrap ADDR --budget 0.05 \"Once upon a time\"",
            self.style.bold("Your own market in three commands:")
        ))
    }

    fn say(&self, text: &str) -> io::Result<()> {
        if self.json {
            return Ok(());
        }
        let mut out = io::stdout().lock();
        writeln!(out, "{text}")?;
        out.flush()
    }
}
