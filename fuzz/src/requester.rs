//! Any order of commands, facts and times on a requester, against providers that may do anything.

mod talk;

use std::collections::{BTreeMap, BTreeSet};

use haggle_core::{
    Criteria, Event, Input, Instant, JobId, JobSpec, Limits, Machine, Millis, Model, Output, PeerId, Policy, QueryId,
    Requester, StreamId,
    machine::{QueryOutcome, StreamFailure},
    spec::{Choose, Haggle, QuoteSpec},
    wire::{Message, Prompt},
};

use self::talk::Talk;
use crate::{cursor::Cursor, tap::Tap};

const PEERS: usize = 4;
/// Steps of one run: enough for several jobs, few enough for a fast search.
const STEPS: usize = 400;

/// Runs the steps that `data` spells, checks the laws after each, and runs them again without draining in between.
pub fn requester(data: &[u8]) {
    let mut cursor = Cursor::new(data);
    let limits = limits(&mut cursor);
    let machine = || Requester::new(Policy::default(), limits.clone(), [7; 32]).unwrap();
    let mut world = World::new(machine(), limits.clone());
    let mut steps = Vec::new();
    while !cursor.is_empty() && steps.len() < STEPS {
        let now = cursor.moment(world.now, world.machine.poll_timeout());
        let Some(act) = world.choose(&mut cursor) else { continue };
        world.step(now, &act);
        steps.push((now, act));
    }
    world.run_out(&mut steps);

    let mut again = World { is_rerun: true, ..World::new(machine(), limits) };
    steps.iter().for_each(|(now, act)| again.apply(*now, act));
    again.drain();
    assert_eq!(again.log, world.log, "drain timing changed what the application was told");
    assert_eq!(again.machine.digest(again.now), world.machine.digest(world.now), "drain timing changed the state");
}

fn limits(cursor: &mut Cursor<'_>) -> Limits {
    let small = Limits { jobs: 3, known_peers: 3, lookups: 2, window_tokens: 8, idle_frames: 4, ..Limits::default() };
    let tight = Limits { window_bytes: 16_512, body_unasked: 10, node_bytes: 100, body_bytes: 60, ..small.clone() };
    [Limits::default(), small, tight][cursor.below(3)].clone()
}

/// What happens: everything that a requester can be given.
enum Act {
    Submit(JobSpec),
    Quote(QuoteSpec),
    Discover(Criteria, Option<Millis>),
    Award(JobId, PeerId),
    Cancel(JobId),
    Consumed(JobId, u64),
    Budget(Option<u64>),
    Timeout,
    Opened(StreamId),
    Failed(StreamId, StreamFailure),
    Received(StreamId, Vec<u8>),
    Closed(StreamId),
    Found(QueryId, Vec<PeerId>),
    Done(QueryId, QueryOutcome),
    Connected(PeerId),
    Gone(PeerId),
}

/// A requester with the books that prove the laws.
struct World {
    machine: Requester,
    limits: Limits,
    now: Instant,
    tap: Tap,
    talks: BTreeMap<StreamId, Talk>,
    queries: BTreeSet<QueryId>,
    jobs: BTreeMap<JobId, Book>,
    account_limit: Option<u64>,
    log: Vec<String>,
    /// The second run: what was sent is not looked at again.
    is_rerun: bool,
}

/// A job's budget, and the next token it may be told of.
struct Book {
    budget: u128,
    next: u64,
}

fn peer(index: usize) -> PeerId {
    PeerId::new(&[index as u8 + 1]).unwrap()
}

fn model(cursor: &mut Cursor<'_>) -> Model {
    Model::new(if cursor.byte() < 230 { b"m" } else { b"other" }).unwrap()
}

impl World {
    fn new(machine: Requester, limits: Limits) -> Self {
        Self {
            machine,
            limits,
            now: Instant::ZERO,
            tap: Tap::default(),
            talks: BTreeMap::new(),
            queries: BTreeSet::new(),
            jobs: BTreeMap::new(),
            account_limit: None,
            log: Vec::new(),
            is_rerun: false,
        }
    }

