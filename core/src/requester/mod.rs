//! Who buys: finds providers, agrees a price with one, takes its tokens.
//!
//! What comes in goes through `inbox`. A flow then reads from file to file: `search` (who serves it) → `negotiation` (what does
//! it cost) → `selection` (who wins) → `stream` (award, tokens, end) → `resume` (after a cut) → `failover` (after a loss).
//! `farewell` makes sure that a Cancel arrives, `explain` tells why a choice fell as it did. `job`, `attempt` and `run` hold the state.

mod attempt;
mod command;
mod explain;
mod failover;
mod farewell;
mod inbox;
mod job;
mod negotiation;
mod resume;
mod run;
mod search;
mod selection;
mod snapshot;
mod stream;

use alloc::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    vec::Vec,
};

use crate::{
    bucket::Bucket,
    deadlines::Deadlines,
    digest::Digester,
    event::{Bill, Ending, Event, Failure, Outcome, PassedOver, TakeOver},
    id::{JobId, PeerId, QueryId, StreamId},
    limits::{ConfigError, Limits, Policy},
    machine::{Input, Machine, Output, Timeout},
    money::{Account, Amount},
    outbox::Outbox,
    peers::{
        bans::BanRecord,
        book::{Lift, Peers, Reliability},
        breaker::Rules,
        directory::Directory,
    },
    rand::Rng,
    refusal::Refusal,
    retry::RetryQuota,
    spec::{Criteria, Haggle, JobSpec, QuoteSpec},
    time::{Instant, Millis},
    wire::{
        Deframer,
        message::{Advert, MAX_STOP_BYTES, MAX_STOPS, ReleaseReason},
    },
};

pub use self::{
    command::{Command, Reply},
    snapshot::{Piece, Stored},
};

use self::{
    farewell::Farewell,
    job::{Answer, Goal, Job, Phase},
    run::Run,
    snapshot::Concluded,
    stream::{Told, Verdict, Words},
};

/// Finds providers, agrees a price with one, takes its tokens. See [`Machine`] for how to run it.
#[derive(Clone, Debug)]
pub struct Requester {
    policy: Policy,
    limits: Limits,
    rng: Rng,
    now: Instant,
    jobs: BTreeMap<JobId, Job>,
    /// Jobs that wait for adverts.
    searching: BTreeSet<JobId>,
    streams: BTreeMap<StreamId, Stream>,
    directory: Directory,
    /// Providers that are asked to describe themselves, and those that will be.
    describing: BTreeMap<PeerId, (StreamId, Instant)>,
    to_describe: VecDeque<PeerId>,
    /// How far every provider is trusted.
    peers: Peers,
    quota: RetryQuota,
    /// Cancelled attempts whose providers have not confirmed it yet.
    farewells: BTreeMap<(JobId, u32), Farewell>,
    /// Answers that ended, until the application has stored how; `None` if it will never tell.
    endings: Option<BTreeMap<JobId, Concluded>>,
    account: Account,
    /// Bytes of all bodies.
    held: u64,
    next_stream: u64,
    next_query: u64,
    deadlines: Deadlines<Key>,
    outbox: Outbox<Told>,
    words: Words,
}

/// One conversation with a provider.
#[derive(Clone, Hash, Debug)]
struct Stream {
    peer: PeerId,
    role: Role,
    /// As long as it is not, the adapter still answers the order to open it.
    opened: bool,
    deframer: Deframer,
    idle_frames: Bucket,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Role {
    Describe,
    Job(JobId),
    /// The attempt was cancelled; its provider is to confirm it.
    Farewell(JobId, u32),
}

/// Whose deadline.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Key {
    Job(JobId),
    Query(QueryId),
    Describe(PeerId),
    Farewell(JobId, u32),
}

impl Requester {
    /// A requester without jobs. `seed` is fresh from the operating system at every start, fixed only in tests:
    /// a reused seed would mint the same job ids.
    ///
    /// # Errors
    /// The first setting that can not work.
    pub fn new(policy: Policy, limits: Limits, seed: [u8; 32]) -> Result<Self, ConfigError> {
        policy.validate()?;
        limits.validate()?;
        let peers = Peers::new(Rules::default(), limits.known_peers, limits.bans);
        Ok(Self {
            policy,
            limits,
            rng: Rng::new(seed),
            now: Instant::ZERO,
            jobs: BTreeMap::new(),
            searching: BTreeSet::new(),
            streams: BTreeMap::new(),
            directory: Directory::default(),
            describing: BTreeMap::new(),
            to_describe: VecDeque::new(),
            peers,
            quota: RetryQuota::default(),
            farewells: BTreeMap::new(),
            endings: None,
            account: Account::default(),
            held: 0,
            next_stream: 0,
            next_query: 0,
            deadlines: Deadlines::new(),
            outbox: Outbox::new(),
            words: Words::default(),
        })
    }

