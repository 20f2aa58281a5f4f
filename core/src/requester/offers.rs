//! Which offers will do, and how long they are waited for.

use alloc::vec::Vec;

use crate::{
    event::{PassedOver, Quote},
    id::PeerId,
    wire::message::ReleaseReason,
};

use super::{
    context::Context,
    job::{Job, JobState, Negotiation, NegotiationState, Next},
};

impl Job {
    /// Chooses when every provider answered; when one offer is acceptable, sets the others a time.
    pub(super) fn check_offers(&mut self, cx: &Context) -> Next {
        if !matches!(self.state, JobState::Asking { .. }) {
            return Next::Stay;
        }
        if !self.negotiations.values().any(Negotiation::is_open) {
            return Next::Choose;
        }
        let acceptable = !self.acceptable(cx).is_empty();
        if let JobState::Asking { closes, .. } = &mut self.state
            && acceptable
        {
            closes.get_or_insert(cx.now.after(cx.policy.offer_window));
        }
        Next::Stay
    }

    /// Enough time was given to offers: who has not answered is late. Who is late only because somebody else was quick may be
    /// asked again if that one fails.
    pub(super) fn on_offer_window(&mut self, cx: &mut Context) -> Next {
        let acceptable = !self.acceptable(cx).is_empty();
        let late: Vec<PeerId> =
            self.negotiations.iter().filter(|(_, negotiation)| negotiation.is_open()).map(|(peer, _)| *peer).collect();
        for peer in late {
            self.turn_down(cx, peer, ReleaseReason::Late, PassedOver::Late);
            if acceptable {
                self.forget_negotiation(cx, peer);
            }
        }
        Next::Choose
    }

    /// Somebody was lost while prices were talked about.
    pub(super) fn on_negotiation_lost(&mut self, cx: &mut Context, peer: PeerId, why: PassedOver) -> Next {
        if matches!(self.state, JobState::Awarded(_) | JobState::Waiting { .. }) {
            // It waited for a choice that fell elsewhere: nobody's fault.
            self.forget_negotiation(cx, peer);
            return Next::Stay;
        }
        self.pass_over(cx, peer, why);
        if matches!(self.state, JobState::Choosing) && self.acceptable(cx).is_empty() {
            return Next::Choose;
        }
        self.check_offers(cx)
    }

    /// Offers that bind and fit budget and deadline. Notes the cheapest that does not fit the budget.
    pub(super) fn acceptable(&mut self, cx: &Context) -> Vec<Quote> {
        let room = self.room(cx);
        let offered = || self.negotiations.values().filter_map(|negotiation| negotiation.offered(cx.now));
        let beyond = offered().map(|quote| quote.cost).filter(|cost| room.is_some_and(|room| *cost > room)).min();
        let acceptable: Vec<Quote> = offered().filter(|quote| self.is_acceptable(cx, quote)).cloned().collect();
        if let Some(beyond) = beyond {
            self.unaffordable = Some(self.unaffordable.map_or(beyond, |known| known.min(beyond)));
        }
        acceptable
    }

    pub(super) fn is_acceptable(&self, cx: &Context, quote: &Quote) -> bool {
        let affordable = self.room(cx).is_none_or(|room| quote.cost <= room);
        affordable && cx.now.after(quote.eta) < self.until
    }

    /// What the job can still spend, by its own budget and the node's.
    pub(super) fn room(&self, cx: &Context) -> Option<u128> {
        match (self.funds(), cx.account.remaining()) {
            (Some(job), Some(node)) => Some(job.min(node)),
            (funds, _) => funds,
        }
    }

    /// None of those asked will do: they are let go, and whoever was not asked yet is.
    pub(super) fn ask_others(&mut self, cx: &mut Context) -> Next {
        let room = self.room(cx);
        let is_dear = |quote: &Quote| room.is_some_and(|room| quote.cost > room);
        let offered = self.negotiations.iter().filter_map(|(peer, negotiation)| match &negotiation.state {
            NegotiationState::Offered { quote, .. } => Some((*peer, is_dear(quote))),
            _ => None,
        });
        let offered: Vec<(PeerId, bool)> = offered.collect();
        for (peer, dear) in offered {
            if dear {
                self.turn_down(cx, peer, ReleaseReason::Unaffordable, PassedOver::OverBudget);
            } else {
                self.turn_down(cx, peer, ReleaseReason::Late, PassedOver::TooSlow);
            }
        }
        self.state = JobState::Searching { closes: Some(cx.now) };
        Next::Search
    }
}
