//! What all jobs have in common: settings, clock and chance, peers and money, streams, and the queue of what leaves.
//!
//! Jobs do not know each other. A job's flow is given the context, and changes nothing else but itself.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::{
    bucket::Bucket,
    deadlines::Deadlines,
    event::{Event, Violation},
    id::{JobId, Model, PeerId, QueryId, StreamId},
    limits::{ConfigError, Limits, Policy},
    money::{Account, Price},
    outbox::Outbox,
    peers::{
        breaker::Rules,
        directory::{Directory, serves},
        table::Peers,
    },
    rand::Rng,
    retry::RetryQuota,
    time::Instant,
    wire::{
        Deframer,
        message::{Channel, Exactness},
    },
};

use super::{
    concluded::Concluded,
    events::{QueuedEvent, TokenBuffer},
    job::{Job, JobState},
};

/// All of a requester but its jobs.
#[derive(Clone, Debug)]
pub(super) struct Context {
    pub(super) policy: Policy,
    pub(super) limits: Limits,
    pub(super) rng: Rng,
    pub(super) now: Instant,
    /// Jobs that wait for adverts.
    pub(super) searching: BTreeSet<JobId>,
    pub(super) streams: BTreeMap<StreamId, Stream>,
    pub(super) directory: Directory,
    /// Providers that are asked to describe themselves, and those that will be.
    pub(super) describing: BTreeMap<PeerId, (StreamId, Instant)>,
    pub(super) to_describe: VecDeque<PeerId>,
    /// How far every provider is trusted.
    pub(super) peers: Peers,
    pub(super) quota: RetryQuota,
    /// When a provider that had never served last let a job wait, and its price for a token.
    pub(super) bait: Option<(Instant, Price)>,
    /// Cancelled attempts whose providers have not confirmed it yet.
    pub(super) pending_cancels: BTreeMap<(JobId, u32), PendingCancel>,
    /// Answers that ended, until the application has stored how; `None` if it will never tell.
    pub(super) endings: Option<BTreeMap<JobId, Concluded>>,
    pub(super) account: Account,
    /// Bytes of all bodies.
    pub(super) held: u64,
    pub(super) next_stream: u64,
    pub(super) next_query: u64,
    pub(super) deadlines: Deadlines<DeadlineKey>,
    pub(super) outbox: Outbox<QueuedEvent>,
    pub(super) token_buffer: TokenBuffer,
}

/// One conversation with a provider.
#[derive(Clone, Hash, Debug)]
pub(super) struct Stream {
    pub(super) peer: PeerId,
    pub(super) role: Role,
    /// As long as it is not, the adapter still answers the order to open it.
    pub(super) opened: bool,
    pub(super) deframer: Deframer,
    pub(super) idle_frames: Bucket,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Role {
    Describe,
    Job(JobId),
    /// The attempt was cancelled; its provider is to confirm it.
    PendingCancel(JobId, u32),
}

/// Whose deadline.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum DeadlineKey {
    Job(JobId),
    Query(QueryId),
    Describe(PeerId),
    PendingCancel(JobId, u32),
}

/// A cancelled attempt, until its provider confirms, or would have forgotten it anyway.
#[derive(Clone, Hash, Debug)]
pub(super) struct PendingCancel {
    pub(super) peer: PeerId,
    pub(super) stream: Option<StreamId>,
    pub(super) until: Instant,
    pub(super) retry: Instant,
    /// Streams lost before it was confirmed.
    pub(super) losses: u32,
}

impl Context {
    pub(super) fn new(policy: Policy, limits: Limits, seed: [u8; 32]) -> Result<Self, ConfigError> {
        policy.validate()?;
        limits.validate()?;
        let peers = Peers::new(Rules::default(), limits.known_peers, limits.bans);
        Ok(Self {
            policy,
            limits,
            rng: Rng::new(seed),
            now: Instant::ZERO,
            searching: BTreeSet::new(),
            streams: BTreeMap::new(),
            directory: Directory::default(),
            describing: BTreeMap::new(),
            to_describe: VecDeque::new(),
            peers,
            quota: RetryQuota::default(),
            bait: None,
            pending_cancels: BTreeMap::new(),
            endings: None,
            account: Account::default(),
            held: 0,
            next_stream: 0,
            next_query: 0,
            deadlines: Deadlines::new(),
            outbox: Outbox::new(),
            token_buffer: TokenBuffer::default(),
        })
    }

    pub(super) fn advance_clock(&mut self, now: Instant) {
        self.now = self.now.max(now);
    }

    /// Derives anew what is indexed of a job: the one place where it enters the indexes.
    pub(super) fn index(&mut self, job: &Job) {
        if matches!(job.state, JobState::Searching { .. }) {
            self.searching.insert(job.id);
        } else {
            self.searching.remove(&job.id);
        }
        self.deadlines.set(self.now, DeadlineKey::Job(job.id), Some(job.timeout()));
    }

    /// The job is over.
    pub(super) fn unindex(&mut self, job: JobId) {
        self.searching.remove(&job);
        self.deadlines.set(self.now, DeadlineKey::Job(job), None);
    }

    pub(super) fn open_stream(&mut self, peer: PeerId, role: Role) -> StreamId {
        let stream = StreamId(self.next_stream);
        self.next_stream += 1;
        let idle_frames = Bucket::new(self.now, self.limits.idle_frames);
        self.streams.insert(stream, Stream { peer, role, opened: false, deframer: Deframer::default(), idle_frames });
        self.outbox.open(stream, peer);
        stream
    }

    /// Says goodbye: what was sent goes out, what still comes is not read.
    pub(super) fn close_stream(&mut self, stream: StreamId) {
        if self.streams.remove(&stream).is_some() {
            self.outbox.close(stream);
        }
    }

    /// Ends a stream whose other side broke the protocol.
    pub(super) fn reset_stream(&mut self, stream: StreamId) {
        if self.streams.remove(&stream).is_some() {
            self.outbox.reset(stream);
        }
    }

    /// A frame came that brings nothing on: a stream bears only so many.
    pub(super) fn charge_idle_frame(&mut self, stream: StreamId) -> Result<(), Violation> {
        let now = self.now;
        // [C2]
        let paid = self.streams.get_mut(&stream).is_none_or(|stream| stream.idle_frames.charge(now));
        if paid { Ok(()) } else { Err(Violation::Flood) }
    }

    pub(super) fn tell(&mut self, event: Event<'static>) {
        self.outbox.event(QueuedEvent::Event(event));
    }

    /// Tells tokens. Their text is copied into what waits already.
    pub(super) fn tell_tokens(
        &mut self,
        (job, peer): (JobId, PeerId),
        seq: u64,
        n: u32,
        text: &str,
        ids: Option<&[u8]>,
        channel: Option<Channel>,
    ) {
        self.token_buffer.keep(text, ids);
        let (text, ids) = (text.len(), ids.map(<[u8]>::len));
        self.outbox.event(QueuedEvent::Tokens { job, peer, seq, n, text, ids, channel });
    }

    /// What a provider's advert promises of equal bytes.
    pub(super) fn exactness(&self, peer: &PeerId, model: &Model) -> Exactness {
        let entry = self.directory.advert(peer).and_then(|advert| serves(advert, model));
        entry.map(|entry| entry.exactness).unwrap_or_default()
    }
}