    /// Starts a job.
    ///
    /// # Errors
    /// Why it was refused; nothing was started.
    pub fn submit(&mut self, now: Instant, spec: JobSpec) -> Result<JobId, Refusal> {
        spec.prompt.check().map_err(Refusal::Prompt)?;
        let body = spec.prompt.encode();
        let bytes = body.len() as u64;
        if bytes > self.limits.body_bytes {
            return Err(Refusal::PromptTooLong { bytes, limit: self.limits.body_bytes });
        }
        if self.held.saturating_add(bytes) > self.limits.node_bytes {
            return Err(Refusal::NodeFull);
        }
        let stops_fit = spec.stop.iter().all(|stop| (1..=MAX_STOP_BYTES).contains(&stop.len()));
        if spec.stop.len() > MAX_STOPS || !stops_fit {
            return Err(Refusal::Stops);
        }
        let budget = spec.budget.unwrap_or(0);
        let answer = Answer {
            kind: spec.prompt.kind(),
            prompt: body,
            sampling: spec.sampling,
            stop: spec.stop,
            budget,
            time_value: spec.time_value,
            choose: spec.choose,
            failover: spec.failover,
        };
        // Counted before it starts: it may end at once.
        self.held += bytes;
        let id = self
            .prepare(now, Goal::Answer(answer), spec.criteria, spec.max_tokens, spec.haggle, spec.deadline)
            .inspect_err(|_| self.held -= bytes)?;
        if let Some(job) = self.jobs.get_mut(&id) {
            job.explain = spec.explain;
        }
        self.begin(id);
        Ok(id)
    }

    /// Asks for prices, awards nothing. Ends with [`crate::event::Finished::Quotes`].
    ///
    /// # Errors
    /// Why it was refused; nothing was started.
    pub fn quote(&mut self, now: Instant, spec: QuoteSpec) -> Result<JobId, Refusal> {
        let bytes = spec.body_bytes;
        if bytes > self.limits.body_bytes {
            return Err(Refusal::PromptTooLong { bytes, limit: self.limits.body_bytes });
        }
        let goal = Goal::Quote { body_bytes: bytes };
        let id = self.prepare(now, goal, spec.criteria, spec.max_tokens, spec.haggle, spec.deadline)?;
        self.begin(id);
        Ok(id)
    }

    /// Asks who serves a model. Ends with [`crate::event::Finished::Providers`].
    ///
    /// # Errors
    /// Why it was refused; nothing was started.
    pub fn discover(&mut self, now: Instant, criteria: Criteria, deadline: Option<Millis>) -> Result<JobId, Refusal> {
        let id = self.prepare(now, Goal::Discover, criteria, 1, Haggle::No, deadline)?;
        self.begin(id);
        Ok(id)
    }

    /// Chooses an offer for a job with [`crate::spec::Choose::Application`], after [`Event::ChoiceDue`].
    ///
    /// # Errors
    /// The job does not wait for a choice, or the peer made no acceptable offer.
    pub fn award(&mut self, now: Instant, job: JobId, peer: PeerId) -> Result<(), Refusal> {
        self.advance_clock(now);
        let awarded = self.award_chosen(job, peer);
        self.index(job);
        awarded
    }

    /// Ends a job for the application at once. A provider that computes it is told.
    ///
    /// # Errors
    /// The job is not known, or over.
    pub fn cancel(&mut self, now: Instant, job: JobId) -> Result<(), Refusal> {
        self.advance_clock(now);
        if !self.jobs.contains_key(&job) {
            return Err(Refusal::UnknownJob);
        }
        self.end_job(job, Outcome::Failed(Failure::Cancelled));
        Ok(())
    }

    /// The application has taken `tokens` further tokens of a job: the window moves. Ignored when the job is over.
    pub fn consumed(&mut self, now: Instant, job: JobId, tokens: u64) {
        self.advance_clock(now);
        let Some(state) = self.jobs.get_mut(&job) else { return };
        let stale = state.stale.min(tokens);
        state.stale -= stale;
        state.run.consume(tokens - stale);
        if let Phase::Awarded(attempt) = &mut state.phase {
            attempt.consume(self.now, state.run.consumed());
            self.acknowledge(job);
            self.index(job);
        }
    }

    /// Bounds what all jobs together may come to owe; `None` leaves it to each job's budget.
    pub fn set_account_budget(&mut self, budget: Option<Amount>) {
        self.account.set_limit(budget);
    }

