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
    /// When tokens came first.
    first: Option<Instant>,
    /// When tokens came last.
    last: Option<Instant>,
    /// Tokens that came, from all providers.
    tokens: u64,
    /// Of these, those that came after the first ones: what the time since then is divided by.
    paced: u64,
    failovers: u64,
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
            first: None,
            last: None,
            tokens: 0,
            paced: 0,
            failovers: 0,
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
        self.failovers += 1;
        self.continuity = match how {
            TakeOver::Exact => self.continuity,
            TakeOver::Spliced => "spliced",
            TakeOver::Restarted => "restarted",
        };
    }

    pub(crate) fn tokens_came(&mut self, n: u32) {
        let now = Instant::now();
        self.tokens += u64::from(n);
        if let Some(last) = self.last.replace(now) {
            self.paced += u64::from(n);
            return self.metrics.token_gap(now - last);
        }
        self.first = Some(now);
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

    /// Without its route and the lines of its bill.
    fn brief(&self) -> Value {
        json!({
            "id": self.id.to_string(), "object": "haggle.job", "created": self.created, "model": self.model.to_text(),
            "state": self.state, "continuity": self.continuity, "failovers": self.failovers,
            "provider": self.provider.map(|(peer, _)| peer.to_string()),
            "fee_in": self.provider.map(|(_, tariff)| units(tariff.fee_in)),
            "price_out": self.provider.map(|(_, tariff)| units(tariff.price_out)),
            "first_token_ms": self.first_token_ms, "prompt_tokens": self.prompt_tokens,
            "tokens": self.bill.as_ref().map_or(self.tokens, |bill| bill.tokens),
            "tokens_per_second": self.tokens_per_second(), "owed": self.bill.as_ref().map(|bill| units(bill.owed)),
        })
    }

    fn json(&self) -> Value {
        let mut job = self.brief();
        job["bill"] = self.bill.as_ref().map(bill::json).into();
        job["route"] = self.steps.clone().into();
        job
    }

    /// In tenths; `None` where too little came to tell.
    fn tokens_per_second(&self) -> Option<f64> {
        let millis = (self.last? - self.first?).as_millis();
        let tenths = u128::from(self.paced) * 10_000 / (millis > 0).then_some(millis)?;
        u32::try_from(tenths).ok().map(|tenths| f64::from(tenths) / 10.0)
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
        self.all()
            .iter()
            .rev()
            .map(|record| lock(record))
            .find(|one| one.owner == owner && one.id.to_string() == id)
            .map(|one| one.json())
    }

    /// An owner's last jobs, the latest first, in brief.
    pub(crate) fn latest(&self, owner: Option<usize>, most: usize) -> Vec<Value> {
        let all = self.all();
        let of_owner = all.iter().rev().map(lock).filter(|one| one.owner == owner);
        of_owner.take(most).map(|one| one.brief()).collect()
    }

    /// A copy: a record is locked while none of the others have to wait for it.
    fn all(&self) -> VecDeque<Shared> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

pub(crate) fn lock(record: &Shared) -> MutexGuard<'_, Record> {
    record.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
