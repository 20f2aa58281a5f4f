//! A bucket that bounds frames without progress: the flood of HTTP/2's resets, pings and empty frames.

use crate::time::Instant;

/// Counts in thousandths of a frame.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Bucket {
    level: u64,
    full: u64,
    refill: u64,
    at: Instant,
}

impl Bucket {
    /// A full bucket of frames without progress.
    pub(crate) fn new(now: Instant, frames: u32) -> Self {
        Self::per_second(now, frames, 10)
    }

    /// A full bucket that gains `refill` a second.
    pub(crate) fn per_second(now: Instant, size: u32, refill: u32) -> Self {
        let full = u64::from(size) * 1000;
        Self { level: full, full, refill: u64::from(refill), at: now }
    }

    /// Gives everything back: there was progress.
    pub(crate) fn refund(&mut self) {
        self.level = self.full;
    }

    /// Charges one; `false` if there were too many.
    #[must_use]
    pub(crate) fn charge(&mut self, now: Instant) -> bool {
        let refill = now.since(self.at).0.saturating_mul(self.refill);
        self.level = self.level.saturating_add(refill).min(self.full);
        self.at = now;
        let fits = self.level >= 1000;
        if fits {
            self.level -= 1000;
        }
        fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refills_ten_a_second() {
        let at = Instant::from_millis;
        let mut bucket = Bucket::new(at(0), 3);
        assert!((0..3).all(|_| bucket.charge(at(0))));
        assert!(!bucket.charge(at(99)));
        assert!(bucket.charge(at(199)));
        assert!(bucket.charge(Instant::MAX), "no overflow");
    }
}
