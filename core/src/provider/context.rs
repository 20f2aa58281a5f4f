//! What all jobs have in common: what is served, clock and chance, streams, peers and prices, who waits, and the queue of what
//! leaves.
//!
//! Jobs do not know each other. A job's step is given the context, and changes nothing else but itself.

use alloc::{
    collections::{BTreeMap, VecDeque},
    vec::Vec,
};

use crate::{
    bucket::Bucket,
    deadlines::Deadlines,
    event::ProviderEvent,
    id::{AttemptId, JobId, Model, PeerId, StreamId},
    limits::{ConfigError, Limits},
    machine::{Cause, Timeout},
    outbox::Outbox,
    rand::Rng,
    refusal::Refusal,
    time::{Instant, Millis},
    wire::{
        Deframer, Message,
        message::{Decline, DeclineReason, GoneReason, Offer},
    },
};

use super::{conduct::Conducts, haggling::Bidders, job::Job, offers::OfferBook, service::Service};

/// The name of an attempt.
pub(super) type Name = (PeerId, JobId, u32);

/// All of a provider but its jobs.
#[derive(Clone, Debug)]
pub(super) struct Context {
    pub(super) service: Service,
    /// Models that cannot be computed now, and until when that is expected to last.
    pub(super) outages: BTreeMap<Model, Instant>,
    pub(super) limits: Limits,
    pub(super) rng: Rng,
    pub(super) now: Instant,
    pub(super) lifecycle: Lifecycle,
    pub(super) streams: BTreeMap<StreamId, Stream>,
    /// Streams and jobs of each peer that has any.
    pub(super) peers: BTreeMap<PeerId, Load>,
    pub(super) offers: OfferBook,
    pub(super) bidders: Bidders,
    pub(super) conducts: Conducts,
    pub(super) by_name: BTreeMap<Name, AttemptId>,
    /// Attempts of earlier processes, until nobody asks for them any more.
    pub(super) lost: BTreeMap<Name, Instant>,
    /// Jobs whose body is complete and that wait for a slot, with whose they are.
    pub(super) queue: VecDeque<(AttemptId, PeerId)>,
    /// Slots taken.
    pub(super) running: u32,
    /// How long a job has its slot, typically.
    pub(super) typical: Millis,
    /// Time from a slot to the first token, of each model that wrote one, and when it wrote the last one.
    pub(super) first_tokens: BTreeMap<Model, (Millis, Instant)>,
    /// Bytes of bodies that were admitted and not yet handed to the engine.
    pub(super) held: u64,
    pub(super) next_stream: u64,
    pub(super) next_attempt: u64,
    pub(super) deadlines: Deadlines<DeadlineKey>,
    pub(super) outbox: Outbox<ProviderEvent>,
    /// One frame, while it is cut.
    pub(super) scratch: Vec<u8>,
}

/// Whether new jobs are taken.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Lifecycle {
    Open,
    /// Jobs that were taken before go on until then.
    Draining {
        until: Instant,
    },
    Shut,
}

/// One conversation with a requester.
#[derive(Clone, Hash, Debug)]
pub(super) struct Stream {
    pub(super) peer: PeerId,
    pub(super) job: Option<AttemptId>,
    pub(super) deframer: Deframer,
    pub(super) idle_frames: Bucket,
    /// The peer has to say something until then, as long as no job is on the stream.
    pub(super) until: Instant,
    /// Body bytes of a declined award that may still be on their way.
    pub(super) stray_body: u64,
    /// A job that was accepted here was displaced: its requester's signs of life may still be on their way.
    pub(super) is_displaced: bool,
}

/// What one peer has open here.
#[derive(Clone, Copy, Hash, Debug, Default)]
pub(super) struct Load {
    pub(super) streams: u32,
    pub(super) jobs: u32,
}

/// Whose deadline.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum DeadlineKey {
    Stream(StreamId),
    Job(AttemptId),
    Offers,
    Drain,
}

impl Context {
    pub(super) fn new(service: Service, limits: Limits, seed: [u8; 32]) -> Result<Self, ConfigError> {
        service.validate()?;
        limits.validate()?;
        Ok(Self {
            service,
            outages: BTreeMap::new(),
            limits,
            rng: Rng::new(seed),
            now: Instant::ZERO,
            lifecycle: Lifecycle::Open,
            streams: BTreeMap::new(),
            peers: BTreeMap::new(),
            offers: OfferBook::default(),
            bidders: Bidders::default(),
            conducts: Conducts::default(),
            by_name: BTreeMap::new(),
            lost: BTreeMap::new(),
            queue: VecDeque::new(),
            running: 0,
            typical: Millis::ZERO,
            first_tokens: BTreeMap::new(),
            held: 0,
            next_stream: 0,
            next_attempt: 0,
            deadlines: Deadlines::new(),
            outbox: Outbox::new(),
            scratch: Vec::new(),
        })
    }

