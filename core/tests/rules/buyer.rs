//! A requester under test, and providers that say whatever a test wants.

use std::collections::BTreeMap;

use haggle_core::{
    Event, Input, Instant, JobId, JobSpec, Limits, Machine, Millis, Output, PeerId, Policy, QueryId, Requester,
    StreamId,
    event::{Failure, Interrupted, NoRetry, Outcome, PassedOver, Violation},
    machine::{QueryOutcome, StreamFailure},
    money::Tariff,
    spec::Criteria,
    wire::{
        self, Message, Prompt,
        message::{Accepted, Advert, Award, ModelAdvert, Offer, Phase},
    },
};

use super::{PROMPT, advert, at, model, peer, seller::payloads, sha256};

#[derive(Clone)]
pub(super) struct Buyer {
    pub(super) requester: Requester,
    pub(super) now: Instant,
    streams: BTreeMap<StreamId, Conversation>,
    pub(super) text: String,
    pub(super) outcome: Option<Outcome>,
    /// Why nothing further was tried.
    pub(super) no_retry: Option<NoRetry>,
    pub(super) owed: u128,
    /// What providers said that they do.
    pub(super) works: Vec<Phase>,
    /// Whom no stream can be opened to, and why.
    pub(super) gone: Option<(PeerId, StreamFailure)>,
    passed_over: Vec<PassedOver>,
    query: Option<QueryId>,
}

/// What a requester said on a stream.
#[derive(Clone, Debug)]
struct Conversation {
    peer: PeerId,
    payloads: Vec<Vec<u8>>,
    /// How many of them are no news.
    told: usize,
    /// Whether it was closed or reset, if that is news.
    ended: Option<Ended>,
}

/// How a requester ends a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ended {
    Closed,
    Reset,
}

/// What a requester said on a stream since it was asked for last.
pub(super) struct News {
    pub(super) stream: StreamId,
    pub(super) payloads: Vec<Vec<u8>>,
    pub(super) ended: Option<Ended>,
}

impl Buyer {
    pub(super) fn new() -> Self {
        Self::with(Policy::default(), Limits::default())
    }

    pub(super) fn with(policy: Policy, limits: Limits) -> Self {
        Self {
            requester: Requester::new(policy, limits, [2; 32]).unwrap(),
            now: at(1_000),
            streams: BTreeMap::new(),
            text: String::new(),
            outcome: None,
            no_retry: None,
            owed: 0,
            works: Vec::new(),
            gone: None,
            passed_over: Vec::new(),
            query: None,
        }
    }

    /// Knows a provider's advert, so that its posted price may be awarded.
    pub(super) fn knows(&mut self, name: &str, advert: ModelAdvert) {
        let criteria = Criteria { only: vec![peer(name)], ..Criteria::new(model()) };
        self.requester.discover(self.now, criteria, None).unwrap();
        self.drain();
        let stream = self.newest(name);
        assert_eq!(self.said(stream), [Message::Describe]);
        self.describes(stream, advert);
        self.outcome = None;
    }

    /// Answers a Describe.
    pub(super) fn describes(&mut self, stream: StreamId, advert: ModelAdvert) {
        let models = vec![advert];
        self.hears(stream, &Message::Advert(Advert { models, slots: 1, free: 1, queued: 0, methods: None }));
    }

    /// A job for a provider that is known.
    pub(super) fn submit(&mut self, names: &[&str], edit: impl FnOnce(&mut JobSpec)) -> JobId {
        let prompt = Prompt::Raw(String::from_utf8(PROMPT.to_vec()).unwrap());
        let mut spec = JobSpec { budget: Some(1_000_000), ..JobSpec::new(model(), prompt, 30) };
        spec.criteria.only = names.iter().map(|name| peer(name)).collect();
        edit(&mut spec);
        let job = self.requester.submit(self.now, spec).unwrap();
        self.drain();
        job
    }

    /// A job that was awarded to `seller` at its posted price; the award as it went out.
    pub(super) fn awarded(edit: impl FnOnce(&mut JobSpec)) -> (Self, StreamId, Award) {
        let mut buyer = Self::new();
        buyer.knows("seller", advert());
        buyer.submit(&["seller"], edit);
        let stream = buyer.newest("seller");
        let award = buyer.award(stream);
        (buyer, stream, award)
    }