    fn choose(&mut self, cursor: &mut Cursor<'_>) -> Option<Act> {
        let jobs: Vec<JobId> = self.jobs.keys().copied().collect();
        let job = |cursor: &mut Cursor<'_>| jobs.get(cursor.below(jobs.len())).copied().unwrap_or(JobId([9; 16]));
        let streams = self.tap.streams();
        let stream = |cursor: &mut Cursor<'_>| match streams.get(cursor.below(streams.len() + 1)) {
            Some(stream) => *stream,
            None => streams.last().copied().unwrap_or(StreamId(99)),
        };
        let queries: Vec<QueryId> = self.queries.iter().copied().collect();
        let query = |cursor: &mut Cursor<'_>| queries.get(cursor.below(queries.len())).copied().unwrap_or(QueryId(99));
        Some(match cursor.byte() {
            0..=19 => Act::Submit(job_spec(cursor)),
            20..=23 => Act::Quote(QuoteSpec {
                criteria: criteria(cursor),
                body_bytes: cursor.number(),
                max_tokens: cursor.number(),
                deadline: deadline(cursor),
                haggle: haggle(cursor),
            }),
            24..=27 => Act::Discover(criteria(cursor), deadline(cursor)),
            28..=33 => Act::Award(job(cursor), peer(cursor.below(PEERS))),
            34..=37 => Act::Cancel(job(cursor)),
            38..=49 => Act::Consumed(job(cursor), cursor.number()),
            50..=52 => Act::Budget(cursor.bit().then(|| cursor.number())),
            53..=69 => Act::Timeout,
            70..=72 => Act::Opened(stream(cursor)),
            73..=75 => Act::Failed(stream(cursor), stream_failure(cursor)),
            76..=78 => Act::Closed(stream(cursor)),
            79..=94 => {
                let count = cursor.below(PEERS + 1);
                Act::Found(query(cursor), (0..count).map(|_| peer(cursor.below(PEERS))).collect())
            }
            95..=99 => {
                let outcome = [QueryOutcome::Complete, QueryOutcome::TimedOut, QueryOutcome::NoSource];
                Act::Done(query(cursor), outcome[cursor.below(3)])
            }
            100..=101 => Act::Connected(peer(cursor.below(PEERS))),
            102..=103 => Act::Gone(peer(cursor.below(PEERS))),
            _ => {
                let stream = stream(cursor);
                let mut bytes = Vec::new();
                for _ in 0..=cursor.below(4) {
                    bytes.extend(self.talks.get_mut(&stream)?.say(cursor));
                }
                if cursor.byte() > 240 {
                    bytes.truncate(cursor.below(bytes.len()));
                }
                Act::Received(stream, bytes)
            }
        })
    }

    fn step(&mut self, now: Instant, act: &Act) {
        // An adapter can not report the end of a stream before it was told to open it.
        if matches!(act, Act::Failed(..) | Act::Closed(_) | Act::Gone(_)) {
            self.drain();
        }
        self.apply(now, act);
        match act {
            Act::Failed(stream, _) | Act::Closed(stream) => self.tap.close(*stream),
            Act::Gone(peer) => {
                let gone: Vec<StreamId> = self.tap.streams();
                let is_lost = |talk: &Talk| talk.peer == *peer && talk.opened;
                let gone = gone.into_iter().filter(|stream| is_lost(&self.talks[stream]));
                gone.for_each(|stream| self.tap.close(stream));
            }
            _ => {}
        }
        self.drain();
        assert_eq!(self.machine.open_streams(), self.tap.streams().len(), "a stream was leaked or lost");
        assert_eq!(self.machine.open_jobs(), self.jobs.len());
        assert!(self.jobs.len() <= self.limits.jobs as usize);
        assert!(self.machine.adverts().count() <= self.limits.known_peers as usize);
    }

    /// Hands one act to the machine, and checks what holds drained or not.
    fn apply(&mut self, now: Instant, act: &Act) {
        self.now = self.now.max(now);
        let before = self.liability();
        let machine = &mut self.machine;
        match act {
            Act::Submit(spec) => {
                if let Ok(job) = machine.submit(now, spec.clone()) {
                    let budget = u128::from(spec.budget.unwrap_or(0));
                    assert!(self.jobs.insert(job, Book { budget, next: 0 }).is_none());
                }
            }
            Act::Quote(spec) => {
                if let Ok(job) = machine.quote(now, spec.clone()) {
                    self.jobs.insert(job, Book { budget: 0, next: 0 });
                }
            }
            Act::Discover(criteria, deadline) => {
                if let Ok(job) = machine.discover(now, criteria.clone(), *deadline) {
                    self.jobs.insert(job, Book { budget: 0, next: 0 });
                }
            }
            Act::Award(job, peer) => {
                let _refused = machine.award(now, *job, *peer);
            }
            Act::Cancel(job) => {
                let _refused = machine.cancel(now, *job);
            }
            Act::Consumed(job, tokens) => machine.consumed(now, *job, *tokens),
            Act::Budget(budget) => {
                machine.set_account_budget(*budget);
                self.account_limit = *budget;
            }
            Act::Timeout => {
                machine.handle_input(now, Input::Timeout);
                let due = machine.poll_timeout();
                let later = due.is_none_or(|due| due.at > now);
                assert!(later || now == Instant::MAX, "{due:?} was handled at {now:?}");
            }
            Act::Opened(stream) => {
                if let Some(talk) = self.talks.get_mut(stream) {
                    talk.opened = true;
                }
                machine.handle_input(now, Input::StreamOpened(*stream));
            }
            Act::Failed(stream, failure) => machine.handle_input(now, Input::StreamFailed(*stream, *failure)),
            Act::Received(stream, bytes) => machine.handle_input(now, Input::Received(*stream, bytes)),
            Act::Closed(stream) => machine.handle_input(now, Input::StreamClosed(*stream)),
            Act::Found(query, peers) => machine.handle_input(now, Input::PeersFound(*query, peers)),
            Act::Done(query, outcome) => machine.handle_input(now, Input::QueryDone(*query, *outcome)),
            Act::Connected(peer) => machine.handle_input(now, Input::PeerConnected(*peer)),
            Act::Gone(peer) => machine.handle_input(now, Input::PeerGone(*peer)),
        }
        let after = self.liability();
        let bound = self.account_limit.map_or(u128::MAX, u128::from).max(before);
        assert!(after <= bound, "{after} may come to be owed, {bound} was allowed");
        for (job, book) in &self.jobs {
            let bill = self.machine.bill(*job);
            assert!(bill.is_none_or(|bill| bill.owed <= book.budget), "{job:?} owes more than its budget");
        }
    }

    fn liability(&self) -> u128 {
        self.machine.account().owed() + self.machine.account().reserved()
    }

    fn drain(&mut self) {
        let Self { machine, tap, talks, queries, jobs, log, is_rerun, .. } = self;
        while let Some(output) = machine.poll_output() {
            match output {
                Output::Open { stream, peer } => {
                    tap.open(stream);
                    talks.insert(stream, Talk::new(peer));
                }
                Output::Transmit { .. } if *is_rerun => {}
                Output::Transmit { stream, bytes } => tap.transmit(stream, bytes, |payload, message| {
                    let cut = match message {
                        Message::Resume { job, .. } => talks.values().rfind(|talk| talk.is_for(job)).cloned(),
                        _ => None,
                    };
                    talks.get_mut(&stream).unwrap().hear(payload, &message, cut);
                }),
                Output::Close(stream) | Output::Reset(stream) => tap.close(stream),
                Output::StartQuery { query, .. } => assert!(queries.insert(query)),
                Output::CancelQuery(query) => assert!(queries.remove(&query)),
                Output::Event(event) => {
                    log.push(format!("{event:?}"));
                    check_event(jobs, &event);
                }
            }
        }
    }

    /// Lets time pass until nothing is due: every job has ended, and nothing is left open.
    fn run_out(&mut self, steps: &mut Vec<(Instant, Act)>) {
        for _ in 0..2000 {
            let Some(due) = self.machine.poll_timeout().filter(|due| due.at < Instant::MAX) else { break };
            let now = due.at.max(self.now);
            self.step(now, &Act::Timeout);
            steps.push((now, Act::Timeout));
        }
        let ends = self.machine.poll_timeout().is_none_or(|due| due.at == Instant::MAX);
        assert!(ends, "jobs go on for ever: {:?}", self.machine.poll_timeout());
        let at_the_end_of_time = self.machine.poll_timeout().is_some();
        assert!(self.jobs.is_empty() || at_the_end_of_time, "a job without an ending");
        if self.machine.open_jobs() == 0 {
            assert_eq!(self.machine.account().reserved(), 0, "money stays reserved");
            assert!(at_the_end_of_time || self.machine.open_streams() == 0, "a stream stays open for nobody");
        }
    }
}

