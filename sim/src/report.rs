//! What a run came to.

use std::{collections::BTreeMap, fmt};

use crate::{oracle::Broken, points::Points};

/// What a run came to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Report {
    /// The virtual time, in ms.
    pub now: u64,
    /// Events so far.
    pub events: u64,
    /// Facts and commands handed to machines so far.
    pub inputs: u64,
    /// Jobs, quotes and discoveries asked for.
    pub jobs: usize,
    /// Of these, finished.
    pub finished: usize,
    /// Of these, failed: how many, by the failure's code.
    pub failed: BTreeMap<&'static str, usize>,
    /// Of these, lost with their node.
    pub orphaned: usize,
    /// Tokens delivered.
    pub tokens: u64,
    /// Owed in all, by the endings' bills.
    pub owed: u128,
    /// Queries for peers.
    pub queries: u64,
    /// Streams ordered.
    pub dials: u64,
    /// Faults that happened, by name.
    pub faults: BTreeMap<&'static str, u64>,
    /// Hash over everything that happened.
    pub trace: u128,
    /// Jobs of a healed world that need not have been served, by excuse.
    pub excuses: BTreeMap<&'static str, u64>,
    /// Points that were covered.
    pub points: Points,
    /// Rules that were broken, the first 100.
    pub broken: Vec<Broken>,
}

impl Report {
    /// Whether every rule was kept.
    ///
    /// # Errors
    /// The first that was not.
    pub fn verdict(&self) -> Result<(), Broken> {
        self.broken.first().map_or(Ok(()), |broken| Err(broken.clone()))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} events in {} virtual ms; {} jobs: {} finished, {} orphaned; {} tokens for {}; {} queries, {} dials",
            self.events,
            self.now,
            self.jobs,
            self.finished,
            self.orphaned,
            self.tokens,
            self.owed,
            self.queries,
            self.dials
        )?;
        self.failed.iter().try_for_each(|(code, count)| writeln!(f, "  failed {code}: {count}"))?;
        self.faults.iter().try_for_each(|(name, count)| writeln!(f, "  fault {name}: {count}"))?;
        self.broken.iter().try_for_each(|broken| writeln!(f, "  BROKEN {broken}"))
    }
}
