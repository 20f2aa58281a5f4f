//! Tells a job that wants to know why each step of its choice fell as it did. Decides nothing.

use alloc::vec::Vec;

use crate::{
    event::{
        ChoiceReason, Event, Quote,
        explain::{LeftOut, Step, Verdict, Weighed, Weighing},
    },
    id::PeerId,
    peers::table::Lift,
    time::Millis,
};

use super::{
    context::Context,
    job::{Goal, Job, NegotiationState},
    selection::Candidate,
};

/// Providers that do not come into question, and why.
pub(super) type LeftOuts = [(PeerId, LeftOut)];

impl Job {
    /// Who of `pool` was asked, and who was not even in it.
    pub(super) fn explain_asking(
        &self,
        cx: &mut Context,
        pool: &[Candidate],
        asked: &[Candidate],
        left_out: &LeftOuts,
    ) {
        let max_tokens = self.left();
        let weighed = |candidate: &Candidate, verdict| Weighed {
            peer: candidate.peer,
            verdict,
            cost: candidate.posted.map(|tariff| tariff.cost(max_tokens)),
            expected: Some(candidate.wait),
        };
        let was_asked = |peer: &PeerId| asked.iter().any(|asked| asked.peer == *peer);
        self.explain(cx, Step::Asking, left_out, |_| {
            let others = pool.iter().filter(|candidate| !was_asked(&candidate.peer));
            let others = others.map(|candidate| weighed(candidate, Verdict::NotDrawn));
            asked.iter().map(|candidate| weighed(candidate, Verdict::Asked)).chain(others).collect()
        });
    }

    /// Why a posted price was taken without asking.
    pub(super) fn explain_posted(
        &self,
        cx: &mut Context,
        ranked: &[Quote],
        known: &[Candidate],
        left_out: &LeftOuts,
        reason: ChoiceReason,
    ) {
        self.explain(cx, Step::Choosing, left_out, |cx| {
            let mut candidates = weigh_ranked(cx, ranked, Some(reason));
            for candidate in known.iter().filter(|known| ranked.iter().all(|quote| quote.peer != known.peer)) {
                let quote = candidate.quote(self.left());
                let verdict = match &quote {
                    Some(quote) if self.is_acceptable(cx, quote) && candidate.is_free => Verdict::Beaten,
                    Some(quote) if self.is_acceptable(cx, quote) => Verdict::NotFree,
                    Some(quote) => self.unacceptable(cx, quote),
                    None => Verdict::OverBudget,
                };
                let cost = quote.map(|quote| quote.cost);
                candidates.push(Weighed { peer: candidate.peer, verdict, cost, expected: Some(candidate.wait) });
            }
            candidates
        });
    }

    /// Why one offer wins over the others; without a reason, that the application is to choose.
    pub(super) fn explain_choice(&self, cx: &mut Context, ranked: &[Quote], reason: Option<ChoiceReason>) {
        self.explain(cx, Step::Choosing, &[], |cx| {
            let mut candidates = weigh_ranked(cx, ranked, reason);
            for (peer, negotiation) in &self.negotiations {
                let NegotiationState::Offered { quote, .. } = &negotiation.state else { continue };
                if ranked.iter().all(|quote| quote.peer != *peer) {
                    let (verdict, cost) = (self.unacceptable(cx, quote), Some(quote.cost));
                    candidates.push(Weighed { peer: *peer, verdict, cost, expected: Some(quote.eta) });
                }
            }
            candidates
        });
    }

    /// Why nobody is left who could be asked.
    pub(super) fn explain_nobody(&self, cx: &mut Context, left_out: &LeftOuts) {
        self.explain(cx, Step::Nobody, left_out, |_| Vec::new());
    }

    fn unacceptable(&self, cx: &Context, quote: &Quote) -> Verdict {
        match self.room(cx) {
            Some(room) if quote.cost > room => Verdict::OverBudget,
            _ => Verdict::TooSlow,
        }
    }

    /// Tells a step, if the application wants to know: only then is anything weighed for it.
    fn explain(&self, cx: &mut Context, step: Step, left_out: &LeftOuts, weigh: impl FnOnce(&Context) -> Vec<Weighed>) {
        if !self.explain {
            return;
        }
        let mut candidates = weigh(cx);
        candidates.extend(left_out.iter().map(|(peer, why)| Weighed {
            peer: *peer,
            verdict: Verdict::LeftOut(*why),
            cost: None,
            expected: None,
        }));
        let time_value = match &self.goal {
            Goal::Answer(answer) => answer.time_value,
            Goal::Quote { .. } | Goal::Discover => 0,
        };
        let time_left = if self.until > cx.now { self.until.since(cx.now) } else { Millis::ZERO };
        let lift = if candidates.is_empty() { Lift::Nothing } else { self.lift };
        let weighing = Weighing { step, funds: self.room(cx), time_left, time_value, lift, candidates };
        cx.tell(Event::Weighed { job: self.id, weighing });
    }
}

fn weigh_ranked(cx: &Context, ranked: &[Quote], reason: Option<ChoiceReason>) -> Vec<Weighed> {
    let verdict = |at: usize| match reason {
        None => Verdict::Acceptable,
        Some(reason) if at == 0 => Verdict::Awarded(reason),
        Some(_) => Verdict::Beaten,
    };
    let weigh = |(at, quote): (usize, &Quote)| Weighed {
        peer: quote.peer,
        verdict: verdict(at),
        cost: Some(quote.cost),
        expected: Some(cx.peers.expected_time(cx.now, &quote.peer, quote.eta, 0)),
    };
    ranked.iter().enumerate().map(weigh).collect()
}
