//! Who sells: offers, admits, and streams what its engine writes.
//!
//! A flow reads from file to file: `quoting` (what does it cost), with `haggling` (what a bid is answered) → `admission` (may it
//! come in), with `places` (is there room for it) → `stream` (body, tokens, end) → `resume` (after a cut) → `closing`. `outage`:
//! an engine cannot compute now. `job` and `replay` hold the state.

mod admission;
mod closing;
mod command;
mod haggling;
mod job;
mod outage;
mod places;
mod quoting;
mod replay;
mod resume;
mod service;
mod snapshot;
mod stream;

use alloc::{
    collections::{BTreeMap, VecDeque},
    vec::Vec,
};

use crate::{
    bucket::Bucket,
    deadlines::Deadlines,
    digest::Digester,
    event::{ProviderEvent, ServedReason, Violation},
    id::{AttemptId, Model, PeerId, StreamId},
    inbound::Inbound,
    limits::{ConfigError, Limits},
    machine::{Cause, Input, Machine, Output, Timeout},
    outbox::Outbox,
    rand::Rng,
    refusal::Refusal,
    time::{Instant, Millis},
    wire::{
        Deframer, Message,
        message::{Advert, EndReason},
    },
};

use self::{closing::Lifecycle, haggling::Bidders, job::Job, places::Conducts, quoting::OfferBook, snapshot::Name};

pub use self::{
    command::{Command, Reply},
    service::{Service, Serving},
    stream::Piece,
};

/// Offers, admits and streams. See [`Machine`] for how to run it.
#[derive(Clone, Debug)]
pub struct Provider {
    service: Service,
    /// Models that cannot be computed now, and until when that is expected to last.
    outages: BTreeMap<Model, Instant>,
    limits: Limits,
    rng: Rng,
    now: Instant,
    lifecycle: Lifecycle,
    streams: BTreeMap<StreamId, Stream>,
    /// Streams and jobs of each peer that has any.
    peers: BTreeMap<PeerId, Load>,
    offers: OfferBook,
    bidders: Bidders,
    conducts: Conducts,
    jobs: BTreeMap<AttemptId, Job>,
    by_name: BTreeMap<Name, AttemptId>,
    /// Attempts of earlier processes, until nobody asks for them any more.
    lost: BTreeMap<Name, Instant>,
    /// Jobs whose body is complete and that wait for a slot.
    queue: VecDeque<AttemptId>,
    /// Slots taken.
    running: u32,
    /// How long a job has its slot, typically.
    typical: Millis,
    /// Bytes of bodies that were admitted and not yet handed to the engine.
    held: u64,
    next_stream: u64,
    next_attempt: u64,
    deadlines: Deadlines<DeadlineKey>,
    outbox: Outbox<ProviderEvent>,
    /// One frame, while it is cut.
    scratch: Vec<u8>,
}

/// One conversation with a requester.
#[derive(Clone, Hash, Debug)]
struct Stream {
    peer: PeerId,
    job: Option<AttemptId>,
    deframer: Deframer,
    idle_frames: Bucket,
    /// The peer has to say something until then, as long as no job is on the stream.
    until: Instant,
    /// Body bytes of a declined award that may still be on their way.
    stray_body: u64,
    /// A job that was accepted here was displaced: its requester's signs of life may still be on their way.
    is_displaced: bool,
}

/// What one peer has open here.
#[derive(Clone, Copy, Hash, Debug, Default)]
struct Load {
    streams: u32,
    jobs: u32,
}

/// Whose deadline.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum DeadlineKey {
    Stream(StreamId),
    Job(AttemptId),
    Offers,
    Drain,
}

