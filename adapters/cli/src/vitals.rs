//! How a node that runs is doing: for its operator, who asks with `haggle status`, and for programs that watch over it.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use haggle::{Model, Node, NodeEvent};
use serde_json::{Value, json};

use crate::{
    entrance::{Entrance, dialled},
    tally::{Span, Tally},
};

/// What is known of a node. Clones are the same.
#[derive(Clone)]
pub(crate) struct Vitals(Arc<Known>);

struct Known {
    node: Node,
    entrance: Entrance,
    started: Instant,
    is_draining: AtomicBool,
    /// What is sold; of a node that sells nothing, none.
    models: Mutex<Vec<Value>>,
    /// Models that cannot be computed now, and why.
    out: Mutex<BTreeMap<Model, String>>,
    /// Since the start.
    all: Mutex<Tally>,
}

impl Vitals {
    pub(crate) fn new(node: Node, entrance: Entrance) -> Self {
        Vitals(Arc::new(Known {
            node,
            entrance,
            started: Instant::now(),
            is_draining: AtomicBool::new(false),
            models: Mutex::default(),
            out: Mutex::default(),
            all: Mutex::default(),
        }))
    }

    pub(crate) fn peer(&self) -> String {
        self.0.node.peer_id().to_string()
    }

    /// What is sold from now on.
    pub(crate) fn sells(&self, models: Vec<Value>) {
        *lock(&self.0.models) = models;
    }

    /// No further job is taken.
    pub(crate) fn drains(&self) {
        self.0.is_draining.store(true, Ordering::Relaxed);
    }

    /// Takes in what happened.
    pub(crate) fn heard(&self, event: &NodeEvent) {
        lock(&self.0.all).count(event);
        if let NodeEvent::Outage { model, detail } = event {
            let mut out = lock(&self.0.out);
            match detail {
                Some(detail) => drop(out.insert(model.clone(), detail.clone())),
                None => drop(out.remove(model)),
            }
        }
    }

    /// Since the start.
    pub(crate) fn all(&self) -> Tally {
        lock(&self.0.all).clone()
    }

    /// Why nobody should be sent here now; nothing if somebody may.
    pub(crate) fn troubles(&self) -> Vec<String> {
        let known = &self.0;
        let (sold, out) = (lock(&known.models).clone(), lock(&known.out).clone());
        let is_out = |one: &Value| out.keys().any(|model| one["model"] == *model.to_text());
        let standing = known.entrance.standing(&known.node.connected_peers());
        let mut troubles = Vec::new();
        if known.is_draining.load(Ordering::Relaxed) {
            troubles.push("draining".to_owned());
        }
        if !sold.is_empty() && sold.iter().all(is_out) {
            troubles.extend(out.iter().map(|(model, why)| format!("{} is out: {why}", model.to_text())));
        }
        if !standing.has_entered() {
            troubles.push("no bootstrap node is connected".to_owned());
        }
        troubles
    }

    /// For Prometheus: the node's own figures, and whether it is ready.
    pub(crate) fn metrics(&self) -> String {
        let mut text = self.0.node.metrics();
        let (ready, draining) = (self.troubles().is_empty(), self.0.is_draining.load(Ordering::Relaxed));
        for (name, help, value) in [
            ("haggle_ready", "Whether somebody may be sent here.", u64::from(ready)),
            ("haggle_draining", "Whether no further job is taken.", u64::from(draining)),
            ("haggle_models_out", "Models that cannot be computed now.", lock(&self.0.out).len() as u64),
            ("haggle_uptime_seconds", "Seconds since the start.", self.0.started.elapsed().as_secs()),
        ] {
            let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}\n");
        }
        text
    }

    /// Everything, for `haggle status`.
    pub(crate) fn to_json(&self) -> Value {
        let known = &self.0;
        let (load, info, reach) = (known.node.load(), known.node.node_info(), known.node.reachability());
        let standing = known.entrance.standing(&info.connected_peers);
        let uptime = known.started.elapsed();
        let millis = u64::try_from(uptime.as_millis()).unwrap_or(u64::MAX);
        let (all, troubles) = (self.all(), self.troubles());
        let mut totals = all.to_json(Span { millis, tokens: load.tokens }, all.owed(), load.jobs);
        if let Some(totals) = totals.as_object_mut() {
            ["event", "running", "owed_in_all"].iter().for_each(|key| drop(totals.remove(*key)));
        }
        let out: BTreeMap<String, String> =
            lock(&known.out).iter().map(|(model, why)| (model.to_text(), why.clone())).collect();
        json!({
            "peer": info.peer_id.to_string(), "pid": std::process::id(), "network": info.network,
            "addresses": info.listen_addresses.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "uptime_seconds": uptime.as_secs(), "ready": troubles.is_empty(), "troubles": troubles,
            "peers": standing.peers, "bootstrap": standing.to_json(), "models": *lock(&known.models), "out": out,
            "jobs": load.jobs, "totals": totals,
            "reached_from": reach.dialled_from.map(dialled),
            "observed": reach.observed.iter().map(ToString::to_string).collect::<Vec<_>>(),
        })
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}
