//! Who serves a model.

use std::io::{self, Write};

use haggle::{
    Criteria, Found, Model,
    core::{machine::QueryOutcome, wire::message::ModelAdvert},
};
use serde_json::{Value, json};

use crate::{
    args::{Discover, Global},
    exit::{Exit, Failed},
    money::decimal,
    node,
    screen::{Screen, in_line, print_json},
};

pub(crate) async fn run(global: &Global, args: &Discover) -> Result<Exit, Failed> {
    let (node, criteria) = node::buyer(global, &args.node, &args.wanted, None, node::Past::default()).await?;
    let criteria = Criteria { limit: args.limit, ..criteria };
    let events = node.events();
    let model = criteria.model.clone();
    match node.discover(criteria, args.wanted.deadline).await {
        Ok(found) => {
            node.stop().await;
            if global.json {
                print_json(&to_json(&found, &model))?
            } else {
                print(&found, &model)?
            }
            Ok(Exit::Done)
        }
        Err(error) => Err(node::explain_nobody(&node, events, &args.wanted, error.into()).await),
    }
}

fn entry<'a>(models: &'a [ModelAdvert], model: &Model) -> Option<&'a ModelAdvert> {
    models.iter().find(|entry| entry.model == *model || entry.aliases.contains(model))
}

fn print(found: &Found, model: &Model) -> io::Result<()> {
    let mut out = Screen::Out;
    writeln!(out, "{:<52}  {:>10}  {:>10}  {:>8}  {:>9}", "provider", "price in", "price out", "context", "free")?;
    for (peer, advert) in &found.providers {
        let Some(entry) = entry(&advert.models, model) else { continue };
        let (price_in, price_out) = (decimal(entry.price_in), decimal(entry.price_out));
        let free = format!("{} of {}", advert.free, advert.slots);
        writeln!(out, "{peer:<52}  {price_in:>10}  {price_out:>10}  {:>8}  {free:>9}", entry.context)?;
    }
    let name = in_line(&model.to_text());
    match found.outcome {
        QueryOutcome::TimedOut => writeln!(out, "{name}; not every source answered in time: there may be more"),
        _ => writeln!(out, "{name}; prices in units per million tokens"),
    }
}

fn to_json(found: &Found, model: &Model) -> Value {
    let provider = |(peer, advert): &(haggle::libp2p::PeerId, haggle::core::wire::message::Advert)| {
        let entry = entry(&advert.models, model)?;
        let names: Vec<String> = entry.aliases.iter().map(Model::to_text).collect();
        Some(json!({
            "peer": peer.to_string(),
            "model": entry.model.to_text(),
            "aliases": names,
            "price_in": decimal(entry.price_in),
            "price_out": decimal(entry.price_out),
            "bytes_per_token": entry.bytes_per_token,
            "context": entry.context,
            "eta_ms": entry.eta.0,
            "can_continue": entry.can_continue,
            "exactness": entry.exactness.kind,
            "slots": advert.slots,
            "free": advert.free,
            "queued": advert.queued,
        }))
    };
    json!({
        "model": model.to_text(),
        "outcome": if found.outcome == QueryOutcome::TimedOut { "timed_out" } else { "complete" },
        "providers": found.providers.iter().filter_map(provider).collect::<Vec<_>>(),
    })
}
