//! How far a peer is trusted: a score that violations lower, verified ends raise and time forgives.
//!
//! A score is kept as the moment at which it will have faded to nothing. Time passing changes no state, so looking often,
//! seldom, or across a restart gives the same score to the last digit.

use super::decay;
use crate::time::{Instant, Millis};

/// Scores lie within ± this, in thousandths.
pub(crate) const MAX_SCORE: i32 = 100_000;
/// A peer at or below it gets no new jobs, but may finish those it has.
pub(crate) const AVOID: i32 = -20_000;
/// A peer at or below it is banned.
pub(crate) const BAN: i32 = -50_000;
/// Where a peer stands after its ban: just above [`AVOID`].
pub(crate) const AFTER_BAN: i32 = AVOID + 1;
/// What a verified end is worth.
pub(crate) const VERIFIED_END: i32 = 1000;
/// After this time a score is half as far from zero.
pub(crate) const HALF_LIFE: Millis = Millis::from_secs(600);

/// 2¹⁷ is the first power of two above [`MAX_SCORE`].
const HALVINGS: u32 = 17;
/// After so long every score is below one thousandth, which is nothing: one half-life for each halving down to one, and one.
const LONGEST: Millis = HALF_LIFE.times(HALVINGS as u64 + 1);
const _: () = assert!(1 << HALVINGS > MAX_SCORE && 1 << (HALVINGS - 1) < MAX_SCORE);

/// How bad a violation is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
pub enum Severity {
    /// May happen to an honest peer now and then: one point.
    Slight,
    /// An honest peer is seldom seen to do it: five points.
    Serious,
    /// No honest peer does it more than once: ten points.
    Grave,
    /// No honest peer does it at all: a ban at once.
    Fatal,
}

impl Severity {
    const fn weight(self) -> i32 {
        match self {
            Self::Slight => 1000,
            Self::Serious => 5000,
            Self::Grave => 10_000,
            Self::Fatal => 2 * MAX_SCORE,
        }
    }
}

/// How a peer stands, as score and bans say together.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
pub enum Standing {
    /// Nothing was heard of it yet. Treated as healthy, at a cold cost.
    Unknown,
    /// Gets jobs.
    Healthy,
    /// Gets no new jobs, may finish those it has.
    Avoided,
    /// Gets nothing.
    Banned,
    /// Was banned, and has finished nothing since: small jobs, one at a time.
    Probation,
}

/// A score and its fading.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, minicbor::Encode, minicbor::Decode)]
#[cbor(map, context_bound = "crate::snapshot::Clock")]
pub(crate) enum Score {
    /// Never moved.
    #[default]
    #[n(0)]
    Zero,
    /// Above zero until then.
    #[n(1)]
    Above(#[n(0)] Instant),
    /// Below zero until then.
    #[n(2)]
    Below(#[n(0)] Instant),
}

impl Score {
    /// The score that is `value` thousandths now, cut to ± [`MAX_SCORE`].
    #[must_use]
    pub(crate) fn of(now: Instant, value: i32) -> Self {
        let value = value.clamp(-MAX_SCORE, MAX_SCORE);
        let faded = now.after(fading(value.unsigned_abs()));
        match value {
            0 => Self::Zero,
            1.. => Self::Above(faded),
            _ => Self::Below(faded),
        }
    }

    /// Thousandths of a point.
    #[must_use]
    pub(crate) fn value(self, now: Instant) -> i32 {
        match self {
            Self::Zero => 0,
            Self::Above(faded) => magnitude(faded.since(now)),
            Self::Below(faded) => -magnitude(faded.since(now)),
        }
    }

    /// The score after a violation. Trust is no bank: what was earned above zero pays for nothing.
    #[must_use]
    pub(crate) fn blame(self, now: Instant, severity: Severity) -> Self {
        Self::of(now, self.value(now).min(0) - severity.weight())
    }

    /// The score after a verified end.
    #[must_use]
    pub(crate) fn praise(self, now: Instant) -> Self {
        Self::of(now, self.value(now) + VERIFIED_END)
    }
}

/// How far from zero a score is that fades in `left`.
fn magnitude(left: Millis) -> i32 {
    let passed = Millis(LONGEST.0.saturating_sub(left.0));
    let magnitude = (decay::left(passed, HALF_LIFE) << HALVINGS) / decay::ONE;
    // At most 2¹⁷.
    (magnitude as i32).min(MAX_SCORE)
}

/// How long a score of this size fades. A millisecond is worth less than a thousandth of a point: the way back is exact.
fn fading(size: u32) -> Millis {
    let (mut low, mut high) = (0, LONGEST.0);
    while low < high {
        let middle = low.midpoint(high);
        if magnitude(Millis(middle)).unsigned_abs() < size {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Millis(low)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Instant = Instant::from_millis(1000);

    #[test]
    fn every_score_is_exact_when_set_and_halves_in_a_half_life() {
        for value in -MAX_SCORE..=MAX_SCORE {
            let score = Score::of(NOW, value);
            assert_eq!(score.value(NOW), value);
            assert_eq!(score.value(NOW.after(Millis::from_secs(600))), value / 2);
            assert_eq!(score.value(NOW.after(LONGEST)), 0);
        }
        assert_eq!(Score::of(NOW, i32::MIN), Score::of(NOW, -MAX_SCORE));
        assert_eq!(Score::of(NOW, i32::MAX), Score::of(NOW, MAX_SCORE));
    }

    #[test]
    fn violations_weigh_one_five_ten_and_all() {
        let after = |severity| Score::of(NOW, 0).blame(NOW, severity).value(NOW);
        assert_eq!(after(Severity::Slight), -1000);
        assert_eq!(after(Severity::Serious), -5000);
        assert_eq!(after(Severity::Grave), -10_000);
        assert_eq!(after(Severity::Fatal), -MAX_SCORE);
    }

    #[test]
    fn trust_is_no_bank() {
        let best = (0..500).fold(Score::Zero, |score, _| score.praise(NOW));
        assert_eq!(best.value(NOW), MAX_SCORE);
        assert_eq!(best.blame(NOW, Severity::Slight).value(NOW), -1000);
    }

    #[test]
    fn a_decayed_score_leaves_avoidance_after_exactly_its_time() {
        // From −40 to −20 is one half-life; the next thousandth is the first above avoidance.
        let score = Score::of(NOW, 2 * AVOID);
        assert_eq!(score.value(NOW.after(HALF_LIFE)), AVOID);
        let mut at = NOW.after(HALF_LIFE);
        while score.value(at) <= AVOID {
            at = at.after(Millis(1));
        }
        assert_eq!(score.value(at), AFTER_BAN);
    }

    proptest! {
        #[test]
        fn fading_never_turns_back(value in -MAX_SCORE..=MAX_SCORE, a in 0_u64..20_000_000, b in 0_u64..20_000_000) {
            let score = Score::of(NOW, value);
            let (early, late) = (score.value(NOW.after(Millis(a.min(b)))), score.value(NOW.after(Millis(a.max(b)))));
            prop_assert!(late.abs() <= early.abs() && late.signum() * value.signum() >= 0);
        }

        #[test]
        fn any_moment_is_legal(value: i32, now: u64, later: u64) {
            let score = Score::of(Instant::from_millis(now), value);
            let seen = score.blame(Instant::from_millis(later), Severity::Fatal).praise(Instant::from_millis(now));
            prop_assert!(seen.value(Instant::from_millis(later)).abs() <= MAX_SCORE);
        }
    }
}
