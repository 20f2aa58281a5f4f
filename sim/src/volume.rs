//! Many seeds: on every core, with what they covered summed up, and equal whatever the number of threads.

use std::{
    collections::BTreeMap,
    fmt,
    ops::Range,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::{Broken, Report, dice::mix, points::Points};

/// Which seeds to run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Seeds([Range<u64>; 2]);

/// Of the seeds that a commit asks for, one in so many is the same for every commit.
const FIXED: u64 = 4;
/// Where the seeds of commits begin: far from those that are run by hand.
const COMMITS: u64 = 1 << 32;

impl Seeds {
    /// `count` seeds from the first on; `None` if there are none, or fewer than that.
    #[must_use]
    pub fn from(first: u64, count: u64) -> Option<Self> {
        let end = first.checked_add(count).filter(|_| count > 0)?;
        Some(Self([first..end, 0..0]))
    }

    /// `count` seeds, of which a quarter are the first there are and the rest follow from the commit: the same commit
    /// gets the same verdict, and every other one looks elsewhere. `None` if there are none.
    #[must_use]
    pub fn of_commit(commit: &str, count: u64) -> Option<Self> {
        let fixed = count.div_ceil(FIXED);
        let hash = commit.bytes().fold(0, |hash, byte| mix(hash ^ u64::from(byte)));
        let first = COMMITS + (hash >> 20) * (1 << 12);
        let seeds = [0..fixed, first..first.checked_add(count - fixed)?];
        (count > 0).then_some(Self(seeds))
    }

    /// How many they are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.iter().map(|range| range.end - range.start).sum()
    }

    /// Each of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        self.0.iter().cloned().flatten()
    }

    /// The seed number so-and-so.
    fn nth(&self, mut nth: u64) -> Option<u64> {
        for range in &self.0 {
            let len = range.end - range.start;
            if nth < len {
                return Some(range.start + nth);
            }
            nth -= len;
        }
        None
    }
}

/// What many seeds came to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Summary {
    /// Seeds run.
    pub seeds: u64,
    /// Events of all of them.
    pub events: u64,
    /// Facts and commands handed to machines.
    pub inputs: u64,
    /// Jobs, quotes and discoveries asked for.
    pub jobs: u64,
    /// Of these, finished.
    pub finished: u64,
    /// Of these, lost with their node.
    pub orphaned: u64,
    /// Of these, failed: how many, by the failure's code.
    pub failed: BTreeMap<&'static str, u64>,
    /// Tokens delivered.
    pub tokens: u64,
    /// Streams ordered.
    pub dials: u64,
    /// Faults that happened, by name.
    pub faults: BTreeMap<&'static str, u64>,
    /// Jobs of healed worlds that need not have been served, by excuse.
    pub excuses: BTreeMap<&'static str, u64>,
    /// Points that were covered.
    pub points: Points,
    /// One hash of the traces of all seeds.
    pub trace: u128,
    /// Seeds that broke a rule, with the first that each broke, sorted.
    pub broken: Vec<(u64, Broken)>,
}

impl Summary {
    /// Adds what a seed came to. The order of seeds makes no difference, as long as [`Self::broken`] is sorted in the end.
    fn add(&mut self, seed: u64, report: Report) {
        self.seeds += 1;
        self.events += report.events;
        self.inputs += report.inputs;
        self.jobs += report.jobs as u64;
        self.finished += report.finished as u64;
        self.orphaned += report.orphaned as u64;
        self.tokens += report.tokens;
        self.dials += report.dials;
        for (why, count) in report.excuses {
            *self.excuses.entry(why).or_default() += count;
        }
        self.points.add(report.points);
        for (code, count) in report.failed {
            *self.failed.entry(code).or_default() += count as u64;
        }
        for (name, count) in report.faults {
            *self.faults.entry(name).or_default() += count;
        }
        let [high, low] = [(report.trace >> 64) as u64, report.trace as u64].map(|half| mix(half ^ mix(seed)));
        self.trace = self.trace.wrapping_add((u128::from(high) << 64) | u128::from(low));
        if let Some(first) = report.broken.into_iter().next() {
            self.broken.push((seed, first));
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seeds, events, inputs, jobs, finished, orphaned, tokens, dials, .. } = self;
        writeln!(f, "{seeds} seeds: {events} events, {inputs} inputs of machines, {dials} dials")?;
        writeln!(f, "  {jobs} jobs: {finished} finished with {tokens} tokens, {orphaned} lost with their node")?;
        list(f, "failed", &self.failed)?;
        list(f, "faults", &self.faults)?;
        list(f, "excused", &self.excuses)?;
        writeln!(f, "  trace {:032x}", self.trace)?;
        let (covered, missed) = (self.points.covered().len(), self.points.missed().len());
        writeln!(f, "  {covered} points covered, {missed} of those that are expected missed")?;
        write!(f, "  {} seeds broke a rule", self.broken.len())
    }
}

