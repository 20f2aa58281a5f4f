//! What happens, as it happens, for those who watch: `GET /v1/haggle/live`.
//!
//! Two kinds of events, each the whole of what it tells, sent when it has changed: `{"market": [...]}`, the models as `/v1/models`
//! has them, and `{"mine": {...}}`, what this key bought lately and what is left of its budgets.

use std::{sync::Arc, time::Duration};

use futures::{Stream, StreamExt, stream};
use futures_timer::Delay;
use hyper::{Response, body::Bytes};
use serde_json::{Value, json};

use crate::{
    body::{Body, event},
    catalog,
    errors::Refused,
    shop::{Permit, Shop},
    stream::of_events,
    units::units,
};

/// Jobs that are told of.
const JOBS: usize = 50;
/// It is looked so often whether anything has changed of what is bought.
const MINE_EVERY: Duration = Duration::from_millis(250);
/// And so often, of what is sold. The catalog keeps what it found for longer.
const MARKET_EVERY: Duration = Duration::from_secs(5);
/// Looks without a change after which a comment says that the connection lives.
const QUIET: u32 = 40;

/// Tells until the client leaves or the gateway is stopped.
pub(crate) fn watch(shop: Arc<Shop>, owner: Option<usize>) -> Result<Response<Body>, Refused> {
    let seat = shop.seat()?;
    let stopping = shop.stopping.clone();
    Ok(of_events(stream::select(mine(shop.clone(), owner, seat), market(shop)).take_until(stopping)))
}

fn mine(shop: Arc<Shop>, owner: Option<usize>, seat: Permit) -> impl Stream<Item = Bytes> {
    stream::unfold((shop, seat, None), move |(shop, seat, told)| async move {
        for _ in 0..QUIET {
            let now = json!({"mine": {
                "jobs": shop.jobs.latest(owner, JOBS), "budgets": shop.purse.left(owner),
                "budget": shop.config.budget.map(units),
            }});
            if let Some(out) = changed(&now, told.as_ref()) {
                return Some((out, (shop, seat, Some(now))));
            }
            Delay::new(MINE_EVERY).await;
        }
        Some((Bytes::from_static(b": haggle nothing new\n\n"), (shop, seat, told)))
    })
}

fn market(shop: Arc<Shop>) -> impl Stream<Item = Bytes> {
    stream::unfold((shop, None), |(shop, told)| async move {
        loop {
            if told.is_some() {
                Delay::new(MARKET_EVERY).await;
            }
            // The node has stopped, and so will the gateway.
            let sold = shop.catalog.look(&shop.node).await.ok()?;
            let now = json!({"market": catalog::list(&sold)["data"]});
            if let Some(out) = changed(&now, told.as_ref()) {
                return Some((out, (shop, Some(now))));
            }
        }
    })
}

fn changed(now: &Value, told: Option<&Value>) -> Option<Bytes> {
    let mut out = String::new();
    (told != Some(now)).then(|| event(now, &mut out))?;
    Some(out.into())
}
