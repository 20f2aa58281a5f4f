//! What does it cost: requests for quote, offers, bids, and the choice.

use alloc::vec::Vec;

use crate::{
    backoff,
    event::{ChoiceReason, Event, Finished, Outcome, PassedOver, Quote, Violation},
    id::{JobId, PeerId, StreamId},
    money::{self, Amount},
    refusal::Refusal,
    retry::LONGEST_PUSHBACK,
    spec::Haggle,
    time::Millis,
    wire::{
        Message,
        message::{Counter, Decline, DeclineReason, Offer, ReleaseReason, Rfq},
    },
};

use super::{
    Requester, Role,
    job::{self, Goal, Job, Phase, Talk, TalkState},
    search::Survey,
    selection,
};

/// Rounds of bids: then the offer is taken as it is, or not.
const ROUNDS: u32 = 2;
/// Times that a provider may find its own terms stale within one job.
const STALE: u32 = 2;
/// No provider's promise of time is believed beyond this.
pub(super) const MAX_ETA: Millis = Millis::from_secs(3600);

impl Requester {
    /// Asks candidates for offers: sizes only.
    pub(super) fn ask(&mut self, id: JobId, survey: Survey) {
        let Some(job) = self.jobs.get(&id) else { return };
        let (max_tokens, funds) = (job.left(), job.funds());
        let rfq = Rfq {
            rfq: 0,
            model: job.criteria.model.clone(),
            body_bytes: money::quoted_size(job.body_bytes()),
            max_tokens,
        };
        let k = self.policy.candidates as usize;
        let pool = if self.explains(id) { survey.fit.clone() } else { Vec::new() };
        let asked = selection::choose_asked(&mut self.rng, survey.fit, k, max_tokens, funds);
        self.explain_asking(id, &pool, &asked, &survey.left_out);
        for candidate in asked {
            let stream = self.open_stream(candidate.peer, Role::Job(id));
            let body_bytes = money::quoted_size(self.body_bytes_for(id, candidate.peer));
            let rfq = Rfq { rfq: self.rng.bits().max(1), body_bytes, ..rfq.clone() };
            let talk = Talk::new(stream, rfq.rfq);
            self.outbox.send(stream, &Message::Rfq(rfq));
            self.jobs.get_mut(&id).map(|job| job.talks.insert(candidate.peer, talk));
            self.tell(Event::Asked { job: id, peer: candidate.peer });
        }
        if let Some(job) = self.jobs.get_mut(&id) {
            job.phase = Phase::Asking { until: self.now.after(self.policy.offer_timeout), window: None };
        }
    }

    /// An offer, or a final one inside a refusal of a bid.
    pub(super) fn on_offer(&mut self, id: JobId, peer: PeerId, offer: &Offer, is_final: bool) -> Result<(), Violation> {
        let Some(job) = self.jobs.get_mut(&id) else { return Ok(()) };
        let left = job.left();
        let Some(talk) = job.talks.get_mut(&peer) else { return Ok(()) };
        if !talk.is_open() || offer.rfq != talk.rfq {
            return Err(Violation::Unexpected);
        }
        if talk.last.is_some_and(|last| !job::within(&offer.tariff, &last)) {
            return Err(Violation::Terms);
        }
        let first = *talk.first.get_or_insert(offer.tariff);
        talk.last = Some(offer.tariff);
        if let Haggle::Bid(permille) = job.haggle {
            let bid = job::bid(&first, permille, talk.rounds);
            if !is_final && talk.rounds < ROUNDS && !job::within(&offer.tariff, &bid) {
                talk.rounds += 1;
                let counter = Counter { rfq: talk.rfq, offer: offer.offer, tariff: bid };
                let stream = talk.stream;
                self.outbox.send(stream, &Message::Counter(counter));
                return Ok(());
            }
        }
        let quote = Quote {
            peer,
            offer: Some(offer.offer),
            tariff: offer.tariff,
            cost: offer.tariff.cost(left),
            eta: offer.eta.min(MAX_ETA),
        };
        let expires = self.now.after(offer.expires_in.clamped(Millis(1), self.policy.offer_expiry));
        talk.state = TalkState::Offered { quote: quote.clone(), expires };
        self.tell(Event::Offered { job: id, quote });
        self.check_offers(id);
        Ok(())
    }