    /// What all jobs together owe and have reserved.
    #[must_use]
    pub const fn account(&self) -> &Account {
        &self.account
    }

    /// What a job costs so far; `None` once it is over.
    #[must_use]
    pub fn bill(&self, job: JobId) -> Option<Bill> {
        self.jobs.get(&job).map(Job::bill)
    }

    /// Jobs that are open.
    #[must_use]
    pub fn open_jobs(&self) -> usize {
        self.jobs.len()
    }

    /// Bytes of prompts and answers that it holds, endings that are kept included.
    #[must_use]
    pub const fn held_bytes(&self) -> u64 {
        self.held
    }

    /// Conversations that are open.
    #[must_use]
    pub fn open_streams(&self) -> usize {
        self.streams.len()
    }

    /// How a provider has served so far; `None` if nothing is known of it.
    #[must_use]
    pub fn reliability(&self, now: Instant, peer: &PeerId) -> Option<Reliability> {
        self.peers.reliability(self.now.max(now), peer)
    }

    /// Every provider that something is known of, in the order of ids.
    pub fn known_peers(&self) -> impl Iterator<Item = &PeerId> {
        self.peers.iter()
    }

    /// Never asks a peer again, until it is allowed.
    ///
    /// # Errors
    /// [`Refusal::BansFull`]: as many are banned by hand as the book holds.
    pub fn ban(&mut self, peer: PeerId) -> Result<(), Refusal> {
        self.peers.ban(peer).map_err(|_| Refusal::BansFull)
    }

    /// Lifts every ban of a peer, and forgets what it was banned for.
    pub fn allow(&mut self, peer: &PeerId) {
        self.peers.allow(peer);
    }

    /// Everybody who is banned, with the time that is left.
    #[must_use]
    pub fn bans(&self, now: Instant) -> Vec<BanRecord> {
        self.peers.bans().export(self.now.max(now))
    }

    /// Takes in bans that were told by [`Self::bans`] `away` ago. Of two records of a peer, the worse stays.
    ///
    /// # Errors
    /// [`Refusal::BansFull`]: not all bans by hand found room.
    pub fn import_bans(&mut self, now: Instant, away: Millis, records: &[BanRecord]) -> Result<(), Refusal> {
        self.advance_clock(now);
        self.peers.import_bans(self.now, away, records).map_err(|_| Refusal::BansFull)
    }

    /// Every provider that described itself, with its latest advert.
    pub fn adverts(&self) -> impl Iterator<Item = (&PeerId, &Advert)> {
        self.directory.adverts()
    }

    /// A digest of the whole state, times relative to `now`: equal states digest equally on every target.
    /// What waits to be drained is not part of it.
    #[must_use]
    pub fn digest(&self, now: Instant) -> [u8; 32] {
        Digester::new(now)
            .with(&(&self.policy, &self.limits, &self.rng))
            .with(&(&self.jobs, &self.searching, &self.streams, &self.directory))
            .with(&(
                &self.describing,
                &self.to_describe,
                &self.peers,
                &self.quota,
                &self.farewells,
                &self.endings,
                &self.account,
            ))
            .with(&(self.held, self.next_stream, self.next_query))
            .done()
    }

    /// Takes a job in; nothing happens to it yet.
    fn prepare(
        &mut self,
        now: Instant,
        goal: Goal,
        mut criteria: Criteria,
        max_tokens: u64,
        haggle: Haggle,
        deadline: Option<Millis>,
    ) -> Result<JobId, Refusal> {
        self.advance_clock(now);
        criteria.only.sort_unstable();
        criteria.only.dedup();
        if max_tokens == 0 {
            return Err(Refusal::NoTokens);
        }
        if matches!(haggle, Haggle::Bid(permille) if !(1..1000).contains(&permille)) {
            return Err(Refusal::Bid);
        }
        if deadline == Some(Millis::ZERO) {
            return Err(Refusal::NoTime);
        }
        if self.jobs.len() + self.kept_endings() >= self.limits.jobs as usize {
            return Err(Refusal::TooManyJobs { limit: self.limits.jobs });
        }
        let budget = match &goal {
            Goal::Answer(answer) => Some(answer.budget),
            Goal::Quote { .. } | Goal::Discover => None,
        };
        let time = deadline.unwrap_or(self.policy.job_deadline).min(self.policy.job_deadline);
        let job = Job {
            goal,
            not_before: if criteria.refresh { self.now } else { Instant::ZERO },
            criteria,
            max_tokens,
            haggle,
            since: self.now,
            until: self.now.after(time),
            phase: Phase::Searching { window: None },
            talks: BTreeMap::new(),
            unaffordable: None,
            last_out: None,
            account: Account::new(budget),
            attempts: 0,
            tries: 0,
            before: 0,
            run: Run::default(),
            forgot_run: false,
            stale: 0,
            how: TakeOver::Spliced,
            broken: None,
            lift: Lift::Nothing,
            busy: None,
            rounds: 0,
            lines: Vec::new(),
            explain: false,
        };
        let id = JobId(self.rng.bytes());
        self.jobs.insert(id, job);
        Ok(id)
    }

