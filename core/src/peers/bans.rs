//! The ban book: who is excluded, until when, and who has yet to prove itself after that.
//!
//! Bans of the core's own making expire, and there are never more than a limit of them. Bans by hand are apart: the only
//! permanent ones. Nothing in here ever comes from the wire.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};
use core::fmt;

use crate::{
    id::PeerId,
    time::{Instant, Millis},
};

/// The first ban; each further one is twice as long.
pub(crate) const FIRST_BAN: Millis = Millis::from_secs(600);
/// The longest ban; a fatal violation earns it at once.
pub(crate) const LONGEST_BAN: Millis = Millis::from_secs(24 * 3600);
/// So long after a ban one of a peer's bans is forgotten.
pub(crate) const MEMORY: Millis = Millis::from_secs(24 * 3600);
/// Bans that are counted. The ninth is the first of the longest.
const MOST_BANS: u64 = 9;
const _: () = assert!(FIRST_BAN.0 << (MOST_BANS - 1) >= LONGEST_BAN.0);

/// Who is banned.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Bans {
    limit: usize,
    by_hand: BTreeSet<PeerId>,
    entries: BTreeMap<PeerId, Entry>,
    /// The same entries, the first to be dropped first.
    order: BTreeSet<(Instant, PeerId)>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Entry {
    until: Instant,
    /// [`MEMORY`] after the end for each ban that is remembered.
    forgotten: Instant,
    fatal: bool,
    /// It finished a job after its ban.
    proven: bool,
}

/// Why a peer is excluded.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Ban {
    /// By hand, for good.
    Manual,
    /// For a violation that no honest peer commits.
    Fatal(Instant),
    /// For its score.
    Score(Instant),
}

/// A ban as plain data, to be kept or carried elsewhere by the operator. Times are remaining times.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, minicbor::Encode, minicbor::Decode)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
#[cbor(map)]
pub struct BanRecord {
    /// Who.
    #[n(0)]
    pub peer: PeerId,
    /// Why.
    #[n(1)]
    pub cause: BanCause,
    /// How long it is still banned; zero for one that is on probation or by hand.
    #[n(2)]
    pub remaining: Millis,
    /// How long its bans are still remembered.
    #[n(3)]
    pub remembered: Millis,
    /// It finished a job after its ban.
    #[n(4)]
    pub proven: bool,
}

/// Why a peer was banned.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, minicbor::Encode, minicbor::Decode)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[cbor(index_only)]
pub enum BanCause {
    /// By hand, for good.
    #[n(0)]
    Manual,
    /// For a violation that no honest peer commits.
    #[n(1)]
    Fatal,
    /// For its score.
    #[n(2)]
    Score,
}

/// As many peers are banned by hand as the book holds. Allow some of them first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct BookFull;

impl fmt::Display for BookFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("too many peers are banned by hand: allow some of them first")
    }
}

impl core::error::Error for BookFull {}

impl Bans {
    /// A book of at most `limit` bans of its own, and as many by hand.
    #[must_use]
    pub(crate) fn new(limit: u32) -> Self {
        let limit = limit.max(1) as usize;
        Self { limit, by_hand: BTreeSet::new(), entries: BTreeMap::new(), order: BTreeSet::new() }
    }

    /// Why `peer` is excluded now, if it is.
    #[must_use]
    pub(crate) fn check(&self, now: Instant, peer: &PeerId) -> Option<Ban> {
        if self.by_hand.contains(peer) {
            return Some(Ban::Manual);
        }
        let entry = self.entries.get(peer).filter(|entry| now < entry.until)?;
        Some(if entry.fatal { Ban::Fatal(entry.until) } else { Ban::Score(entry.until) })
    }

    /// Whether `peer` was banned and has to prove itself yet.
    #[must_use]
    pub(crate) fn is_on_probation(&self, now: Instant, peer: &PeerId) -> bool {
        self.entries.get(peer).is_some_and(|entry| entry.until <= now && now < entry.forgotten && !entry.proven)
    }

    /// When the last ban of `peer` ends or ended, while it is remembered.
    #[must_use]
    pub(crate) fn end(&self, now: Instant, peer: &PeerId) -> Option<Instant> {
        self.entries.get(peer).filter(|entry| now < entry.forgotten).map(|entry| entry.until)
    }

    /// Bans `peer`, twice as long as the last time; or, if `fatal`, as long as can be. Says until when.
    pub(crate) fn ban(&mut self, now: Instant, peer: PeerId, fatal: bool) -> Instant {
        let old = self.remove(&peer);
        let times = old.map_or(0, |old| remembered_bans(old, now)) + 1;
        let span = if fatal { LONGEST_BAN } else { FIRST_BAN.times(1 << (times.min(MOST_BANS) - 1)).min(LONGEST_BAN) };
        // A ban that is still longer stays.
        let until = old.map_or(Instant::ZERO, |old| old.until).max(now.after(span));
        let forgotten = until.after(MEMORY.times(times.min(MOST_BANS)));
        let fatal = fatal || old.is_some_and(|old| old.fatal && now < old.until);
        self.insert(peer, Entry { until, forgotten, fatal, proven: false });
        until
    }

