//! How long a provider takes to answer, and what it was worth so far.
//!
//! The estimate is a peak-sensitive moving average: a slower answer counts at once and in full, faster ones win it back
//! over a minute. A failure counts as a very slow answer, or else failing at once would look like speed.

use alloc::{collections::VecDeque, vec::Vec};

use super::decay;
use crate::time::{Instant, Millis};

/// What a provider that nobody knows is taken to need. What is known decays to it while nothing new is heard.
pub(crate) const COLD: Millis = Millis::from_secs(1);
/// What a failure counts as.
pub(crate) const FAILURE: Millis = Millis::from_secs(30);
/// No sample is longer.
pub(crate) const LONGEST: Millis = Millis::from_secs(600);
/// τ · ln 2 for τ = 60 s: after τ, 1/e of a sample's weight is left.
const HALF_LIFE: Millis = Millis(41_589);
/// Answers that the percentiles look back on.
const RECENT: usize = 64;

/// Times to the first token of one provider.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, minicbor::Encode, minicbor::Decode)]
#[cbor(map, context_bound = "crate::snapshot::Clock")]
pub(crate) struct Latency {
    #[n(0)]
    estimate: Option<Estimate>,
    /// Milliseconds, oldest first.
    #[n(1)]
    recent: VecDeque<u32>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, minicbor::Encode, minicbor::Decode)]
#[cbor(map, context_bound = "crate::snapshot::Clock")]
struct Estimate {
    #[n(0)]
    micros: u64,
    #[n(1)]
    at: Instant,
}

impl Latency {
    /// The first token took `sample`.
    pub(crate) fn observe(&mut self, now: Instant, sample: Millis) {
        let sample = sample.min(LONGEST);
        if self.recent.len() >= RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(sample.0 as u32);
        self.expect(now, sample);
    }

    /// No answer came, or none that was one.
    pub(crate) fn fail(&mut self, now: Instant) {
        self.expect(now, FAILURE);
    }

    /// An answer would have taken `sample` at least.
    pub(crate) fn expect(&mut self, now: Instant, sample: Millis) {
        let sample = sample.min(LONGEST).0 * 1000;
        let micros = match self.estimate {
            Some(Estimate { micros, at }) if sample < micros => {
                let old = decay::left(now.since(at), HALF_LIFE);
                (micros * old + sample * (decay::ONE - old)) / decay::ONE
            }
            _ => sample,
        };
        self.estimate = Some(Estimate { micros, at: now });
    }

    /// Whether observing could have led here.
    pub(super) fn is_possible(&self) -> bool {
        let estimated = self.estimate.is_none_or(|estimate| estimate.micros <= LONGEST.0 * 1000);
        estimated && self.recent.len() <= RECENT && self.recent.iter().all(|millis| u64::from(*millis) <= LONGEST.0)
    }

    /// Whether anything was ever observed.
    #[must_use]
    pub(crate) const fn is_cold(&self) -> bool {
        self.estimate.is_none()
    }

    /// What one answer is expected to take now.
    #[must_use]
    pub(crate) fn estimate(&self, now: Instant) -> Millis {
        let Some(Estimate { micros, at }) = self.estimate else { return COLD };
        let above = micros.saturating_sub(COLD.0 * 1000);
        let faded = above - above * decay::left(now.since(at), HALF_LIFE) / decay::ONE;
        Millis((micros - faded).div_ceil(1000))
    }

    /// The time within which `percent` of the last answers came (nearest rank); `None` if there were none.
    #[must_use]
    pub(crate) fn percentile(&self, percent: u8) -> Option<Millis> {
        let mut sorted: Vec<u32> = self.recent.iter().copied().collect();
        sorted.sort_unstable();
        let rank = (sorted.len() * usize::from(percent.min(100))).div_ceil(100).max(1);
        sorted.get(rank - 1).map(|millis| Millis(u64::from(*millis)))
    }
}

