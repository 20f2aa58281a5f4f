//! What does it cost: requests for quote, offers and bids. An offer reserves nothing.

use crate::{
    event::ProviderEvent,
    id::{Model, PeerId, StreamId},
    machine::{Cause, Timeout},
    money::{self, Tariff},
    time::Millis,
    wire::{
        MAX_BIDS, Message,
        message::{Award, BodyKind, Counter, DeclineReason, Offer, Rfq},
    },
};

use super::{
    Provider,
    context::{Context, DeadlineKey},
    haggling::{self, BidAnswer, Prices},
    offers::Open,
};

/// Bytes of a prompt that one token stands for, at most: our own choice, several times of what vocabularies hold. Only what cannot fit at
/// all is refused by it; the engine counts the rest.
const MAX_TOKEN_BYTES: u64 = 256;

impl Provider {
    pub(super) fn on_rfq(&mut self, stream: StreamId, peer: PeerId, rfq: Rfq) {
        let model = rfq.model.clone();
        let prompt_tokens = fewest_tokens(rfq.body_bytes);
        let answer = match self.cx.price(&rfq.model, rfq.body_bytes, prompt_tokens, rfq.max_tokens) {
            Ok(_) if self.cx.outage(&rfq.model).is_some() || self.is_full_for(peer) => Err(DeclineReason::Busy),
            Ok(tariff) => self.make_offer(peer, rfq, tariff, 0).ok_or(DeclineReason::Busy),
            Err(reason) => Err(reason),
        };
        let told = answer.as_ref().map(|offer| offer.tariff).map_err(|reason| *reason);
        self.cx.outbox.event(ProviderEvent::Quoted { peer, model: model.clone(), answer: told });
        match answer {
            Ok(offer) => self.cx.outbox.send(stream, &Message::Offer(offer)),
            Err(reason) => self.decline_for(&model, stream, reason, None),
        }
    }

    /// A bid: taken, or answered with a lower offer, or refused with the last one, which binds again.
    pub(super) fn on_counter(&mut self, stream: StreamId, peer: PeerId, counter: &Counter) {
        if self.cx.is_closing() {
            return self.refuse(stream, peer, DeclineReason::Draining, None);
        }
        self.cx.offers.expire(self.cx.now);
        let known = self.cx.offers.get(counter.offer);
        let Some(open) = known.filter(|open| open.peer == peer && open.rfq.rfq == counter.rfq).cloned() else {
            // [N5]
            return self.refuse(stream, peer, DeclineReason::Stale, None);
        };
        let Some(serving) = self.cx.service.find(&open.rfq.model) else {
            return self.refuse(stream, peer, DeclineReason::UnknownModel, None);
        };
        let Some(posted) = serving.posted(open.rfq.body_bytes) else {
            return self.refuse(stream, peer, DeclineReason::Unsupported, None);
        };
        let floor = serving.floor(&posted);
        // [N3] What was bid on binds no longer.
        self.cx.offers.take(counter.offer);
        let patience = self.cx.bidders.bid(self.cx.now, &self.cx.limits, (peer, open.rfq.model.clone()));
        let round = if patience { open.round } else { MAX_BIDS };
        match haggling::answer(&Prices { posted, floor, ask: open.tariff }, counter.tariff, round) {
            BidAnswer::Taken(tariff) => self.offer(stream, peer, open.rfq, tariff, MAX_BIDS),
            // [N4] Never up.
            BidAnswer::Lowered(tariff) => self.offer(stream, peer, open.rfq, tariff, open.round + 1),
            // [N4] The last offer goes with the refusal, and binds.
            BidAnswer::TooCheap => {
                let last = self.make_offer(peer, open.rfq, open.tariff, MAX_BIDS);
                self.refuse(stream, peer, DeclineReason::TooCheap, last);
            }
        }
    }

    /// Whether an award's terms are offered; if not, why, with what would be taken now.
    pub(super) fn check_terms(&mut self, peer: PeerId, award: &Award) -> Result<(), (DeclineReason, Option<Offer>)> {
        self.cx.offers.expire(self.cx.now);
        let tail = award.prefix_bytes.saturating_add(award.prefix_id_bytes.unwrap_or(0));
        let prompt_tokens = match award.kind {
            // Each has four bytes.
            BodyKind::Tokens => award.body_bytes.saturating_sub(tail) / 4,
            BodyKind::Chat | BodyKind::Raw => fewest_tokens(award.body_bytes),
            // An image has many bytes and few tokens.
            BodyKind::Request => 1,
        };
        let posted = self.cx.price(&award.model, award.body_bytes, prompt_tokens, award.max_tokens);
        let posted = posted.map_err(|reason| (reason, None))?;
        let size = money::quoted_size(award.body_bytes);
        let agreed = match award.offer {
            // [A2]
            None => posted == award.tariff,
            // [N2] Binds towards this peer, and for no more than was asked about.
            Some(id) => self.cx.offers.get(id).is_some_and(|open| {
                open.peer == peer
                    && open.rfq.model == award.model
                    && open.tariff == award.tariff
                    && size <= open.rfq.body_bytes
                    && award.max_tokens.saturating_sub(u64::from(award.overlap)) <= open.rfq.max_tokens
            }),
        };
        if agreed {
            // [N2] Once.
            award.offer.map(|id| self.cx.offers.take(id));
            self.cx.bidders.awarded(&(peer, award.model.clone()));
            self.cx.index_offers();
            return Ok(());
        }
        let rfq = Rfq { rfq: 0, model: award.model.clone(), body_bytes: size, max_tokens: award.max_tokens };
        // [N5] [A2] With what would be taken now.
        Err((DeclineReason::Stale, self.make_offer(peer, rfq, posted, MAX_BIDS)))
    }

