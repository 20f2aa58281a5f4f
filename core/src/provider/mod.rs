//! Who sells.

use alloc::vec::Vec;

use crate::{
    event::ProviderEvent,
    id::{AttemptId, PeerId, StreamId},
    limits::{ConfigError, Limits},
    machine::{Input, Machine, Output, Timeout},
    rand::Rng,
    refusal::Refusal,
    time::{Instant, Millis},
    wire::message::{Advert, EndReason, ModelAdvert},
};

/// What a provider serves, and how much of it at once.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
pub struct Service {
    /// Models with their prices, at most 16.
    pub models: Vec<Serving>,
    /// Jobs computed at once, at least 1.
    pub slots: u32,
    /// Jobs that wait for a slot; further ones are told Busy.
    pub queue: u32,
    /// How long an offer binds.
    pub offer_expiry: Millis,
    /// A requester of whom nothing is heard for so long has left.
    pub idle: Millis,
    /// A sign of life is sent at least this often.
    pub keepalive: Millis,
    /// An inbound stream has to say something within.
    pub handshake: Millis,
    /// Bytes per second at which a body has to come, at least.
    pub body_rate: u64,
}

/// One model that is served.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Serving {
    /// What the provider says of it.
    pub advert: ModelAdvert,
    /// The lowest price taken from a bidder, as thousandths of the posted one; 1000 does not haggle.
    pub floor_permille: u32,
}

impl Default for Service {
    fn default() -> Self {
        Self {
            models: Vec::new(),
            slots: 1,
            queue: 4,
            offer_expiry: Millis::from_secs(60),
            idle: Millis::from_secs(30),
            keepalive: Millis::from_secs(10),
            handshake: Millis::from_secs(10),
            body_rate: 4 << 10,
        }
    }
}

/// Some tokens, as an engine yields them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Piece<'a> {
    /// How many tokens.
    pub n: u32,
    /// Their text, whole characters only, 1 to 8192 bytes.
    pub text: &'a str,
    /// Their ids, four little-endian bytes each, if known.
    pub ids: Option<&'a [u8]>,
}

/// Offers, admits and streams. See [`Machine`] for how to run it.
#[derive(Clone, Debug)]
pub struct Provider {
    rng: Rng,
}

impl Provider {
    /// A provider that serves from now on. `seed` is fresh from the operating system at every start, fixed only in tests.
    ///
    /// # Errors
    /// The first setting that can not work.
    pub fn new(service: Service, limits: Limits, seed: [u8; 32]) -> Result<Self, ConfigError> {
        let _ = service;
        limits.validate()?;
        Ok(Self { rng: Rng::new(seed) })
    }

    /// Admits a stream that a peer opened.
    ///
    /// # Errors
    /// [`Refusal::TooManyStreams`]: close it at once.
    pub fn accept_stream(&mut self, now: Instant, peer: PeerId) -> Result<StreamId, Refusal> {
        let _ = (now, peer);
        Ok(StreamId(self.rng.bits()))
    }

    /// The engine has read the prompt, and counted so many tokens in it.
    pub fn started(&mut self, attempt: AttemptId, prompt_tokens: u64) {
        let _ = (attempt, prompt_tokens);
    }

    /// Sends tokens; says how many more there is room for. At 0, wait for [`ProviderEvent::Room`].
    ///
    /// # Errors
    /// [`Refusal::NoRoom`]: keep the piece and push it again after `Room`; [`Refusal::BadPiece`];
    /// [`Refusal::UnknownAttempt`]: it was stopped, drop it.
    pub fn push(&mut self, now: Instant, attempt: AttemptId, piece: Piece<'_>) -> Result<u32, Refusal> {
        let _ = (now, attempt, piece);
        Ok(0)
    }

    /// The engine is done with an attempt, well or badly: its slot is free.
    ///
    /// # Errors
    /// [`Refusal::UnknownAttempt`]: it was stopped before.
    pub fn finish(&mut self, now: Instant, attempt: AttemptId, reason: EndReason) -> Result<(), Refusal> {
        let _ = (now, attempt, reason);
        Ok(())
    }

    /// Changes what is served; offers made stay bound until they expire.
    ///
    /// # Errors
    /// The first setting that can not work; nothing changed.
    pub fn set_models(&mut self, models: Vec<Serving>) -> Result<(), ConfigError> {
        let _ = models;
        Ok(())
    }

    /// Takes no new jobs from now on; those that run go on.
    pub fn drain(&mut self) {}

    /// Ends every job now, typed.
    pub fn shut_down(&mut self, now: Instant) {
        let _ = now;
    }

    /// What it says of itself now.
    #[must_use]
    pub fn advert(&self) -> Advert {
        Advert::default()
    }

    /// Jobs that compute, wait, or wait for their end to be acknowledged.
    #[must_use]
    pub fn open_jobs(&self) -> usize {
        0
    }

    /// A digest of the whole state, times relative to `now`: equal states digest equally on every target.
    #[must_use]
    pub fn digest(&self, now: Instant) -> [u8; 32] {
        let _ = now;
        [0; 32]
    }
}

impl Machine for Provider {
    type Event<'a> = ProviderEvent;

    fn handle_input(&mut self, now: Instant, input: Input<'_>) {
        let _ = (now, input);
    }

    fn poll_output(&mut self) -> Option<Output<'_, ProviderEvent>> {
        None
    }

    fn poll_timeout(&self) -> Option<Timeout> {
        None
    }
}