    /// A refusal while the price is talked about.
    pub(super) fn on_decline(&mut self, id: JobId, peer: PeerId, decline: &Decline) -> Result<(), Violation> {
        if let Some(offer) = &decline.offer {
            return self.on_offer(id, peer, offer, true);
        }
        self.on_declined(id, peer, decline);
        self.check_offers(id);
        Ok(())
    }

    /// A refusal. Who is busy is out for now only: a later round may ask again.
    pub(super) fn on_declined(&mut self, id: JobId, peer: PeerId, decline: &Decline) {
        self.pass_over(id, peer, PassedOver::Declined(decline.reason));
        let Some(job) = self.jobs.get_mut(&id) else { return };
        if matches!(decline.reason, DeclineReason::Busy | DeclineReason::PeerLimit) {
            let after = decline.retry_after.unwrap_or(Millis::ZERO).clamped(backoff::FLOOR, LONGEST_PUSHBACK);
            job.busy = Some(job.busy.map_or(after, |known| known.min(after)));
            if let Some(talk) = job.talks.get_mut(&peer) {
                talk.failed = false;
            }
        }
    }

    /// A provider whose terms changed since they were known names the new ones: they are one more offer.
    pub(super) fn on_stale(&mut self, id: JobId, peer: PeerId, offer: &Offer) -> Result<(), Violation> {
        let Some(talk) = self.jobs.get_mut(&id).and_then(|job| job.talks.get_mut(&peer)) else { return Ok(()) };
        talk.stale += 1;
        if talk.stale > STALE {
            self.pass_over(id, peer, PassedOver::Declined(DeclineReason::Stale));
            self.choose(id);
            return Ok(());
        }
        talk.rfq = offer.rfq;
        talk.state = TalkState::Asked;
        (talk.first, talk.last) = (None, None);
        if let Some(job) = self.jobs.get_mut(&id) {
            job.phase = Phase::Asking { until: self.now.after(self.policy.offer_timeout), window: None };
        }
        self.on_offer(id, peer, offer, true)
    }

