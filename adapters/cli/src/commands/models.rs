//! Who sells which model.

use haggle::{Model, core::wire::message::Advert, libp2p::PeerId};
use serde_json::{Value, json};

use super::discover::entry_json;
use crate::{
    advice::Seen,
    args::{Global, Models, Waits},
    buyer::{self, Buyer, Past},
    exit::{Exit, Failed},
    money::decimal,
    screen::{Transient, print_json},
    table::Table,
};

pub(crate) async fn run(global: &Global, args: &Models) -> Result<Exit, Failed> {
    let mut buyer = Buyer::start(global, &args.node, &args.provider, &Waits::default(), Past::default()).await?;
    let only = buyer::named(&args.provider);
    let look = buyer.look_around(only, args.deadline);
    Transient::during("looking for what is sold", look).await?;
    let network = buyer.network().to_owned();
    buyer.node.stop().await;
    let trouble = buyer.trouble();
    let sold = sold(buyer.seen());
    if global.json {
        let all: Vec<Value> =
            sold.iter().map(|(peer, advert, at)| entry_json(peer, advert, &advert.models[*at])).collect();
        print_json(&json!({"network": network, "models": all}))?;
    }
    if sold.is_empty() {
        let advice = trouble.unwrap_or_else(|| "check --bootstrap, or ask another with --network".into());
        let text = format!("nobody was found who sells a model in the network {network:?}: {advice}");
        return Err(Failed::new(Exit::NobodyFound, "nobody_found", text));
    }
    if !global.json {
        print(&sold)?;
    }
    Ok(Exit::Done)
}

/// Who, and which of the models in the advert.
type Sold<'a> = (&'a PeerId, &'a Advert, usize);

/// By model, the cheapest first.
fn sold(seen: &Seen) -> Vec<Sold<'_>> {
    let at = |advert: &Advert, model: &Model| advert.models.iter().position(|entry| entry.model == *model);
    let mut sold: Vec<Sold<'_>> =
        seen.all().filter_map(|(peer, advert, entry)| Some((peer, advert, at(advert, &entry.model)?))).collect();
    sold.sort_by(|(a_peer, a, a_at), (b_peer, b, b_at)| {
        let (a, b) = (&a.models[*a_at], &b.models[*b_at]);
        (&a.model, a.price_out, a.price_in, a_peer).cmp(&(&b.model, b.price_out, b.price_in, b_peer))
    });
    sold
}

fn print(sold: &[Sold<'_>]) -> std::io::Result<()> {
    let mut table = Table::new(["model", "in", "out", "context", "free", "provider"], 5);
    for (peer, advert, at) in sold {
        let entry = &advert.models[*at];
        let names: Vec<String> = [&entry.model].into_iter().chain(&entry.aliases).map(Model::to_text).collect();
        table.add([
            names.join(", "),
            decimal(entry.price_in),
            decimal(entry.price_out),
            entry.context.to_string(),
            format!("{} of {}", advert.free, advert.slots),
            peer.to_string(),
        ]);
    }
    table.note("prices in units per million tokens, read and written");
    table.print()
}