fn list(f: &mut fmt::Formatter<'_>, what: &str, counts: &BTreeMap<&str, u64>) -> fmt::Result {
    let counts: Vec<String> = counts.iter().map(|(name, count)| format!("{name} {count}")).collect();
    writeln!(f, "  {what}: {}", counts.join(", "))
}

/// Runs seeds on so many threads, one seed on one thread. `progress` hears of every thousandth: how many are done, how
/// many of them broke a rule.
pub fn run(
    seeds: &Seeds,
    threads: usize,
    run: impl Fn(u64) -> Report + Sync,
    progress: impl Fn(u64, u64) + Sync,
) -> Summary {
    let (next, done) = (AtomicU64::new(0), AtomicU64::new(0));
    let total = Mutex::new(Summary::default());
    let work = || {
        while let Some(seed) = seeds.nth(next.fetch_add(1, Ordering::Relaxed)) {
            let report = run(seed);
            let mut total = lock(&total);
            total.add(seed, report);
            let done = done.fetch_add(1, Ordering::Relaxed) + 1;
            if done.is_multiple_of(1000) {
                progress(done, total.broken.len() as u64);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(work);
        }
    });
    let mut total = total.into_inner().unwrap_or_else(PoisonError::into_inner);
    total.broken.sort_unstable_by_key(|(seed, _)| *seed);
    total
}

/// A thread that panicked has its panic told by the scope; the sums of the others are whole.
fn lock(total: &Mutex<Summary>) -> MutexGuard<'_, Summary> {
    total.lock().unwrap_or_else(PoisonError::into_inner)
}

/// As many threads as there are cores.
#[must_use]
pub fn all_cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(seeds: &Seeds) -> Vec<u64> {
        let all: Vec<u64> = (0..seeds.count()).map(|nth| seeds.nth(nth).unwrap()).collect();
        assert_eq!(all, seeds.iter().collect::<Vec<u64>>());
        all
    }

    #[test]
    fn a_commit_has_its_own_seeds_and_a_fixed_part() {
        let (a, again, b) = (Seeds::of_commit("a1", 100), Seeds::of_commit("a1", 100), Seeds::of_commit("a2", 100));
        assert_eq!(a, again);
        let (a, b) = (all(&a.unwrap()), all(&b.unwrap()));
        assert_eq!((a.len(), &a[..25]), (100, &b[..25]));
        assert_eq!(a[..25], (0..25).collect::<Vec<u64>>());
        assert!(a[25..].iter().all(|seed| !b.contains(seed)));
        assert_eq!(all(&Seeds::from(7, 3).unwrap()), [7, 8, 9]);
    }

    #[test]
    fn nothing_to_run_is_no_run() {
        assert_eq!(Seeds::from(5, 0), None);
        assert_eq!(Seeds::from(u64::MAX, 2), None);
        assert_eq!(Seeds::of_commit("a1", 0), None);
    }

    #[test]
    fn the_number_of_threads_changes_nothing() {
        let seeds = Seeds::from(0, 40).unwrap();
        let alone = run(&seeds, 1, crate::swarm::run, |_, _| ());
        assert_eq!((alone.seeds, run(&seeds, 3, crate::swarm::run, |_, _| ())), (40, alone));
    }
}
