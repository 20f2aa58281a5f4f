//! A market on this machine: a bootstrap node, three providers and a requester, each a node of its own on 127.0.0.1.
//! The provider that was chosen is switched off in mid-answer, and another one goes on.

use std::{
    collections::BTreeMap,
    io,
    net::{SocketAddr, TcpListener},
    time::{Duration, Instant},
};

use futures::{FutureExt, select};
use futures_timer::Delay;
use haggle::{
    Builder, Config, Criteria, JobEvent, JobSpec, Limits, Model, Node, Prompt, Sale,
    core::{money::Price, spec::Haggle, time::Millis, wire::message::Sampling},
    engine::TINY_STORIES,
    libp2p::PeerId,
};
use haggle_gateway::StartError;
use serde_json::json;

use super::ask::follow;
use crate::{
    args::{Demo, Global},
    exit::{Exit, Failed},
    money::decimal,
    narrator::{Narrator, short},
    node,
    paced::Paced,
    runtime::{self, Plug},
    screen::{Painted, Screen, Style, print_json},
    signals::Signals,
};

/// A provider of the demo: name, price read, price written (micro-units per 1,000,000 tokens), tokens a second.
const PROVIDERS: [(&str, Price, Price, u32); 3] =
    [("Hare", 20_000_000, 90_000_000, 200), ("Fox", 10_000_000, 40_000_000, 60), ("Snail", 10_000_000, 55_000_000, 40)];
const MAX_TOKENS: u64 = 120;
/// The first provider is switched off when so many tokens are shown.
const LOST_AFTER: u64 = MAX_TOKENS / 3;
/// A provider writes no further ahead than this: it cannot be done before it is switched off, however slow we read.
const WINDOW: u32 = 8;
/// Units: more than enough for the cheapest.
const BUDGET: u64 = 50_000;
/// The nodes find each other within this time even on a slow machine.
const PATIENCE: Duration = Duration::from_secs(5);

pub(crate) async fn run(global: &Global, args: &Demo) -> Result<Exit, Failed> {
    let stage = Stage { json: global.json, style: Screen::Out.style() };
    let mut signals = Signals::listen()?;
    select! {
        ended = Box::pin(play(&stage, args)).fuse() => ended,
        () = signals.next().fuse() => Ok(Exit::Cancelled),
    }
}

async fn play(stage: &Stage, args: &Demo) -> Result<Exit, Failed> {
    let begun = Instant::now();
    stage.title("A market of five nodes on this machine: real sockets, real keys, a real (tiny) model.")?;
    let bootstrap = node::start(Node::builder(local(&[]))).await?;
    stage.node("bootstrap", "", &bootstrap, "knows who is there")?;
    let known: Vec<String> = bootstrap.listen_addresses().iter().map(ToString::to_string).collect();
    let mut providers = Vec::new();
    for (name, price_in, price_out, speed) in PROVIDERS {
        let engine = Paced::limit(node::engine(TINY_STORIES, 0)?, speed);
        let eta = Millis(1_000 / u64::from(speed) * 4);
        let sale = Sale { price_in, price_out, eta, ..Sale::new(engine) };
        let limits = Limits { window_tokens: WINDOW, ..Limits::default() };
        let builder = Node::builder(Config { limits, ..local(&known) }).sell(sale);
        let provider = Provider::start(name, builder).await?;
        let (price_in, price_out) = (decimal(price_in), decimal(price_out));
        let offer = format!("{price_in} in, {price_out} out per million tokens, {speed} tokens/s");
        stage.node("provider", name, &provider.node, &offer)?;
        providers.push(provider);
    }
    let requester = node::start(Node::builder(impatient(&known))).await?;
    stage.node("requester", "You", &requester, "knows the bootstrap node only")?;

    let found = find_all(&requester, providers.len()).await?;
    let took = begun.elapsed().as_millis();
    stage.found(found, took)?;
    if let Some(at) = args.gateway {
        return keep_open(stage, at, requester).await;
    }
    let names: BTreeMap<PeerId, String> =
        providers.iter().map(|provider| (provider.node.peer_id(), provider.name.to_owned())).collect();
    let spec = JobSpec {
        budget: Some(BUDGET),
        haggle: Haggle::Offers,
        sampling: Sampling { seed: 1, ..Sampling::default() },
        ..JobSpec::new(model()?, Prompt::Raw(args.prompt.clone()), MAX_TOKENS)
    };
    let mut job = requester.submit(spec).await?;
    let mut narrator = Narrator::on_stdout(stage.json, names);
    let mut signals = Signals::listen()?;
    narrator.opening(&args.prompt);
    let mut story =
        Story { stage, providers: &mut providers, fails: !args.no_failure && found > 1, tokens: 0, waits: false };
    let ended = follow(&mut job, &mut narrator, &mut signals, |narrator, event| story.tell(narrator, event)).await?;
    let undisturbed = story.fails;
    requester.stop().await;
    for provider in providers {
        provider.node.stop().await;
    }
    bootstrap.stop().await;
    ended.result()?;
    if undisturbed {
        stage.no_loss()?;
    }
    stage.closing()?;
    Ok(Exit::Done)
}

/// Buys for OpenAI clients until the demo is ended.
async fn keep_open(stage: &Stage, at: SocketAddr, requester: Node) -> Result<Exit, Failed> {
    let socket = TcpListener::bind(at).map_err(StartError::from)?;
    let config = haggle_gateway::Config { budget: Some(BUDGET), ..haggle_gateway::Config::default() };
    let gateway = runtime::gateway(requester, config, socket)?;
    stage.gateway(&format!("http://{}/v1", gateway.address()))?;
    // A signal ends the demo, and all that it holds.
    let _open = gateway;
    std::future::pending().await
}

