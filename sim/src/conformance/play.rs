//! Plays scenarios and compares what applications were told.

use std::collections::BTreeSet;

use haggle_core::{
    PeerId,
    event::Bill,
    money::{Price, Tariff},
};

use super::{Adapter, Answered, Mismatch, Said, Scenario, Simulated, Step, TIMING, scenarios};

/// What the applications of a scenario were told.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Transcript {
    /// Who was found in each discovery, by number, and at what price.
    pub found: Vec<Vec<(Option<usize>, Price)>>,
    /// The jobs, in the order of submission.
    pub jobs: Vec<Told>,
}

/// What the application of one job was told.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Told {
    /// Kinds of events, by name.
    pub kinds: BTreeSet<&'static str>,
    /// The turns that the job took, in order.
    pub turns: Vec<&'static str>,
    /// The text.
    pub text: String,
    /// Its tokens.
    pub tokens: u64,
    /// How it ended.
    pub ending: Option<String>,
    /// The bill's lines.
    pub lines: Vec<Line>,
    /// What is owed in all.
    pub owed: u128,
}

/// A line of a bill, with the seller's number.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Line {
    /// Which attempt.
    pub attempt: u32,
    /// At whom.
    pub seller: Option<usize>,
    /// At what price.
    pub tariff: Tariff,
    /// Tokens read again.
    pub reread: u64,
    /// Tokens accepted.
    pub tokens: u64,
    /// Bytes of their text.
    pub text_bytes: u64,
    /// Owed for it.
    pub owed: u128,
}

/// Kinds of events that follow from one another, whatever the times.
const TURNS: [&str; 5] = ["job:awarded", "job:negotiated", "job:cut", "job:resumed", "job:taken-over"];

/// Plays every scenario that the adapter has the means for and compares with the simulator. Returns their names.
///
/// # Errors
/// The first scenario that ends otherwise than in the simulator, or leaves something behind.
pub fn check(adapter: &mut dyn Adapter) -> Result<Vec<&'static str>, Mismatch> {
    for_each(adapter, |adapter, scenario| {
        let expected = play(&mut Simulated::default(), scenario)?;
        let actual = play(adapter, scenario)?;
        compare(&expected, &actual)?;
        nothing_left(adapter)
    })
}

/// Plays every scenario that the adapter has the means for up to each of its steps, and closes the market there: every job
/// ends, and nothing is left. Returns how many times the market was closed.
///
/// # Errors
/// The first scenario after which a job does not end, or something is left.
pub fn check_stops(adapter: &mut dyn Adapter) -> Result<usize, Mismatch> {
    let mut stops = 0;
    for_each(adapter, |adapter, scenario| {
        for steps in 0..scenario.steps.len() {
            stop_after(adapter, scenario, steps).map_err(|error| format!("stopped after {steps} steps: {error}"))?;
            stops += 1;
        }
        Ok(())
    })?;
    Ok(stops)
}

fn for_each(
    adapter: &mut dyn Adapter,
    mut check: impl FnMut(&mut dyn Adapter, &Scenario) -> Answered<()>,
) -> Result<Vec<&'static str>, Mismatch> {
    let mut played = Vec::new();
    for scenario in scenarios() {
        if scenario.needs().any(|need| adapter.lacks().contains(&need)) {
            continue;
        }
        let name = scenario.name;
        check(adapter, &scenario).map_err(|error| Mismatch { scenario: name, what: error.to_string() })?;
        played.push(name);
    }
    Ok(played)
}

/// Plays a scenario to its end.
///
/// # Errors
/// Whatever the adapter could not do.
pub fn play(adapter: &mut dyn Adapter, scenario: &Scenario) -> Answered<Transcript> {
    let mut transcript = Transcript::default();
    adapter.open(scenario)?;
    for (at, step) in scenario.steps.iter().enumerate() {
        transcript
            .step(adapter, scenario, step)
            .map_err(|error| format!("step {at}, {}: {error}; so far: {transcript:?}", name(step)))?;
    }
    adapter.close()?;
    Ok(transcript)
}

fn stop_after(adapter: &mut dyn Adapter, scenario: &Scenario, steps: usize) -> Answered<()> {
    let mut transcript = Transcript::default();
    adapter.open(scenario)?;
    for step in &scenario.steps[..steps] {
        transcript.step(adapter, scenario, step)?;
    }
    adapter.close()?;
    for job in 0..transcript.jobs.len() {
        transcript
            .read(adapter, scenario, job, u64::MAX)
            .map_err(|error| format!("job {job} has no ending: {error}"))?;
    }
    nothing_left(adapter)
}

