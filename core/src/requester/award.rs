//! Who gets the job: the choice, the money that is set aside for it, and the Award with its body.

use alloc::{boxed::Box, vec::Vec};

use crate::{
    digest,
    event::{ChoiceReason, Event, Finished, Interrupted, PassedOver, Quote, TakeOver},
    id::{JobId, PeerId, StreamId},
    money::{self, Amount},
    peers::table::{Ask, Permit},
    refusal::Refusal,
    spec::{Criteria, Haggle},
    wire::{
        self, MAX_BODY_PIECE, Message,
        message::{self, Exactness, Features},
    },
};

use super::{
    attempt::{Attempt, Start},
    context::{Context, Role},
    job::{Answer, Goal, Job, JobState, Negotiation, NegotiationState, Next},
    search::Survey,
    selection::{self, Doubts},
    transcript::{Prefix, Transcript},
};

impl Job {
    /// Goes on with the best offer, lets the application choose, or looks for somebody else.
    pub(super) fn choose(&mut self, cx: &mut Context) -> Next {
        let mut quotes = self.acceptable(cx);
        if quotes.is_empty() {
            return self.ask_others(cx);
        }
        let Goal::Answer(answer) = &self.goal else {
            debug_assert!(matches!(self.goal, Goal::Quote { .. }), "who looks round asks for no offers");
            cx.rank(&mut quotes, 0, self.doubts(cx));
            return Next::finish(Finished::Quotes(quotes));
        };
        let by_application = answer.is_chosen_by_application();
        let reason = cx.rank(&mut quotes, answer.time_value, self.doubts(cx));
        self.explain_choice(cx, &quotes, Some(reason).filter(|_| !by_application));
        if by_application {
            self.state = JobState::Choosing;
            cx.tell(Event::ChoiceDue { job: self.id, quotes });
            return Next::Stay;
        }
        let best = quotes.swap_remove(0);
        self.award(cx, best, reason)
    }

    /// The application's choice.
    pub(super) fn award_chosen(&mut self, cx: &mut Context, peer: PeerId) -> Result<Next, Refusal> {
        let is_due = matches!(self.state, JobState::Choosing);
        let quote = self.acceptable(cx).into_iter().find(|quote| is_due && quote.peer == peer);
        Ok(self.award(cx, quote.ok_or(Refusal::NoSuchOffer)?, ChoiceReason::Application))
    }

    /// Awards the best posted price that is known, if the job wants no offers. `None`: it has to ask.
    pub(super) fn award_posted(&mut self, cx: &mut Context) -> Option<Next> {
        let (Goal::Answer(answer), Haggle::No) = (&self.goal, self.haggle) else { return None };
        let (time_value, max_tokens) = (answer.time_value, self.max_tokens);
        // What a body with a prefix costs depends on who reads it: that takes an offer.
        if answer.is_chosen_by_application() || self.transcript.tokens() > 0 {
            return None;
        }
        let Survey { fit: known, lift, left_out, .. } = self.known_candidates(cx);
        let preferred = known.iter().any(|candidate| candidate.preferred);
        let mut quotes: Vec<Quote> = known
            .iter()
            .filter(|candidate| candidate.is_free && (!preferred || candidate.preferred))
            .filter_map(|candidate| candidate.quote(max_tokens))
            .filter(|quote| self.is_acceptable(cx, quote))
            .collect();
        if quotes.is_empty() {
            return None;
        }
        let reason = cx.rank(&mut quotes, time_value, self.doubts(cx));
        let reason = if reason == ChoiceReason::Proven { reason } else { ChoiceReason::Posted };
        self.lift = lift;
        self.explain_posted(cx, &quotes, &known, &left_out, reason);
        let best = quotes.swap_remove(0);
        let stream = cx.open_stream(best.peer, Role::Job(self.id));
        self.negotiations.insert(best.peer, Negotiation::new(stream, 0));
        Some(self.award(cx, best, reason))
    }

