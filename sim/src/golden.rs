//! Traces that are known: a change of behaviour shows as a change of a file.

use std::sync::Mutex;

use crate::{
    Report,
    dice::mix,
    swarm,
    volume::{self, Seeds},
};

/// Where the known traces are kept.
pub const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/golden.txt");
/// Where the table of profiles is kept.
pub const PROFILES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/profiles.md");
/// How many they are.
pub const COUNT: u64 = 32;

/// The seeds whose traces are known.
///
/// # Panics
/// Never: they are some.
#[must_use]
pub fn seeds() -> Seeds {
    match Seeds::from(0, COUNT) {
        Some(seeds) => seeds,
        None => unreachable!("32 seeds from 0 on"),
    }
}

/// The trace of each seed, sorted by seed.
#[must_use]
pub fn traces(seeds: &Seeds, threads: usize) -> Vec<(u64, u128)> {
    let traces = Mutex::new(Vec::new());
    let run = |seed| {
        let report: Report = swarm::run(seed);
        if let Ok(mut traces) = traces.lock() {
            traces.push((seed, report.trace));
        }
        report
    };
    volume::run(seeds, threads, run, |_, _| ());
    let mut traces = traces.into_inner().unwrap_or_default();
    traces.sort_unstable();
    traces
}

/// A line for each: seed and trace.
#[must_use]
pub fn lines(traces: &[(u64, u128)]) -> String {
    traces.iter().map(|(seed, trace)| format!("{seed} {trace:032x}\n")).collect()
}

/// The sign by which the change log names a set of known traces.
#[must_use]
pub fn mark(lines: &str) -> String {
    let hash = lines.bytes().fold(0, |hash, byte| mix(hash ^ u64::from(byte)));
    format!("golden traces {:08x}", hash >> 32)
}

/// The file of the table of profiles.
#[must_use]
pub fn profiles() -> String {
    let table = crate::figures::profiles::table();
    format!(
        "# What users see on seven kinds of network\n\n20 providers with 4 slots, 10 requesters, 400 jobs of 60 tokens at \
         20 ms a token within 200 virtual seconds, seed 1; `src/figures/profiles.rs` says what each network is.\nWritten \
         by `cargo run --release -p haggle-sim -- bless`; a test compares it to the letter.\n\n{table}"
    )
}
