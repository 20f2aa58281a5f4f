//! Counters of a node, in Prometheus' text format. Labels are names from fixed lists: their number is bounded.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// A counter's name and its one label's value.
type Key = (&'static str, &'static str);

/// What is counted, with its help text and the name of its label.
const COUNTERS: [(&str, &str, &str); 9] = [
    ("haggle_events_total", "Events by name.", "event"),
    ("haggle_jobs_submitted_total", "Jobs, quotes and discoveries taken.", "kind"),
    ("haggle_jobs_ended_total", "Jobs, quotes and discoveries that ended, by outcome.", "outcome"),
    ("haggle_tokens_received_total", "Tokens bought.", ""),
    ("haggle_served_total", "Attempts served, by how they ended.", "outcome"),
    ("haggle_tokens_served_total", "Tokens written for others.", ""),
    ("haggle_streams_failed_total", "Streams that could not be opened, by reason.", "reason"),
    ("haggle_streams_refused_total", "Inbound streams closed at once, by reason.", "reason"),
    ("haggle_queries_total", "Searches for providers, by outcome.", "outcome"),
];

/// A node's counters and gauges.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    counters: Mutex<BTreeMap<Key, u64>>,
}

/// Momentary values, read when the text is made.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Gauges {
    pub(crate) peers: usize,
    pub(crate) jobs: usize,
    pub(crate) streams_in: usize,
    pub(crate) serving: usize,
}

impl Metrics {
    pub(crate) fn count(&self, name: &'static str, label: &'static str, n: u64) {
        debug_assert!(COUNTERS.iter().any(|(known, ..)| *known == name), "{name} is not in the list");
        let mut counters = self.lock();
        let counter = counters.entry((name, label)).or_default();
        *counter = counter.saturating_add(n);
    }

    pub(crate) fn value(&self, name: &'static str, label: &'static str) -> u64 {
        self.lock().get(&(name, label)).copied().unwrap_or(0)
    }

    /// The text; of a simulated node, each line says so.
    pub(crate) fn text(&self, gauges: Gauges, is_simulated: bool) -> String {
        let counters = self.lock().clone();
        let mut out = String::new();
        for (name, help, label) in COUNTERS {
            let mut values = counters.iter().filter(|((of, _), _)| *of == name).peekable();
            let _ = write!(out, "# HELP {name} {help}\n# TYPE {name} counter\n");
            if values.peek().is_none() && label.is_empty() {
                let _ = writeln!(out, "{name}{} 0", labels("", "", is_simulated));
            }
            for ((_, value), n) in values {
                let _ = writeln!(out, "{name}{} {n}", labels(label, value, is_simulated));
            }
        }
        for (name, help, value) in [
            ("haggle_peers_connected", "Peers that are connected.", gauges.peers),
            ("haggle_jobs_open", "Jobs of this node that have not ended.", gauges.jobs),
            ("haggle_jobs_serving", "Jobs of others that are not over.", gauges.serving),
            ("haggle_streams_inbound", "Inbound streams that live.", gauges.streams_in),
        ] {
            let _ = write!(
                out,
                "# HELP {name} {help}\n# TYPE {name} gauge\n{name}{} {value}\n",
                labels("", "", is_simulated)
            );
        }
        out
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, u64>> {
        self.counters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The labels of a line.
fn labels(label: &str, value: &str, is_simulated: bool) -> String {
    let own = (!label.is_empty()).then(|| format!("{label}=\"{value}\""));
    let simulated = is_simulated.then(|| "simulated=\"true\"".to_owned());
    let all: Vec<_> = own.into_iter().chain(simulated).collect();
    if all.is_empty() { String::new() } else { format!("{{{}}}", all.join(",")) }
}
