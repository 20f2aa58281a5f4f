//! When a job that came now would have its first token: the settings' word is a guess, until jobs were served. What is learned is
//! an average that a quarter of each new job goes into, as TCP's round trips are averaged (RFC 6298), with more weight for what is new.

use crate::{id::Model, time::Millis};

use super::{Provider, context::Context};

/// So long it is believed what the last job's first token took: who says that he is slow gets no job that could show that he is
/// slow no more.
const MEMORY: Millis = Millis::from_secs(600);

impl Provider {
    /// Expected time to the first token of a job that came now: until it has a slot, and from then on.
    pub(super) fn eta(&self, model: &Model) -> Millis {
        Millis(self.cx.first_token(model).0.saturating_add(self.wait().0))
    }

    /// Expected time until a job that came now would have a slot.
    pub(super) fn wait(&self) -> Millis {
        let slots = u64::from(self.cx.service.slots);
        let ahead = (self.holding() as u64 + 1).saturating_sub(slots);
        if ahead == 0 {
            return Millis::ZERO;
        }
        let typical = self.cx.slot_time().0;
        // Who is gone gives its slot up soon, since somebody would wait for it.
        let gone = self.jobs.values().filter(|job| job.is_running() && job.is_cut());
        let left = gone.map(|job| job.yields_at().since(self.cx.now).0.min(typical));
        let (mut whole, mut sum) = (ahead, 0_u64);
        for left in left.take(usize::try_from(ahead).unwrap_or(usize::MAX)) {
            whole -= 1;
            sum = sum.saturating_add(left);
        }
        Millis(sum.saturating_add(typical.saturating_mul(whole)) / slots.max(1))
    }
}

impl Context {
    /// Time from a slot to the first token, of a model that is served: as its jobs had it, or else as the settings guess.
    pub(super) fn first_token(&self, model: &Model) -> Millis {
        let serving = self.service.find(model);
        serving.map_or(Millis::ZERO, |serving| {
            let learned = self.first_tokens.get(&serving.advert.model).filter(|(_, at)| self.now < at.after(MEMORY));
            learned.map_or(serving.advert.eta, |(learned, _)| *learned)
        })
    }

    /// A job wrote its first token so long after it had its slot.
    pub(super) fn note_first_token(&mut self, model: &Model, took: Millis) {
        let Some(serving) = self.service.find(model) else { return };
        let model = serving.advert.model.clone();
        let (learned, at) = self.first_tokens.entry(model).or_insert((took, self.now));
        *learned = if self.now < at.after(MEMORY) { average(*learned, took) } else { took };
        *at = self.now;
    }

    /// Forgets models that are not served any more.
    pub(super) fn retain_first_tokens(&mut self) {
        let served = &self.service.models;
        self.first_tokens.retain(|model, _| served.iter().any(|serving| serving.advert.model == *model));
    }

    /// A job had its slot so long.
    pub(super) fn note_duration(&mut self, took: Millis) {
        self.typical = if self.typical == Millis::ZERO { took } else { average(self.typical, took) };
    }

    /// How long a job has its slot, typically: as long as none had one, the slowest model's first token is all there is to go by.
    fn slot_time(&self) -> Millis {
        let slowest = || self.service.models.iter().map(|serving| self.first_token(&serving.advert.model)).max();
        if self.typical == Millis::ZERO { slowest().unwrap_or_default() } else { self.typical }
    }
}

/// Rounded towards the new one, so that it gets there.
const fn average(learned: Millis, took: Millis) -> Millis {
    let (old, new) = (learned.0, took.0);
    Millis(if new >= old { old + (new - old).div_ceil(4) } else { old - (old - new).div_ceil(4) })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Between the two, a quarter of the way or what is left of it: a steady server's time is reached, and no sum overflows.
        #[test]
        fn an_average_moves_to_what_is_steady(start: u64, steady: u64) {
            let mut learned = Millis(start);
            for _ in 0..200 {
                let next = average(learned, Millis(steady));
                prop_assert!(next.0.abs_diff(steady) <= learned.0.abs_diff(steady) / 4 * 3 + 3);
                learned = next;
            }
            prop_assert_eq!(learned, Millis(steady));
        }
    }
}
