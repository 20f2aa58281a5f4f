//! One purchase: a job from its submission to its bill, as an answer needs it.

use std::{collections::VecDeque, sync::Arc};

use futures::{FutureExt, StreamExt, select_biased};
use haggle::{
    Error, Job, JobError, JobEvent, Model, Receipt,
    core::{
        event::TakeOver,
        money::{self, Amount, Tariff},
        time::Millis,
        wire::message::{Channel, ModelAdvert},
    },
};
use hyper::{HeaderMap, header::HeaderValue};

use crate::{
    calls::{Calls, Malformed, ToolCall},
    catalog,
    errors::Refused,
    failure,
    jobs::{self, Record},
    order::Order,
    purse::Reservation,
    shop::{Permit, Shop},
    units::units,
};

const MALFORMED: &str = "the provider's call of a tool is malformed";

/// What comes of a job.
#[derive(Debug)]
pub(crate) enum Step {
    /// Something happened on the way, for those who look.
    Note(String),
    /// More of the answer.
    Text(String),
    /// What the model thinks. It is owed like text.
    Thought(String),
    /// Why the model does not answer, in its own words.
    Refusal(String),
    /// A call of a tool.
    Call(ToolCall),
    /// It is complete.
    Ended(Receipt),
}

/// A job that runs for a client. Dropping it cancels the job, whose bill is still waited for.
pub(crate) struct Purchase {
    shop: Arc<Shop>,
    job: Option<Job>,
    pub(crate) model: Model,
    pub(crate) record: jobs::Shared,
    /// What came and was not taken yet.
    steps: VecDeque<Step>,
    /// Of a job that may begin anew: nothing is told before it is complete.
    held: Option<Vec<Step>>,
    calls: Calls,
    /// Something of the answer was taken, and cannot be taken back.
    is_given: bool,
    /// Why it was cancelled here.
    fault: Option<&'static str>,
    /// Of today's budget.
    reserved: Option<Reservation>,
    permit: Option<Permit>,
    is_stopping: bool,
}

/// Buys an answer, up to its first token or why there is none: of the first model that can be had.
pub(crate) async fn begin(shop: Arc<Shop>, order: Order, owner: Option<usize>) -> Result<Purchase, Refused> {
    let mut permit = Some(shop.permit()?);
    let mut last = None;
    for model in &order.models {
        let begun = attempt(&shop, &order, model, owner).await;
        match begun {
            Ok(mut purchase) => {
                purchase.permit = permit.take();
                return Ok(purchase);
            }
            Err(refused) if failure::is_of_the_model(&refused) => {
                let refused = match refused.code {
                    "model_not_found" if shop.catalog.was_sold(model) => failure::gone(model),
                    _ => refused,
                };
                let refused = nobody_offers(&shop, &order, model, refused).await;
                last.get_or_insert(refused);
            }
            Err(refused) => return Err(refused),
        }
    }
    Err(last.unwrap_or_else(failure::stopping))
}

async fn attempt(shop: &Arc<Shop>, order: &Order, model: &Model, owner: Option<usize>) -> Result<Purchase, Refused> {
    let max_tokens = match order.max_tokens {
        Some(max_tokens) => max_tokens,
        None => room(shop, order, model).await,
    };
    let budget = order.terms.budget.or(shop.config.budget);
    let reserved = match shop.purse.bounds(owner) {
        true => Some(set_aside(shop, order, model, max_tokens, budget, owner).await?),
        false => None,
    };
    let budget = reserved.as_ref().map(|reserved| reserved.amount).or(budget);
    let job = match shop.node.submit(order.job(model, max_tokens, budget)).await {
        Ok(job) => job,
        Err(error) => {
            // Nothing was begun.
            reserved.into_iter().for_each(|reserved| reserved.settle(0));
            return Err(failure::refused(&error, model));
        }
    };
    let record = shop.jobs.add(Record::new(job.id(), model.clone(), owner, shop.metrics.clone()));
    let held = order.is_held_back().then(Vec::new);
    let mut purchase = Purchase {
        shop: shop.clone(),
        job: Some(job),
        model: model.clone(),
        record,
        steps: VecDeque::new(),
        held,
        calls: Calls::default(),
        is_given: false,
        fault: None,
        reserved,
        permit: None,
        is_stopping: false,
    };
    while purchase.steps.iter().all(|step| matches!(step, Step::Note(_))) {
        purchase.come().await?;
    }
    Ok(purchase)
}

/// What a request needs and nobody who sells the model offers is refused by its name.
async fn nobody_offers(shop: &Shop, order: &Order, model: &Model, refused: Refused) -> Refused {
    if order.features.is_empty() || !matches!(refused.code, "no_provider" | "model_not_found") {
        return refused;
    }
    let sold = shop.catalog.look(&shop.node).await.unwrap_or_default();
    let lacks = |feature| catalog::offers(&sold, model).is_some_and(|offered| !offered.contain(feature));
    match order.features.iter().find(|(_, feature)| lacks(*feature)) {
        None => refused,
        Some((param, feature)) => {
            let named = feature.names().collect::<Vec<_>>().join(", ");
            Refused::unsupported_parameter(param.clone(), &format!("nobody who sells this model offers {named}"))
        }
    }
}

