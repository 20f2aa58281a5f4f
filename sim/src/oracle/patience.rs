//! How long the first token of an attempt is waited for: as long as its offer lets expect, and no longer than the patience of
//! its requester. Only where nothing was delivered before: what a later attempt repeats is not told.

use haggle_core::{
    Event, JobId, PeerId,
    event::{Interrupted, PassedOver},
};

use super::{Judge, Rule};

/// No provider is believed that its first token takes longer, in ms.
const LONGEST: u64 = 3_600_000;

/// A first token that is waited for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wait {
    attempt: u32,
    peer: PeerId,
    awarded: u64,
    /// What the offer said.
    eta: u64,
    /// Once the provider took the job: when nobody waits any more who hears nothing of the work on it, and when nobody does at
    /// all.
    ends: Option<(u64, u64)>,
    /// Its stream was cut: that has a patience of its own.
    was_cut: bool,
}

impl Judge {
    // [C3] [C7]
    pub(super) fn waits(&mut self, job: JobId, event: &Event<'_>) {
        self.check_wait(job, event);
        let (now, is_skewed) = (self.now, self.is_skewed);
        let Some(book) = self.jobs.get_mut(&job) else { return };
        match event {
            Event::Awarded { attempt, quote, .. } => {
                let is_first = book.tokens == 0 && !book.recovered && !is_skewed;
                let (peer, eta) = (quote.peer, quote.eta.0);
                let wait = Wait { attempt: *attempt, peer, awarded: now, eta, ends: None, was_cut: false };
                book.wait = is_first.then_some(wait);
            }
            Event::Negotiated { .. } => self.wait_is_promised(job),
            Event::Cut { patience, .. } => {
                if let Some(wait) = &mut book.wait {
                    wait.was_cut = true;
                    wait.ends = wait.ends.map(|(silent, last)| (silent, last.max(now.saturating_add(patience.0))));
                }
            }
            Event::Tokens { .. } | Event::Ended { .. } => book.wait = None,
            Event::Offered { quote: haggle_core::event::Quote { peer, .. }, .. } | Event::PassedOver { peer, .. } => {
                book.wait = book.wait.filter(|wait| wait.peer != *peer);
            }
            _ => {}
        }
    }

    /// The provider took the job: from here it is known how long it is waited for.
    fn wait_is_promised(&mut self, job: JobId) {
        let Some(book) = self.jobs.get_mut(&job) else { return };
        let (Some(wait), Some(spec)) = (&mut book.wait, &book.spec) else { return };
        let said = self.attempts.get(&(wait.peer, job, wait.attempt)).map_or(0, |known| known.eta.min(LONGEST));
        let (first_token, work_gap) = spec.patience;
        let last = wait.awarded.saturating_add(first_token).max(self.now);
        let silent = self.now.saturating_add(wait.eta.max(said).saturating_mul(4).max(work_gap));
        wait.ends.get_or_insert((silent.min(last), last));
    }

    fn check_wait(&mut self, job: JobId, event: &Event<'_>) {
        let Some(Wait { attempt, peer, ends: Some((silent, last)), was_cut, .. }) =
            self.jobs.get(&job).and_then(|book| book.wait)
        else {
            return;
        };
        let works = self.attempts.get(&(peer, job, attempt)).is_some_and(|known| known.works);
        let until = if works || was_cut { last } else { silent };
        if self.now > until {
            self.fail(Rule::Patience, format_args!("{job:?}: {peer:?} should have been left by {until} ms"));
        }
        let is_given_up = matches!(
            event,
            Event::PassedOver { peer: left, why: PassedOver::Interrupted(Interrupted::FirstToken), .. } if *left == peer
        );
        if is_given_up && !was_cut && self.now < silent {
            self.fail(Rule::Patience, format_args!("{job:?}: {peer:?} is left before {silent} ms"));
        }
    }
}
