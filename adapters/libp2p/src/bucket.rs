use std::time::{Duration, Instant};

/// A token bucket that holds one second's worth.
#[derive(Debug)]
pub(crate) struct Bucket {
    per_second: u32,
    /// In thousandths of a token.
    level: u64,
    at: Instant,
}

impl Bucket {
    pub(crate) fn new(per_second: u32, now: Instant) -> Self {
        Bucket { per_second, level: u64::from(per_second) * 1_000, at: now }
    }

    /// Takes what is there of `n` tokens; false if less than one token is left for the next.
    pub(crate) fn take(&mut self, n: u32, now: Instant) -> bool {
        let elapsed = now.saturating_duration_since(self.at).min(Duration::from_secs(1));
        let gained = elapsed.as_millis() as u64 * u64::from(self.per_second);
        if gained > 0 {
            self.at = now;
        }
        self.level = (self.level + gained).min(u64::from(self.per_second) * 1_000);
        self.level = self.level.saturating_sub(u64::from(n) * 1_000);
        self.level >= 1_000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bucket_allows_a_burst_then_its_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::new(8, start);
        assert!((0..7).all(|_| bucket.take(1, start)));
        assert!(!bucket.take(1, start));
        assert!(bucket.take(0, start + Duration::from_millis(125)));
        assert!(!bucket.take(1, start + Duration::from_millis(125)));
        assert!(bucket.take(7, start + Duration::from_secs(60)), "never more than a second's worth is saved");
        assert!(!bucket.take(1, start + Duration::from_secs(60)));
    }
}
