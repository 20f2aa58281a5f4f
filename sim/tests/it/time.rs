//! Time at its edges: clocks that jump anywhere, and peers that say any duration.

use std::collections::BTreeMap;

use haggle_core::{
    AttemptId, Event, Input, Instant, JobId, Limits, Machine, Millis, Output, PeerId, Policy, Provider, ProviderEvent,
    QueryId, Requester, StreamId,
    machine::{QueryOutcome, StreamFailure},
    money::Tariff,
    provider::Piece,
    spec::Haggle,
    wire::{
        self, Deframer, Message,
        message::{
            Accepted, Advert, Award, Decline, DeclineReason, End, EndReason, Exactness, GoneReason, ModelAdvert, Offer,
        },
    },
};
use haggle_sim::job;
use proptest::prelude::*;
use sha2::{Digest, Sha256};

use crate::{MODEL, PROMPT, cheap};

const YEAR: u64 = 365 * 24 * 3600 * 1000;
/// Orders that both machines may give in answer to one fact before the bench takes it for endless. Most come from a
/// query that names both peers to every job that waits.
const MANY: u32 = 500;

/// What happens next on the bench.
#[derive(Clone, Debug)]
enum Step {
    /// The clock shows this, be it in the past.
    Clock(u64),
    /// The clock goes on.
    Later(u64),
    Submit {
        deadline: Option<u64>,
        haggle: bool,
    },
    Cancel,
    Consume(u64),
    /// The engine writes, or ends.
    Push,
    Finish,
    /// The liar says something on one of its streams, out of turn or not.
    Say(usize, Lie, u64, u64),
    Garbage(usize, Vec<u8>),
    /// The stream ends for the requester; for the honest provider too.
    Cut(usize),
    Gone(bool),
    Drain,
}

#[derive(Clone, Copy, Debug)]
enum Lie {
    Advert,
    Offer,
    Busy,
    Stale,
    Accepted,
    Chunk,
    End,
    Resumed,
    Gone,
    Keepalive,
}

const LIES: [Lie; 10] = [
    Lie::Advert,
    Lie::Offer,
    Lie::Busy,
    Lie::Stale,
    Lie::Accepted,
    Lie::Chunk,
    Lie::End,
    Lie::Resumed,
    Lie::Gone,
    Lie::Keepalive,
];

/// A stream's other end.
enum Far {
    Honest(StreamId),
    Liar(Box<Liar>),
}

#[derive(Default)]
struct Liar {
    deframer: Deframer,
    rfq: u64,
    award: Option<(Award, [u8; 32])>,
}

/// A requester between an honest provider and a liar, without a network: what is said is heard at once.
struct Bench {
    now: u64,
    requester: Requester,
    provider: Provider,
    streams: BTreeMap<StreamId, Far>,
    jobs: Vec<JobId>,
    attempts: Vec<AttemptId>,
    /// What the liar says of time, when it answers in turn.
    durations: [u64; 2],
    orders: u32,
    /// Facts of time that the machines asked for since the clock was last set.
    timeouts: u32,
}

enum Order {
    Open(StreamId, PeerId),
    Bytes(StreamId, Vec<u8>),
    Over(StreamId),
    Query(QueryId),
    Start(AttemptId),
    Stop(AttemptId),
}

fn honest() -> PeerId {
    PeerId::new(b"honest").unwrap()
}

fn liar() -> PeerId {
    PeerId::new(b"liar").unwrap()
}

fn me() -> PeerId {
    PeerId::new(b"me").unwrap()
}