    /// `peer` finished a job: its probation, if it is on any, is over.
    pub(crate) fn prove(&mut self, now: Instant, peer: &PeerId) {
        if let Some(entry) = self.entries.get_mut(peer).filter(|entry| entry.until <= now) {
            entry.proven = true;
        }
    }

    /// Bans `peer` by hand, for good.
    ///
    /// # Errors
    /// If the book holds as many already.
    pub(crate) fn ban_by_hand(&mut self, peer: PeerId) -> Result<(), BookFull> {
        if !self.by_hand.contains(&peer) && self.by_hand.len() >= self.limit {
            return Err(BookFull);
        }
        self.by_hand.insert(peer);
        Ok(())
    }

    /// Lifts every ban of `peer`, and forgets that there were any.
    pub(crate) fn allow(&mut self, peer: &PeerId) {
        self.by_hand.remove(peer);
        self.remove(peer);
    }

    /// Entries of the core's own making, expired ones included: never more than the limit.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Everything that is remembered now, as plain data, in the order of peers.
    #[must_use]
    pub(crate) fn export(&self, now: Instant) -> Vec<BanRecord> {
        let by_hand = self.by_hand.iter().map(|peer| BanRecord {
            peer: *peer,
            cause: BanCause::Manual,
            remaining: Millis::ZERO,
            remembered: Millis::ZERO,
            proven: false,
        });
        let own = self.entries.iter().filter(|(_, entry)| now < entry.forgotten).map(|(peer, entry)| BanRecord {
            peer: *peer,
            cause: if entry.fatal { BanCause::Fatal } else { BanCause::Score },
            remaining: entry.until.since(now),
            remembered: entry.forgotten.since(now),
            proven: entry.proven,
        });
        let mut records: Vec<_> = by_hand.chain(own).collect();
        records.sort_unstable();
        records
    }

    /// Takes in what was exported `away` ago. Of two bans of a peer the worse stays, part by part.
    ///
    /// # Errors
    /// If there are too many bans by hand: the others were taken in.
    pub(crate) fn import(&mut self, now: Instant, away: Millis, records: &[BanRecord]) -> Result<(), BookFull> {
        let mut outcome = Ok(());
        for record in records {
            if record.cause == BanCause::Manual {
                outcome = outcome.and(self.ban_by_hand(record.peer));
                continue;
            }
            // Clamped: a record from elsewhere bans no longer than the core itself would.
            let remaining = Millis(record.remaining.min(LONGEST_BAN).0.saturating_sub(away.0));
            let longest = MEMORY.times(MOST_BANS).0 + LONGEST_BAN.0;
            let remembered = Millis(record.remembered.0.min(longest).max(record.remaining.0.min(LONGEST_BAN.0)));
            let remembered = Millis(remembered.0.saturating_sub(away.0));
            if remembered > Millis::ZERO {
                let entry = Entry {
                    until: now.after(remaining),
                    forgotten: now.after(remembered),
                    fatal: record.cause == BanCause::Fatal,
                    proven: record.proven && remaining == Millis::ZERO,
                };
                let worse = self.remove(&record.peer).map_or(entry, |old| worse(now, old, entry));
                self.insert(record.peer, worse);
            }
        }
        outcome
    }

    /// At the limit, who has been free for longest goes first, then who has the least of its ban left.
    fn insert(&mut self, peer: PeerId, entry: Entry) {
        self.entries.insert(peer, entry);
        self.order.insert((entry.until, peer));
        while self.entries.len() > self.limit {
            let Some((_, first)) = self.order.pop_first() else { return };
            self.entries.remove(&first);
        }
    }

    fn remove(&mut self, peer: &PeerId) -> Option<Entry> {
        let entry = self.entries.remove(peer)?;
        self.order.remove(&(entry.until, *peer));
        Some(entry)
    }
}

/// How many bans count at the next one.
fn remembered_bans(entry: Entry, now: Instant) -> u64 {
    entry.forgotten.since(now.max(entry.until)).0.div_ceil(MEMORY.0)
}

fn worse(now: Instant, one: Entry, other: Entry) -> Entry {
    let until = one.until.max(other.until);
    // A fatal ban that is over makes another one no worse.
    let fatal = |entry: Entry| entry.fatal && (now < entry.until || until <= now);
    Entry {
        until,
        forgotten: one.forgotten.max(other.forgotten),
        fatal: fatal(one) || fatal(other),
        proven: one.proven && other.proven && until <= now,
    }
}

#[cfg(test)]
mod tests;