    /// A provider is out for this job.
    pub(super) fn pass_over(&mut self, id: JobId, peer: PeerId, why: PassedOver) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let Some(talk) = job.talks.get_mut(&peer) else { return };
        if matches!(talk.state, TalkState::Out) {
            return;
        }
        talk.state = TalkState::Out;
        talk.failed = true;
        job.last_out = Some(why);
        let stream = talk.stream;
        self.close_talk(id, stream);
        self.tell(Event::PassedOver { job: id, peer, why });
    }

    /// Enough time was given to offers: who has not answered is late.
    pub(super) fn on_offer_window(&mut self, id: JobId) {
        let Some(job) = self.jobs.get(&id) else { return };
        let late: Vec<PeerId> = job.talks.iter().filter(|(_, talk)| talk.is_open()).map(|(peer, _)| *peer).collect();
        for peer in late {
            self.release(id, peer, ReleaseReason::Late);
            self.pass_over(id, peer, PassedOver::Late);
        }
        self.choose(id);
    }

    /// Chooses when every provider answered; when one offer is acceptable, sets the others a time.
    pub(super) fn check_offers(&mut self, id: JobId) {
        let Some(job) = self.jobs.get(&id) else { return };
        if !matches!(job.phase, Phase::Asking { .. }) {
            return;
        }
        if !job.talks.values().any(Talk::is_open) {
            return self.choose(id);
        }
        let acceptable = !self.acceptable(id).is_empty();
        let later = self.now.after(self.policy.offer_window);
        if let Some(Job { phase: Phase::Asking { window, .. }, .. }) = self.jobs.get_mut(&id)
            && acceptable
        {
            window.get_or_insert(later);
        }
    }

    /// Goes on with the best offer, lets the application choose, or looks for somebody else.
    pub(super) fn choose(&mut self, id: JobId) {
        let mut quotes = self.acceptable(id);
        let Some(job) = self.jobs.get(&id) else { return };
        if quotes.is_empty() {
            return self.ask_others(id);
        }
        match &job.goal {
            Goal::Answer(answer) => {
                let time_value = answer.time_value;
                let by_application = answer.is_chosen_by_application();
                let reason = self.rank(&mut quotes, time_value);
                self.explain_choice(id, &quotes, Some(reason).filter(|_| !by_application));
                if by_application {
                    self.set_phase(id, Phase::Choosing);
                    self.tell(Event::ChoiceDue { job: id, quotes });
                } else {
                    let best = quotes.swap_remove(0);
                    self.award_quote(id, best, reason);
                }
            }
            Goal::Quote { .. } => {
                self.rank(&mut quotes, 0);
                self.end_job(id, Outcome::Finished(Finished::Quotes(quotes)));
            }
            Goal::Discover => {}
        }
    }

    /// The application's choice.
    pub(super) fn award_chosen(&mut self, id: JobId, peer: PeerId) -> Result<(), Refusal> {
        let job = self.jobs.get(&id).ok_or(Refusal::UnknownJob)?;
        let is_due = matches!(job.phase, Phase::Choosing);
        let quote = self.acceptable(id).into_iter().find(|quote| is_due && quote.peer == peer);
        self.award_quote(id, quote.ok_or(Refusal::NoSuchOffer)?, ChoiceReason::Application);
        Ok(())
    }

    /// Awards the best posted price that is known, if the job wants no offers. `false`: it has to ask.
    pub(super) fn award_posted(&mut self, id: JobId) -> bool {
        let Some(job @ Job { goal: Goal::Answer(answer), haggle: Haggle::No, .. }) = self.jobs.get(&id) else {
            return false;
        };
        let (time_value, max_tokens) = (answer.time_value, job.max_tokens);
        // What a body with a prefix costs depends on who reads it: that takes an offer.
        if answer.is_chosen_by_application() || job.run.tokens() > 0 {
            return false;
        }
        let Survey { fit: known, lift, left_out, .. } = self.known_candidates(id);
        let preferred = known.iter().any(|candidate| candidate.preferred);
        let mut quotes: Vec<Quote> = known
            .iter()
            .filter(|candidate| candidate.is_free && (!preferred || candidate.preferred))
            .filter_map(|candidate| candidate.quote(max_tokens))
            .filter(|quote| self.is_acceptable(id, quote))
            .collect();
        if quotes.is_empty() {
            return false;
        }
        self.rank(&mut quotes, time_value);
        if let Some(job) = self.jobs.get_mut(&id) {
            job.lift = lift;
        }
        self.explain_posted(id, &quotes, &known, &left_out);
        let best = quotes.swap_remove(0);
        let stream = self.open_stream(best.peer, Role::Job(id));
        if let Some(job) = self.jobs.get_mut(&id) {
            job.talks.insert(best.peer, Talk::new(stream, 0));
        }
        self.searching.remove(&id);
        self.award_quote(id, best, ChoiceReason::Posted);
        true
    }

    /// Orders quotes best first, by what they cost and what is expected of their providers; says why the first wins.
    fn rank(&mut self, quotes: &mut [Quote], time_value: Amount) -> ChoiceReason {
        let (peers, now) = (&self.peers, self.now);
        let expected = |quote: &Quote| peers.expected_time(now, &quote.peer, quote.eta, 0);
        selection::rank(&mut self.rng, quotes, time_value, expected)
    }

    /// Tells everybody who was asked that nothing comes of it, and closes their streams.
    pub(super) fn release_talks(&mut self, id: JobId, reason: ReleaseReason) {
        let Some(job) = self.jobs.get(&id) else { return };
        let peers: Vec<PeerId> = job.talks.keys().copied().collect();
        for peer in peers {
            self.release(id, peer, reason);
            let talk = self.jobs.get_mut(&id).and_then(|job| job.talks.get_mut(&peer));
            let stream = talk.map(|talk| {
                talk.state = TalkState::Out;
                talk.stream
            });
            if let Some(stream) = stream {
                self.close_talk(id, stream);
            }
        }
    }

    /// After the choice: everybody but the winner is released, with the reason.
    pub(super) fn release_losers(&mut self, id: JobId, winner: &Quote) {
        let Some(job) = self.jobs.get(&id) else { return };
        let losers: Vec<(PeerId, ReleaseReason, StreamId)> = job
            .talks
            .iter()
            .filter(|(_, talk)| !matches!(talk.state, TalkState::Out | TalkState::Awarded))
            .map(|(peer, talk)| (*peer, lost_by(talk, winner), talk.stream))
            .collect();
        for (peer, reason, stream) in losers {
            self.release(id, peer, reason);
            self.close_stream(stream);
            // Not out: who lost by price may be asked again if the winner fails.
            self.jobs.get_mut(&id).map(|job| job.talks.remove(&peer));
        }
    }

    pub(super) fn is_acceptable(&self, id: JobId, quote: &Quote) -> bool {
        let Some(job) = self.jobs.get(&id) else { return false };
        let affordable = self.room(job).is_none_or(|room| quote.cost <= room);
        affordable && self.now.after(quote.eta) < job.until
    }

    /// What the job can still spend, by its own budget and the node's.
    pub(super) fn room(&self, job: &Job) -> Option<u128> {
        match (job.funds(), self.account.remaining()) {
            (Some(job), Some(node)) => Some(job.min(node)),
            (funds, _) => funds,
        }
    }

    /// Offers that bind and fit budget and deadline. Notes the cheapest that does not fit the budget.
    fn acceptable(&mut self, id: JobId) -> Vec<Quote> {
        let Some(job) = self.jobs.get(&id) else { return Vec::new() };
        let room = self.room(job);
        let offered: Vec<Quote> = job.talks.values().filter_map(|talk| talk.offered(self.now)).cloned().collect();
        let beyond = offered.iter().map(|quote| quote.cost).filter(|cost| room.is_some_and(|room| *cost > room)).min();
        if let (Some(beyond), Some(job)) = (beyond, self.jobs.get_mut(&id)) {
            job.unaffordable = Some(job.unaffordable.map_or(beyond, |known| known.min(beyond)));
        }
        offered.into_iter().filter(|quote| self.is_acceptable(id, quote)).collect()
    }

    /// None of those asked will do: they are let go, and whoever was not asked yet is.
    fn ask_others(&mut self, id: JobId) {
        let Some(job) = self.jobs.get(&id) else { return };
        let room = self.room(job);
        let offered: Vec<Quote> = job
            .talks
            .values()
            .filter_map(|talk| match &talk.state {
                TalkState::Offered { quote, .. } => Some(quote.clone()),
                _ => None,
            })
            .collect();
        for quote in offered {
            let dear = room.is_some_and(|room| quote.cost > room);
            self.release(id, quote.peer, if dear { ReleaseReason::Unaffordable } else { ReleaseReason::Late });
            self.pass_over(id, quote.peer, if dear { PassedOver::OverBudget } else { PassedOver::TooSlow });
        }
        self.set_phase(id, Phase::Searching { window: Some(self.now) });
        self.searching.insert(id);
        self.advance_search(id);
    }

    fn release(&mut self, id: JobId, peer: PeerId, reason: ReleaseReason) {
        let Some(talk) = self.jobs.get(&id).and_then(|job| job.talks.get(&peer)) else { return };
        let asked = matches!(talk.state, TalkState::Asked | TalkState::Offered { .. });
        if asked && self.streams.contains_key(&talk.stream) {
            let stream = talk.stream;
            self.outbox.send(stream, &Message::Release(reason));
        }
    }

    pub(super) fn set_phase(&mut self, id: JobId, phase: Phase) {
        if let Some(job) = self.jobs.get_mut(&id) {
            job.phase = phase;
        }
    }

    /// Somebody was lost while prices were talked about.
    pub(super) fn on_talk_lost(&mut self, id: JobId, peer: PeerId, why: PassedOver) {
        if self.jobs.get(&id).is_some_and(|job| matches!(job.phase, Phase::Awarded(_) | Phase::Waiting { .. })) {
            // It waited for a choice that fell elsewhere: nobody's fault.
            return self.forget_talk(id, peer);
        }
        self.pass_over(id, peer, why);
        let choosing = self.jobs.get(&id).is_some_and(|job| matches!(job.phase, Phase::Choosing));
        if choosing && self.acceptable(id).is_empty() {
            self.choose(id);
        } else {
            self.check_offers(id);
        }
    }

    /// Forgets that a provider was talked to: it may be asked again.
    pub(super) fn forget_talk(&mut self, id: JobId, peer: PeerId) {
        let talk = self.jobs.get_mut(&id).and_then(|job| job.talks.remove(&peer));
        if let Some(talk) = talk {
            self.close_talk(id, talk.stream);
        }
    }

    /// Forgets whom a new question may go to: everybody but those that were passed over.
    pub(super) fn forget_offers(&mut self, id: JobId) {
        if let Some(job) = self.jobs.get_mut(&id) {
            job.talks.retain(|_, talk| talk.failed);
        }
    }

    /// Closes a conversation about prices; a stream that carries a Cancel meanwhile is not one.
    fn close_talk(&mut self, id: JobId, stream: StreamId) {
        if self.streams.get(&stream).is_some_and(|state| state.role == Role::Job(id)) {
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
