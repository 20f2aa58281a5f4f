//! What is known of every peer: its breaker, score, bans, speed and counts, in one bounded table.
//!
//! The way of an attempt: [`Peers::filter`] says who may be asked, [`Peers::permit`] gives leave and counts the attempt as
//! load, [`Peers::first_token`] ends what the breaker watches, and exactly one of [`Peers::verified_end`],
//! [`Peers::failed`], [`Peers::busy`] and [`Peers::released`] takes the permit back. Violations are told apart from that.

mod reliability;
mod saved;

use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};

use super::{
    bans::{Ban, BanRecord, Bans, BookFull},
    breaker::{self, Blocked, Breaker, Rules},
    latency::{self, Counts, Latency},
    score::{self, Score, Severity},
};
use crate::{
    id::PeerId,
    retry::pushback,
    time::{Instant, Millis},
};

pub use self::reliability::Reliability;
pub(crate) use self::saved::SavedPeers;

/// The longest job, in tokens, that a peer on probation gets.
pub(crate) const PROBATION_TOKENS: u64 = 256;
/// How long it is remembered that a peer that never brought an answer let a job wait.
pub(crate) const MEMORY: Millis = Millis::from_secs(600);

/// All peers that something is known of.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Peers {
    rules: Rules,
    limit: usize,
    known: BTreeMap<PeerId, Known>,
    /// Those without an attempt, the longest unheard of first: who is forgotten when the table is full.
    idle: BTreeSet<(Instant, PeerId)>,
    bans: Bans,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, minicbor::Encode, minicbor::Decode)]
#[cbor(map, context_bound = "crate::snapshot::Clock")]
struct Known {
    #[n(0)]
    breaker: Breaker,
    #[n(1)]
    score: Score,
    #[n(2)]
    latency: Latency,
    #[n(3)]
    counts: Counts,
    /// Attempts that have not ended. Whoever restores them counts them anew.
    #[cbor(skip)]
    load: u32,
    #[n(4)]
    heard: Instant,
    /// When it last let a job wait.
    #[n(5)]
    let_wait: Option<Instant>,
}

/// What a peer brought so far, the best first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum Record {
    /// An answer.
    Served,
    /// Nothing yet.
    Unknown,
    /// Nothing, and it let a job wait lately.
    LetWait,
}

/// What an attempt would be.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Ask {
    /// Tokens that it may write.
    pub tokens: u64,
    /// How long its first token is waited for: the deadline of a probe. Cut to [`breaker::MAX_PATIENCE`].
    pub patience: Millis,
    /// Uniformly drawn from all of `u32`: spreads the ends of open breakers.
    pub jitter: u32,
    /// It is not the job's first attempt.
    pub retry: bool,
    /// What [`Peers::filter`] lifted.
    pub lift: Lift,
}

/// Leave for one attempt. It counts as load of its peer until it is handed back.
#[derive(Clone, PartialEq, Eq, Hash, Debug, minicbor::Encode, minicbor::Decode)]
#[cbor(map, context_bound = "crate::snapshot::Clock")]
#[must_use = "a permit that is not handed back counts as load for ever"]
pub(crate) struct Permit {
    #[n(0)]
    peer: PeerId,
    #[n(1)]
    at: Instant,
    /// Until the first token.
    #[n(2)]
    liveness: Option<breaker::Permit>,
}

/// Why a peer is not asked.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Excluded {
    /// Banned by hand.
    Manual,
    /// Banned until then for a violation that no honest peer commits.
    Fatal(Instant),
    /// Every peer in the table has an attempt, and it is not in there.
    TableFull,
    /// Banned until then for its score.
    Banned(Instant),
    /// Its score is too low.
    Avoided,
    /// Its breaker is open until then.
    Open(Instant),
    /// Its breaker waits for a probe, until then at the latest.
    Probing(Instant),
    /// It was banned, and the job is too large for it, or not the only one.
    Probation,
}

/// What is overlooked when too few are left.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
pub enum Lift {
    /// Nothing.
    #[default]
    Nothing,
    /// The bounds of probation: nobody else is left.
    Probation,
    /// Panic, fewer than half are left: open breakers, low scores and score bans too. The fault is more likely here.
    Panic,
}

/// Who may be asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Filtered {
    /// In the order of the candidates.
    pub allowed: Vec<PeerId>,
    /// What had to be overlooked for it.
    pub lift: Lift,
}

