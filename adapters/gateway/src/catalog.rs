//! What is sold, as the last search saw it.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures::{FutureExt, StreamExt, select_biased};
use futures_timer::Delay;
use haggle::{
    Criteria, Error, Model, Node, NodeEvent,
    core::{
        money::Price,
        time::Millis,
        wire::{
            ANY_MODEL,
            message::{Advert, ExactnessKind, Features, ModelAdvert},
        },
    },
    libp2p::PeerId,
};
use serde_json::{Value, json};

use crate::units::units;

/// What was seen is believed for so long.
const FRESH: Duration = Duration::from_secs(30);
/// Who sold something may come back, and is spoken of as known, for so long.
const REMEMBERED: Duration = Duration::from_secs(60 * 60);
/// Models that were bought, the last ones.
const MAX_BOUGHT: usize = 256;
/// The core's clock counts milliseconds.
const NEXT_TICK: Duration = Duration::from_millis(2);
/// A search takes no longer.
const A_LOOK: Millis = Millis(5_000);

type Sold = Arc<Vec<(PeerId, Advert)>>;

#[derive(Default)]
pub(crate) struct Catalog {
    seen: Mutex<Option<(Instant, Sold)>>,
    /// One search at a time: whoever comes meanwhile has its result.
    looking: futures::lock::Mutex<()>,
    /// Models by when they were bought last.
    bought: Mutex<VecDeque<(Instant, Model)>>,
}

impl Catalog {
    /// What is sold, by whom.
    pub(crate) async fn look(&self, node: &Node) -> Result<Sold, Error> {
        if let Some(sold) = self.fresh() {
            return Ok(sold);
        }
        let _one = self.looking.lock().await;
        if let Some(sold) = self.fresh() {
            return Ok(sold);
        }
        let Some(any) = Model::new(ANY_MODEL.as_bytes()) else { return Ok(Sold::default()) };
        let criteria = Criteria { refresh: true, ..Criteria::new(any) };
        let mut sold = search(node, criteria.clone()).await?;
        if sold.is_empty() {
            // Whoever described themselves in this very millisecond are not asked again.
            Delay::new(NEXT_TICK).await;
            sold = search(node, criteria).await?;
        }
        // That nobody was found is not believed for long.
        if !sold.is_empty() {
            *self.lock() = Some((Instant::now(), sold.clone()));
        }
        Ok(sold)
    }

    /// A provider's posted price of reading, if it was seen.
    pub(crate) fn price_in(&self, peer: &PeerId, model: &Model) -> Option<Price> {
        let (_, sold) = self.lock().clone()?;
        let (_, advert) = sold.iter().find(|(seller, _)| seller == peer)?;
        advert.models.iter().find(|entry| is(entry, model)).map(|entry| entry.price_in)
    }

    /// A provider of it was found.
    pub(crate) fn was_bought(&self, model: &Model) {
        let mut bought = self.bought.lock().unwrap_or_else(PoisonError::into_inner);
        bought.retain(|(_, known)| known != model);
        bought.truncate(MAX_BOUGHT - 1);
        bought.push_front((Instant::now(), model.clone()));
    }

    /// Whether somebody sold it a while ago.
    pub(crate) fn was_sold(&self, model: &Model) -> bool {
        let bought = self.bought.lock().unwrap_or_else(PoisonError::into_inner);
        let is_recent = |at: &Instant| at.elapsed() < REMEMBERED;
        bought.iter().any(|(at, known)| known == model && is_recent(at))
            || self.lock().as_ref().is_some_and(|(at, sold)| is_recent(at) && offers(sold, model).is_some())
    }

    fn fresh(&self) -> Option<Sold> {
        self.lock().as_ref().filter(|(at, _)| at.elapsed() < FRESH).map(|(_, sold)| sold.clone())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<(Instant, Sold)>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Nobody sells a model of that name: whom the search looked at is told beside it.
async fn search(node: &Node, criteria: Criteria) -> Result<Sold, Error> {
    let mut events = node.events().fuse();
    let mut seen = BTreeMap::new();
    let mut add = |event| {
        if let NodeEvent::Discovered { peer, advert } = event {
            seen.insert(peer, advert);
        }
    };
    let mut search = pin!(node.discover(criteria, Some(A_LOOK)).fuse());
    let ended = loop {
        select_biased! {
            ended = search => break ended,
            event = events.select_next_some() => add(event),
        }
    };
    while let Some(Some(event)) = events.next().now_or_never() {
        add(event);
    }
    match ended {
        Ok(_) | Err(Error::Job(_)) => Ok(Arc::new(seen.into_iter().collect())),
        Err(error) => Err(error),
    }
}

fn is(entry: &ModelAdvert, model: &Model) -> bool {
    entry.model == *model || entry.aliases.contains(model)
}

/// What a provider says of a model.
pub(crate) fn entry<'a>(advert: &'a Advert, model: &Model) -> Option<&'a ModelAdvert> {
    advert.models.iter().find(|entry| is(entry, model))
}

