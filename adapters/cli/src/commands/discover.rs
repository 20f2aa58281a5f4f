//! Who serves a model.

use std::io;

use haggle::{
    Criteria, Found, Model,
    core::{
        machine::QueryOutcome,
        wire::message::{Advert, ModelAdvert},
    },
    libp2p::PeerId,
};
use serde_json::{Value, json};

use crate::{
    args::{Discover, Global, Waits},
    buyer::{self, Buyer, Past},
    exit::{Exit, Failed},
    money::decimal,
    screen::{Transient, print_json},
    table::Table,
};

pub(crate) async fn run(global: &Global, args: &Discover) -> Result<Exit, Failed> {
    let wanted = &args.wanted;
    let criteria = Criteria { limit: args.limit, ..buyer::criteria(wanted)? };
    let mut buyer = Buyer::start(global, &args.node, &wanted.provider, &Waits::default(), Past::default()).await?;
    let model = criteria.model.clone();
    let search = buyer.node.discover(criteria, wanted.deadline);
    let found = match Transient::during(&format!("looking for {}", wanted.model), search).await {
        Ok(found) => Ok(found),
        Err(error) => Err(buyer.explain(error, wanted, None).await),
    };
    let found = buyer.end(found).await?;
    match global.json {
        true => print_json(&to_json(&found, &model))?,
        false => print(&found, &model)?,
    }
    Ok(Exit::Done)
}

fn entry<'a>(models: &'a [ModelAdvert], model: &Model) -> Option<&'a ModelAdvert> {
    models.iter().find(|entry| entry.model == *model || entry.aliases.contains(model))
}

fn print(found: &Found, model: &Model) -> io::Result<()> {
    let mut table = Table::new(["provider", "in", "out", "context", "free"], 0);
    for (peer, advert) in &found.providers {
        let Some(entry) = entry(&advert.models, model) else { continue };
        let free = format!("{} of {}", advert.free, advert.slots);
        let (price_in, price_out) = (decimal(entry.price_in), decimal(entry.price_out));
        table.add([peer.to_string(), price_in, price_out, entry.context.to_string(), free]);
    }
    let more = match found.outcome {
        QueryOutcome::TimedOut => "; not every source answered in time: there may be more",
        _ => "",
    };
    table.note(format!("{}; prices in units per million tokens, read and written{more}", model.to_text()));
    table.print()
}

/// A model of a provider for programs. Money is in decimal units, prices are per 1,000,000 tokens.
pub(super) fn entry_json(peer: &PeerId, advert: &Advert, entry: &ModelAdvert) -> Value {
    let names: Vec<String> = entry.aliases.iter().map(Model::to_text).collect();
    json!({
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
        // `null`: no whole requests are taken.
        "features": entry.features.map(|features| features.names().collect::<Vec<_>>()),
        "slots": advert.slots,
        "free": advert.free,
        "queued": advert.queued,
    })
}

fn to_json(found: &Found, model: &Model) -> Value {
    let provider = |(peer, advert): &(PeerId, Advert)| Some(entry_json(peer, advert, entry(&advert.models, model)?));
    json!({
        "model": model.to_text(),
        "outcome": if found.outcome == QueryOutcome::TimedOut { "timed_out" } else { "complete" },
        "providers": found.providers.iter().filter_map(provider).collect::<Vec<_>>(),
    })
}