/// One ending for every job, nothing after it, tokens dense, nothing billed beyond the budget.
fn check_event(jobs: &mut BTreeMap<JobId, Book>, event: &Event<'_>) {
    match event {
        Event::Tokens { job, seq, n, text, ids, .. } => {
            let book = jobs.get_mut(job).expect("tokens of a job that is over");
            assert_eq!(*seq, book.next);
            assert!(*n > 0 && !text.is_empty() && ids.is_none_or(|ids| ids.len() == 4 * *n as usize));
            book.next += u64::from(*n);
        }
        Event::Ended { job, ending } => {
            let book = jobs.remove(job).expect("a second ending");
            assert!(ending.bill.owed <= book.budget, "billed beyond the budget");
            assert_eq!(ending.bill.owed, ending.bill.lines.iter().map(|line| line.owed).sum::<u128>());
            assert_eq!(ending.bill.tokens, book.next);
        }
        event => assert!(event.job().is_none_or(|job| jobs.contains_key(&job)), "an event of a job that is over"),
    }
}

fn job_spec(cursor: &mut Cursor<'_>) -> JobSpec {
    let prompt = match cursor.byte() {
        0..=200 => "x".repeat(cursor.below(100)),
        _ => "x".repeat(50_000),
    };
    JobSpec {
        criteria: criteria(cursor),
        budget: (cursor.byte() > 20).then(|| cursor.number()),
        deadline: deadline(cursor),
        haggle: haggle(cursor),
        choose: if cursor.byte() > 200 { Choose::Application } else { Choose::Core },
        time_value: cursor.number(),
        explain: true,
        ..JobSpec::new(model(cursor), Prompt::Raw(prompt), cursor.number())
    }
}

