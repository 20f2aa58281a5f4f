//! Whether a job may try again, and when.
//!
//! Three bounds hold together: attempts, the deadline, and a quota over all jobs of a node.
//! The quota is what keeps an outage from being answered with a multiple of the load.

use crate::time::{Instant, Millis};

/// Thousandths of a token that the quota holds.
const FULL: u32 = 10_000;
/// What a job that succeeded at its first try gives back.
const EARNED: u32 = 200;
/// What a retry takes.
const RETRY: u32 = 1000;
/// What a retry after a timeout takes: the provider may still be at work.
const RETRY_AFTER_TIMEOUT: u32 = 2000;

/// The shortest pause that a provider can ask for.
const SHORTEST_PUSHBACK: Millis = Millis(100);
/// The longest.
pub(crate) const LONGEST_PUSHBACK: Millis = Millis::from_secs(60);

/// How long a provider that asked for it is left alone.
pub(crate) fn pushback(asked: Millis) -> Millis {
    asked.clamped(SHORTEST_PUSHBACK, LONGEST_PUSHBACK)
}

/// The bucket that bounds retries over all jobs. It starts full, only successes refill it, time never does.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct RetryQuota {
    left: u32,
}

/// What is known when an attempt has failed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Retry {
    /// Attempts of the job so far.
    pub attempts: u32,
    /// Attempts may be one more than this.
    pub max_retries: u32,
    /// When the job has to be over.
    pub deadline: Instant,
    /// The drawn pause before the next attempt; see [`crate::backoff::pause`].
    pub pause: Millis,
    /// The attempt ended by a timeout.
    pub timed_out: bool,
    /// It had brought a token, or refused the request: nothing that more attempts could overload. The quota is not asked.
    pub exempt: bool,
}

/// Why a job that failed was not tried any further.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, minicbor::Encode, minicbor::Decode)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
#[cbor(index_only)]
pub enum NoRetry {
    /// It had all the attempts, or all the rounds of asking, that [`max_retries`](crate::Policy::max_retries) allows.
    #[n(0)]
    Attempts,
    /// Its deadline would be over before the next attempt began.
    #[n(1)]
    Deadline,
    /// Too much fails at this node: the retries of all its jobs together are bounded.
    #[n(2)]
    Quota,
    /// Tokens were delivered, and its [`Failover`](crate::spec::Failover) lets nobody else go on.
    #[n(3)]
    Failover,
    /// Tokens were delivered, and their text is held no more: nobody can continue what he can not be shown.
    #[n(4)]
    Forgotten,
    /// Whoever could go on is beyond the budget.
    #[n(5)]
    Budget,
    /// Nobody is left who could be asked.
    #[n(6)]
    Nobody,
    /// All tokens were delivered: nothing is left to write.
    #[n(7)]
    Complete,
}

impl Default for RetryQuota {
    fn default() -> Self {
        Self { left: FULL }
    }
}

