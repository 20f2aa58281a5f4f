//! Who is let go, and what is said to whom: no conversation about a price is left open.

use crate::{
    event::{Event, PassedOver, Quote},
    id::{JobId, PeerId, StreamId},
    wire::{Message, message::ReleaseReason},
};

use super::{
    context::{Context, Role},
    job::{Job, Negotiation, NegotiationState},
};

impl Job {
    /// A provider is out for this job. Who is out already stays out for its first reason.
    pub(super) fn pass_over(&mut self, cx: &mut Context, peer: PeerId, why: PassedOver) {
        let negotiation = self.negotiations.get_mut(&peer);
        debug_assert!(negotiation.is_some(), "who is passed over was talked to");
        if let Some(negotiation) = negotiation.filter(|negotiation| !matches!(negotiation.state, NegotiationState::Out))
        {
            negotiation.state = NegotiationState::Out;
            negotiation.failed = true;
            self.last_out = Some(why);
            cx.close_negotiation(self.id, negotiation.stream);
            cx.tell(Event::PassedOver { job: self.id, peer, why });
        }
    }

    /// A provider is told that nothing comes of its offer, and is out for this job.
    pub(super) fn turn_down(&mut self, cx: &mut Context, peer: PeerId, reason: ReleaseReason, why: PassedOver) {
        if let Some(negotiation) = self.negotiations.get(&peer) {
            negotiation.release(cx, reason);
        }
        self.pass_over(cx, peer, why);
    }

    /// Tells everybody who was asked that nothing comes of it, and closes their streams.
    pub(super) fn release_negotiations(&mut self, cx: &mut Context, reason: ReleaseReason) {
        for negotiation in self.negotiations.values_mut() {
            negotiation.release(cx, reason);
            negotiation.state = NegotiationState::Out;
            cx.close_negotiation(self.id, negotiation.stream);
        }
    }

    /// After the choice: everybody but the winner is released, with the reason.
    pub(super) fn release_losers(&mut self, cx: &mut Context, winner: &Quote) {
        self.negotiations.retain(|_, negotiation| {
            if matches!(negotiation.state, NegotiationState::Out | NegotiationState::Awarded) {
                return true;
            }
            negotiation.release(cx, lost_by(negotiation, winner));
            cx.close_stream(negotiation.stream);
            // Not out: who lost by price may be asked again if the winner fails.
            false
        });
    }

    /// Forgets that a provider was talked to: it may be asked again.
    pub(super) fn forget_negotiation(&mut self, cx: &mut Context, peer: PeerId) {
        if let Some(negotiation) = self.negotiations.remove(&peer) {
            cx.close_negotiation(self.id, negotiation.stream);
        }
    }

    /// Forgets whom a new question may go to: everybody but those that were passed over.
    pub(super) fn forget_offers(&mut self) {
        self.negotiations.retain(|_, negotiation| negotiation.failed);
    }
}

impl Negotiation {
    /// Says that nothing comes of it, unless that is known already, or nobody is there to hear it.
    fn release(&self, cx: &mut Context, reason: ReleaseReason) {
        let asked = matches!(self.state, NegotiationState::Asked | NegotiationState::Offered { .. });
        if asked && cx.streams.contains_key(&self.stream) {
            cx.outbox.send(self.stream, &Message::Release(reason));
        }
    }
}

impl Context {
    /// Closes a conversation about prices; a stream that carries a Cancel meanwhile is not one.
    fn close_negotiation(&mut self, job: JobId, stream: StreamId) {
        if self.streams.get(&stream).is_some_and(|state| state.role == Role::Job(job)) {
            self.close_stream(stream);
        }
    }
}

fn lost_by(negotiation: &Negotiation, winner: &Quote) -> ReleaseReason {
    match &negotiation.state {
        NegotiationState::Offered { quote, .. } if quote.cost > winner.cost => ReleaseReason::Price,
        NegotiationState::Offered { .. } => ReleaseReason::Time,
        _ => ReleaseReason::Late,
    }
}