fn orders<M: Machine>(machine: &mut M, keep: impl Fn(M::Event<'_>) -> Option<Order>) -> Vec<Order> {
    let mut orders = Vec::new();
    while let Some(output) = machine.poll_output() {
        orders.extend(match output {
            Output::Open { stream, peer } => Some(Order::Open(stream, peer)),
            Output::Transmit { stream, bytes } => Some(Order::Bytes(stream, bytes.to_vec())),
            Output::Close(stream) | Output::Reset(stream) => Some(Order::Over(stream)),
            Output::StartQuery { query, .. } => Some(Order::Query(query)),
            Output::CancelQuery(_) => None,
            Output::Event(event) => keep(event),
        });
    }
    orders
}

impl Bench {
    fn new(now: u64, durations: [u64; 2]) -> Self {
        let service = cheap().slots(2).service;
        Self {
            now,
            requester: Requester::new(Policy::default(), Limits::default(), [1; 32]).unwrap(),
            provider: Provider::new(service, Limits::default(), [2; 32]).unwrap(),
            streams: BTreeMap::new(),
            jobs: Vec::new(),
            attempts: Vec::new(),
            durations,
            orders: 0,
            timeouts: 0,
        }
    }

    fn now(&self) -> Instant {
        Instant::from_millis(self.now)
    }

    fn step(&mut self, step: &Step) {
        (self.orders, self.timeouts) = (0, 0);
        let now = self.now();
        match step {
            Step::Clock(at) => self.now = *at,
            Step::Later(by) => self.now = self.now.saturating_add(*by),
            Step::Submit { deadline, haggle } => {
                let mut spec = job(MODEL, PROMPT, 30, 1_000_000);
                spec.deadline = deadline.map(Millis);
                spec.time_value = self.durations[0];
                spec.haggle = if *haggle { Haggle::Bid(900) } else { Haggle::No };
                self.jobs.extend(self.requester.submit(now, spec));
            }
            Step::Cancel => {
                // The last one may be over.
                let _refusal = self.jobs.pop().map(|job| self.requester.cancel(now, job));
            }
            Step::Consume(tokens) => {
                for job in &self.jobs {
                    self.requester.consumed(now, *job, *tokens);
                }
            }
            Step::Push => {
                for attempt in &self.attempts {
                    // Its window may be full, its attempt over.
                    let _refusal =
                        self.provider.push(now, *attempt, Piece { n: 1, text: "ha ", ids: None, channel: None });
                }
            }
            Step::Finish => {
                for attempt in self.attempts.drain(..) {
                    let _refusal = self.provider.finish(now, attempt, EndReason::Stop);
                }
            }
            Step::Say(nth, lie, a, b) => self.lie(*nth, *lie, *a, *b),
            Step::Garbage(nth, bytes) => {
                if let Some(stream) = self.nth(*nth) {
                    self.requester.handle_input(now, Input::Received(stream, bytes));
                }
            }
            Step::Cut(nth) => {
                if let Some(stream) = self.nth(*nth) {
                    if let Some(Far::Honest(far)) = self.streams.remove(&stream) {
                        self.provider.handle_input(now, Input::StreamClosed(far));
                    }
                    self.requester.handle_input(now, Input::StreamClosed(stream));
                }
            }
            Step::Gone(is_liar) => {
                let peer = if *is_liar { liar() } else { honest() };
                self.requester.handle_input(now, Input::PeerGone(peer));
            }
            Step::Drain => self.provider.shut_down(now),
        }
        self.run();
    }

    /// Carries out everything that is due now.
    fn run(&mut self) {
        loop {
            self.carry();
            let now = self.now();
            // At the very end of time everything is due for ever.
            let due = |at: Option<Instant>| at.is_some_and(|at| at <= now && now < Instant::MAX);
            let due = [
                due(self.requester.poll_timeout().map(|timeout| timeout.at)),
                due(self.provider.poll_timeout().map(|timeout| timeout.at)),
            ];
            if due == [false; 2] {
                return;
            }
            if due[0] {
                self.timeouts += 1;
                self.requester.handle_input(now, Input::Timeout);
            }
            if due[1] {
                self.timeouts += 1;
                self.provider.handle_input(now, Input::Timeout);
            }
            assert!(self.timeouts <= MANY, "{:?}", self.requester.poll_timeout());
        }
    }

    fn carry(&mut self) {
        loop {
            let mine = orders(&mut self.requester, |_: Event<'_>| None);
            let theirs = orders(&mut self.provider, |event| match event {
                ProviderEvent::Start { attempt, .. } => Some(Order::Start(attempt)),
                ProviderEvent::Stop { attempt } => Some(Order::Stop(attempt)),
                _ => None,
            });
            if mine.is_empty() && theirs.is_empty() {
                return;
            }
            self.orders += (mine.len() + theirs.len()) as u32;
            assert!(self.orders <= 20 * MANY, "the machines do not come to rest");
            mine.into_iter().for_each(|order| self.requester_orders(order));
            theirs.into_iter().for_each(|order| self.provider_orders(order));
        }
    }

    fn requester_orders(&mut self, order: Order) {
        let now = self.now();
        match order {
            Order::Open(stream, peer) => {
                let far = if peer == liar() {
                    Some(Far::Liar(Box::default()))
                } else {
                    self.provider.accept_stream(now, me()).ok().map(Far::Honest)
                };
                let Some(far) = far else {
                    return self.requester.handle_input(now, Input::StreamFailed(stream, StreamFailure::Refused));
                };
                self.streams.insert(stream, far);
                self.requester.handle_input(now, Input::StreamOpened(stream));
            }
            Order::Bytes(stream, bytes) => match self.streams.get_mut(&stream) {
                Some(Far::Honest(far)) => self.provider.handle_input(now, Input::Received(*far, &bytes)),
                Some(Far::Liar(_)) => self.hear(stream, &bytes),
                None => {}
            },
            Order::Over(stream) => {
                if let Some(Far::Honest(far)) = self.streams.remove(&stream) {
                    self.provider.handle_input(now, Input::StreamClosed(far));
                }
            }
            Order::Query(query) => {
                self.requester.handle_input(now, Input::PeersFound(query, &[honest(), liar()]));
                self.requester.handle_input(now, Input::QueryDone(query, QueryOutcome::Complete));
            }
            Order::Start(_) | Order::Stop(_) => {}
        }
    }

    fn provider_orders(&mut self, order: Order) {
        let now = self.now();
        let near = |streams: &BTreeMap<StreamId, Far>, wanted: StreamId| {
            let is_it = |far: &Far| matches!(far, Far::Honest(far) if *far == wanted);
            streams.iter().find(|(_, far)| is_it(far)).map(|(near, _)| *near)
        };
        match order {
            Order::Bytes(far, bytes) => {
                if let Some(stream) = near(&self.streams, far) {
                    self.requester.handle_input(now, Input::Received(stream, &bytes));
                }
            }
            Order::Over(far) => {
                if let Some(stream) = near(&self.streams, far) {
                    self.streams.remove(&stream);
                    self.requester.handle_input(now, Input::StreamClosed(stream));
                }
            }
            Order::Start(attempt) => {
                self.provider.started(attempt, 1, None);
                self.attempts.push(attempt);
            }
            Order::Stop(attempt) => self.attempts.retain(|running| *running != attempt),
            Order::Open(..) | Order::Query(_) => {}
        }
    }

    /// The liar answers in turn, but for what it says of time.
    fn hear(&mut self, stream: StreamId, mut bytes: &[u8]) {
        let [a, b] = self.durations;
        let Some(Far::Liar(liar)) = self.streams.get_mut(&stream) else { return };
        let mut lies = Vec::new();
        while let Ok(Some(frame)) = liar.deframer.next(&mut bytes) {
            match wire::decode(frame) {
                Ok(Message::Describe) => lies.push(Lie::Advert),
                Ok(Message::Rfq(rfq)) => {
                    liar.rfq = rfq.rfq;
                    lies.push(Lie::Offer);
                }
                Ok(Message::Award(award)) => {
                    liar.award = Some((award, Sha256::digest(frame).into()));
                    lies.push(if a % 5 == 0 { Lie::Busy } else { Lie::Accepted });
                    lies.extend((a % 5 > 2).then_some(Lie::Chunk));
                }
                _ => {}
            }
        }
        lies.into_iter().for_each(|lie| self.say(stream, lie, a, b));
    }

    fn lie(&mut self, nth: usize, lie: Lie, a: u64, b: u64) {
        if let Some(stream) = self.nth(nth) {
            self.say(stream, lie, a, b);
        }
    }

    /// A stream to the liar.
    fn nth(&self, nth: usize) -> Option<StreamId> {
        let lies: Vec<StreamId> =
            self.streams.iter().filter(|(_, far)| matches!(far, Far::Liar(_))).map(|(stream, _)| *stream).collect();
        (!lies.is_empty()).then(|| lies[nth % lies.len()])
    }

    fn say(&mut self, stream: StreamId, lie: Lie, a: u64, b: u64) {
        let Some(Far::Liar(liar)) = self.streams.get(&stream) else { return };
        let award = liar.award.as_ref();
        let tariff = award.map_or(Tariff { fee_in: 0, price_out: 1 }, |(award, _)| award.tariff);
        let (eta, expires_in) = (Millis(a), Millis(b));
        let offer = Offer { rfq: liar.rfq, offer: liar.rfq.max(1), tariff, eta, expires_in, methods: None };
        let message = match lie {
            Lie::Advert => Message::Advert(advert(eta)),
            Lie::Offer => Message::Offer(offer),
            Lie::Busy => Message::Decline(Decline {
                reason: DeclineReason::Busy,
                retry_after: Some(eta),
                offer: None,
                shown: None,
            }),
            Lie::Stale => {
                let offer = Some(Offer { rfq: 0, ..offer });
                Message::Decline(Decline { reason: DeclineReason::Stale, retry_after: Some(eta), offer, shown: None })
            }
            Lie::Accepted => Message::Accepted(Accepted {
                terms: award.map_or([0; 32], |(_, terms)| *terms),
                body_credit: award.map_or(0, |(award, _)| award.body_bytes),
                window_tokens: award.map_or(1, |(award, _)| award.window_tokens),
                window_bytes: award.map_or(1, |(award, _)| award.window_bytes),
                eta: Some(eta),
            }),
            Lie::Chunk => Message::Chunk { seq: a % 3, n: 1, text: "ha ", ids: None, channel: None },
            Lie::End => Message::End(End {
                reason: EndReason::Stop,
                prompt_tokens: a,
                tokens: b % 3,
                hash: [0; 32],
                thought: None,
                cached: None,
                receipt: None,
            }),
            Lie::Resumed => Message::Resumed { next: a % 3 },
            Lie::Gone => Message::Gone(GoneReason::Evicted),
            Lie::Keepalive => Message::Keepalive,
        };
        let mut payload = Vec::new();
        wire::encode(&message, &mut payload);
        let mut frame = (payload.len() as u16).to_be_bytes().to_vec();
        frame.extend(payload);
        self.requester.handle_input(self.now(), Input::Received(stream, &frame));
    }
}

fn advert(eta: Millis) -> Advert {
    let model = ModelAdvert {
        model: haggle_sim::name(MODEL),
        aliases: Vec::new(),
        context: 1 << 20,
        price_in: 0,
        bytes_per_token: 4,
        price_out: 1,
        eta,
        can_continue: true,
        exactness: Exactness::default(),
        features: None,
        longest: None,
        price_part: None,
    };
    Advert { models: vec![model], slots: 8, free: 8, queued: u32::MAX, methods: None }
}

/// Any `u64`, its edges more often.
fn any_time() -> impl Strategy<Value = u64> {
    prop_oneof![
        Just(0),
        Just(1),
        Just(u64::MAX),
        Just(u64::MAX - 1),
        Just(i64::MAX as u64),
        Just(u64::from(u32::MAX)),
        Just(YEAR),
        0_u64..200_000,
        any::<u64>(),
    ]
}

fn step(clock: impl Strategy<Value = u64> + 'static) -> impl Strategy<Value = Step> {
    let lie = || prop::sample::select(&LIES[..]);
    prop_oneof![
        2 => clock.prop_map(Step::Clock),
        6 => (0_u64..70_000).prop_map(Step::Later),
        4 => (prop::option::of(any_time()), any::<bool>())
            .prop_map(|(deadline, haggle)| Step::Submit { deadline, haggle }),
        1 => Just(Step::Cancel),
        2 => any_time().prop_map(Step::Consume),
        4 => Just(Step::Push),
        2 => Just(Step::Finish),
        6 => (any::<usize>(), lie(), any_time(), any_time()).prop_map(|(nth, lie, a, b)| Step::Say(nth, lie, a, b)),
        1 => (any::<usize>(), prop::collection::vec(any::<u8>(), 0..40)).prop_map(|(nth, bytes)| Step::Garbage(nth, bytes)),
        2 => any::<usize>().prop_map(Step::Cut),
        1 => any::<bool>().prop_map(Step::Gone),
        1 => Just(Step::Drain),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Overflow is a panic in this build.
    #[test]
    fn any_clock_and_any_duration_are_legal(
        start in any_time(),
        durations in [any_time(), any_time()],
        steps in prop::collection::vec(step(any_time()), 1..40),
    ) {
        let mut bench = Bench::new(start, durations);
        steps.iter().for_each(|step| bench.step(step));
    }

    /// As when a lid is opened: everything that was under way is settled by few facts, whatever was promised.
    #[test]
    fn a_year_that_passed_at_once_costs_a_bounded_number_of_steps(
        durations in [any_time(), any_time()],
        steps in prop::collection::vec(step(0_u64..1_000_000), 1..40),
    ) {
        let mut bench = Bench::new(0, durations);
        steps.iter().for_each(|step| bench.step(step));
        let jobs = bench.requester.open_jobs() as u32;
        bench.step(&Step::Later(YEAR));
        let (timeouts, orders) = (bench.timeouts, bench.orders);
        prop_assert!(timeouts <= 8 && orders <= 40 + 40 * jobs, "{timeouts} timeouts, {orders} orders, {jobs} jobs");
        prop_assert_eq!(bench.requester.open_jobs(), 0, "no deadline is longer");
    }
}