    pub(super) fn advance_clock(&mut self, now: Instant) {
        self.now = self.now.max(now);
    }

    pub(super) const fn is_closing(&self) -> bool {
        !matches!(self.lifecycle, Lifecycle::Open)
    }

    /// Derives anew when a job is due: the one place where it enters the index.
    pub(super) fn index(&mut self, job: &Job) {
        self.deadlines.set(self.now, DeadlineKey::Job(job.id), Some(job.timeout(&self.service)));
    }

    /// A job is forgotten: what was indexed and counted of it goes.
    pub(super) fn leave(&mut self, job: &Job) {
        self.deadlines.set(self.now, DeadlineKey::Job(job.id), None);
        self.by_name.remove(&job.name());
        self.uncount(job.peer, |load| &mut load.jobs);
        if let Some(stream) = job.stream().and_then(|stream| self.streams.get_mut(&stream)) {
            stream.job = None;
        }
    }

    /// Admits a stream that a peer opened.
    pub(super) fn accept_stream(&mut self, peer: PeerId) -> Result<StreamId, Refusal> {
        let load = self.peers.get(&peer).copied().unwrap_or_default();
        // [T4] The peer's number, and the node's.
        if self.streams.len() >= self.limits.streams as usize || load.streams >= self.limits.streams_per_peer {
            return Err(Refusal::TooManyStreams);
        }
        self.peers.entry(peer).or_default().streams += 1;
        let id = StreamId(self.next_stream);
        self.next_stream += 1;
        let stream = Stream {
            peer,
            job: None,
            deframer: Deframer::default(),
            idle_frames: Bucket::new(self.now, self.limits.idle_frames),
            until: self.now.after(self.service.handshake),
            stray_body: 0,
            is_displaced: false,
        };
        self.streams.insert(id, stream);
        self.index_stream(id);
        Ok(id)
    }

    /// Derives a stream's deadline anew: only one without a job has to say something.
    pub(super) fn index_stream(&mut self, id: StreamId) {
        let due = self.streams.get(&id).filter(|stream| stream.job.is_none());
        let due = due.map(|stream| Timeout { at: stream.until, cause: Cause::Handshake });
        self.deadlines.set(self.now, DeadlineKey::Stream(id), due);
    }

    /// Says goodbye: what was sent goes out, what still comes is not read.
    pub(super) fn close_stream(&mut self, id: StreamId) {
        if self.drop_stream(id).is_some() {
            self.outbox.close(id);
        }
    }

    /// Ends a stream at once, with what waits for it.
    pub(super) fn reset_stream(&mut self, id: StreamId) {
        if self.drop_stream(id).is_some() {
            self.outbox.reset(id);
        }
    }

    /// Forgets a stream; its job, if any, is the caller's.
    pub(super) fn drop_stream(&mut self, id: StreamId) -> Option<Stream> {
        let stream = self.streams.remove(&id)?;
        self.deadlines.set(self.now, DeadlineKey::Stream(id), None);
        self.uncount(stream.peer, |load| &mut load.streams);
        Some(stream)
    }

    /// A frame came that brings nothing on: whether the stream bears it.
    #[must_use]
    pub(super) fn charge_idle_frame(&mut self, stream: StreamId) -> bool {
        let now = self.now;
        // [C2]
        self.streams.get_mut(&stream).is_none_or(|stream| stream.idle_frames.charge(now))
    }

    /// The body of an award is not wanted, and what of it comes unasked may be on its way: it is taken and dropped, so that
    /// the answer reaches its reader.
    pub(super) fn drop_unasked_body(&mut self, stream: StreamId, body_bytes: u64) {
        if let Some(stream) = self.streams.get_mut(&stream) {
            // [A7]
            stream.stray_body = body_bytes.min(self.limits.body_unasked);
        }
    }

    /// There is nothing to resume, or to cancel.
    // [C5]
    pub(super) fn gone(&mut self, stream: StreamId, reason: GoneReason) {
        self.outbox.send(stream, &Message::Gone(reason));
        self.close_stream(stream);
    }

    /// Says no to what was asked for on a stream.
    pub(super) fn decline(
        &mut self,
        stream: StreamId,
        reason: DeclineReason,
        retry_after: Option<Millis>,
        offer: Option<Offer>,
    ) {
        self.outbox.send(stream, &Message::Decline(Decline { reason, retry_after, offer, shown: None }));
    }

    /// One stream or job of a peer less; a peer that has neither is forgotten.
    fn uncount(&mut self, peer: PeerId, counted: impl FnOnce(&mut Load) -> &mut u32) {
        let Some(load) = self.peers.get_mut(&peer) else {
            debug_assert!(false, "every stream and job was counted");
            return;
        };
        let count = counted(load);
        debug_assert!(*count > 0, "every stream and job was counted");
        *count = count.saturating_sub(1);
        if load.streams == 0 && load.jobs == 0 {
            self.peers.remove(&peer);
        }
    }
}