impl Excluded {
    /// What lifts it; `None` if nothing does.
    #[must_use]
    pub(crate) const fn lifted_by(self) -> Option<Lift> {
        match self {
            Self::Manual | Self::Fatal(_) | Self::TableFull => None,
            Self::Banned(_) | Self::Avoided | Self::Open(_) | Self::Probing(_) => Some(Lift::Panic),
            Self::Probation => Some(Lift::Probation),
        }
    }

    /// When it ends by itself, if that is known.
    #[must_use]
    pub(crate) const fn until(self) -> Option<Instant> {
        match self {
            Self::Fatal(until) | Self::Banned(until) | Self::Open(until) | Self::Probing(until) => Some(until),
            _ => None,
        }
    }
}

impl Permit {
    /// For whom.
    #[must_use]
    pub(crate) const fn peer(&self) -> &PeerId {
        &self.peer
    }

    /// How long ago it was given.
    #[must_use]
    pub(crate) fn age(&self, now: Instant) -> Millis {
        now.since(self.at)
    }
}

impl Peers {
    /// A table of at most `peers`, with a book of at most `bans`.
    #[must_use]
    pub(crate) fn new(rules: Rules, peers: u32, bans: u32) -> Self {
        let limit = peers.max(1) as usize;
        Self { rules, limit, known: BTreeMap::new(), idle: BTreeSet::new(), bans: Bans::new(bans) }
    }

    /// Who of the candidates may be asked for `tokens`. Fewer than half left is a panic: then our own view is the likelier
    /// fault. Whom nothing can lift counts neither as candidate nor as left, or many bad peers could force the panic.
    #[must_use]
    pub(crate) fn filter(&self, now: Instant, candidates: &[PeerId], tokens: u64) -> Filtered {
        let judge = |peer: &PeerId| self.excluded(now, peer, tokens).map_or(Some(Lift::Nothing), Excluded::lifted_by);
        let judged: Vec<Option<Lift>> = candidates.iter().map(judge).collect();
        let count = |wanted: fn(Lift) -> bool| judged.iter().flatten().filter(|lift| wanted(**lift)).count();
        let (all, left, free) =
            (count(|_| true), count(|lift| lift < Lift::Panic), count(|lift| lift == Lift::Nothing));
        let lift = match () {
            () if 2 * left < all => Lift::Panic,
            () if free == 0 && left > 0 => Lift::Probation,
            () => Lift::Nothing,
        };
        let allowed = candidates.iter().zip(&judged).filter(|(_, needed)| needed.is_some_and(|needed| needed <= lift));
        Filtered { allowed: allowed.map(|(peer, _)| *peer).collect(), lift }
    }

    /// Why `peer` would not be asked for `tokens`, if so: what can not be lifted first.
    #[must_use]
    pub(crate) fn excluded(&self, now: Instant, peer: &PeerId, tokens: u64) -> Option<Excluded> {
        let known = self.known.get(peer);
        let ban = self.bans.check(now, peer);
        let blocked = known.and_then(|known| known.breaker.blocked(&self.rules, now));
        let load = known.map_or(0, |known| known.load);
        match (ban, blocked) {
            (Some(Ban::Manual), _) => Some(Excluded::Manual),
            (Some(Ban::Fatal(until)), _) => Some(Excluded::Fatal(until)),
            (Some(Ban::Score(until)), _) => Some(Excluded::Banned(until)),
            _ if self.score(now, peer).value(now) <= score::AVOID => Some(Excluded::Avoided),
            (_, Some(Blocked::Open(until))) => Some(Excluded::Open(until)),
            (_, Some(Blocked::Probing(until))) => Some(Excluded::Probing(until)),
            _ if self.bans.is_on_probation(now, peer) && (tokens > PROBATION_TOKENS || load > 0) => {
                Some(Excluded::Probation)
            }
            _ => None,
        }
    }

