//! What became of the jobs that were bought lately, for `GET /v1/haggle/jobs/{id}`.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use haggle::{
    JobId, Model, Receipt,
    core::{
        event::{Bill, TakeOver},
        money::Tariff,
    },
    libp2p::PeerId,
};
use serde_json::{Value, json};

use crate::{bill, metrics::Metrics, units::units};

/// Jobs that are remembered.
const REMEMBERED: usize = 1_000;
/// Steps of one job that are remembered.
const STEPS: usize = 200;

/// A job as it is known here.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) id: JobId,
    pub(crate) model: Model,
    /// Seconds since 1970.
    pub(crate) created: u64,
    began: Instant,
    /// When tokens came last.
    last: Option<Instant>,
    metrics: Arc<Metrics>,
    /// Whose it is; `None` where nobody needs a key.
    owner: Option<usize>,
    /// Who answers, at what price.
    pub(crate) provider: Option<(PeerId, Tariff)>,
    steps: Vec<String>,
    first_token_ms: Option<u64>,
    pub(crate) continuity: &'static str,
    state: &'static str,
    prompt_tokens: Option<u64>,
    bill: Option<Bill>,
}

/// A record that its job writes and others read.
pub(crate) type Shared = Arc<Mutex<Record>>;

impl Record {
    pub(crate) fn new(id: JobId, model: Model, owner: Option<usize>, metrics: Arc<Metrics>) -> Self {
        Record {
            id,
            model,
            created: now(),
            began: Instant::now(),
            last: None,
            metrics,
            owner,
            provider: None,
            steps: Vec::new(),
            first_token_ms: None,
            continuity: "exact",
            state: "running",
            prompt_tokens: None,
            bill: None,
        }
    }

    pub(crate) fn step(&mut self, step: &str) {
        if self.steps.len() < STEPS {
            self.steps.push(step.to_owned());
        }
    }

    pub(crate) fn taken_over(&mut self, how: TakeOver) {
        self.metrics.taken_over(how);
        self.continuity = match how {
            TakeOver::Exact => self.continuity,
            TakeOver::Spliced => "spliced",
            TakeOver::Restarted => "restarted",
        };
    }

    pub(crate) fn tokens_came(&mut self) {
        let now = Instant::now();
        if let Some(last) = self.last.replace(now) {
            return self.metrics.token_gap(now - last);
        }
        let after = now - self.began;
        self.metrics.first_token(after);
        self.first_token_ms = Some(u64::try_from(after.as_millis()).unwrap_or(u64::MAX));
    }

    pub(crate) fn finished(&mut self, receipt: &Receipt) {
        self.prompt_tokens = Some(receipt.prompt_tokens);
        self.ended("finished", &receipt.bill);
    }

    pub(crate) fn ended(&mut self, state: &'static str, bill: &Bill) {
        self.state = state;
        self.metrics.ended(&self.model, state, bill);
        self.bill = Some(bill.clone());
    }

    /// What an answer says of how it was bought.
    pub(crate) fn of_answer(&self) -> Value {
        json!({"job": self.id.to_string(), "continuity": self.continuity, "bill": self.bill.as_ref().map(bill::json)})
    }

    fn json(&self) -> Value {
        json!({
            "id": self.id.to_string(), "object": "haggle.job", "created": self.created, "model": self.model.to_text(),
            "state": self.state, "continuity": self.continuity,
            "provider": self.provider.map(|(peer, _)| peer.to_string()),
            "fee_in": self.provider.map(|(_, tariff)| units(tariff.fee_in)),
            "price_out": self.provider.map(|(_, tariff)| units(tariff.price_out)),
            "first_token_ms": self.first_token_ms, "prompt_tokens": self.prompt_tokens,
            "bill": self.bill.as_ref().map(bill::json), "route": self.steps,
        })
    }
}

/// The jobs of the gateway, the latest first to be remembered.
#[derive(Debug, Default)]
pub(crate) struct Jobs(Mutex<VecDeque<Shared>>);

impl Jobs {
    pub(crate) fn add(&self, record: Record) -> Shared {
        let record = Arc::new(Mutex::new(record));
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() == REMEMBERED {
            all.pop_front();
        }
        all.push_back(record.clone());
        record
    }

    /// A job by its id, or by the id of the answer that it became; of other owners, none.
    pub(crate) fn find(&self, id: &str, owner: Option<usize>) -> Option<Value> {
        let id = id.rsplit_once(['-', '_']).map_or(id, |(_, id)| id);
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        all.iter()
            .rev()
            .map(|record| lock(record))
            .find(|one| one.owner == owner && one.id.to_string() == id)
            .map(|one| one.json())
    }
}

pub(crate) fn lock(record: &Shared) -> MutexGuard<'_, Record> {
    record.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