    /// Awards the job: money is set aside first, then the header and as much of the body as may go unasked.
    fn award(&mut self, cx: &mut Context, quote: Quote, reason: ChoiceReason) -> Next {
        let class = cx.exactness(&quote.peer, &self.criteria.model);
        let Some(permit) = self.permit(cx, &quote) else {
            self.pass_over(cx, quote.peer, PassedOver::Excluded);
            return Next::Choose;
        };
        // [M4]
        let has_room = money::reserve_in_both(&mut self.account, &mut cx.account, quote.cost);
        debug_assert!(has_room, "an acceptable quote fits the job's and the node's account");
        if !has_room {
            cx.peers.released(cx.now, permit);
            self.pass_over(cx, quote.peer, PassedOver::OverBudget);
            return Next::Choose;
        }
        self.attempts += 1;
        self.tries += 1;
        // [R9] The answer so far; what may be held to the same bytes begins a little earlier.
        let prefix = self.transcript.prefix(self.is_exact(class));
        if prefix.tokens > 0 {
            self.take_over = if prefix.overlap > 0 { TakeOver::Exact } else { TakeOver::Spliced };
        }
        let max_tokens = self.left().saturating_add(u64::from(prefix.overlap));
        debug_assert!(self.negotiations.contains_key(&quote.peer), "who is awarded was talked to");
        let open = || Negotiation::new(cx.open_stream(quote.peer, Role::Job(self.id)), 0);
        let negotiation = self.negotiations.entry(quote.peer).or_insert_with(open);
        negotiation.state = NegotiationState::Awarded;
        let (number, stream, transcript, leftover) =
            (self.attempts, negotiation.stream, &self.transcript, self.leftover);
        let won = quote.clone();
        let start = Start { number, stream, quote: won, class, permit, prefix, transcript, leftover, max_tokens };
        self.state = JobState::Awarded(Box::new(Attempt::new(cx.now, &cx.policy, &cx.limits, start)));
        self.send_award(cx);
        cx.tell(Event::Awarded { job: self.id, attempt: number, quote, reason });
        Next::Stay
    }

    /// Leave to ask a provider; `None` if it has failed too much since it was chosen.
    fn permit(&self, cx: &mut Context, quote: &Quote) -> Option<Permit> {
        let ask = Ask {
            tokens: self.left(),
            patience: cx.policy.patience(quote.eta),
            jitter: cx.rng.bits() as u32,
            retry: self.tries > 0,
            lift: self.lift,
        };
        cx.peers.permit(cx.now, quote.peer, &ask).ok()
    }

    /// Whether a provider of this class is held to the same bytes: not after it was seen that they differ.
    fn is_exact(&self, class: Exactness) -> bool {
        self.can_be_exact(class) && self.broken != Some(Interrupted::Differs)
    }

    fn can_be_exact(&self, class: Exactness) -> bool {
        match &self.goal {
            Goal::Answer(answer) => self.transcript.can_be_exact(class, answer.sampling.temperature_milli),
            Goal::Quote { .. } | Goal::Discover => false,
        }
    }

    /// Bytes of the body that this provider would be sent: ids only where they are of use.
    pub(super) fn body_bytes_for(&self, cx: &Context, peer: &PeerId) -> u64 {
        let Goal::Answer(answer) = &self.goal else { return self.body_bytes() };
        let class = cx.exactness(peer, &self.criteria.model);
        Body::of(answer, &self.transcript, &self.transcript.prefix(self.can_be_exact(class))).len()
    }

    /// The same award again, over another stream: the way to go on as long as no token was taken.
    pub(super) fn award_again(&mut self, cx: &mut Context, stream: StreamId) {
        let until = cx.now.after(cx.policy.request_timeout);
        if let Some(attempt) = self.attempt_mut() {
            attempt.reattach(cx.now, stream, Some(until));
        }
        self.send_award(cx);
    }

