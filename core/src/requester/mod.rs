//! Who buys: finds providers, agrees a price with one, takes its tokens.
//!
//! A `job` is taken from step to step; a step is a method of the job that is given the `context` (all that jobs have in common)
//! and says what follows. `inbox` finds out whose step it is, and does what follows. The steps read from file to file: `search`
//! (who serves it) → `negotiation`, `offers` (what does it cost) → `award`, with `selection` (who gets it, and the money for it)
//! → `stream` (what arrives) → `resume` (after a cut) → `failover` (after a loss). `release` lets go who was talked to, `settle`
//! closes an attempt, `pending_cancel` makes sure that a Cancel arrives, `explain` tells why a choice fell as it did. State is in
//! `job`, `attempt` and `transcript`; what waits to be told in `events`; answers that ended, until they are stored, in `concluded`.

mod attempt;
mod award;
mod command;
mod concluded;
mod context;
mod events;
mod explain;
mod failover;
mod inbox;
mod job;
mod negotiation;
mod offers;
mod pending_cancel;
mod release;
mod resume;
mod search;
mod selection;
mod settle;
mod snapshot;
mod stream;
mod transcript;

use alloc::{collections::BTreeMap, vec::Vec};

use crate::{
    digest::Digester,
    event::{Bill, Failure},
    id::{JobId, PeerId},
    limits::{ConfigError, Limits, Policy},
    money::{Account, Amount},
    peers::{bans::BanRecord, table::Reliability},
    refusal::Refusal,
    spec::{Criteria, Haggle, JobSpec, QuoteSpec},
    time::{Instant, Millis},
    wire::message::{Advert, BodyKind, MAX_STOP_BYTES, MAX_STOPS},
};

pub use self::{
    command::{Command, Reply},
    snapshot::{Piece, Stored},
};

use self::{
    context::Context,
    job::{Answer, Goal, Job, Next},
};

/// Finds providers, agrees a price with one, takes its tokens. See [`Machine`](crate::Machine) for how to run it.
#[derive(Clone, Debug)]
pub struct Requester {
    jobs: BTreeMap<JobId, Job>,
    cx: Context,
}

impl Requester {
    /// A requester without jobs. `seed` is fresh from the operating system at every start, fixed only in tests:
    /// a reused seed would mint the same job ids.
    ///
    /// # Errors
    /// The first setting that can not work.
    pub fn new(policy: Policy, limits: Limits, seed: [u8; 32]) -> Result<Self, ConfigError> {
        Ok(Self { jobs: BTreeMap::new(), cx: Context::new(policy, limits, seed)? })
    }

    /// Starts a job.
    ///
    /// # Errors
    /// Why it was refused; nothing was started.
    pub fn submit(&mut self, now: Instant, spec: JobSpec) -> Result<JobId, Refusal> {
        spec.prompt.check().map_err(Refusal::Prompt)?;
        let body = spec.prompt.encode();
        let bytes = body.len() as u64;
        if bytes > self.cx.limits.body_bytes {
            return Err(Refusal::PromptTooLong { bytes, limit: self.cx.limits.body_bytes });
        }
        if self.cx.held.saturating_add(bytes) > self.cx.limits.node_bytes {
            return Err(Refusal::NodeFull);
        }
        let stops_fit = spec.stop.iter().all(|stop| (1..=MAX_STOP_BYTES).contains(&stop.len()));
        if spec.stop.len() > MAX_STOPS || !stops_fit {
            return Err(Refusal::Stops);
        }
        let budget = spec.budget.unwrap_or(0);
        let kind = spec.prompt.kind();
        let answer = Answer {
            kind,
            prompt: body,
            sampling: spec.sampling,
            stop: spec.stop,
            budget,
            time_value: spec.time_value,
            choose: spec.choose,
            failover: spec.failover,
        };
        let goal = Goal::Answer(answer);
        let mut criteria = spec.criteria;
        if kind == BodyKind::Request {
            criteria.require.get_or_insert_default();
        }
        let job = self.prepare(now, goal, criteria, spec.max_tokens, spec.haggle, spec.deadline)?;
        // Counted before it starts: it may end at once.
        self.cx.held += bytes;
        Ok(self.begin(Job { explain: spec.explain, ..job }))
    }

    /// Asks for prices, awards nothing. Ends with [`crate::event::Finished::Quotes`].
    ///
    /// # Errors
    /// Why it was refused; nothing was started.
    pub fn quote(&mut self, now: Instant, spec: QuoteSpec) -> Result<JobId, Refusal> {
        let bytes = spec.body_bytes;
        if bytes > self.cx.limits.body_bytes {
            return Err(Refusal::PromptTooLong { bytes, limit: self.cx.limits.body_bytes });
        }
        let goal = Goal::Quote { body_bytes: bytes };
        let job = self.prepare(now, goal, spec.criteria, spec.max_tokens, spec.haggle, spec.deadline)?;
        Ok(self.begin(job))
    }

    /// Asks who serves a model. Ends with [`crate::event::Finished::Providers`].
    ///
    /// # Errors
    /// Why it was refused; nothing was started.
    pub fn discover(&mut self, now: Instant, criteria: Criteria, deadline: Option<Millis>) -> Result<JobId, Refusal> {
        let job = self.prepare(now, Goal::Discover, criteria, 1, Haggle::No, deadline)?;
        Ok(self.begin(job))
    }