    /// A job that was accepted by `seller`.
    pub(super) fn accepted(edit: impl FnOnce(&mut JobSpec)) -> (Self, StreamId, Award) {
        let (mut buyer, stream, award) = Self::awarded(edit);
        let accepted = accepted(&award);
        buyer.hears(stream, &Message::Accepted(accepted));
        (buyer, stream, award)
    }

    pub(super) fn award(&self, stream: StreamId) -> Award {
        let said = self.said(stream);
        let found = said.iter().find_map(|message| match message {
            Message::Award(award) => Some(award.clone()),
            _ => None,
        });
        found.unwrap_or_else(|| panic!("nothing was awarded: {said:?}"))
    }

    /// The newest stream to a provider.
    pub(super) fn newest(&self, name: &str) -> StreamId {
        let mut all = self.streams.iter().filter(|(_, conversation)| conversation.peer == peer(name));
        *all.next_back().expect("a stream was opened").0
    }

    /// Answers a request for quote.
    pub(super) fn quotes(&mut self, stream: StreamId, tariff: Tariff) {
        let said = self.said(stream);
        let Some(Message::Rfq(rfq)) = said.first() else { panic!("nothing was asked: {said:?}") };
        let (eta, expires_in) = (Millis(100), Millis(60_000));
        let offer = Offer { rfq: rfq.rfq, offer: 1, tariff, eta, expires_in, methods: None };
        self.hears(stream, &Message::Offer(offer));
    }

    /// Whether a stream was ever opened to a provider.
    pub(super) fn has_met(&self, name: &str) -> bool {
        self.streams.values().any(|conversation| conversation.peer == peer(name))
    }

    /// Whether a provider was asked for an offer, and nothing else on its newest stream.
    pub(super) fn is_asked(&self, name: &str) -> bool {
        self.has_met(name) && matches!(self.said(self.newest(name))[..], [Message::Rfq(_)])
    }

    /// Whether the job was awarded to a provider on its newest stream.
    pub(super) fn is_awarded(&self, name: &str) -> bool {
        let is_award = |message: &Message<'_>| matches!(message, Message::Award(_));
        self.has_met(name) && self.said(self.newest(name)).iter().any(is_award)
    }

