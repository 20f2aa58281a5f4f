//! Who is let go, and what is said to whom: no conversation about a price is left open.

use crate::{
    event::{Event, PassedOver, Quote},
    id::{JobId, PeerId, StreamId},
    wire::{Message, message::ReleaseReason},
};

use super::{
    context::{Context, Role},
    job::{Job, Talk, TalkState},
};

impl Job {
    /// A provider is out for this job. Who is out already stays out for its first reason.
    pub(super) fn pass_over(&mut self, cx: &mut Context, peer: PeerId, why: PassedOver) {
        let talk = self.talks.get_mut(&peer);
        debug_assert!(talk.is_some(), "who is passed over was talked to");
        if let Some(talk) = talk.filter(|talk| !matches!(talk.state, TalkState::Out)) {
            talk.state = TalkState::Out;
            talk.failed = true;
            self.last_out = Some(why);
            cx.close_talk(self.id, talk.stream);
            cx.tell(Event::PassedOver { job: self.id, peer, why });
        }
    }

    /// A provider is told that nothing comes of its offer, and is out for this job.
    pub(super) fn turn_down(&mut self, cx: &mut Context, peer: PeerId, reason: ReleaseReason, why: PassedOver) {
        if let Some(talk) = self.talks.get(&peer) {
            talk.release(cx, reason);
        }
        self.pass_over(cx, peer, why);
    }

    /// Tells everybody who was asked that nothing comes of it, and closes their streams.
    pub(super) fn release_talks(&mut self, cx: &mut Context, reason: ReleaseReason) {
        for talk in self.talks.values_mut() {
            talk.release(cx, reason);
            talk.state = TalkState::Out;
            cx.close_talk(self.id, talk.stream);
        }
    }

    /// After the choice: everybody but the winner is released, with the reason.
    pub(super) fn release_losers(&mut self, cx: &mut Context, winner: &Quote) {
        self.talks.retain(|_, talk| {
            if matches!(talk.state, TalkState::Out | TalkState::Awarded) {
                return true;
            }
            talk.release(cx, lost_by(talk, winner));
            cx.close_stream(talk.stream);
            // Not out: who lost by price may be asked again if the winner fails.
            false
        });
    }

    /// Forgets that a provider was talked to: it may be asked again.
    pub(super) fn forget_talk(&mut self, cx: &mut Context, peer: PeerId) {
        if let Some(talk) = self.talks.remove(&peer) {
            cx.close_talk(self.id, talk.stream);
        }
    }

    /// Forgets whom a new question may go to: everybody but those that were passed over.
    pub(super) fn forget_offers(&mut self) {
        self.talks.retain(|_, talk| talk.failed);
    }
}

impl Talk {
    /// Says that nothing comes of it, unless that is known already, or nobody is there to hear it.
    fn release(&self, cx: &mut Context, reason: ReleaseReason) {
        let asked = matches!(self.state, TalkState::Asked | TalkState::Offered { .. });
        if asked && cx.streams.contains_key(&self.stream) {
            cx.outbox.send(self.stream, &Message::Release(reason));
        }
    }
}

impl Context {
    /// Closes a conversation about prices; a stream that carries a Cancel meanwhile is not one.
    fn close_talk(&mut self, job: JobId, stream: StreamId) {
        if self.streams.get(&stream).is_some_and(|state| state.role == Role::Job(job)) {
            self.close_stream(stream);
        }
    }
}

fn lost_by(talk: &Talk, winner: &Quote) -> ReleaseReason {
    match &talk.state {
        TalkState::Offered { quote, .. } if quote.cost > winner.cost => ReleaseReason::Price,
        TalkState::Offered { .. } => ReleaseReason::Time,
        _ => ReleaseReason::Late,
    }
}
