//! What a provider serves.

use alloc::vec::Vec;

use crate::{
    id::Model,
    limits::ConfigError,
    money::{self, Tariff},
    time::Millis,
    wire::message::{MAX_ALIASES, MAX_MODELS, ModelAdvert},
};

/// Jobs that can wait for a slot.
const MAX_QUEUE: u32 = 1024;

/// What a provider serves, and how much of it at once.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
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
    /// How long a job whose stream was cut, or whose end was not acknowledged, can be resumed.
    pub job_ttl: Millis,
    /// A job whose requester takes nothing for so long, while the window is full, is ended: it holds a slot.
    pub stall: Millis,
    /// A sign of life is sent at least this often.
    pub keepalive: Millis,
    /// An inbound stream has to say something within; a body may start as late.
    pub handshake: Millis,
    /// Bytes per second at which a body has to come, at least.
    pub body_rate: u64,
}

/// One model that is served.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct Serving {
    /// What the provider says of it.
    pub advert: ModelAdvert,
    /// Where the way down for bidders would end, in thousandths of the posted price: nobody is given more than three quarters of
    /// that way. 1000 does not haggle.
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
            job_ttl: Millis::from_secs(120),
            stall: Millis::from_secs(600),
            keepalive: Millis::from_secs(10),
            handshake: Millis::from_secs(10),
            body_rate: 4 << 10,
        }
    }
}

impl Service {
    /// Checks what depends on each other.
    ///
    /// # Errors
    /// The first field that can not work.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let err = |field, must| Err(ConfigError { field, must });
        if self.models.len() > MAX_MODELS {
            return err("models", "at most 16");
        }
        for serving in &self.models {
            if serving.advert.aliases.len() > MAX_ALIASES {
                return err("aliases", "at most 5 a model");
            }
            if serving.advert.context == 0 {
                return err("context", "at least 1");
            }
            if serving.advert.bytes_per_token == 0 {
                return err("bytes_per_token", "at least 1");
            }
            if serving.floor_permille > 1000 {
                return err("floor_permille", "at most 1000");
            }
        }
        if self.slots == 0 {
            return err("slots", "at least 1");
        }
        if self.queue > MAX_QUEUE {
            return err("queue", "at most 1024");
        }
        if self.body_rate == 0 {
            return err("body_rate", "at least 1");
        }
        let times = [
            ("offer_expiry", self.offer_expiry),
            ("idle", self.idle),
            ("job_ttl", self.job_ttl),
            ("stall", self.stall),
            ("keepalive", self.keepalive),
            ("handshake", self.handshake),
        ];
        match times.into_iter().find(|(_, time)| *time == Millis::ZERO) {
            Some((field, _)) => err(field, "longer than 0"),
            None if self.keepalive >= self.idle => err("keepalive", "shorter than idle"),
            None => Ok(()),
        }
    }

    /// The model that is served under a name or alias.
    pub(super) fn find(&self, model: &Model) -> Option<&Serving> {
        let is_it = |entry: &ModelAdvert| entry.model == *model || entry.aliases.contains(model);
        self.models.iter().find(|serving| is_it(&serving.advert))
    }
}

impl Serving {
    /// The posted price for a body; `None` if it exceeds `u64`.
    pub(super) fn posted(&self, body_bytes: u64) -> Option<Tariff> {
        let fee_in = money::fee_in(self.advert.price_in, self.advert.bytes_per_token, body_bytes)?;
        Some(Tariff { fee_in, price_out: self.advert.price_out })
    }

    /// The lowest price that a bidder can get.
    pub(super) fn floor(&self, posted: &Tariff) -> Tariff {
        // At most 1000 thousandths: never more than was posted.
        let share = |price: u64| {
            let floor = (u128::from(price) * u128::from(self.floor_permille)).div_ceil(1000);
            u64::try_from(floor).unwrap_or(price)
        };
        Tariff { fee_in: share(posted.fee_in), price_out: share(posted.price_out) }
    }
}