    fn begin(&mut self, id: JobId) {
        self.searching.insert(id);
        self.begin_search(id);
        self.index(id);
    }

    /// The one ending of a job: accounts are settled, conversations closed, the application told. Nothing follows.
    fn end_job(&mut self, id: JobId, outcome: Outcome) {
        if matches!(self.jobs.get(&id), Some(Job { phase: Phase::Awarded(_), .. })) {
            let verdict = if matches!(outcome, Outcome::Finished(_)) { Verdict::Verified } else { Verdict::None };
            self.close_attempt(id, verdict);
        }
        self.release_talks(id, ReleaseReason::NoJob);
        let Some(job) = self.jobs.remove(&id) else { return };
        self.searching.remove(&id);
        self.deadlines.set(self.now, Key::Job(id), None);
        if matches!(job.goal, Goal::Answer(_)) {
            self.held = self.held.saturating_sub(job.body_bytes());
        }
        let ending = Ending { outcome, bill: job.bill() };
        self.keep_ending(id, job, &ending);
        self.tell(Event::Ended { job: id, ending });
    }

    fn fail_job(&mut self, id: JobId, failure: Failure) {
        self.end_job(id, Outcome::Failed(failure));
    }

    fn open_stream(&mut self, peer: PeerId, role: Role) -> StreamId {
        let stream = StreamId(self.next_stream);
        self.next_stream += 1;
        let idle_frames = Bucket::new(self.now, self.limits.idle_frames);
        self.streams.insert(stream, Stream { peer, role, opened: false, deframer: Deframer::default(), idle_frames });
        self.outbox.open(stream, peer);
        stream
    }

    /// Says goodbye: what was sent goes out, what still comes is not read.
    fn close_stream(&mut self, stream: StreamId) {
        if self.streams.remove(&stream).is_some() {
            self.outbox.close(stream);
        }
    }

    /// Ends a stream whose other side broke the protocol.
    fn reset_stream(&mut self, stream: StreamId) {
        if self.streams.remove(&stream).is_some() {
            self.outbox.reset(stream);
        }
    }

    fn tell(&mut self, event: Event<'static>) {
        self.outbox.event(Told::Event(event));
    }

    fn advance_clock(&mut self, now: Instant) {
        self.now = self.now.max(now);
    }

    /// Derives a job's deadline anew: the one place where it enters the index.
    fn index(&mut self, id: JobId) {
        let due = self.jobs.get(&id).map(Job::timeout);
        self.deadlines.set(self.now, Key::Job(id), due);
    }
}

impl Machine for Requester {
    type Event<'a> = Event<'a>;

    fn handle_input(&mut self, now: Instant, input: Input<'_>) {
        self.advance_clock(now);
        match input {
            Input::Timeout => self.on_timeout(),
            Input::StreamOpened(stream) => {
                if let Some(stream) = self.streams.get_mut(&stream) {
                    stream.opened = true;
                }
            }
            Input::StreamFailed(stream, failure) => self.on_stream_lost(stream, PassedOver::Stream(failure)),
            Input::StreamClosed(stream) => self.on_stream_lost(stream, PassedOver::Lost),
            Input::Received(stream, bytes) => self.on_received(stream, bytes),
            Input::PeersFound(query, peers) => self.on_peers_found(query, peers),
            Input::QueryDone(query, outcome) => self.on_query_done(query, outcome),
            Input::PeerConnected(peer) => {
                self.directory.revive(&peer);
                self.on_reachable(peer);
            }
            Input::PeerGone(peer) => {
                let is_lost = |stream: &Stream| stream.peer == peer && stream.opened;
                let lost: Vec<StreamId> =
                    self.streams.iter().filter(|(_, stream)| is_lost(stream)).map(|(id, _)| *id).collect();
                lost.into_iter().for_each(|stream| self.on_stream_lost(stream, PassedOver::Lost));
            }
        }
    }

    fn poll_output(&mut self) -> Option<Output<'_, Event<'_>>> {
        let words = &mut self.words;
        self.outbox.poll(move |told| words.speak(told))
    }

    fn poll_timeout(&self) -> Option<Timeout> {
        self.deadlines.next()
    }
}
