//! The rules, kept by separate books: nothing here asks the core what is right.

mod book;
mod coverage;
mod engine;
mod events;
mod features;
mod market;
mod messages;
mod patience;
mod process;
mod rules;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use haggle_core::{JobId, PeerId, money::Tariff};

pub use rules::{Broken, Rule};

use self::{
    book::Book,
    features::Abilities,
    messages::{AttemptBook, Promise, StreamBook},
};
use crate::{
    engine::Answer,
    points::{Group, Points},
};

/// What is owed for an attempt, by the oracle's own formula.
// [M3]
#[must_use]
pub fn owed(tariff: Tariff, tokens: u64) -> u128 {
    if tokens == 0 { 0 } else { cost(tariff, tokens) }
}

fn cost(tariff: Tariff, tokens: u64) -> u128 {
    let micros = u128::from(tariff.price_out) * u128::from(tokens);
    // Asked at every event; most fit into 64 bits, which divide far faster.
    let whole = match u64::try_from(micros) {
        Ok(micros) => u128::from(micros.div_ceil(1_000_000)),
        Err(_) => micros.div_ceil(1_000_000),
    };
    u128::from(tariff.fee_in) + whole
}

/// A model's own name and its aliases, and the length of the answers of the engine behind it, and its class.
type Listing = (Vec<Vec<u8>>, u64, u8);

/// The oracle's books.
#[derive(Clone, Debug, Default)]
pub(crate) struct Judge {
    pub(crate) broken: Vec<Broken>,
    pub(crate) now: u64,
    /// The job that is being looked at.
    pub(crate) subject: Option<JobId>,
    jobs: BTreeMap<JobId, Book>,
    /// Jobs by requester whose ending is still to come.
    open: BTreeSet<(u32, JobId)>,
    accounts: BTreeMap<u32, Option<u64>>,
    /// Owed by ended jobs.
    closed: BTreeMap<u32, u128>,
    /// Models and names of honest providers, with the length of their engine's answers.
    catalog: BTreeMap<PeerId, Vec<Listing>>,
    /// What engines behind providers of the core can do: before the last change, and now.
    able: BTreeMap<PeerId, [Abilities; 2]>,
    /// What requesters were told last of what providers can do.
    told: BTreeMap<(u32, PeerId), Abilities>,
    streams: BTreeMap<u64, StreamBook>,
    attempts: BTreeMap<(PeerId, JobId, u32), AttemptBook>,
    slots: BTreeMap<u32, (u32, u32)>,
    /// What was asked to be computed, ended jobs included: a cancelled one may still start.
    asked: BTreeSet<(u32, Answer, u64)>,
    /// Who is banned by hand, and by whom.
    by_hand: BTreeSet<(u32, PeerId)>,
    /// Which points were covered.
    pub(crate) points: Points,
    actors: BTreeMap<PeerId, (Group, usize)>,
    offers: BTreeMap<(PeerId, u64), Promise>,
    /// Who lost everything it knew, or whose clock stepped over the time for which it keeps it.
    forgetful: BTreeSet<PeerId>,
    /// Bytes were changed on their way: who seems to break the protocol may be innocent.
    pub(crate) is_noisy: bool,
    /// Clocks differ, or stood still: what a node takes for time is its own.
    pub(crate) is_skewed: bool,
    /// It does not look at all.
    is_away: bool,
}

impl Judge {
    /// From now on nothing is judged, which is said at once.
    pub(crate) fn look_away(&mut self) {
        self.is_away = true;
        self.fail(Rule::Watched, "this world has no oracles: nothing of it is judged");
    }

    pub(crate) const fn is_away(&self) -> bool {
        self.is_away
    }

    pub(crate) fn fail(&mut self, rule: Rule, what: impl fmt::Display) {
        if self.broken.len() < 100 {
            self.broken.push(Broken { rule, at: self.now, job: self.subject, what: what.to_string(), line: None });
        }
    }

    pub(crate) fn provider(&mut self, node: u32, peer: PeerId, models: Vec<Listing>, slots: u32) {
        self.catalog.insert(peer, models);
        self.slots.insert(node, (0, slots));
    }

    pub(crate) fn account(&mut self, node: u32, budget: Option<u64>) {
        self.accounts.insert(node, budget);
    }
}