    /// All that was said on a stream.
    pub(super) fn said(&self, stream: StreamId) -> Vec<Message<'_>> {
        self.streams[&stream].payloads.iter().map(|payload| wire::decode(payload).unwrap()).collect()
    }

    /// What was said since this was last asked, stream by stream, and how each ended.
    pub(super) fn news(&mut self) -> Vec<News> {
        let news = self.streams.iter_mut().map(|(stream, conversation)| {
            let payloads = conversation.payloads[conversation.told..].to_vec();
            conversation.told = conversation.payloads.len();
            News { stream: *stream, payloads, ended: conversation.ended.take() }
        });
        news.filter(|news| !news.payloads.is_empty() || news.ended.is_some()).collect()
    }

    /// Bytes come on a stream.
    pub(super) fn receives(&mut self, stream: StreamId, bytes: &[u8]) {
        self.requester.handle_input(self.now, Input::Received(stream, bytes));
        self.drain();
    }

    /// The application has taken tokens.
    pub(super) fn reads(&mut self, job: JobId, tokens: u64) {
        self.requester.consumed(self.now, job, tokens);
        self.drain();
    }

    pub(super) fn hears(&mut self, stream: StreamId, message: &Message<'_>) {
        let mut frame = vec![0, 0];
        wire::encode(message, &mut frame);
        let len = u16::try_from(frame.len() - 2).unwrap();
        frame[..2].copy_from_slice(&len.to_be_bytes());
        self.receives(stream, &frame);
    }

    pub(super) fn chunk(&mut self, stream: StreamId, seq: u64, text: &str) {
        self.hears(stream, &Message::Chunk { seq, n: 1, text, ids: None, channel: None });
    }

    pub(super) fn cancel(&mut self, job: JobId) {
        self.requester.cancel(self.now, job).unwrap();
        self.drain();
    }

    /// The query that was ordered names peers.
    pub(super) fn finds<'a>(&mut self, names: impl IntoIterator<Item = &'a str>) -> QueryId {
        let query = self.query.expect("a query was ordered");
        let peers: Vec<PeerId> = names.into_iter().map(peer).collect();
        self.requester.handle_input(self.now, Input::PeersFound(query, &peers));
        self.drain();
        query
    }

    /// The query that was ordered names peers, and is done.
    pub(super) fn hints<'a>(&mut self, names: impl IntoIterator<Item = &'a str>) {
        let query = self.finds(names);
        self.requester.handle_input(self.now, Input::QueryDone(query, QueryOutcome::Complete));
        self.drain();
    }

    pub(super) fn cut(&mut self, stream: StreamId) {
        self.requester.handle_input(self.now, Input::StreamClosed(stream));
        self.drain();
    }

    pub(super) fn wait(&mut self, span: Millis) {
        let until = self.now.after(span);
        while let Some(due) = self.requester.poll_timeout().filter(|due| due.at <= until) {
            self.now = self.now.max(due.at);
            self.requester.handle_input(self.now, Input::Timeout);
            self.drain();
            let next = self.requester.poll_timeout();
            assert!(next.is_none_or(|due| due.at > self.now), "what was seen to is due again: {next:?}");
        }
        self.now = until;
    }

    /// The rule that the provider was found to have broken; nobody else was there.
    pub(super) fn violation(&self) -> Option<Violation> {
        let of = |why: &Interrupted| match why {
            Interrupted::Violation(violation) => Some(*violation),
            _ => None,
        };
        match &self.outcome {
            Some(Outcome::Failed(Failure::Interrupted(why))) => of(why),
            Some(Outcome::Failed(Failure::Declined(PassedOver::Interrupted(why)))) => of(why),
            Some(Outcome::Failed(Failure::Declined(PassedOver::Violation(violation)))) => Some(*violation),
            _ => self.passed_over.iter().find_map(|why| match why {
                PassedOver::Violation(violation) => Some(*violation),
                PassedOver::Interrupted(why) => of(why),
                _ => None,
            }),
        }
    }

    /// Carries out what is ordered, and hears what is told.
    pub(super) fn drain(&mut self) {
        let mut opened = Vec::new();
        while let Some(output) = self.requester.poll_output() {
            match output {
                Output::Open { stream, peer } => {
                    opened.push(stream);
                    self.streams.insert(stream, Conversation { peer, payloads: Vec::new(), told: 0, ended: None });
                }
                Output::Transmit { stream, bytes } => {
                    self.streams.get_mut(&stream).unwrap().payloads.extend(payloads(bytes));
                }
                Output::Close(stream) => self.streams.get_mut(&stream).unwrap().ended = Some(Ended::Closed),
                Output::Reset(stream) => self.streams.get_mut(&stream).unwrap().ended = Some(Ended::Reset),
                Output::StartQuery { query, .. } => self.query = Some(query),
                Output::Event(Event::Tokens { text, .. }) => self.text.push_str(text),
                Output::Event(Event::Working { phase, .. }) => self.works.push(phase),
                Output::Event(Event::PassedOver { why, .. }) => self.passed_over.push(why),
                Output::Event(Event::Ended { ending, .. }) => {
                    self.owed = ending.bill.owed;
                    (self.outcome, self.no_retry) = (Some(ending.outcome), ending.no_retry);
                }
                _ => {}
            }
        }
        for stream in opened {
            let gone = self.gone.filter(|(peer, _)| *peer == self.streams[&stream].peer);
            let input = gone.map_or(Input::StreamOpened(stream), |(_, why)| Input::StreamFailed(stream, why));
            self.requester.handle_input(self.now, input);
            self.drain();
        }
    }
}

/// The whole body under credit, and the window as it was awarded.
pub(super) fn accepted(award: &Award) -> Accepted {
    let mut payload = Vec::new();
    wire::encode(&Message::Award(award.clone()), &mut payload);
    Accepted {
        terms: sha256(&payload),
        body_credit: award.body_bytes,
        window_tokens: award.window_tokens,
        window_bytes: award.window_bytes,
        eta: None,
    }
}