    /// Declines an award or a bid, and tells of it.
    pub(super) fn refuse(&mut self, stream: StreamId, peer: PeerId, reason: DeclineReason, offer: Option<Offer>) {
        self.cx.outbox.event(ProviderEvent::Declined { peer, reason });
        self.decline(stream, reason, offer);
    }

    pub(super) fn decline(&mut self, stream: StreamId, reason: DeclineReason, offer: Option<Offer>) {
        self.decline_until(stream, Millis::ZERO, reason, offer);
    }

    /// [`decline`](Self::decline), for a model that may be in an outage: come again when that is over.
    pub(super) fn decline_for(&mut self, model: &Model, stream: StreamId, reason: DeclineReason, offer: Option<Offer>) {
        let outage = self.cx.outage(model).unwrap_or_default();
        self.decline_until(stream, outage, reason, offer);
    }

    fn decline_until(&mut self, stream: StreamId, outage: Millis, reason: DeclineReason, offer: Option<Offer>) {
        let passes = matches!(reason, DeclineReason::Busy | DeclineReason::PeerLimit);
        let retry_after = passes.then(|| self.wait().max(outage));
        self.cx.decline(stream, reason, retry_after, offer);
    }

    fn offer(&mut self, stream: StreamId, peer: PeerId, rfq: Rfq, tariff: Tariff, round: u32) {
        match self.make_offer(peer, rfq, tariff, round) {
            Some(offer) => self.cx.outbox.send(stream, &Message::Offer(offer)),
            None => self.refuse(stream, peer, DeclineReason::Busy, None),
        }
    }

    fn make_offer(&mut self, peer: PeerId, rfq: Rfq, tariff: Tariff, round: u32) -> Option<Offer> {
        let offer = Offer {
            rfq: rfq.rfq,
            offer: self.cx.rng.bits().max(1),
            tariff,
            eta: self.eta(&rfq.model),
            expires_in: self.cx.service.offer_expiry,
            methods: None,
        };
        let expires = self.cx.now.after(self.cx.service.offer_expiry);
        let kept = self.cx.offers.keep(&self.cx.limits, offer.offer, expires, Open { peer, rfq, tariff, round });
        self.cx.index_offers();
        kept.then_some(offer)
    }
}

impl Context {
    /// Drops offers that bind no longer.
    pub(super) fn expire_offers(&mut self) {
        self.offers.expire(self.now);
        self.index_offers();
    }

    /// The posted price of a request whose prompt has so many tokens at least, or why it gets none.
    // [N6]
    fn price(
        &self,
        model: &Model,
        body_bytes: u64,
        prompt_tokens: u64,
        max_tokens: u64,
    ) -> Result<Tariff, DeclineReason> {
        if self.is_closing() {
            return Err(DeclineReason::Draining);
        }
        let serving = self.service.find(model).ok_or(DeclineReason::UnknownModel)?;
        if max_tokens == 0 || body_bytes == 0 || body_bytes > money::quoted_size(self.limits.body_bytes) {
            return Err(DeclineReason::Unsupported);
        }
        // How many tokens the prompt has, the engine alone can tell; but it has one at least, and leaves room for another.
        let context = u64::from(serving.advert.context);
        if max_tokens >= context || prompt_tokens >= context {
            return Err(DeclineReason::Context);
        }
        serving.posted(body_bytes).ok_or(DeclineReason::Unsupported)
    }

    fn index_offers(&mut self) {
        let due = self.offers.next_expiry().map(|at| Timeout { at, cause: Cause::OfferExpiry });
        self.deadlines.set(self.now, DeadlineKey::Offers, due);
    }
}

/// What a body has of tokens at least, whatever reads it.
const fn fewest_tokens(body_bytes: u64) -> u64 {
    body_bytes.div_ceil(MAX_TOKEN_BYTES)
}