impl Provider {
    /// A provider that serves from now on. `seed` is fresh from the operating system at every start, fixed only in tests.
    ///
    /// # Errors
    /// The first setting that can not work.
    pub fn new(service: Service, limits: Limits, seed: [u8; 32]) -> Result<Self, ConfigError> {
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
            jobs: BTreeMap::new(),
            by_name: BTreeMap::new(),
            lost: BTreeMap::new(),
            queue: VecDeque::new(),
            running: 0,
            typical: Millis::ZERO,
            held: 0,
            next_stream: 0,
            next_attempt: 0,
            deadlines: Deadlines::new(),
            outbox: Outbox::new(),
            scratch: Vec::new(),
        })
    }

    /// Admits a stream that a peer opened.
    ///
    /// # Errors
    /// [`Refusal::TooManyStreams`]: close it at once.
    pub fn accept_stream(&mut self, now: Instant, peer: PeerId) -> Result<StreamId, Refusal> {
        self.advance_clock(now);
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

    /// The engine has read the prompt, and counted so many tokens in it. Ignored when the attempt is over.
    pub fn started(&mut self, attempt: AttemptId, prompt_tokens: u64) {
        if let Some(job) = self.jobs.get_mut(&attempt) {
            job.prompt_tokens = prompt_tokens;
        }
    }

    /// Sends tokens; says how many more there is room for. At 0, wait for [`ProviderEvent::Room`].
    ///
    /// # Errors
    /// [`Refusal::NoRoom`]: keep the piece and push it again after `Room`; [`Refusal::BadPiece`];
    /// [`Refusal::UnknownAttempt`]: it was stopped, drop it.
    pub fn push(&mut self, now: Instant, attempt: AttemptId, piece: Piece<'_>) -> Result<u32, Refusal> {
        self.advance_clock(now);
        self.push_piece(attempt, piece)
    }

    /// The engine is done with an attempt, well or badly: its slot is free.
    ///
    /// # Errors
    /// [`Refusal::UnknownAttempt`]: it was stopped before.
    pub fn finish(&mut self, now: Instant, attempt: AttemptId, reason: EndReason) -> Result<(), Refusal> {
        self.advance_clock(now);
        if !self.jobs.get(&attempt).is_some_and(Job::is_running) {
            return Err(Refusal::UnknownAttempt);
        }
        self.end_attempt(attempt, reason);
        Ok(())
    }

    /// Changes what is served. Offers made bind on until they expire, unless their model is not served any more; jobs that
    /// run go on.
    ///
    /// # Errors
    /// The first setting that can not work; nothing changed.
    pub fn set_models(&mut self, models: Vec<Serving>) -> Result<(), ConfigError> {
        let service = Service { models, ..self.service.clone() };
        service.validate()?;
        self.service = service;
        let served = &self.service.models;
        self.outages.retain(|model, _| served.iter().any(|serving| serving.advert.model == *model));
        Ok(())
    }

    /// Changes how many jobs are computed at once, and how many wait for that. Jobs that run or wait beyond it go on.
    ///
    /// # Errors
    /// The first setting that can not work; nothing changed.
    pub fn set_slots(&mut self, now: Instant, slots: u32, queue: u32) -> Result<(), ConfigError> {
        self.advance_clock(now);
        let service = Service { slots, queue, ..self.service.clone() };
        service.validate()?;
        self.service = service;
        self.start_queued();
        Ok(())
    }

    /// What it says of itself now.
    #[must_use]
    pub fn advert(&self) -> Advert {
        let busy = u32::try_from(self.holding()).unwrap_or(u32::MAX);
        Advert {
            models: self.able().map(|serving| serving.advert.clone()).collect(),
            slots: self.service.slots,
            free: if self.is_closing() { 0 } else { self.service.slots.saturating_sub(busy) },
            queued: busy.saturating_sub(self.service.slots),
        }
    }

    /// Jobs that receive their body, wait, compute, or wait for their end to be acknowledged.
    #[must_use]
    pub fn open_jobs(&self) -> usize {
        self.jobs.len()
    }

    /// Jobs that are not over: they receive their body, wait or compute.
    #[must_use]
    pub fn unended_jobs(&self) -> usize {
        self.unended()
    }

    /// Slots that are taken.
    #[must_use]
    pub const fn taken_slots(&self) -> u32 {
        self.running
    }

    /// Conversations that are open.
    #[must_use]
    pub fn open_streams(&self) -> usize {
        self.streams.len()
    }

    /// Offers that bind.
    #[must_use]
    pub fn open_offers(&self) -> usize {
        self.offers.len()
    }

    /// Bytes of bodies that are held.
    #[must_use]
    pub const fn held_bytes(&self) -> u64 {
        self.held
    }

    /// A digest of the whole state, times relative to `now`: equal states digest equally on every target.
    /// What waits to be drained is not part of it.
    #[must_use]
    pub fn digest(&self, now: Instant) -> [u8; 32] {
        Digester::new(now)
            .with(&(&self.service, &self.outages, &self.limits, &self.rng, self.lifecycle))
            .with(&(
                &self.streams,
                &self.peers,
                &self.offers,
                &self.bidders,
                &self.conducts,
                &self.jobs,
                &self.by_name,
                &self.lost,
            ))
            .with(&(&self.queue, self.running, self.typical, self.held, self.next_stream, self.next_attempt))
            .done()
    }

    fn advance_clock(&mut self, now: Instant) {
        self.now = self.now.max(now);
    }

    /// Derives a stream's deadline anew: only one without a job has to say something.
    fn index_stream(&mut self, id: StreamId) {
        let due = self.streams.get(&id).filter(|stream| stream.job.is_none());
        let due = due.map(|stream| Timeout { at: stream.until, cause: Cause::Handshake });
        self.deadlines.set(self.now, DeadlineKey::Stream(id), due);
    }

    /// Derives a job's deadline anew: the one place where it enters the index.
    fn index_job(&mut self, id: AttemptId) {
        let due = self.jobs.get(&id).map(|job| job.timeout(&self.service));
        self.deadlines.set(self.now, DeadlineKey::Job(id), due);
    }

    /// Forgets a stream; its job, if any, was dealt with before.
    fn drop_stream(&mut self, id: StreamId) -> bool {
        let Some(stream) = self.streams.remove(&id) else { return false };
        self.deadlines.set(self.now, DeadlineKey::Stream(id), None);
        if let Some(load) = self.peers.get_mut(&stream.peer) {
            load.streams = load.streams.saturating_sub(1);
        }
        self.forget_idle_peer(stream.peer);
        true
    }

    fn forget_idle_peer(&mut self, peer: PeerId) {
        if self.peers.get(&peer).is_some_and(|load| load.streams == 0 && load.jobs == 0) {
            self.peers.remove(&peer);
        }
    }

    fn close_stream(&mut self, id: StreamId) {
        if self.drop_stream(id) {
            self.outbox.close(id);
        }
    }

    fn reset_stream(&mut self, id: StreamId) {
        if self.drop_stream(id) {
            self.outbox.reset(id);
        }
    }

    fn on_timeout(&mut self) {
        for key in self.deadlines.take_due(self.now) {
            match key {
                DeadlineKey::Offers => {
                    self.offers.expire(self.now);
                    self.index_offers();
                }
                DeadlineKey::Drain => self.on_drain_due(),
                DeadlineKey::Stream(id) => {
                    // [T5]
                    let silent = self.streams.get(&id).is_some_and(|s| s.job.is_none() && s.until <= self.now);
                    if silent {
                        self.close_stream(id);
                    }
                    self.index_stream(id);
                }
                DeadlineKey::Job(id) => {
                    self.on_job_timeout(id);
                    self.index_job(id);
                }
            }
        }
    }

    fn on_received(&mut self, stream: StreamId, bytes: &[u8]) {
        match self.receive(stream, bytes) {
            Ok(()) => self.index_stream(stream),
            Err(violation) => self.on_violation(stream, violation),
        }
    }

    fn on_message(&mut self, id: StreamId, payload: &[u8], message: Message<'_>) -> Result<(), Violation> {
        let Some(stream) = self.streams.get_mut(&id) else { return Ok(()) };
        if let Some(attempt) = stream.job {
            let result = self.on_job_message(attempt, id, message);
            self.index_job(attempt);
            return result;
        }
        stream.until = self.now.after(self.service.idle);
        if let Message::Body { bytes, .. } = message {
            // The unasked part of an award that was declined meanwhile.
            // [A7]
            let left = stream.stray_body.checked_sub(bytes.len() as u64);
            stream.stray_body = left.ok_or(Violation::Unexpected)?;
            return Ok(());
        }
        // [C2]
        if !stream.idle_frames.charge(self.now) {
            return Err(Violation::Flood);
        }
        let peer = stream.peer;
        // [C6] In any order.
        match message {
            Message::Ack { end: false, .. } if stream.is_displaced => Ok(()),
            // [C4]
            Message::Describe => {
                let advert = self.advert();
                self.outbox.send(id, &Message::Advert(advert));
                Ok(())
            }
            Message::Rfq(rfq) => {
                self.on_rfq(id, peer, rfq);
                Ok(())
            }
            Message::Counter(counter) => {
                self.on_counter(id, peer, &counter);
                Ok(())
            }
            Message::Release(reason) => {
                self.outbox.event(ProviderEvent::Released { peer, reason });
                Ok(())
            }
            Message::Award(award) => {
                self.on_award(id, peer, payload, award);
                Ok(())
            }
            Message::Cancel { job, attempt } => {
                self.on_cancel(id, peer, job, attempt);
                Ok(())
            }
            Message::Resume { job, attempt, epoch, next } => {
                self.on_resume(id, (peer, job, attempt), epoch, next);
                Ok(())
            }
            _ => Err(Violation::Unexpected),
        }
    }

    fn on_violation(&mut self, stream: StreamId, violation: Violation) {
        if let Some(attempt) = self.streams.get(&stream).and_then(|stream| stream.job) {
            self.drop_job(attempt, ServedReason::Violation(violation));
        }
        self.reset_stream(stream);
    }

    fn on_stream_closed(&mut self, stream: StreamId) {
        self.outbox.forget(stream);
        let Some(job) = self.streams.get(&stream).map(|stream| stream.job) else { return };
        self.drop_stream(stream);
        if let Some(attempt) = job {
            self.detach(attempt);
        }
    }
}

