//! What is told of one peer.

use super::{Known, Peers};
use crate::{
    id::PeerId,
    peers::{
        bans::Ban,
        breaker::Circuit,
        latency::Counts,
        score::{self, Score, Standing},
    },
    time::{Instant, Millis},
};

/// What is known of a peer, as plain data.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Reliability {
    /// How it stands.
    pub standing: Standing,
    /// How long it is still banned; `None` if it is not, or for good.
    pub banned_for: Option<Millis>,
    /// Thousandths of a point.
    pub score: i32,
    /// Its breaker.
    pub circuit: Circuit,
    /// Attempts that have not ended.
    pub load: u32,
    /// What the next first token is expected to take at no load.
    pub expected: Millis,
    /// Half of the last first tokens came within.
    pub p50: Option<Millis>,
    /// 19 of 20 came within.
    pub p95: Option<Millis>,
    /// What was counted.
    pub counts: Counts,
}

impl Peers {
    /// What is known of `peer`; `None` if nothing is.
    #[must_use]
    pub(crate) fn reliability(&self, now: Instant, peer: &PeerId) -> Option<Reliability> {
        let nobody = Known::new(now);
        let known = match self.known.get(peer) {
            None if self.bans.check(now, peer).is_none() && self.bans.end(now, peer).is_none() => return None,
            known => known.unwrap_or(&nobody),
        };
        let excluded = self.bans.check(now, peer);
        Some(Reliability {
            standing: self.standing(now, peer),
            banned_for: match excluded {
                Some(Ban::Fatal(until) | Ban::Score(until)) => Some(until.since(now)),
                _ => None,
            },
            score: self.score(now, peer).value(now),
            circuit: known.breaker.circuit(&self.rules, now),
            load: known.load,
            expected: known.latency.estimate(now),
            p50: known.latency.percentile(50),
            p95: known.latency.percentile(95),
            counts: known.counts,
        })
    }

    /// How `peer` stands.
    #[must_use]
    pub(crate) fn standing(&self, now: Instant, peer: &PeerId) -> Standing {
        let heard = self.known.get(peer).is_some_and(|known| !known.latency.is_cold() || known.score != Score::Zero);
        match () {
            () if self.bans.check(now, peer).is_some() => Standing::Banned,
            () if self.score(now, peer).value(now) <= score::AVOID => Standing::Avoided,
            () if self.bans.is_on_probation(now, peer) => Standing::Probation,
            () if heard => Standing::Healthy,
            () => Standing::Unknown,
        }
    }
}
