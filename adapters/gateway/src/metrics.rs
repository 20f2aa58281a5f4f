//! What is counted, in Prometheus' text format.

use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use haggle::{
    Model,
    core::event::{Bill, TakeOver},
};

/// Models that are counted apart; further ones are counted together.
const MAX_MODELS: usize = 64;
/// Upper ends of the histograms' buckets, in milliseconds.
const ENDS: [u64; 12] = [5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 15_000, 60_000];

#[derive(Debug, Default)]
pub(crate) struct Metrics(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    /// By model and by how they ended.
    jobs: BTreeMap<(String, &'static str), u64>,
    tokens: u64,
    owed: u128,
    first_token: Histogram,
    token_gap: Histogram,
    taken_over: BTreeMap<&'static str, u64>,
    retries: u64,
}

#[derive(Debug, Default)]
struct Histogram {
    buckets: [u64; ENDS.len()],
    count: u64,
    millis: u64,
}

impl Metrics {
    pub(crate) fn ended(&self, model: &Model, ending: &'static str, bill: &Bill) {
        let mut counts = self.lock();
        let name = model.to_text();
        let is_counted = counts.jobs.keys().any(|(known, _)| *known == name);
        let models = counts.jobs.keys().map(|(known, _)| known).collect::<std::collections::BTreeSet<_>>().len();
        let name = if is_counted || models < MAX_MODELS { name.to_string() } else { "other models".to_owned() };
        *counts.jobs.entry((name, ending)).or_default() += 1;
        counts.tokens += bill.tokens;
        counts.owed += bill.owed;
    }

    pub(crate) fn first_token(&self, after: Duration) {
        self.lock().first_token.add(after);
    }

    pub(crate) fn token_gap(&self, gap: Duration) {
        self.lock().token_gap.add(gap);
    }

    pub(crate) fn taken_over(&self, how: TakeOver) {
        let how = match how {
            TakeOver::Exact => "exact",
            TakeOver::Spliced => "spliced",
            TakeOver::Restarted => "restarted",
        };
        *self.lock().taken_over.entry(how).or_default() += 1;
    }

    /// A client said that it asks again.
    pub(crate) fn retried(&self) {
        self.lock().retries += 1;
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn text(&self, connections: usize, running: usize) -> String {
        let counts = self.lock();
        let mut out = String::new();
        head(&mut out, "jobs_total", "counter", "Jobs that ended, by model and by how.");
        for ((model, ending), n) in &counts.jobs {
            line(&mut out, "jobs_total", &format!("{{model=\"{}\",ending=\"{ending}\"}}", escaped(model)), n);
        }
        head(&mut out, "failovers_total", "counter", "Answers that another provider went on with, by how.");
        for (how, n) in &counts.taken_over {
            line(&mut out, "failovers_total", &format!("{{how=\"{how}\"}}"), n);
        }
        for (name, kind, help, n) in [
            ("tokens_total", "counter", "Tokens that were delivered.", u128::from(counts.tokens)),
            ("owed_micro_units_total", "counter", "What is owed for them.", counts.owed),
            ("retries_seen_total", "counter", "Requests whose client said that it asks again.", counts.retries.into()),
            ("connections", "gauge", "Connections that are open.", connections as u128),
            ("jobs_running", "gauge", "Jobs that run.", running as u128),
        ] {
            head(&mut out, name, kind, help);
            line(&mut out, name, "", n);
        }
        counts.first_token.write(&mut out, "first_token_seconds", "From the order to the first token.");
        counts.token_gap.write(&mut out, "token_gap_seconds", "Between two pieces of an answer.");
        out
    }
}

impl Histogram {
    fn add(&mut self, span: Duration) {
        let millis = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        self.buckets.iter_mut().zip(ENDS).filter(|(_, end)| millis <= *end).for_each(|(bucket, _)| *bucket += 1);
        self.count += 1;
        self.millis = self.millis.saturating_add(millis);
    }

    fn write(&self, out: &mut String, name: &str, help: &str) {
        head(out, name, "histogram", help);
        for (bucket, end) in self.buckets.iter().zip(ENDS) {
            line(out, &format!("{name}_bucket"), &format!("{{le=\"{}\"}}", seconds(end)), bucket);
        }
        line(out, &format!("{name}_bucket"), "{le=\"+Inf\"}", self.count);
        line(out, &format!("{name}_sum"), "", seconds(self.millis));
        line(out, &format!("{name}_count"), "", self.count);
    }
}

fn seconds(millis: u64) -> String {
    format!("{}.{:03}", millis / 1_000, millis % 1_000)
}

/// A name of a stranger, between quotation marks.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    out.push_str(&format!("# HELP haggle_gateway_{name} {help}\n# TYPE haggle_gateway_{name} {kind}\n"));
}

fn line(out: &mut String, name: &str, labels: &str, value: impl std::fmt::Display) {
    // Writing into a text does not fail.
    let _ = writeln!(out, "haggle_gateway_{name}{labels} {value}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_names_are_bounded_in_number_and_break_out_of_no_label() {
        let metrics = Metrics::default();
        for n in 0..200 {
            let model = Model::new(format!("m{n}\"}} 1\n").as_bytes()).expect("a name");
            metrics.ended(&model, "finished", &Bill::default());
        }
        let text = metrics.text(1, 2);
        assert_eq!(text.matches("haggle_gateway_jobs_total{").count(), MAX_MODELS + 1);
        assert!(text.lines().all(|line| line.starts_with("# ") || line.starts_with("haggle_gateway_")), "{text}");
        assert!(text.contains("{model=\"other models\",ending=\"finished\"} 136\n"), "{text}");
    }

    #[test]
    fn a_histogram_counts_up() {
        let metrics = Metrics::default();
        [4, 5, 6, 70_000].into_iter().for_each(|millis| metrics.first_token(Duration::from_millis(millis)));
        let text = metrics.text(0, 0);
        for line in
            ["bucket{le=\"0.005\"} 2", "bucket{le=\"60.000\"} 3", "bucket{le=\"+Inf\"} 4", "sum 70.015", "count 4"]
        {
            assert!(text.contains(&format!("haggle_gateway_first_token_seconds_{line}\n")), "{line}: {text}");
        }
    }
}
