//! Tells a job that wants to know why each step of its choice fell as it did. Decides nothing.

use alloc::vec::Vec;

use crate::{
    event::{
        ChoiceReason, Event, Quote,
        explain::{LeftOut, Step, Verdict, Weighed, Weighing},
    },
    id::{JobId, PeerId},
    peers::book::Lift,
    time::Millis,
};

use super::{
    Requester,
    job::{Goal, TalkState},
    selection::Candidate,
};

/// Providers that do not come into question, and why.
pub(super) type LeftOuts = [(PeerId, LeftOut)];

impl Requester {
    pub(super) fn explains(&self, id: JobId) -> bool {
        self.jobs.get(&id).is_some_and(|job| job.explain)
    }

    /// Who of `pool` was asked, and who was not even in it.
    pub(super) fn explain_asking(&mut self, id: JobId, pool: &[Candidate], asked: &[Candidate], left_out: &LeftOuts) {
        let Some(job) = self.jobs.get(&id).filter(|job| job.explain) else { return };
        let max_tokens = job.left();
        let weighed = |candidate: &Candidate, verdict| Weighed {
            peer: candidate.peer,
            verdict,
            cost: candidate.posted.map(|tariff| tariff.cost(max_tokens)),
            expected: Some(candidate.wait),
        };
        let was_asked = |peer: &PeerId| asked.iter().any(|asked| asked.peer == *peer);
        let mut candidates: Vec<Weighed> = asked.iter().map(|candidate| weighed(candidate, Verdict::Asked)).collect();
        let others = pool.iter().filter(|candidate| !was_asked(&candidate.peer));
        candidates.extend(others.map(|candidate| weighed(candidate, Verdict::NotDrawn)));
        self.explain(id, Step::Asking, candidates, left_out);
    }

    /// Why a posted price was taken without asking.
    pub(super) fn explain_posted(&mut self, id: JobId, ranked: &[Quote], known: &[Candidate], left_out: &LeftOuts) {
        if !self.explains(id) {
            return;
        }
        let mut candidates = self.weigh_ranked(ranked, Some(ChoiceReason::Posted));
        for candidate in known.iter().filter(|known| ranked.iter().all(|quote| quote.peer != known.peer)) {
            let quote = self.jobs.get(&id).and_then(|job| candidate.quote(job.left()));
            let verdict = match &quote {
                Some(quote) if self.is_acceptable(id, quote) && candidate.is_free => Verdict::Beaten,
                Some(quote) if self.is_acceptable(id, quote) => Verdict::NotFree,
                Some(quote) => self.unacceptable(id, quote),
                None => Verdict::OverBudget,
            };
            let cost = quote.map(|quote| quote.cost);
            candidates.push(Weighed { peer: candidate.peer, verdict, cost, expected: Some(candidate.wait) });
        }
        self.explain(id, Step::Choosing, candidates, left_out);
    }

    /// Why one offer wins over the others; without a reason, that the application is to choose.
    pub(super) fn explain_choice(&mut self, id: JobId, ranked: &[Quote], reason: Option<ChoiceReason>) {
        let Some(job) = self.jobs.get(&id).filter(|job| job.explain) else { return };
        let mut candidates = self.weigh_ranked(ranked, reason);
        for (peer, talk) in &job.talks {
            let TalkState::Offered { quote, .. } = &talk.state else { continue };
            if ranked.iter().all(|quote| quote.peer != *peer) {
                let verdict = self.unacceptable(id, quote);
                candidates.push(Weighed { peer: *peer, verdict, cost: Some(quote.cost), expected: Some(quote.eta) });
            }
        }
        self.explain(id, Step::Choosing, candidates, &[]);
    }

    /// Why nobody is left who could be asked.
    pub(super) fn explain_nobody(&mut self, id: JobId, left_out: &LeftOuts) {
        self.explain(id, Step::Nobody, Vec::new(), left_out);
    }

    fn weigh_ranked(&self, ranked: &[Quote], reason: Option<ChoiceReason>) -> Vec<Weighed> {
        let verdict = |at: usize| match reason {
            None => Verdict::Acceptable,
            Some(reason) if at == 0 => Verdict::Awarded(reason),
            Some(_) => Verdict::Beaten,
        };
        let weigh = |(at, quote): (usize, &Quote)| Weighed {
            peer: quote.peer,
            verdict: verdict(at),
            cost: Some(quote.cost),
            expected: Some(self.peers.expected_time(self.now, &quote.peer, quote.eta, 0)),
        };
        ranked.iter().enumerate().map(weigh).collect()
    }

    fn unacceptable(&self, id: JobId, quote: &Quote) -> Verdict {
        match self.jobs.get(&id).and_then(|job| self.room(job)) {
            Some(room) if quote.cost > room => Verdict::OverBudget,
            _ => Verdict::TooSlow,
        }
    }

    fn explain(&mut self, id: JobId, step: Step, mut candidates: Vec<Weighed>, left_out: &LeftOuts) {
        let Some(job) = self.jobs.get(&id).filter(|job| job.explain) else { return };
        candidates.extend(left_out.iter().map(|(peer, why)| Weighed {
            peer: *peer,
            verdict: Verdict::LeftOut(*why),
            cost: None,
            expected: None,
        }));
        let time_value = match &job.goal {
            Goal::Answer(answer) => answer.time_value,
            Goal::Quote { .. } | Goal::Discover => 0,
        };
        let time_left = if job.until > self.now { job.until.since(self.now) } else { Millis::ZERO };
        let lift = if candidates.is_empty() { Lift::Nothing } else { job.lift };
        let weighing = Weighing { step, funds: self.room(job), time_left, time_value, lift, candidates };
        self.tell(Event::Weighed { job: id, weighing });
    }
}