    fn send_award(&mut self, cx: &mut Context) {
        let Self { id, goal, criteria, transcript, state, .. } = self;
        if let (Goal::Answer(answer), JobState::Awarded(attempt)) = (goal, state) {
            let body = Body::of(answer, transcript, &attempt.prefix);
            attempt.send_award(cx, *id, criteria, &body, answer);
        }
    }
}

impl Attempt {
    /// Sends the header and as much of the body as may go unasked.
    fn send_award(&mut self, cx: &mut Context, job: JobId, criteria: &Criteria, body: &Body<'_>, answer: &Answer) {
        let prefix = &self.prefix;
        let award = Message::Award(message::Award {
            job,
            attempt: self.number,
            epoch: self.epoch,
            model: criteria.model.clone(),
            offer: self.quote.offer,
            tariff: self.quote.tariff,
            max_tokens: self.max_tokens(),
            kind: answer.kind,
            body_bytes: body.len(),
            body_hash: digest::sha256_of(&body.0),
            prefix_bytes: prefix.text_bytes as u64,
            prefix_tokens: prefix.tokens,
            prefix_id_bytes: (prefix.id_bytes > 0).then_some(prefix.id_bytes as u64),
            overlap: prefix.overlap,
            sampling: answer.sampling,
            stop: answer.stop.clone(),
            window_tokens: self.asked.0,
            window_bytes: self.asked.1,
            features: criteria.require.filter(|needed| *needed != Features::default()),
            voucher: None,
            choice: None,
        });
        let mut payload = Vec::new();
        wire::encode(&award, &mut payload);
        self.terms = digest::sha256(&payload);
        // [A1] The prompt follows the Award, and goes to nobody else.
        self.send(cx, &award);
        // [A5] Before Accepted.
        self.send_body(cx, body, cx.limits.body_unasked);
    }

    /// Sends the body up to `credit` bytes in all.
    pub(super) fn send_body(&mut self, cx: &mut Context, body: &Body<'_>, credit: u64) {
        let mut part_at = 0;
        for part in body.0 {
            let part_end = part_at + part.len() as u64;
            // [A5]
            while self.body_sent < part_end.min(credit) {
                let offset = self.body_sent;
                let rest = part.get((offset - part_at) as usize..).unwrap_or_default();
                let take = rest.len().min(MAX_BODY_PIECE).min((credit - offset) as usize);
                let bytes = rest.get(..take).unwrap_or_default();
                self.send(cx, &Message::Body { offset, bytes });
                self.body_sent += take as u64;
            }
            part_at = part_end;
        }
    }

    pub(super) fn send(&self, cx: &mut Context, message: &Message<'_>) {
        debug_assert!(self.stream().is_some(), "nothing is said while the stream is lost");
        if let Some(stream) = self.stream() {
            cx.outbox.send(stream, message);
        }
    }
}

impl Context {
    /// Orders quotes best first, by what they cost and what is expected of their providers; says why the first wins.
    fn rank(&mut self, quotes: &mut [Quote], time_value: Amount, doubts: Doubts) -> ChoiceReason {
        let (peers, now) = (&self.peers, self.now);
        let expected = |quote: &Quote| peers.expected_time(now, &quote.peer, quote.eta, 0);
        let doubt = |quote: &Quote| doubts.of(peers.record(now, &quote.peer), quote.tariff.price_out);
        selection::rank(&mut self.rng, quotes, time_value, expected, doubt)
    }
}

/// The parts of a body: the prompt, then what was delivered, as text and as ids.
pub(super) struct Body<'a>([&'a [u8]; 3]);

impl<'a> Body<'a> {
    pub(super) fn of(answer: &'a Answer, transcript: &'a Transcript, prefix: &Prefix) -> Self {
        let text = transcript.text().as_bytes().get(..prefix.text_bytes).unwrap_or_default();
        let ids = transcript.ids().get(..prefix.id_bytes).unwrap_or_default();
        Self([&answer.prompt, text, ids])
    }

    pub(super) fn len(&self) -> u64 {
        self.0.iter().map(|part| part.len() as u64).sum()
    }
}