impl RetryQuota {
    /// When the next attempt may begin. Takes from the quota only if it may.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) fn may_retry(&mut self, now: Instant, retry: &Retry) -> Result<Instant, NoRetry> {
        if retry.attempts > retry.max_retries {
            return Err(NoRetry::Attempts);
        }
        let at = now.after(retry.pause);
        if at >= retry.deadline {
            return Err(NoRetry::Deadline);
        }
        if !retry.exempt {
            let cost = if retry.timed_out { RETRY_AFTER_TIMEOUT } else { RETRY };
            self.left = self.left.checked_sub(cost).ok_or(NoRetry::Quota)?;
        }
        Ok(at)
    }

    /// A job succeeded at its first try.
    pub(crate) fn first_try_succeeded(&mut self) {
        self.left = (self.left + EARNED).min(FULL);
    }

    /// A quota with so many thousandths left, if it can hold them.
    pub(crate) fn with(left: u32) -> Option<Self> {
        (left <= FULL).then_some(Self { left })
    }

    /// Thousandths of a token left.
    #[must_use]
    pub(crate) const fn left(&self) -> u32 {
        self.left
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Instant = Instant::from_millis(1000);
    const RETRY_NOW: Retry = Retry {
        attempts: 1,
        max_retries: 3,
        deadline: Instant::MAX,
        pause: Millis(250),
        timed_out: false,
        exempt: false,
    };

    #[test]
    fn ten_retries_or_five_after_timeouts_and_time_brings_none_back() {
        for (timed_out, granted) in [(false, 10), (true, 5)] {
            let mut quota = RetryQuota::default();
            let retry = Retry { timed_out, ..RETRY_NOW };
            for _ in 0..granted {
                assert_eq!(quota.may_retry(NOW, &retry), Ok(Instant::from_millis(1250)));
            }
            let much_later = Instant::from_millis(u64::MAX / 2);
            assert_eq!(quota.may_retry(much_later, &retry), Err(NoRetry::Quota));
            // Five first tries that succeed earn one retry; ten earn one after a timeout.
            let earned = 5 * 10 / granted;
            for _ in 1..earned {
                quota.first_try_succeeded();
            }
            assert_eq!(quota.may_retry(NOW, &retry), Err(NoRetry::Quota));
            quota.first_try_succeeded();
            assert!(quota.may_retry(NOW, &retry).is_ok());
        }
    }

    #[test]
    fn each_bound_has_its_edge() {
        let ask = |retry: Retry| {
            let mut quota = RetryQuota::default();
            let answer = quota.may_retry(NOW, &retry);
            assert_eq!(answer.is_err() || retry.exempt, quota.left() == FULL, "taken only if granted");
            answer
        };
        assert!(ask(Retry { attempts: 3, ..RETRY_NOW }).is_ok());
        assert_eq!(ask(Retry { attempts: 4, ..RETRY_NOW }), Err(NoRetry::Attempts));
        assert_eq!(ask(Retry { max_retries: 0, ..RETRY_NOW }), Err(NoRetry::Attempts));
        assert!(ask(Retry { deadline: Instant::from_millis(1251), ..RETRY_NOW }).is_ok());
        assert_eq!(ask(Retry { deadline: Instant::from_millis(1250), ..RETRY_NOW }), Err(NoRetry::Deadline));
        assert!(ask(Retry { exempt: true, timed_out: true, ..RETRY_NOW }).is_ok());
    }

    #[test]
    fn after_the_first_token_an_empty_quota_refuses_nobody() {
        let mut quota = RetryQuota { left: 0 };
        assert!(quota.may_retry(NOW, &Retry { exempt: true, ..RETRY_NOW }).is_ok());
        assert_eq!(quota.may_retry(NOW, &RETRY_NOW), Err(NoRetry::Quota));
    }

    #[test]
    fn pushback_is_clamped() {
        for (asked, pause) in [(0, 100), (100, 100), (251, 251), (60_000, 60_000), (60_001, 60_000), (u64::MAX, 60_000)]
        {
            assert_eq!(pushback(Millis(asked)), Millis(pause), "{asked} ms");
        }
    }

    proptest! {
        #[test]
        fn in_an_outage_retries_stay_below_the_quota(jobs in 0_u32..2000, healthy in 0_u32..100) {
            let mut quota = RetryQuota::default();
            (0..healthy).for_each(|_| quota.first_try_succeeded());
            let retries = (0..jobs).filter(|_| quota.may_retry(NOW, &RETRY_NOW).is_ok()).count();
            prop_assert_eq!(retries, jobs.min(10) as usize);
        }

        #[test]
        fn any_figures_are_legal(now: u64, pause: u64, deadline: u64, attempts: u32, max_retries: u32) {
            let retry = Retry {
                attempts,
                max_retries,
                deadline: Instant::from_millis(deadline),
                pause: Millis(pause),
                ..RETRY_NOW
            };
            if let Ok(at) = RetryQuota::default().may_retry(Instant::from_millis(now), &retry) {
                prop_assert!(at.as_millis() < deadline && at.as_millis() >= now);
            }
        }
    }
}