    /// Leave to ask `peer`. Check and leave are one step: concurrent callers get one probe.
    ///
    /// # Errors
    /// Why it is not asked.
    pub(crate) fn permit(&mut self, now: Instant, peer: PeerId, ask: &Ask) -> Result<Permit, Excluded> {
        if let Some(why) = self.excluded(now, &peer, ask.tokens)
            && why.lifted_by().is_none_or(|needed| ask.lift < needed)
        {
            return Err(why);
        }
        self.know(now, peer)?;
        let lifted = ask.lift == Lift::Panic;
        let question = breaker::Ask { patience: ask.patience, jitter: ask.jitter };
        let liveness = self.update(now, &peer, |known, rules| {
            let liveness = known.breaker.acquire(rules, now, question, lifted)?;
            known.load = known.load.saturating_add(1);
            known.counts.attempts += 1;
            known.counts.retries += u64::from(ask.retry);
            Ok(liveness)
        });
        match liveness {
            Some(Ok(liveness)) => Ok(Permit { peer, at: now, liveness: Some(liveness) }),
            Some(Err(Blocked::Open(until))) => Err(Excluded::Open(until)),
            Some(Err(Blocked::Probing(until))) => Err(Excluded::Probing(until)),
            None => Err(Excluded::TableFull),
        }
    }

    /// The first token came. Once per permit; further calls do nothing.
    pub(crate) fn first_token(&mut self, now: Instant, permit: &mut Permit) {
        let Some(liveness) = permit.liveness.take() else { return };
        self.update(now, &permit.peer, |known, rules| {
            known.breaker.success(rules, now, liveness);
            known.latency.observe(now, now.since(permit.at));
        });
    }

    /// The answer ended, with count and digest as received; `bytes` of text. It ends a probation, too.
    pub(crate) fn verified_end(&mut self, now: Instant, mut permit: Permit, bytes: u64) {
        // An answer without a token is an answer.
        self.first_token(now, &mut permit);
        let stands_still = self.bans.check(now, &permit.peer).is_some();
        self.bans.prove(now, &permit.peer);
        self.end(now, permit, |known, _, _| {
            known.counts.verified_ends += 1;
            known.counts.bytes = known.counts.bytes.saturating_add(bytes);
            if !stands_still {
                known.score = known.score.praise(now);
            }
        });
    }

    /// The attempt broke: no answer in time, a reset, or what is no answer. After its first token that is no question of
    /// liveness any more, but still of what to expect.
    pub(crate) fn failed(&mut self, now: Instant, permit: Permit) {
        self.end(now, permit, |known, rules, liveness| {
            known.counts.failures += 1;
            known.latency.fail(now);
            if let Some(liveness) = liveness {
                known.breaker.failure(rules, now, liveness);
            }
        });
    }

    /// As [`Peers::failed`], and all that it brought was time that passed.
    pub(crate) fn let_wait(&mut self, now: Instant, permit: Permit) {
        let peer = permit.peer;
        self.failed(now, permit);
        self.update(now, &peer, |known, _| known.let_wait = Some(now));
    }

    /// The peer had no slot. No failure: it is only expected to take as long as it asked to be left alone.
    pub(crate) fn busy(&mut self, now: Instant, permit: Permit, asked: Millis) {
        self.end(now, permit, |known, rules, liveness| {
            known.counts.busy += 1;
            known.latency.expect(now, pushback(asked));
            if let Some(liveness) = liveness {
                known.breaker.release(rules, now, liveness);
            }
        });
    }

    /// The attempt ended without a verdict on the peer: cancelled, declined, never sent.
    pub(crate) fn released(&mut self, now: Instant, permit: Permit) {
        self.end(now, permit, |known, rules, liveness| {
            known.counts.released += 1;
            if let Some(liveness) = liveness {
                known.breaker.release(rules, now, liveness);
            }
        });
    }

    /// The peer broke the protocol. Says until when it is banned, if it is from now on; the caller closes its streams.
    pub(crate) fn violation(&mut self, now: Instant, peer: PeerId, severity: Severity) -> Option<Instant> {
        // Without room for a score there is still room for a ban.
        let _full = self.know(now, peer);
        let fatal = severity == Severity::Fatal;
        // While it is banned its score stands still.
        let banned = match self.bans.check(now, &peer) {
            Some(Ban::Fatal(_)) => true,
            Some(_) => !fatal,
            None => false,
        };
        let score = self.score(now, &peer).blame(now, severity);
        let until = (!banned && score.value(now) <= score::BAN).then(|| self.bans.ban(now, peer, fatal));
        self.update(now, &peer, |known, _| {
            known.counts.violations += 1;
            match until {
                Some(until) => known.score = Score::of(until, score::AFTER_BAN),
                None if !banned => known.score = score,
                None => {}
            }
        });
        until
    }

    /// Bans `peer` by hand, for good.
    ///
    /// # Errors
    /// If as many are banned by hand as the book holds.
    pub(crate) fn ban(&mut self, peer: PeerId) -> Result<(), BookFull> {
        self.bans.ban_by_hand(peer)
    }