fn criteria(cursor: &mut Cursor<'_>) -> Criteria {
    let mut criteria = Criteria::new(model(cursor));
    let choices = cursor.byte();
    if choices & 1 == 1 {
        criteria.only = (0..PEERS).map(peer).collect();
    }
    if choices & 6 == 6 {
        criteria.exclude = vec![peer(cursor.below(PEERS))];
        criteria.prefer = vec![peer(cursor.below(PEERS))];
    }
    criteria.max_price_out = (choices & 24 == 24).then(|| cursor.number());
    criteria.refresh = choices & 96 == 96;
    criteria.limit = u32::from(choices >> 7);
    criteria
}

fn deadline(cursor: &mut Cursor<'_>) -> Option<Millis> {
    (cursor.byte() > 220).then(|| Millis(cursor.number()))
}

fn haggle(cursor: &mut Cursor<'_>) -> Haggle {
    match cursor.byte() {
        0..=150 => Haggle::No,
        151..=200 => Haggle::Offers,
        other => Haggle::Bid(u32::from(other - 200) * 20),
    }
}

fn stream_failure(cursor: &mut Cursor<'_>) -> StreamFailure {
    use StreamFailure::*;
    [Unreachable, TimedOut, WrongPeer, Unsupported, Refused][cursor.below(5)]
}