/// A search takes no longer; mostly everybody is known.
const A_LOOK: Millis = Millis(5_000);

/// Those who sell what is ordered, as they describe it.
async fn sellers(shop: &Shop, order: &Order, model: &Model) -> Vec<ModelAdvert> {
    let found = shop.node.discover(order.criteria(model), Some(A_LOOK)).await;
    let adverts = found.map(|found| found.providers).unwrap_or_default();
    adverts.iter().filter_map(|(_, advert)| catalog::entry(advert, model).cloned()).collect()
}

/// Tokens for a client who names no number: as many as the gateway is set to, if the model's context has room for them.
async fn room(shop: &Shop, order: &Order, model: &Model) -> u64 {
    /// Bytes of a prompt that are a token at least.
    const BYTES_PER_TOKEN: u64 = 4;
    let context = sellers(shop, order, model).await.iter().map(|entry| u64::from(entry.context)).max();
    let prompt = order.prompt.encode().len() as u64 / BYTES_PER_TOKEN;
    let room = context.map_or(u64::MAX, |context| context.saturating_sub(1).saturating_sub(prompt).max(1));
    shop.config.max_tokens.min(room)
}

/// Sets aside what the cheapest answer can cost: twice, if there is so much, so that a provider that is lost can be replaced.
async fn set_aside(
    shop: &Shop,
    order: &Order,
    model: &Model,
    max_tokens: u64,
    budget: Option<Amount>,
    owner: Option<usize>,
) -> Result<Reservation, Refused> {
    let bytes = order.prompt.encode().len() as u64;
    let sellers = sellers(shop, order, model).await;
    let costs = sellers.iter().filter_map(|entry| {
        let fee_in = money::fee_in(entry.price_in, entry.bytes_per_token, bytes)?;
        Amount::try_from(Tariff { fee_in, price_out: entry.price_out }.cost(max_tokens)).ok()
    });
    // Who may spend less than that is refused by the node, and without a seller there is nothing to be spent.
    let most = budget.unwrap_or(Amount::MAX);
    let needed = costs.min().unwrap_or(0).min(most);
    shop.purse.reserve(owner, needed, needed.saturating_mul(2).min(most)).await
}

impl Purchase {
    /// What comes next; nothing follows an ending. Dropping the future loses nothing.
    pub(crate) async fn next(&mut self) -> Result<Step, Refused> {
        loop {
            if let Some(step) = self.steps.pop_front() {
                self.is_given |= !matches!(step, Step::Note(_));
                return Ok(step);
            }
            self.come().await?;
        }
    }