impl Inbound for Provider {
    fn deframer(&mut self, stream: StreamId) -> Option<&mut Deframer> {
        self.streams.get_mut(&stream).map(|stream| &mut stream.deframer)
    }

    fn on_frame(&mut self, stream: StreamId, payload: &[u8], message: Message<'_>) -> Result<(), Violation> {
        self.on_message(stream, payload, message)
    }
}

impl Machine for Provider {
    type Event<'a> = ProviderEvent;

    fn handle_input(&mut self, now: Instant, input: Input<'_>) {
        self.advance_clock(now);
        match input {
            Input::Timeout => self.on_timeout(),
            Input::Received(stream, bytes) => self.on_received(stream, bytes),
            Input::StreamClosed(stream) | Input::StreamFailed(stream, _) => self.on_stream_closed(stream),
            Input::PeerGone(peer) => {
                let lost: Vec<StreamId> =
                    self.streams.iter().filter(|(_, stream)| stream.peer == peer).map(|(id, _)| *id).collect();
                lost.into_iter().for_each(|stream| self.on_stream_closed(stream));
            }
            // A provider opens no streams and asks nobody.
            Input::StreamOpened(_) | Input::PeersFound(..) | Input::QueryDone(..) | Input::PeerConnected(_) => {}
        }
    }

    fn poll_output(&mut self) -> Option<Output<'_, ProviderEvent>> {
        self.outbox.poll(|event| event)
    }

    fn poll_timeout(&self) -> Option<Timeout> {
        self.deadlines.next()
    }
}
