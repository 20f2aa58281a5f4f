//! Buys for OpenAI clients, over HTTP.

use std::{
    fs,
    io::{self, Write},
    net::TcpListener,
    path::Path,
    time::Duration,
};

use haggle::{libp2p::PeerId, state::State};
use haggle_gateway::{Config, Key, StartError};
use serde_json::json;

use crate::{
    args::{Gateway, Global, Waits},
    buyer::{self, Buyer, Past},
    exit::{Exit, Failed},
    money::parse_amount,
    runtime,
    screen::{Screen, tell_json},
    signals::{Signals, Wish},
};

/// Whoever waits for an answer hears within this time that there will be none.
const PATIENCE: Duration = Duration::from_secs(5);
/// In the state directory: what was spent today.
const SPENT: &str = "spent.jsonl";
/// No file of keys is longer.
const MAX_KEYS: u64 = 64 << 10;

pub(crate) async fn run(global: &Global, args: &Gateway) -> Result<Exit, Failed> {
    let keys = keys(args)?;
    let socket = TcpListener::bind(args.listen).map_err(StartError::from)?;
    let mut signals = Signals::of_service()?;
    let state = args.state.as_deref().map(State::open).transpose().map_err(haggle::Error::from)?;
    let past = Past { state, ..Past::default() };
    let node = args.network.node();
    let buyer = Buyer::start(global, &node, &args.network.provider, &Waits::default(), past).await?;
    // Nobody waits any more for what an earlier process was asked.
    drop(buyer.node.restored());
    let config = Config {
        budget: args.budget.or(buyer.budget),
        day_budget: args.budget_per_day,
        spent: args.state.as_ref().map(|state| state.join(SPENT)),
        max_tokens: args.max_tokens,
        keys,
        allow_hosts: args.allow_host.clone(),
        allow_origins: args.allow_origin.clone(),
        bootstrap: buyer::named(buyer.bootstrap_nodes()).iter().filter_map(haggle::id::to_libp2p).collect(),
        ..Config::default()
    };
    let (peer, budget) = (buyer.node.peer_id(), config.budget.or(config.day_budget));
    let gateway = match runtime::gateway(buyer.node.clone(), config, socket) {
        Ok(gateway) => gateway,
        Err(failed) => return buyer.end(Err(failed)).await,
    };
    let url = format!("http://{}/v1", gateway.address());
    if global.json {
        tell_json(&json!({"event": "ready", "peer": peer.to_string(), "base_url": url}));
    } else {
        // It buys whether or not anybody reads this.
        let _ = print(&url, budget.is_some(), &peer);
    }
    while signals.wish().await == Wish::Reload {
        let _ = writeln!(Screen::Err, "haggle: a gateway has no settings that change while it runs; restart it");
    }
    gateway.stop(PATIENCE).await;
    buyer.end(Ok(Exit::Done)).await
}

fn print(url: &str, has_budget: bool, peer: &PeerId) -> io::Result<()> {
    let mut out = Screen::Out;
    writeln!(out, "{peer} buys for whoever asks at\n  OPENAI_BASE_URL={url}")?;
    if !has_budget {
        writeln!(out, "only free providers are taken: give --budget N, or x-haggle-budget in a request")?;
    }
    writeln!(out, "  curl {url}/models")
}

/// The keys that clients have to know.
fn keys(args: &Gateway) -> Result<Vec<Key>, Failed> {
    let mut keys = Vec::new();
    for text in &args.key_env {
        let (name, day_budget) = text.split_once('=').map_or((text.as_str(), None), |(name, n)| (name, Some(n)));
        // What names no variable is perhaps the key, and not shown.
        let secret = std::env::var(name).map_err(|_| {
            Failed::config(
                "--key-env takes the NAME of an environment variable that holds the key, not the key, and no variable of \
                 the name that was given is set",
            )
        })?;
        keys.push(key(name.to_owned(), &secret, day_budget)?);
    }
    for file in &args.key_file {
        let text = read(file)?;
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let of_file = lines.enumerate().map(|(at, line)| {
            let (secret, day_budget) =
                line.split_once(char::is_whitespace).map_or((line, None), |(secret, n)| (secret, Some(n.trim())));
            key(format!("{}:{}", file.display(), at + 1), secret, day_budget)
        });
        let of_file = of_file.collect::<Result<Vec<_>, _>>()?;
        if of_file.is_empty() {
            return Err(Failed::config(format!("--key-file: {} has no key: write one in a line", file.display())));
        }
        keys.extend(of_file);
    }
    if args.state.is_none() && keys.iter().any(|key| key.day_budget.is_some()) {
        let text = "a budget a day needs --state DIR: without it a restart would give it anew";
        return Err(Failed::config(text.to_owned()));
    }
    Ok(keys)
}

fn key(name: String, secret: &str, day_budget: Option<&str>) -> Result<Key, Failed> {
    let wrong = |error| Failed::config(format!("the budget of the key {name:?} is in units a day: {error}"));
    let day_budget = day_budget.map(parse_amount).transpose().map_err(wrong)?;
    Ok(Key::new(name, secret)?.with_day_budget(day_budget))
}

fn read(file: &Path) -> Result<String, Failed> {
    let wrong = |problem: String| Failed::config(format!("--key-file: {}: {problem}", file.display()));
    let about = fs::metadata(file).map_err(|error| wrong(error.to_string()))?;
    if about.len() > MAX_KEYS {
        return Err(wrong(format!("it has more than {MAX_KEYS} bytes")));
    }
    fs::read_to_string(file).map_err(|error| wrong(error.to_string()))
}
