//! What does it cost: requests for quote, offers, bids, and refusals.

use alloc::vec::Vec;

use crate::{
    event::{Event, PassedOver, Quote, Violation},
    id::PeerId,
    limits::MAX_ETA,
    money::{self, Tariff},
    retry,
    spec::Haggle,
    time::Millis,
    wire::{
        MAX_BIDS, Message,
        message::{Counter, Decline, DeclineReason, Offer, Rfq},
    },
};

use super::{
    context::{Context, Role},
    job::{Job, JobState, Negotiation, NegotiationState, Next},
    search::Survey,
    selection,
};

/// Times that a provider may find its own terms stale within one job.
const MAX_STALE: u32 = 2;

impl Job {
    /// Asks candidates for offers: sizes only.
    pub(super) fn ask(&mut self, cx: &mut Context, survey: Survey) {
        let (max_tokens, funds) = (self.left(), self.funds());
        let k = cx.policy.candidates as usize;
        let pool = if self.explain { survey.fit.clone() } else { Vec::new() };
        let asked = selection::choose_asked(&mut cx.rng, survey.fit, k, max_tokens, funds);
        self.explain_asking(cx, &pool, &asked, &survey.left_out);
        for candidate in asked {
            let stream = cx.open_stream(candidate.peer, Role::Job(self.id));
            let body_bytes = money::quoted_size(self.body_bytes_for(cx, &candidate.peer));
            // [N1] Nothing of the job but how large it is.
            let rfq = Rfq { rfq: cx.rng.bits().max(1), model: self.criteria.model.clone(), body_bytes, max_tokens };
            self.negotiations.insert(candidate.peer, Negotiation::new(stream, rfq.rfq));
            cx.outbox.send(stream, &Message::Rfq(rfq));
            cx.tell(Event::Asked { job: self.id, peer: candidate.peer });
        }
        self.state = JobState::Asking { until: cx.now.after(cx.policy.offer_timeout), closes: None };
    }

    /// A message of somebody who is not awarded.
    pub(super) fn on_negotiation_message(
        &mut self,
        cx: &mut Context,
        peer: PeerId,
        message: &Message<'_>,
    ) -> Result<Next, Violation> {
        debug_assert!(
            self.negotiations.contains_key(&peer),
            "a stream of a job that carries no attempt carries a negotiation"
        );
        match message {
            Message::Offer(offer) => self.on_offer(cx, peer, offer, false),
            Message::Decline(Decline { offer: Some(offer), .. }) => self.on_offer(cx, peer, offer, true),
            Message::Decline(decline) => {
                self.on_declined(cx, peer, decline);
                Ok(self.check_offers(cx))
            }
            _ => Err(Violation::Unexpected),
        }
    }

    /// An offer, or a final one inside a refusal of a bid.
    fn on_offer(&mut self, cx: &mut Context, peer: PeerId, offer: &Offer, is_final: bool) -> Result<Next, Violation> {
        let left = self.left();
        let negotiation = self
            .negotiations
            .get_mut(&peer)
            .filter(|negotiation| negotiation.is_open() && negotiation.rfq == offer.rfq);
        let negotiation = negotiation.ok_or(Violation::Unexpected)?;
        // [N4]
        if negotiation.last.is_some_and(|last| !within(&offer.tariff, &last)) {
            return Err(Violation::Terms);
        }
        let first = *negotiation.first.get_or_insert(offer.tariff);
        negotiation.last = Some(offer.tariff);
        if let Haggle::Bid(permille) = self.haggle {
            let own = bid(&first, permille, negotiation.rounds);
            // [N3]
            if !is_final && negotiation.rounds < MAX_BIDS && !within(&offer.tariff, &own) {
                negotiation.rounds += 1;
                let counter = Counter { rfq: negotiation.rfq, offer: offer.offer, tariff: own };
                cx.outbox.send(negotiation.stream, &Message::Counter(counter));
                return Ok(Next::Stay);
            }
        }
        let quote = Quote {
            peer,
            offer: Some(offer.offer),
            tariff: offer.tariff,
            cost: offer.tariff.cost(left),
            eta: offer.eta.min(MAX_ETA),
        };
        // [C3] From its arrival on, by our clock, and no longer than we allow.
        let expires = cx.now.after(offer.expires_in.clamped(Millis(1), cx.policy.offer_expiry));
        negotiation.state = NegotiationState::Offered { quote: quote.clone(), expires };
        cx.tell(Event::Offered { job: self.id, quote });
        Ok(self.check_offers(cx))
    }

    /// A refusal. Who is busy is out for now only: a later round may ask again.
    pub(super) fn on_declined(&mut self, cx: &mut Context, peer: PeerId, decline: &Decline) {
        self.pass_over(cx, peer, PassedOver::Declined(decline.reason));
        if matches!(decline.reason, DeclineReason::Busy | DeclineReason::PeerLimit) {
            let after = retry::pushback(decline.retry_after.unwrap_or(Millis::ZERO));
            self.busy = Some(self.busy.map_or(after, |known| known.min(after)));
            if let Some(negotiation) = self.negotiations.get_mut(&peer) {
                negotiation.failed = false;
            }
        }
    }

    /// A provider whose terms changed since they were known names the new ones: they are one more offer.
    ///
    /// What it is held to no more, an old advert or an expired offer, was no lie: it is not out, and its price may have risen.
    /// But that is taken from it so often only, or terms that are stale whenever they are awarded would hold the job up until
    /// its deadline.
    pub(super) fn on_stale(&mut self, cx: &mut Context, peer: PeerId, offer: &Offer) -> Result<Next, Violation> {
        let negotiation = self.negotiations.get_mut(&peer).ok_or(Violation::Unexpected)?;
        negotiation.stale += 1;
        if negotiation.stale > MAX_STALE {
            self.pass_over(cx, peer, PassedOver::Declined(DeclineReason::Stale));
            return Ok(Next::Choose);
        }
        negotiation.rfq = offer.rfq;
        negotiation.state = NegotiationState::Asked;
        (negotiation.first, negotiation.last) = (None, None);
        self.state = JobState::Asking { until: cx.now.after(cx.policy.offer_timeout), closes: None };
        self.on_offer(cx, peer, offer, true)
    }
}

/// The bid of a round: the first is `permille` of what was asked first, each further one goes half of the way up from there.
fn bid(asked: &Tariff, permille: u32, round: u32) -> Tariff {
    let missing = u128::from(1000_u32.saturating_sub(permille)) >> round.min(31);
    // Rounded up, so that a bid on a price of 1 is not 0.
    let share = |ask: u64| u64::try_from((u128::from(ask) * (1000 - missing)).div_ceil(1000)).unwrap_or(ask);
    Tariff { fee_in: share(asked.fee_in), price_out: share(asked.price_out) }
}

/// Whether a price is nowhere above another.
const fn within(price: &Tariff, bound: &Tariff) -> bool {
    price.fee_in <= bound.fee_in && price.price_out <= bound.price_out
}
