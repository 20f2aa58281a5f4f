//! Offer, and Decline with an offer: what was asked, and how long it binds.

use haggle_core::{
    JobId, PeerId,
    money::Tariff,
    wire::message::{Decline, DeclineReason, Offer},
};

use super::Sent;
use crate::oracle::Judge;

/// No offer is taken to bind for longer, in ms.
const LONGEST_OFFER: u64 = 300_000;

/// What a provider promised with an offer.
#[derive(Clone, Copy, Debug)]
pub(in crate::oracle) struct Promise {
    pub(in crate::oracle) tariff: Tariff,
    pub(in crate::oracle) made: u64,
    pub(in crate::oracle) expires_in: u64,
    /// By the requester's clock, once it has the offer.
    pub(in crate::oracle) until: u64,
}

impl Judge {
    pub(super) fn offer_sent(&mut self, sent: Sent, offer: &Offer) {
        self.asks(sent, offer, false);
    }

    pub(super) fn decline_sent(&mut self, sent: Sent, attempt: Option<(JobId, u32)>, decline: &Decline) {
        if let Some(offer) = &decline.offer {
            self.asks(sent, offer, decline.reason == DeclineReason::Stale);
        }
        if let Some(attempt) = attempt {
            let book = self.streams.entry(sent.stream).or_default();
            let (was_declined, needs) = (std::mem::replace(&mut book.is_declined, true), book.needs.clone());
            let continues =
                self.attempts.get(&(sent.provider, attempt.0, attempt.1)).is_some_and(|known| known.prefix > 0);
            if sent.core && !was_declined && !continues && decline.reason == DeclineReason::Unsupported {
                self.check_inability(sent.provider, &needs);
            }
            self.is_over(sent.provider, attempt);
        }
    }

    /// Notes the prices that a provider asks for, and how long they bind; `anew`: what was asked before is void.
    fn asks(&mut self, sent: Sent, offer: &Offer, anew: bool) {
        let book = self.streams.entry(sent.stream).or_default();
        let asked = book.asked.filter(|_| !anew).map_or(offer.tariff, |asked| lower(asked, offer.tariff));
        book.asked = Some(asked);
        let (tariff, expires_in) = (offer.tariff, offer.expires_in.0);
        let promise = Promise { tariff, made: self.now, expires_in, until: u64::MAX };
        self.offers.insert((sent.provider, offer.offer), promise);
    }

    /// An offer arrives: from here its time runs.
    pub(in crate::oracle) fn offer_arrives(&mut self, peer: PeerId, offer: Option<u64>) {
        if let Some(promised) = offer.and_then(|offer| self.offers.get_mut(&(peer, offer))) {
            promised.until = self.now.saturating_add(promised.expires_in.clamp(1, LONGEST_OFFER));
        }
    }
}

/// The lower of two prices, part by part.
pub(super) fn lower(one: Tariff, other: Tariff) -> Tariff {
    Tariff { fee_in: one.fee_in.min(other.fee_in), price_out: one.price_out.min(other.price_out) }
}
