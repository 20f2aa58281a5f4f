//! Buys for OpenAI clients, over HTTP.

use std::{
    fs,
    io::{self, Write},
    net::TcpListener,
    num::NonZeroU32,
    path::Path,
    time::Duration,
};

use haggle::{Model, libp2p::PeerId, state::State};
use haggle_gateway::{Config, Key, StartError};
use serde_json::json;

use crate::{
    args::{Gateway, Global, Waits},
    buyer::{self, Buyer, Past},
    exit::{Exit, Failed},
    money::parse_amount,
    runtime,
    screen::{Screen, tell_json},
    settings::{KeyTable, Settings},
    signals::{Signals, Wish},
};

/// Whoever waits for an answer hears within this time that there will be none.
const PATIENCE: Duration = Duration::from_secs(5);
/// In the state directory: what was spent today.
const SPENT: &str = "spent.jsonl";
/// No file of keys is longer.
const MAX_KEYS: u64 = 64 << 10;

pub(crate) async fn run(global: &Global, args: &Gateway) -> Result<Exit, Failed> {
    let node = args.network.node();
    let keys = keys(args, &Settings::load(global, &node)?.running()?.gateway.key)?;
    let socket = TcpListener::bind(args.listen).map_err(StartError::from)?;
    let mut signals = Signals::of_service()?;
    let state = args.state.as_deref().map(State::open).transpose().map_err(haggle::Error::from)?;
    let past = Past { state, ..Past::default() };
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
fn keys(args: &Gateway, tables: &[KeyTable]) -> Result<Vec<Key>, Failed> {
    let of_tables = tables.iter().enumerate().map(|(at, table)| of_table(at, table));
    let mut keys = of_tables.collect::<Result<Vec<_>, _>>()?;
    for text in &args.key_env {
        let (name, day_budget) = text.split_once('=').map_or((text.as_str(), None), |(name, n)| (name, Some(n)));
        let secret = variable("--key-env", name)?;
        keys.push(key(name.to_owned(), &secret, day_budget)?);
    }
    for file in &args.key_file {
        let text = read("--key-file", file)?;
        let of_file = lines(&text).enumerate().map(|(at, line)| {
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
    if let Some(twice) =
        keys.iter().enumerate().find(|(at, key)| keys[..*at].iter().any(|other| other.name == key.name))
    {
        // What is spent is put down by the name.
        return Err(Failed::config(format!("two keys have the name {:?}: give each its own", twice.1.name)));
    }
    if args.state.is_none() && keys.iter().any(|key| key.day_budget.is_some()) {
        let text = "a budget a day needs --state DIR: without it a restart would give it anew";
        return Err(Failed::config(text.to_owned()));
    }
    Ok(keys)
}

fn of_table(at: usize, table: &KeyTable) -> Result<Key, Failed> {
    let path = |field: &str| format!("gateway.key[{at}]{field}");
    let wrong = |field: &str, text: &str| Failed::config(format!("{}: {text}", path(field)));
    if table.name.is_empty() {
        return Err(wrong(".name", "give each key a name, such as \"editor\": what it spends is put down by it"));
    }
    let secret = match (table.key_env.as_str(), table.key_file.as_str()) {
        (name, "") if !name.is_empty() => variable(&path(".key_env"), name)?,
        ("", file) if !file.is_empty() => {
            let text = read(&path(".key_file"), Path::new(file))?;
            lines(&text)
                .next()
                .ok_or_else(|| wrong(".key_file", &format!("{file} has no key: write it in a line")))?
                .to_owned()
        }
        _ => return Err(wrong("", "say where the key is: key_env, a variable, or key_file, a file")),
    };
    let models = table.models.iter().map(|name| {
        Model::new(name.as_bytes()).ok_or_else(|| wrong(".models", &format!("{name:?} cannot be a model's name")))
    });
    let models = models.collect::<Result<Vec<_>, _>>()?;
    let day_budget = Some(table.budget_per_day.as_str()).filter(|text| !text.is_empty());
    let key = key(table.name.clone(), &secret, day_budget)?;
    Ok(key.with_rate(NonZeroU32::new(table.rate)).with_models(models))
}

/// What names no variable is perhaps the key, and not shown.
fn variable(at: &str, name: &str) -> Result<String, Failed> {
    std::env::var(name).map_err(|_| {
        Failed::config(format!(
            "{at} takes the NAME of an environment variable that holds the key, not the key, and no variable of the name \
             that was given is set"
        ))
    })
}

/// Lines that say something.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
}

fn key(name: String, secret: &str, day_budget: Option<&str>) -> Result<Key, Failed> {
    let wrong = |error| Failed::config(format!("the budget of the key {name:?} is in units a day: {error}"));
    let day_budget = day_budget.map(parse_amount).transpose().map_err(wrong)?;
    Ok(Key::new(name, secret)?.with_day_budget(day_budget))
}

fn read(at: &str, file: &Path) -> Result<String, Failed> {
    let wrong = |problem: String| Failed::config(format!("{at}: {}: {problem}", file.display()));
    let about = fs::metadata(file).map_err(|error| wrong(error.to_string()))?;
    if about.len() > MAX_KEYS {
        return Err(wrong(format!("it has more than {MAX_KEYS} bytes")));
    }
    fs::read_to_string(file).map_err(|error| wrong(error.to_string()))
}
