//! What a key may ask for, and how often.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use haggle::Model;
use hyper::StatusCode;

use crate::{config::Key, errors::Refused};

/// A rate is counted over so long.
const A_MINUTE: Duration = Duration::from_secs(60);
/// A rate that is higher counts as this one: each request of the last minute is remembered.
const MAX_RATE: u32 = 10_000;

/// What one key may do.
pub(crate) struct Rights {
    /// None: all.
    models: Vec<Model>,
    rate: Option<Rate>,
}

impl Rights {
    pub(crate) fn of(key: &Key) -> Self {
        let rate = key.rate.map(|most| Rate { most: most.get().min(MAX_RATE), asked: Mutex::default() });
        Rights { models: key.models.clone(), rate }
    }

    /// Counts a request, if it is not one too many.
    pub(crate) fn ask(&self, now: Instant) -> Result<(), Refused> {
        let Some(rate) = &self.rate else { return Ok(()) };
        rate.ask(now).map_err(|after| {
            let text = format!("this key may ask {} times a minute, and has", rate.most);
            // In whole seconds, and not before the time.
            let after = Duration::from_secs(after.as_secs() + 1);
            Refused::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_exceeded", text).retry_after(after)
        })
    }

    /// Each model that a request names, also those that it names for the case that others cannot be had.
    pub(crate) fn allow(&self, models: &[Model]) -> Result<(), Refused> {
        let is_allowed = |model: &&Model| self.models.is_empty() || self.models.contains(model);
        let Some(model) = models.iter().find(|model| !is_allowed(model)) else { return Ok(()) };
        let text = format!("this key may not ask for the model {:?}", model.to_text());
        Err(Refused::new(StatusCode::FORBIDDEN, "model_not_allowed", text).param("model"))
    }
}

struct Rate {
    most: u32,
    /// When the requests of the last minute came.
    asked: Mutex<VecDeque<Instant>>,
}

impl Rate {
    /// How long it takes until there is room, if there is none.
    fn ask(&self, now: Instant) -> Result<(), Duration> {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        while asked.front().is_some_and(|first| now.saturating_duration_since(*first) >= A_MINUTE) {
            asked.pop_front();
        }
        match asked.front() {
            Some(first) if asked.len() >= self.most as usize => {
                Err(A_MINUTE.saturating_sub(now.saturating_duration_since(*first)))
            }
            _ => {
                asked.push_back(now);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn in_no_minute_are_there_more_than_the_rate_and_who_waits_as_told_is_let_in(
            most in 1_u32..8, pauses in proptest::collection::vec(0_u64..40_000, 1..80),
        ) {
            let rate = Rate { most, asked: Mutex::default() };
            let (mut now, mut let_in) = (Instant::now(), Vec::new());
            for pause in pauses {
                now += Duration::from_millis(pause);
                if let Err(after) = rate.ask(now) {
                    prop_assert!(after > Duration::ZERO && after <= A_MINUTE);
                    prop_assert!(rate.ask(now + after - Duration::from_millis(1)).is_err(), "no sooner");
                    now += after;
                    prop_assert_eq!(rate.ask(now), Ok(()));
                }
                let_in.push(now);
                let of_minute = let_in.iter().filter(|at| now - **at < A_MINUTE).count();
                prop_assert!(of_minute <= most as usize, "{} in a minute", of_minute);
                prop_assert!(rate.asked.lock().expect("not poisoned").len() <= most as usize);
            }
        }
    }
}
