//! Who sells: offers, admits, and streams what its engine writes.
//!
//! A `job` is taken from step to step; a step is a method of the job that is given the `context` (all that jobs have in common)
//! and says what follows. `inbox` finds out whose step it is, and does what follows. The steps read from file to file: `quoting`
//! (what does it cost), with `haggling` (what a bid is answered) and `offers` (what binds) → `admission` (may it come in) →
//! `places` (is there room for it, and who makes room), with `conduct` (who left answers behind) → `stream` (body, tokens, silence)
//! → `resume` (after a cut) → `settle` (its end). `closing` is the end of all; `outage`: an engine cannot compute now. State is in
//! `job` and `replay` (what was sent and not acknowledged), what is served in `service`.

mod admission;
mod closing;
mod command;
mod conduct;
mod context;
mod eta;
mod haggling;
mod inbox;
mod job;
mod offers;
mod outage;
mod places;
mod quoting;
mod replay;
mod resume;
mod service;
mod settle;
mod snapshot;
mod stream;

use alloc::{collections::BTreeMap, vec::Vec};

use crate::{
    digest::Digester,
    id::{AttemptId, PeerId, StreamId},
    limits::{ConfigError, Limits},
    refusal::Refusal,
    time::Instant,
    wire::message::{Advert, EndReason, ModelAdvert, Phase},
};

use self::{
    context::Context,
    job::{Job, Next},
};

pub use self::{
    command::{Command, Reply},
    service::{Service, Serving},
    stream::Piece,
};

/// Offers, admits and streams. See [`Machine`](crate::Machine) for how to run it.
#[derive(Clone, Debug)]
pub struct Provider {
    jobs: BTreeMap<AttemptId, Job>,
    cx: Context,
}

impl Provider {
    /// A provider that serves from now on. `seed` is fresh from the operating system at every start, fixed only in tests.
    ///
    /// # Errors
    /// The first setting that can not work.
    pub fn new(service: Service, limits: Limits, seed: [u8; 32]) -> Result<Self, ConfigError> {
        Ok(Self { jobs: BTreeMap::new(), cx: Context::new(service, limits, seed)? })
    }

    /// Admits a stream that a peer opened.
    ///
    /// # Errors
    /// [`Refusal::TooManyStreams`]: close it at once.
    pub fn accept_stream(&mut self, now: Instant, peer: PeerId) -> Result<StreamId, Refusal> {
        self.cx.advance_clock(now);
        self.cx.accept_stream(peer)
    }

    /// The engine has read the prompt, and counted so many tokens in it; so many of them it had `cached`, if it tells. Ignored
    /// when the attempt is over.
    pub fn started(&mut self, attempt: AttemptId, prompt_tokens: u64, cached: Option<u64>) {
        self.drive(attempt, |job, _| {
            (job.prompt_tokens, job.cached) = (prompt_tokens, cached);
            Next::Stay
        });
    }

    /// What the engine does for an attempt, before its first token: its requester is told soon, and again as long as nothing
    /// else is, so that it knows what it waits for. Of one that was stopped nothing is told.
    pub fn working(&mut self, now: Instant, attempt: AttemptId, phase: Phase) {
        self.cx.advance_clock(now);
        self.drive(attempt, |job, _| {
            job.phase = Some(phase);
            Next::Stay
        });
    }

    /// Sends tokens; says how many more there is room for. At 0, wait for [`ProviderEvent::Room`](crate::ProviderEvent::Room).
    ///
    /// # Errors
    /// [`Refusal::NoRoom`]: keep the piece and push it again after `Room`; [`Refusal::BadPiece`];
    /// [`Refusal::UnknownAttempt`]: it was stopped, drop it.
    pub fn push(&mut self, now: Instant, attempt: AttemptId, piece: Piece<'_>) -> Result<u32, Refusal> {
        self.cx.advance_clock(now);
        // Not a step: it is what is done most often, and moves no deadline forward.
        let job = self.jobs.get_mut(&attempt).filter(|job| job.is_running()).ok_or(Refusal::UnknownAttempt)?;
        job.push(&mut self.cx, piece)
    }

    /// The engine is done with an attempt, well or badly: its slot is free.
    ///
    /// # Errors
    /// [`Refusal::UnknownAttempt`]: it was stopped before.
    pub fn finish(&mut self, now: Instant, attempt: AttemptId, reason: EndReason) -> Result<(), Refusal> {
        self.cx.advance_clock(now);
        if !self.jobs.contains_key(&attempt) {
            return Err(Refusal::UnknownAttempt);
        }
        self.try_drive(attempt, |job, cx| job.finish(cx, reason))
    }

    /// Changes what is served. Offers made bind on until they expire, unless their model is not served any more; jobs that
    /// run go on.
    ///
    /// # Errors
    /// The first setting that can not work; nothing changed.
    pub fn set_models(&mut self, models: Vec<Serving>) -> Result<(), ConfigError> {
        let service = Service { models, ..self.cx.service.clone() };
        service.validate()?;
        self.cx.service = service;
        let served = &self.cx.service.models;
        self.cx.outages.retain(|model, _| served.iter().any(|serving| serving.advert.model == *model));
        self.cx.retain_first_tokens();
        Ok(())
    }

    /// Changes how many jobs are computed at once, and how many wait for that. Jobs that run or wait beyond it go on.
    ///
    /// # Errors
    /// The first setting that can not work; nothing changed.
    pub fn set_slots(&mut self, now: Instant, slots: u32, queue: u32) -> Result<(), ConfigError> {
        self.cx.advance_clock(now);
        let service = Service { slots, queue, ..self.cx.service.clone() };
        service.validate()?;
        self.cx.service = service;
        self.fill_slots();
        Ok(())
    }

    /// What it says of itself now.
    #[must_use]
    pub fn advert(&self) -> Advert {
        let busy = u32::try_from(self.holding()).unwrap_or(u32::MAX);
        Advert {
            models: self
                .cx
                .able()
                .map(|Serving { advert, .. }| ModelAdvert { eta: self.cx.first_token(&advert.model), ..advert.clone() })
                .collect(),
            slots: self.cx.service.slots,
            free: if self.cx.is_closing() { 0 } else { self.cx.service.slots.saturating_sub(busy) },
            queued: busy.saturating_sub(self.cx.service.slots),
            methods: None,
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
        self.cx.running
    }

    /// Conversations that are open.
    #[must_use]
    pub fn open_streams(&self) -> usize {
        self.cx.streams.len()
    }

    /// Offers that bind.
    #[must_use]
    pub fn open_offers(&self) -> usize {
        self.cx.offers.len()
    }

    /// Bytes of bodies that are held.
    #[must_use]
    pub const fn held_bytes(&self) -> u64 {
        self.cx.held
    }

    /// A digest of the whole state, times relative to `now`: equal states digest equally on every target.
    /// What waits to be drained is not part of it.
    #[must_use]
    pub fn digest(&self, now: Instant) -> [u8; 32] {
        let cx = &self.cx;
        let jobs: Vec<&Job> = self.jobs.values().collect();
        // Whose they are, the jobs say.
        let queue: Vec<AttemptId> = cx.queue.iter().map(|(id, _)| *id).collect();
        Digester::new(now)
            .with(&(&cx.service, &cx.outages, &cx.limits, &cx.rng, cx.lifecycle))
            .with(&(&cx.streams, &cx.peers, &cx.offers, &cx.bidders, &cx.conducts, jobs, &cx.by_name, &cx.lost))
            .with(&(queue, cx.running, cx.typical, &cx.first_tokens, cx.held, cx.next_stream, cx.next_attempt))
            .done()
    }
}