    /// Chooses an offer for a job with [`crate::spec::Choose::Application`], after [`ChoiceDue`](crate::Event::ChoiceDue).
    ///
    /// # Errors
    /// The job does not wait for a choice, or the peer made no acceptable offer.
    pub fn award(&mut self, now: Instant, job: JobId, peer: PeerId) -> Result<(), Refusal> {
        self.cx.advance_clock(now);
        if !self.jobs.contains_key(&job) {
            return Err(Refusal::UnknownJob);
        }
        self.try_drive(job, |job, cx| job.award_chosen(cx, peer))
    }

    /// Ends a job for the application at once. A provider that computes it is told.
    ///
    /// # Errors
    /// The job is not known, or over.
    pub fn cancel(&mut self, now: Instant, job: JobId) -> Result<(), Refusal> {
        self.cx.advance_clock(now);
        if !self.jobs.contains_key(&job) {
            return Err(Refusal::UnknownJob);
        }
        self.drive(job, |_, _| Next::fail(Failure::Cancelled));
        Ok(())
    }

    /// The application has taken `tokens` further tokens of a job: the window moves. Ignored when the job is over.
    pub fn consumed(&mut self, now: Instant, job: JobId, tokens: u64) {
        self.cx.advance_clock(now);
        if let Some(job) = self.jobs.get_mut(&job)
            && job.consume(&mut self.cx, tokens)
        {
            self.cx.index(job);
        }
    }

    /// Bounds what all jobs together may come to owe; `None` leaves it to each job's budget.
    pub fn set_account_budget(&mut self, budget: Option<Amount>) {
        self.cx.account.set_limit(budget);
    }

    /// What all jobs together owe and have reserved.
    #[must_use]
    pub const fn account(&self) -> &Account {
        &self.cx.account
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
        self.cx.held
    }

    /// Conversations that are open.
    #[must_use]
    pub fn open_streams(&self) -> usize {
        self.cx.streams.len()
    }

    /// How a provider has served so far; `None` if nothing is known of it.
    #[must_use]
    pub fn reliability(&self, now: Instant, peer: &PeerId) -> Option<Reliability> {
        self.cx.peers.reliability(self.cx.now.max(now), peer)
    }

    /// Every provider that something is known of, in the order of ids.
    pub fn known_peers(&self) -> impl Iterator<Item = &PeerId> {
        self.cx.peers.iter()
    }

    /// Never asks a peer again, until it is allowed.
    ///
    /// # Errors
    /// [`Refusal::BansFull`]: as many are banned by hand as the book holds.
    pub fn ban(&mut self, peer: PeerId) -> Result<(), Refusal> {
        self.cx.peers.ban(peer).map_err(|_| Refusal::BansFull)
    }

    /// Lifts every ban of a peer, and forgets what it was banned for.
    pub fn allow(&mut self, peer: &PeerId) {
        self.cx.peers.allow(peer);
    }

    /// Everybody who is banned, with the time that is left.
    #[must_use]
    pub fn bans(&self, now: Instant) -> Vec<BanRecord> {
        self.cx.peers.bans().export(self.cx.now.max(now))
    }

    /// Takes in bans that were told by [`Self::bans`] `away` ago. Of two records of a peer, the worse stays.
    ///
    /// # Errors
    /// [`Refusal::BansFull`]: not all bans by hand found room.
    pub fn import_bans(&mut self, now: Instant, away: Millis, records: &[BanRecord]) -> Result<(), Refusal> {
        self.cx.advance_clock(now);
        self.cx.peers.import_bans(self.cx.now, away, records).map_err(|_| Refusal::BansFull)
    }

    /// Every provider that described itself, with its latest advert.
    pub fn adverts(&self) -> impl Iterator<Item = (&PeerId, &Advert)> {
        self.cx.directory.adverts()
    }

    /// A digest of the whole state, times relative to `now`: equal states digest equally on every target.
    /// What waits to be drained is not part of it.
    #[must_use]
    pub fn digest(&self, now: Instant) -> [u8; 32] {
        let cx = &self.cx;
        Digester::new(now)
            .with(&(&cx.policy, &cx.limits, &cx.rng))
            .with(&(self.jobs.values().collect::<Vec<_>>(), &cx.searching, &cx.streams, &cx.directory))
            .with(&(
                &cx.describing,
                &cx.to_describe,
                &cx.peers,
                &cx.quota,
                &cx.pending_cancels,
                &cx.endings,
                &cx.account,
            ))
            .with(&(cx.held, cx.next_stream, cx.next_query, cx.bait))
            .done()
    }

    /// A job that is not begun yet.
    fn prepare(
        &mut self,
        now: Instant,
        goal: Goal,
        criteria: Criteria,
        max_tokens: u64,
        haggle: Haggle,
        deadline: Option<Millis>,
    ) -> Result<Job, Refusal> {
        let cx = &mut self.cx;
        cx.advance_clock(now);
        if max_tokens == 0 {
            return Err(Refusal::NoTokens);
        }
        if matches!(haggle, Haggle::Bid(permille) if !(1..1000).contains(&permille)) {
            return Err(Refusal::Bid);
        }
        if deadline == Some(Millis::ZERO) {
            return Err(Refusal::NoTime);
        }
        if self.jobs.len() + cx.kept_endings() >= cx.limits.jobs as usize {
            return Err(Refusal::TooManyJobs { limit: cx.limits.jobs });
        }
        let time = deadline.unwrap_or(cx.policy.job_deadline).min(cx.policy.job_deadline);
        let id = JobId(cx.rng.bytes());
        Ok(Job::new(id, goal, criteria, max_tokens, haggle, cx.now, cx.now.after(time)))
    }

    fn begin(&mut self, job: Job) -> JobId {
        let id = job.id;
        self.jobs.insert(id, job);
        self.drive(id, Job::begin_search);
        id
    }
}