    /// Lifts every ban of `peer`, forgets what it was banned for, and closes its breaker.
    pub(crate) fn allow(&mut self, peer: &PeerId) {
        self.bans.allow(peer);
        if let Some(known) = self.known.get_mut(peer) {
            known.score = Score::Zero;
            known.let_wait = None;
            known.breaker.reset();
        }
    }

    /// The ban book.
    #[must_use]
    pub(crate) const fn bans(&self) -> &Bans {
        &self.bans
    }

    /// Takes in bans that were exported `away` ago. See [`Bans::import`].
    ///
    /// # Errors
    /// If there are too many bans by hand: the others were taken in.
    pub(crate) fn import_bans(&mut self, now: Instant, away: Millis, records: &[BanRecord]) -> Result<(), BookFull> {
        let outcome = self.bans.import(now, away, records);
        for record in records {
            let until = self.bans.end(now, &record.peer).filter(|until| now < *until);
            if let (Some(until), Some(known)) = (until, self.known.get_mut(&record.peer)) {
                known.score = Score::of(until, score::AFTER_BAN);
            }
        }
        outcome
    }

    /// The time to a first token at `peer`, which says itself that it takes `eta` and has `load` jobs waiting. It is
    /// believed when it claims to be slower than it was seen to be, never when it claims to be faster.
    #[must_use]
    pub(crate) fn expected_time(&self, now: Instant, peer: &PeerId, eta: Millis, load: u32) -> Millis {
        let known = self.known.get(peer);
        let each = known.map_or(latency::COLD, |known| known.latency.estimate(now)).max(eta.min(latency::LONGEST));
        let load = u64::from(load) + known.map_or(0, |known| u64::from(known.load));
        each.times(load + 1)
    }

    /// What `peer` brought so far.
    #[must_use]
    pub(crate) fn record(&self, now: Instant, peer: &PeerId) -> Record {
        match self.known.get(peer) {
            Some(known) if known.counts.verified_ends > 0 => Record::Served,
            Some(known) if known.let_wait.is_some_and(|at| now < at.after(MEMORY)) => Record::LetWait,
            _ => Record::Unknown,
        }
    }

    /// Everybody in the table, in the order of ids.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &PeerId> {
        self.known.keys()
    }

    /// The score, which a ban outlives: who comes back from one stands just above avoidance.
    fn score(&self, now: Instant, peer: &PeerId) -> Score {
        match self.known.get(peer) {
            Some(known) => known.score,
            None => self.score_after_ban(now, peer),
        }
    }

    fn score_after_ban(&self, now: Instant, peer: &PeerId) -> Score {
        self.bans.end(now, peer).map_or(Score::Zero, |end| Score::of(end, score::AFTER_BAN))
    }

    /// Sees to it that `peer` is in the table, in place of who was longest unheard of if need be.
    fn know(&mut self, now: Instant, peer: PeerId) -> Result<(), Excluded> {
        if self.known.contains_key(&peer) {
            return Ok(());
        }
        if self.known.len() >= self.limit {
            let (_, forgotten) = self.idle.pop_first().ok_or(Excluded::TableFull)?;
            self.known.remove(&forgotten);
        }
        let score = self.score_after_ban(now, &peer);
        self.known.insert(peer, Known { score, ..Known::new(now) });
        self.idle.insert((now, peer));
        Ok(())
    }

    /// Changes what is known of `peer`, and keeps the index in step.
    fn update<R>(&mut self, now: Instant, peer: &PeerId, change: impl FnOnce(&mut Known, &Rules) -> R) -> Option<R> {
        let known = self.known.get_mut(peer)?;
        self.idle.remove(&(known.heard, *peer));
        known.heard = now;
        let outcome = change(known, &self.rules);
        if known.load == 0 {
            self.idle.insert((now, *peer));
        }
        Some(outcome)
    }

    fn end(&mut self, now: Instant, permit: Permit, f: impl FnOnce(&mut Known, &Rules, Option<breaker::Permit>)) {
        self.update(now, &permit.peer, |known, rules| {
            known.load = known.load.saturating_sub(1);
            f(known, rules, permit.liveness);
        });
    }
}

impl Known {
    fn new(now: Instant) -> Self {
        Self {
            breaker: Breaker::default(),
            score: Score::Zero,
            latency: Latency::default(),
            counts: Counts::default(),
            load: 0,
            heard: now,
            let_wait: None,
        }
    }
}

#[cfg(test)]
mod tests;
