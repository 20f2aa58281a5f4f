//! What an answer would cost.

use haggle::{Offer, Prompt, QuoteSpec, core::spec::Haggle};
use serde_json::{Value, json};

use crate::{
    args::{Global, Quote, Waits},
    buyer::{self, Buyer, Past},
    exit::{Exit, Failed},
    money::decimal,
    narrator::offer_json,
    screen::{Transient, print_json},
    spans::span,
    table::Table,
};

/// The length of a prompt that is not known: a few sentences.
const SOME_BYTES: u64 = 256;

pub(crate) async fn run(global: &Global, args: &Quote) -> Result<Exit, Failed> {
    let body_bytes = match (&args.prompt, args.prompt_bytes) {
        (Some(prompt), _) => Prompt::Raw(prompt.clone()).encode().len() as u64,
        (None, bytes) => bytes.unwrap_or(SOME_BYTES),
    };
    let wanted = &args.wanted;
    let criteria = buyer::criteria(wanted)?;
    let mut buyer = Buyer::start(global, &args.node, &wanted.provider, &Waits::default(), Past::default()).await?;
    let spec = QuoteSpec {
        criteria,
        body_bytes,
        max_tokens: args.max_tokens,
        deadline: wanted.deadline,
        haggle: args.haggle.map_or(Haggle::Offers, Haggle::Bid),
    };
    let asking = buyer.node.quote(spec);
    let offers = match Transient::during(&format!("asking for the price of {}", wanted.model), asking).await {
        Ok(offers) => Ok(offers),
        Err(error) => Err(buyer.explain(error, wanted, None).await),
    };
    let mut offers = buyer.end(offers).await?;
    if args.limit > 0 {
        offers.truncate(args.limit as usize);
    }
    if global.json {
        let all: Vec<Value> = offers.iter().map(offer_json).collect();
        let (model, tokens) = (&args.wanted.model, args.max_tokens);
        print_json(&json!({"model": model, "body_bytes": body_bytes, "max_tokens": tokens, "offers": all}))?;
    } else {
        let mut table = Table::new(["provider", "at most", "prompt", "per million", "first token"], 0);
        for Offer { peer, cost, tariff, eta, .. } in &offers {
            table.add([
                peer.to_string(),
                decimal(*cost),
                decimal(tariff.fee_in),
                decimal(tariff.price_out),
                span(*eta),
            ]);
        }
        table.note(format!("{}; in units; when the first token comes is what they say", wanted.model));
        table.print()?;
    }
    Ok(Exit::Done)
}