/// What those who sell a model offer beyond text, all of them together; `None` if nobody sells it.
pub(crate) fn offers(sold: &[(PeerId, Advert)], model: &Model) -> Option<Features> {
    let entries = sold.iter().flat_map(|(_, advert)| &advert.models).filter(|entry| is(entry, model));
    entries.map(|entry| entry.features.unwrap_or_default()).reduce(Features::with)
}

/// Every model that is sold, once, by name.
pub(crate) fn list(sold: &[(PeerId, Advert)]) -> Value {
    let names: BTreeSet<&Model> =
        sold.iter().flat_map(|(_, advert)| &advert.models).map(|entry| &entry.model).collect();
    let data: Vec<Value> = names.into_iter().filter_map(|model| describe(sold, model)).collect();
    json!({"object": "list", "data": data})
}

/// A model, by a name or an alias that somebody sells it under.
pub(crate) fn describe(sold: &[(PeerId, Advert)], model: &Model) -> Option<Value> {
    let mut sellers: BTreeMap<&PeerId, (&Advert, &ModelAdvert)> = BTreeMap::new();
    for (peer, advert) in sold {
        if let Some(entry) = advert.models.iter().find(|entry| is(entry, model)) {
            sellers.insert(peer, (advert, entry));
        }
    }
    let entries: Vec<&ModelAdvert> = sellers.values().map(|(_, entry)| *entry).collect();
    let cheapest = entries.iter().min_by_key(|entry| (entry.price_out, entry.price_in))?;
    let context = entries.iter().map(|entry| entry.context).max();
    let each: Vec<Value> = sellers
        .iter()
        .map(|(peer, (advert, entry))| {
            json!({
                "id": peer.to_string(), "price_in": units(entry.price_in), "price_out": units(entry.price_out),
                "context": entry.context, "slots": advert.slots, "free": advert.free, "queued": advert.queued,
                "first_token_ms": entry.eta.0,
                "features": names(entry.features.unwrap_or_default()), "exactness": exactness(entry),
            })
        })
        .collect();
    let offered = offers(sold, model).unwrap_or_default();
    let exact = entries.iter().map(|entry| exactness(entry)).max();
    Some(json!({
        "id": model.to_text(), "object": "model", "created": 0, "owned_by": "haggle", "context_length": context,
        // OpenRouter's unit is one token, and its numbers are text.
        "pricing": {"prompt": per_token(cheapest.price_in), "completion": per_token(cheapest.price_out)},
        "haggle": {
            "providers": each, "context": context, "features": names(offered), "exactness": exact,
            "price_in": spread(entries.iter().map(|entry| entry.price_in)),
            "price_out": spread(entries.iter().map(|entry| entry.price_out)),
        },
    }))
}

fn names(features: Features) -> Vec<&'static str> {
    features.names().collect()
}

fn exactness(entry: &ModelAdvert) -> &'static str {
    match entry.exactness.kind {
        ExactnessKind::None => "none",
        ExactnessKind::Greedy => "greedy",
        ExactnessKind::Seeded => "seeded",
    }
}

fn spread(prices: impl Iterator<Item = Price>) -> Value {
    let mut prices: Vec<Price> = prices.collect();
    prices.sort_unstable();
    let at = |at: usize| prices.get(at).map(|price| units(*price));
    json!({"min": at(0), "median": at(prices.len().saturating_sub(1) / 2)})
}

/// Units for one token.
fn per_token(price: Price) -> String {
    let digits = format!("{}.{:012}", price / 1_000_000_000_000, price % 1_000_000_000_000);
    digits.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_price_of_a_million_tokens_is_told_for_one() {
        assert_eq!((per_token(0), per_token(500_000)), ("0".into(), "0.0000005".into()));
        assert_eq!(per_token(1_000_000_000_000), "1");
    }
}