    /// Headers that say how it was bought.
    pub(crate) fn add_headers(&self, headers: &mut HeaderMap) {
        let record = jobs::lock(&self.record);
        let mut put = |name: &'static str, value: String| {
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.insert(name, value);
            }
        };
        put("x-haggle-job", record.id.to_string());
        if let Some((peer, tariff)) = record.provider {
            put("x-haggle-provider", peer.to_string());
            put("x-haggle-fee-in", units(tariff.fee_in).to_string());
            put("x-haggle-price-out", units(tariff.price_out).to_string());
            if let Some(price) = self.shop.catalog.price_in(&peer, &self.model) {
                put("x-haggle-price-in", units(price).to_string());
            }
        }
    }

    /// Waits for more steps.
    async fn come(&mut self) -> Result<(), Refused> {
        loop {
            let Some(job) = &mut self.job else { return Err(failure::stopping()) };
            let item = if self.is_stopping {
                job.next().await
            } else {
                let mut stopping = self.shop.stopping.clone();
                select_biased! {
                    item = job.next().fuse() => item,
                    _ = stopping => {
                        // How it ends is still told.
                        job.cancel();
                        self.is_stopping = true;
                        continue;
                    }
                }
            };
            match item {
                Some(Ok(event)) => {
                    self.take(event)?;
                    if !self.steps.is_empty() {
                        return Ok(());
                    }
                }
                Some(Err(error)) => return Err(self.failed(&error)),
                None => {
                    self.job = None;
                    return Err(failure::refused(&Error::Stopped, &self.model));
                }
            }
        }
    }

    fn settle(&mut self, owed: u128) {
        if let Some(reserved) = self.reserved.take() {
            reserved.settle(owed);
        }
    }

    fn failed(&mut self, error: &JobError) -> Refused {
        self.job = None;
        jobs::lock(&self.record).ended(error.code(), &error.bill);
        self.settle(error.bill.owed);
        match self.fault {
            Some(fault) => failure::interrupted(fault, "given_up", &error.bill),
            None => failure::of_job(&error.failure, &error.bill, &self.model),
        }
    }

    fn take(&mut self, event: JobEvent) -> Result<(), Refused> {
        match event {
            // Cancelled here: how it ends is all that counts.
            JobEvent::Tokens { .. } if self.fault.is_some() => {}
            JobEvent::Tokens { text, channel, n, .. } => {
                jobs::lock(&self.record).tokens_came(n);
                if self.said(channel, text).is_err() {
                    self.give_up(MALFORMED);
                }
            }
            JobEvent::Finished(receipt) => {
                self.job = None;
                jobs::lock(&self.record).finished(&receipt);
                self.settle(receipt.bill.owed);
                match self.calls.close() {
                    Ok(call) => call.into_iter().for_each(|call| self.say(Step::Call(call))),
                    Err(Malformed) => self.fault = Some(MALFORMED),
                }
                if let Some(fault) = self.fault {
                    return Err(failure::interrupted(fault, "given_up", &receipt.bill));
                }
                self.steps.extend(self.held.take().unwrap_or_default());
                self.steps.push_back(Step::Ended(receipt));
            }
            event => {
                let Some(note) = self.note(event) else { return Ok(()) };
                jobs::lock(&self.record).step(&note);
                self.steps.push_back(Step::Note(note));
            }
        }
        Ok(())
    }

    fn said(&mut self, channel: Option<Channel>, text: String) -> Result<(), Malformed> {
        if channel == Some(Channel::ToolCall) {
            for call in self.calls.push(&text)? {
                self.say(Step::Call(call));
            }
            return Ok(());
        }
        if let Some(call) = self.calls.close()? {
            self.say(Step::Call(call));
        }
        match channel {
            _ if text.is_empty() => {}
            Some(Channel::Thought) => self.say(Step::Thought(text)),
            Some(Channel::Refusal) => self.say(Step::Refusal(text)),
            _ => self.say(Step::Text(text)),
        }
        Ok(())
    }

    fn say(&mut self, step: Step) {
        match &mut self.held {
            None => self.steps.push_back(step),
            Some(held) => held.push(step),
        }
    }

    /// The answer cannot be completed. What it comes to by then is still told.
    fn give_up(&mut self, fault: &'static str) {
        self.fault = Some(fault);
        if let Some(job) = &mut self.job {
            job.cancel();
        }
    }

    /// Another provider begins anew. What the client saw of the answer cannot be taken back.
    fn restarted(&mut self) {
        if self.is_given {
            return self.give_up(
                "the provider was lost after a part of the answer was delivered, and nobody can go on from there",
            );
        }
        self.calls = Calls::default();
        self.steps.retain(|step| matches!(step, Step::Note(_)));
        if let Some(held) = &mut self.held {
            held.clear();
        }
    }

    /// One line for what happened on the way.
    fn note(&mut self, event: JobEvent) -> Option<String> {
        Some(match event {
            JobEvent::Awarded { attempt, offer, reason } => {
                jobs::lock(&self.record).provider = Some((offer.peer, offer.tariff));
                self.shop.catalog.was_bought(&self.model);
                let (fee, price) = (units(offer.tariff.fee_in), units(offer.tariff.price_out));
                format!("awarded {} attempt {attempt} fee_in {fee} price_out {price} because {reason:?}", offer.peer)
            }
            JobEvent::Offered(offer) => format!("offered {} at most {}", offer.peer, units(offer.cost)),
            JobEvent::PassedOver { peer, why } => format!("passed-over {peer}: {why}"),
            JobEvent::Working { peer, phase, .. } => format!("{peer} {phase}"),
            JobEvent::Cut { peer, .. } => format!("cut {peer}"),
            JobEvent::Resumed { peer, seq, .. } => format!("resumed {peer} at token {seq}"),
            JobEvent::TakenOver { peer, seq, how, .. } => {
                jobs::lock(&self.record).taken_over(how);
                if how == TakeOver::Restarted {
                    self.restarted();
                }
                format!("taken-over {peer} at token {seq} {}", format!("{how:?}").to_lowercase())
            }
            JobEvent::Weighed(weighing) => format!("weighed {}", serde_json::to_string(&weighing).ok()?),
            _ => return None,
        })
    }
}

impl Drop for Purchase {
    /// A client that left: the job is cancelled, and what it came to by then is still put down.
    fn drop(&mut self) {
        let Some(mut job) = self.job.take() else { return };
        job.cancel();
        let (record, permit, mut reserved) = (self.record.clone(), self.permit.take(), self.reserved.take());
        (self.shop.spawn)(Box::pin(async move {
            let mut settle = |owed| reserved.take().into_iter().for_each(|reserved: Reservation| reserved.settle(owed));
            while let Some(item) = job.next().await {
                match item {
                    Ok(JobEvent::Finished(receipt)) => {
                        jobs::lock(&record).finished(&receipt);
                        settle(receipt.bill.owed);
                    }
                    Ok(_) => {}
                    Err(error) => {
                        jobs::lock(&record).ended(error.code(), &error.bill);
                        settle(error.bill.owed);
                    }
                }
            }
            drop(permit);
        }));
    }
}