/// A provider, and the plug that takes everything of it along when it is pulled.
struct Provider {
    name: &'static str,
    node: Node,
    plug: Option<Plug>,
}

impl Provider {
    async fn start(name: &'static str, builder: Builder) -> Result<Self, Failed> {
        let (node, plug) = runtime::start(builder).await?;
        Ok(Provider { name, node, plug: Some(plug) })
    }

    fn switch_off(&mut self) {
        if let Some(plug) = self.plug.take() {
            plug.pull();
        }
    }
}

/// The story as it is told, and the provider that is lost in its middle.
struct Story<'a> {
    stage: &'a Stage,
    providers: &'a mut [Provider],
    /// A provider is still to be lost.
    fails: bool,
    /// Tokens shown.
    tokens: u64,
    /// One was lost, and nobody has gone on yet.
    waits: bool,
}

impl Story<'_> {
    fn tell(&mut self, narrator: &mut Narrator, event: &JobEvent) -> io::Result<()> {
        if matches!(event, JobEvent::TakenOver { .. }) {
            self.waits = false;
        }
        // People are told of the loss in one line; how another one is found they have seen already.
        if self.stage.json || !self.waits || matches!(event, JobEvent::Tokens { .. }) {
            narrator.event(event)?;
        }
        let JobEvent::Tokens { peer, n, .. } = event else { return Ok(()) };
        self.tokens += u64::from(*n);
        let due = self.fails && (LOST_AFTER..MAX_TOKENS).contains(&self.tokens);
        let winner = self.providers.iter_mut().find(|provider| due && provider.node.peer_id() == *peer);
        let Some(winner) = winner else { return Ok(()) };
        winner.switch_off();
        (self.fails, self.waits) = (false, true);
        self.stage.lost(narrator, winner.name, peer, self.tokens)
    }
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
            _ => Delay::new(Duration::from_millis(50)).await,
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

/// A requester that does not wait long for a provider that is lost: it is for show.
fn impatient(bootstrap: &[String]) -> Config {
    Config {
        listen_addresses: Vec::new(),
        retry_delay: Duration::from_millis(200),
        resume_grace: Duration::from_secs(1),
        resume_timeout: Duration::from_secs(2),
        ..local(bootstrap)
    }
}

/// Where the demo is shown.
struct Stage {
    json: bool,
    style: Style,
}

impl Stage {
    fn title(&self, text: &str) -> io::Result<()> {
        self.say(self.style.bold(text).then("\n"))
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
        self.say(Painted::from(format!("  {role:<10} {name:<6} ")).then(peer).then(format!("  {at:<26} {note}")))
    }

    fn found(&self, providers: usize, millis: u128) -> io::Result<()> {
        if self.json {
            return print_json(&json!({"event": "demo:found", "providers": providers, "millis": millis}));
        }
        self.say(format!(
            "\n  You ask the network who serves {TINY_STORIES}: {providers} do ({millis} ms after the start).\n"
        ))
    }

    fn gateway(&self, url: &str) -> io::Result<()> {
        if self.json {
            return print_json(&json!({"event": "ready", "base_url": url}));
        }
        let asked = format!(
            "\"model\": \"{TINY_STORIES}\", \"messages\": [{{\"role\": \"user\", \"content\": \"Once upon a time\"}}]"
        );
        let (model, said) = (TINY_STORIES, "[{role: \"user\", content: \"Once upon a time\"}]");
        self.say(format!(
            "  OpenAI clients buy here at {url}, for {} units an answer at most; Ctrl-C ends it. Try:\n\n\
             curl {url}/chat/completions -H 'Content-Type: application/json' -d '{{{asked}}}'\n\
             python3 -c 'import openai; print(openai.OpenAI(base_url=\"{url}\", api_key=\"none\").chat.completions.create(**{{{asked}}}).choices[0].message.content)'\n\
             node -e 'const o = require(\"openai\"); new o({{baseURL: \"{url}\", apiKey: \"none\"}}).chat.completions.create({{model: \"{model}\", messages: {said}}}).then((a) => console.log(a.choices[0].message.content))'",
            decimal(BUDGET)
        ))
    }

    fn lost(&self, narrator: &mut Narrator, name: &str, peer: &PeerId, tokens: u64) -> io::Result<()> {
        if self.json {
            return print_json(
                &json!({"event": "demo:lost", "name": name, "peer": peer.to_string(), "tokens": tokens}),
            );
        }
        let text =
            format!("{name}'s plug is pulled after {tokens} tokens. Don't worry: somebody knows how it goes on.");
        narrator.line("lost", text)
    }

    fn no_loss(&self) -> io::Result<()> {
        if self.json {
            return print_json(&json!({"event": "demo:undisturbed"}));
        }
        self.say("\n  Nobody was lost this time: the story was over before anybody could be switched off.")
    }

    fn closing(&self) -> io::Result<()> {
        let commands = "\n  haggle bootstrap\n  haggle serve --bootstrap ADDR --price-out 40\n  \
             haggle ask --bootstrap ADDR --budget 0.05 \"Once upon a time\"";
        self.say(Painted::from("\n").then(self.style.bold("Your own market in three commands:")).then(commands))
    }

    fn say(&self, text: impl Into<Painted>) -> io::Result<()> {
        match self.json {
            true => Ok(()),
            false => Screen::Out.paint(&text.into().then("\n")),
        }
    }
}
