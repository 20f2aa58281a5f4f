//! Accepted: the terms are those of the Award, and those that were offered; nothing is computed twice.

use haggle_core::{JobId, PeerId, money::Tariff, wire::message::Accepted};

use super::Sent;
use crate::oracle::{Judge, Rule};

impl Judge {
    pub(super) fn accepted_sent(&mut self, sent: Sent, (job, attempt): (JobId, u32), accepted: &Accepted) {
        let Sent { stream, provider, core, .. } = sent;
        let book = self.streams.entry(stream).or_default();
        book.body_credit = accepted.body_credit;
        let (epoch, echoed, awarded) = (book.epoch, book.terms == accepted.terms, book.awarded);
        let needs = book.needs.clone();
        if core && epoch == 1 {
            self.takes(provider, awarded);
        }
        self.attaches(provider, (job, attempt), epoch, core);
        let forgot = !core || self.forgetful.contains(&provider);
        let known = self.attempts.entry((provider, job, attempt)).or_default();
        let again = known.sent > known.prefix && accepted.body_credit > 0 && !forgot && !known.is_cancelled;
        let window = (u64::from(accepted.window_tokens), u64::from(accepted.window_bytes));
        let is_first = known.window.is_none();
        known.window.get_or_insert(window);
        known.eta = known.eta.max(accepted.eta.map_or(0, |eta| eta.0));
        known.echoed |= echoed;
        if core && is_first {
            self.check_ability(provider, &needs);
        }
        if again {
            self.fail(Rule::Recovery, format_args!("{job:?}: {provider:?} computes attempt {attempt} again"));
        }
    }

    /// A provider of the core accepts: what it offered, and only as long as that bound.
    fn takes(&mut self, from: PeerId, awarded: Option<(Option<u64>, Tariff)>) {
        let Some((Some(offer), tariff)) = awarded else { return };
        let Some(promise) = self.offers.get(&(from, offer)).copied() else {
            return self.fail(Rule::Terms, format_args!("{from:?} accepts an offer that it did not make"));
        };
        if promise.tariff != tariff {
            self.fail(Rule::Terms, format_args!("{from:?} accepts {tariff:?}, it offered {:?}", promise.tariff));
        }
        if !self.is_skewed && self.now > promise.made.saturating_add(promise.expires_in) {
            self.fail(Rule::Offers, format_args!("{from:?} accepts an offer that expired"));
        }
    }

    /// What is agreed echoes the award.
    pub(in crate::oracle) fn echoed(&mut self, job: JobId, attempt: u32, peer: PeerId) {
        if !self.attempts.get(&(peer, job, attempt)).is_some_and(|known| known.echoed) {
            self.fail(Rule::Terms, format_args!("{job:?}: {peer:?} accepted other terms than were awarded"));
        }
    }
}
