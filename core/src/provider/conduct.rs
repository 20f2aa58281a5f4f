//! How peers have treated the answers that they asked for, and how far that has them preferred.

use alloc::collections::BTreeMap;

use crate::{
    id::PeerId,
    limits::Limits,
    time::{Instant, Millis},
};

/// Answers more that may be left behind than are taken: lines break, processes die.
const FORGIVEN: u32 = 2;
/// Half of what is known of a peer's conduct is forgotten after so long.
const MEMORY: Millis = Millis::from_secs(600);

/// How peers have treated the answers that they asked for.
#[derive(Clone, Hash, Debug, Default)]
pub(super) struct Conducts(BTreeMap<PeerId, Conduct>);

#[derive(Clone, Copy, Hash, Debug)]
struct Conduct {
    /// Answers that were taken to their end.
    kept: u32,
    /// Answers that were left behind: without their body, or without a word.
    left: u32,
    /// From when on it is half as much.
    fades: Instant,
}

/// How far a peer is to be preferred to others, ascending.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Preference {
    /// It left clearly more answers behind than it took.
    Doubtful,
    /// Nothing is known.
    New,
    /// It took answers.
    Known,
}

impl Conducts {
    pub(super) fn preference(&self, now: Instant, peer: &PeerId) -> Preference {
        match self.0.get(peer).map(|conduct| conduct.at(now)) {
            Some(Conduct { kept, left, .. }) if left > kept.saturating_add(FORGIVEN) => Preference::Doubtful,
            Some(Conduct { kept: 1.., .. }) => Preference::Known,
            _ => Preference::New,
        }
    }

    /// Notes how an answer was treated.
    pub(super) fn note(&mut self, now: Instant, limits: &Limits, peer: PeerId, kept: bool) {
        if self.0.len() >= limits.known_peers as usize && !self.0.contains_key(&peer) {
            let oldest = self.0.iter().min_by_key(|(_, conduct)| conduct.fades).map(|(peer, _)| *peer);
            oldest.map(|oldest| self.0.remove(&oldest));
        }
        let new = Conduct { kept: 0, left: 0, fades: now.after(MEMORY) };
        let conduct = self.0.entry(peer).or_insert(new);
        *conduct = conduct.at(now);
        let count = if kept { &mut conduct.kept } else { &mut conduct.left };
        *count = count.saturating_add(1);
    }
}

impl Conduct {
    /// As it is now, faded.
    fn at(mut self, now: Instant) -> Self {
        while self.fades <= now && (self.kept, self.left) != (0, 0) {
            (self.kept, self.left) = (self.kept / 2, self.left / 2);
            self.fades = self.fades.after(MEMORY);
        }
        Self { fades: self.fades.max(now), ..self }
    }
}