fn nothing_left(adapter: &mut dyn Adapter) -> Answered<()> {
    let left = adapter.left();
    if left.is_empty() { Ok(()) } else { Err(format!("left over: {}", left.join(", ")).into()) }
}

const fn name(step: &Step) -> &'static str {
    match step {
        Step::Discover => "discover",
        Step::Submit(_) => "submit",
        Step::Read(..) => "read",
        Step::Finish(_) => "finish",
        Step::Do(_) => "do",
    }
}

fn compare(expected: &Transcript, actual: &Transcript) -> Answered<()> {
    if expected.found != actual.found {
        return Err(format!("found {:?}, the simulator finds {:?}", actual.found, expected.found).into());
    }
    for (nth, (expected, actual)) in expected.jobs.iter().zip(&actual.jobs).enumerate() {
        let differs = |what: &str, actual: &dyn std::fmt::Debug, expected: &dyn std::fmt::Debug| {
            Err(format!("job {nth}, {what}: {actual:?}, in the simulator {expected:?}").into())
        };
        if actual.ending != expected.ending {
            return differs("ending", &actual.ending, &expected.ending);
        }
        if actual.turns != expected.turns {
            return differs("turns", &actual.turns, &expected.turns);
        }
        if (actual.tokens, &actual.text) != (expected.tokens, &expected.text) {
            return differs("text", &(actual.tokens, &actual.text), &(expected.tokens, &expected.text));
        }
        if actual.kinds != expected.kinds {
            return differs("kinds of events", &actual.kinds, &expected.kinds);
        }
        if (&actual.lines, actual.owed) != (&expected.lines, expected.owed) {
            return differs("bill", &(&actual.lines, actual.owed), &(&expected.lines, expected.owed));
        }
    }
    Ok(())
}

impl Transcript {
    fn step(&mut self, adapter: &mut dyn Adapter, scenario: &Scenario, step: &Step) -> Answered<()> {
        match step {
            Step::Discover => {
                let found = adapter.discover()?;
                let number = |peer| number(adapter, scenario, peer);
                self.found.push(found.into_iter().map(|(peer, price)| (number(peer), price)).collect());
                Ok(())
            }
            Step::Submit(spec) => {
                self.jobs.push(Told::default());
                adapter.submit((**spec).clone())
            }
            Step::Read(job, tokens) => self.read(adapter, scenario, *job, *tokens),
            Step::Finish(job) => self.read(adapter, scenario, *job, u64::MAX),
            Step::Do(deed) => adapter.act(*deed),
        }
    }

    /// Reads a job until so many tokens of it are there, or it ended.
    fn read(&mut self, adapter: &mut dyn Adapter, scenario: &Scenario, job: usize, tokens: u64) -> Answered<()> {
        let told = &mut self.jobs[job];
        while told.tokens < tokens && told.ending.is_none() {
            match adapter.next(job)? {
                Said::Event(kind) => {
                    if TURNS.contains(&kind) {
                        told.turns.push(kind);
                    }
                    if !TIMING.contains(&kind) {
                        told.kinds.insert(kind);
                    }
                }
                Said::Tokens { n, text } => {
                    told.tokens += n;
                    told.text += &text;
                }
                Said::Ended(ending) => {
                    told.ending = Some(format!("{:?} {:?}", ending.outcome, ending.no_retry));
                    told.owed = ending.bill.owed;
                    told.lines = lines(&ending.bill, |peer| number(adapter, scenario, peer));
                }
            }
        }
        Ok(())
    }
}

fn lines(bill: &Bill, number: impl Fn(PeerId) -> Option<usize>) -> Vec<Line> {
    let line = |line: &haggle_core::event::BillLine| Line {
        attempt: line.attempt,
        seller: number(line.peer),
        tariff: line.tariff,
        reread: line.reread,
        tokens: line.tokens,
        text_bytes: line.text_bytes,
        owed: line.owed,
    };
    bill.lines.iter().map(line).collect()
}

fn number(adapter: &dyn Adapter, scenario: &Scenario, peer: PeerId) -> Option<usize> {
    (0..scenario.sellers.len()).find(|seller| adapter.peer(*seller) == peer)
}