/// What was counted of one provider.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, minicbor::Encode, minicbor::Decode)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
#[cbor(map)]
pub struct Counts {
    /// Permits given: attempts at it.
    #[n(0)]
    pub attempts: u64,
    /// Attempts among them that were not their job's first.
    #[n(1)]
    pub retries: u64,
    /// Answers that ended, with count and digest as received.
    #[n(2)]
    pub verified_ends: u64,
    /// Attempts that broke.
    #[n(3)]
    pub failures: u64,
    /// Attempts refused for want of a slot.
    #[n(4)]
    pub busy: u64,
    /// Attempts that ended without a verdict: cancelled, declined, never sent.
    #[n(5)]
    pub released: u64,
    /// Violations of the protocol.
    #[n(6)]
    pub violations: u64,
    /// Bytes of text of verified answers.
    #[n(7)]
    pub bytes: u64,
}

impl Counts {
    /// Whether counting could have led here: nothing is counted so often.
    pub(super) fn is_possible(&self) -> bool {
        let Self { attempts, retries, verified_ends, failures, busy, released, violations, bytes: _ } = *self;
        [attempts, retries, verified_ends, failures, busy, released, violations].iter().all(|count| *count < 1 << 56)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const fn at(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    #[test]
    fn a_failure_counts_as_thirty_seconds_and_fades_over_a_minute() {
        let mut latency = Latency::default();
        assert_eq!(latency.estimate(at(0)), COLD);
        latency.fail(at(0));
        // 1 s + 29 s · 2^(−t / 41.589 s).
        let table = [(0, 30_000), (41_589, 15_500), (60_000, 11_669), (83_178, 8250), (10_000_000, 1000)];
        for (millis, expected) in table {
            assert_eq!(latency.estimate(at(millis)), Millis(expected), "at {millis} ms");
        }
    }

    #[test]
    fn slower_counts_at_once_and_faster_over_time() {
        let mut latency = Latency::default();
        latency.observe(at(0), Millis(2000));
        latency.observe(at(0), Millis(8000));
        assert_eq!(latency.estimate(at(0)), Millis(8000), "a peak");
        latency.observe(at(41_589), Millis(2000));
        assert_eq!(latency.estimate(at(41_589)), Millis(5000), "half of it is won back in a half-life");
        latency.observe(at(10_000_000), Millis(300));
        assert_eq!(latency.estimate(at(10_000_000)), Millis(300));
        assert_eq!(latency.estimate(at(90_000_000)), Millis(300), "what is better than cold stays");
    }

    #[test]
    fn percentiles_are_the_nearest_ranks_of_the_last_answers() {
        let mut latency = Latency::default();
        assert_eq!(latency.percentile(50), None);
        for millis in 1..=1064 {
            latency.observe(at(millis), Millis(millis));
        }
        let seen = [0, 50, 95, 100, 255].map(|percent| latency.percentile(percent).map(|millis| millis.0));
        assert_eq!(seen, [1001, 1032, 1061, 1064, 1064].map(Some), "of 1001 to 1064");
        latency.fail(at(2000));
        assert_eq!(latency.percentile(100), Some(Millis(1064)), "a failure is no answer");
        latency.observe(at(3000), Millis(u64::MAX));
        assert_eq!(latency.percentile(100), Some(LONGEST));
    }

    proptest! {
        #[test]
        fn estimates_stay_between_what_was_seen_and_cold(samples in proptest::collection::vec((any::<u64>(), any::<u64>()), 1..50), later: u64) {
            let mut latency = Latency::default();
            for (now, sample) in &samples {
                latency.observe(at(*now), Millis(*sample));
            }
            let cut = |millis: u64| Millis(millis).min(LONGEST);
            let slowest = samples.iter().map(|(_, sample)| cut(*sample)).max().unwrap();
            let fastest = samples.iter().map(|(_, sample)| cut(*sample)).min().unwrap();
            let estimate = latency.estimate(at(later));
            prop_assert!(fastest.min(COLD) <= estimate && estimate <= slowest.max(COLD), "{estimate:?}");
        }
    }
}
