//! One purchase: a job from its submission to its bill, as an answer needs it.

use std::{collections::VecDeque, sync::Arc};

use futures::{FutureExt, StreamExt, select_biased};
use haggle::{
    Criteria, Error, Job, JobError, JobEvent, Model, Receipt,
    core::{event::TakeOver, spec::Failover, time::Millis, wire::message::Channel},
};
use hyper::{HeaderMap, header::HeaderValue};

use crate::{
    errors::Refused,
    failure,
    jobs::{self, Record},
    order::Order,
    shop::{Permit, Shop},
    units::units,
};

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
    /// It is complete.
    Ended(Receipt),
}

/// A job that runs for a client. Dropping it cancels the job, whose bill is still waited for.
pub(crate) struct Purchase {
    shop: Arc<Shop>,
    job: Option<Job>,
    pub(crate) model: Model,
    pub(crate) record: jobs::Shared,
    /// What came before it was known that there is an answer.
    lead: VecDeque<Step>,
    /// Of a job that may begin anew: nothing is told before it is complete.
    held: Option<Vec<Step>>,
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
            Err(refused) if failure::is_of_the_model(&refused) => drop(last.get_or_insert(refused)),
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
    let submitted = shop.node.submit(order.job(model, max_tokens, budget)).await;
    let job = submitted.map_err(|error| failure::refused(&error, model))?;
    let record = shop.jobs.add(Record::new(job.id(), model.clone(), owner));
    let held = (order.terms.failover == Failover::Restart).then(Vec::new);
    let mut purchase = Purchase {
        shop: shop.clone(),
        job: Some(job),
        model: model.clone(),
        record,
        lead: VecDeque::new(),
        held,
        permit: None,
        is_stopping: false,
    };
    loop {
        let step = purchase.come().await?;
        let is_answer = !matches!(step, Step::Note(_));
        purchase.lead.push_back(step);
        if is_answer {
            return Ok(purchase);
        }
    }
}

/// Tokens for a client who names no number: as many as the gateway is set to, if the model's context has room for them.
async fn room(shop: &Shop, order: &Order, model: &Model) -> u64 {
    const A_LOOK: Millis = Millis(5_000);
    /// Bytes of a prompt that are a token at least.
    const BYTES_PER_TOKEN: u64 = 4;
    let criteria: Criteria = order.terms.criteria(model);
    let found = shop.node.discover(criteria, Some(A_LOOK)).await;
    let sellers = found.map(|found| found.providers).unwrap_or_default();
    let is = |entry: &&haggle::core::wire::message::ModelAdvert| entry.model == *model || entry.aliases.contains(model);
    let entries = sellers.iter().filter_map(|(_, advert)| advert.models.iter().find(is));
    let context = entries.map(|entry| u64::from(entry.context)).max();
    let prompt = order.prompt.encode().len() as u64 / BYTES_PER_TOKEN;
    let room = context.map_or(u64::MAX, |context| context.saturating_sub(1).saturating_sub(prompt).max(1));
    shop.config.max_tokens.min(room)
}

impl Purchase {
    /// What comes next; nothing follows an ending. Dropping the future loses nothing.
    pub(crate) async fn next(&mut self) -> Result<Step, Refused> {
        match self.lead.pop_front() {
            Some(step) => Ok(step),
            None => self.come().await,
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

    async fn come(&mut self) -> Result<Step, Refused> {
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
                    if let Some(step) = self.take(event) {
                        return Ok(step);
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

    fn failed(&mut self, error: &JobError) -> Refused {
        self.job = None;
        jobs::lock(&self.record).ended(error.code(), &error.bill);
        failure::of_job(&error.failure, &error.bill, &self.model)
    }

    fn take(&mut self, event: JobEvent) -> Option<Step> {
        if let JobEvent::Tokens { text, channel, .. } = event {
            jobs::lock(&self.record).tokens_came();
            return self.said(channel, text);
        }
        if let JobEvent::Finished(receipt) = event {
            self.job = None;
            jobs::lock(&self.record).finished(&receipt);
            self.lead.extend(self.held.take().unwrap_or_default());
            self.lead.push_back(Step::Ended(receipt));
            return self.lead.pop_front();
        }
        let note = self.note(event)?;
        jobs::lock(&self.record).step(&note);
        Some(Step::Note(note))
    }

    fn said(&mut self, channel: Option<Channel>, text: String) -> Option<Step> {
        let step = match channel {
            _ if text.is_empty() => return None,
            None => Step::Text(text),
            Some(Channel::Thought) => Step::Thought(text),
            Some(Channel::Refusal) => Step::Refusal(text),
            // No tools were given.
            Some(Channel::ToolCall) => return None,
        };
        match &mut self.held {
            None => Some(step),
            Some(held) => {
                held.push(step);
                None
            }
        }
    }

    /// One line for what happened on the way.
    fn note(&mut self, event: JobEvent) -> Option<String> {
        Some(match event {
            JobEvent::Awarded { attempt, offer, reason } => {
                jobs::lock(&self.record).provider = Some((offer.peer, offer.tariff));
                let (fee, price) = (units(offer.tariff.fee_in), units(offer.tariff.price_out));
                format!("awarded {} attempt {attempt} fee_in {fee} price_out {price} because {reason:?}", offer.peer)
            }
            JobEvent::Offered(offer) => format!("offered {} at most {}", offer.peer, units(offer.cost)),
            JobEvent::PassedOver { peer, why } => format!("passed-over {peer}: {why}"),
            JobEvent::Cut { peer, .. } => format!("cut {peer}"),
            JobEvent::Resumed { peer, seq, .. } => format!("resumed {peer} at token {seq}"),
            JobEvent::TakenOver { peer, seq, how, .. } => {
                jobs::lock(&self.record).taken_over(how);
                if let (TakeOver::Restarted, Some(held)) = (how, &mut self.held) {
                    held.clear();
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
        let (record, permit) = (self.record.clone(), self.permit.take());
        (self.shop.spawn)(Box::pin(async move {
            while let Some(item) = job.next().await {
                match item {
                    Ok(JobEvent::Finished(receipt)) => jobs::lock(&record).finished(&receipt),
                    Ok(_) => {}
                    Err(error) => jobs::lock(&record).ended(error.code(), &error.bill),
                }
            }
            drop(permit);
        }));
    }
}
