//! What a gateway is told at its start.

use std::{fmt, num::NonZeroU32, path::PathBuf, time::Duration};

use haggle::{Model, core::money::Amount, libp2p::PeerId};

/// How a gateway serves its owner.
#[derive(Clone, Debug)]
pub struct Config {
    /// What one answer may cost at most, in micro-units, unless its request says less or more. Without one, only free providers are taken.
    pub budget: Option<Amount>,
    /// What all answers of a day (in UTC) may cost together, in micro-units.
    pub day_budget: Option<Amount>,
    /// Where it is kept what was spent today, so that a restart does not give it anew. Without, in memory only.
    pub spent: Option<PathBuf>,
    /// Tokens that an answer has at most whose request names no number.
    pub max_tokens: u64,
    /// Whoever knows one of these may spend. Without any, everybody who reaches the gateway: it must not listen beyond this
    /// machine then.
    pub keys: Vec<Key>,
    /// Names by which the gateway may be called besides those of this machine, as in the `Host` header, without a port.
    pub allow_hosts: Vec<String>,
    /// Web pages that may spend, besides those of this machine: origins such as `https://chat.example.org`.
    pub allow_origins: Vec<String>,
    /// Nodes by which the network is entered: without a connection to one of them the gateway is not ready.
    pub bootstrap: Vec<PeerId>,
    /// Connections at once; further ones are closed.
    pub max_connections: usize,
    /// Jobs at once; further ones are refused with 429.
    pub max_jobs: usize,
    /// How long a client is waited for.
    pub patience: Patience,
}

/// How long a client is waited for that sends or reads too little. None of it counts while it waits for an answer.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// A head that was begun is complete by then; else 408, and the connection is closed.
    pub head: Duration,
    /// Nothing of a body comes for so long; else 408.
    pub body_gap: Duration,
    /// A body is complete by then, however steadily it drips; else 408.
    pub body: Duration,
    /// A connection on which nobody asks anything is kept so long.
    pub idle: Duration,
    /// A client that reads nothing of what it asked for is left after so long, and its job cancelled.
    pub unread: Duration,
    /// What a refused client still sends is dropped for so long, up to 16 MiB, so that it comes to read why it was refused.
    pub parting: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Patience {
            head: Duration::from_secs(10),
            body_gap: Duration::from_secs(15),
            body: Duration::from_secs(300),
            idle: Duration::from_secs(60),
            unread: Duration::from_secs(60),
            parting: Duration::from_secs(2),
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Config {
            budget: None,
            day_budget: None,
            spent: None,
            max_tokens: 1_024,
            keys: Vec::new(),
            allow_hosts: Vec::new(),
            allow_origins: Vec::new(),
            bootstrap: Vec::new(),
            max_connections: 1_024,
            max_jobs: 256,
            patience: Patience::default(),
        }
    }
}

/// A secret that clients send as `Authorization: Bearer SECRET`, and whose it is.
#[derive(Clone)]
pub struct Key {
    /// A name for people, in logs and in the book of what was spent; never the secret.
    pub name: String,
    /// What its answers of a day (in UTC) may cost together, in micro-units, besides the gateway's own.
    pub day_budget: Option<Amount>,
    /// How many answers it may ask for in any 60 s; further requests are refused with 429. Counted in memory.
    pub rate: Option<NonZeroU32>,
    /// The models that it may ask for, by the names that it asks by; none: all.
    pub models: Vec<Model>,
    pub(crate) secret: String,
}

impl Key {
    /// A key.
    ///
    /// # Errors
    /// A secret that is empty, or that no header can carry.
    pub fn new(name: impl Into<String>, secret: impl Into<String>) -> Result<Self, StartError> {
        let (name, secret) = (name.into(), secret.into());
        if secret.len() < 8 || !secret.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(StartError::Key { name });
        }
        Ok(Key { name, day_budget: None, rate: None, models: Vec::new(), secret })
    }

    /// The same, with a budget of its own.
    #[must_use]
    pub fn with_day_budget(self, day_budget: Option<Amount>) -> Self {
        Key { day_budget, ..self }
    }

    /// The same, with so many requests a minute.
    #[must_use]
    pub fn with_rate(self, rate: Option<NonZeroU32>) -> Self {
        Key { rate, ..self }
    }

    /// The same, for these models only.
    #[must_use]
    pub fn with_models(self, models: Vec<Model>) -> Self {
        Key { models, ..self }
    }
}

impl fmt::Debug for Key {
    // Without the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Why there is no gateway.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A key is none.
    #[error("the key {name:?} must have at least 8 characters, all of them printable ASCII without spaces")]
    Key {
        /// Which.
        name: String,
    },
    /// Everybody could spend.
    #[error("{at} can be reached from other machines, where everybody could spend: listen on 127.0.0.1, or give a key")]
    Open {
        /// Where it was to listen.
        at: std::net::SocketAddr,
    },
    /// What was spent cannot be read, or not be written.
    #[error("cannot keep what is spent in {path}: {source}")]
    Book {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The socket cannot be used.
    #[error("cannot listen: {0}; choose another port or address, port 0 takes any")]
    Listen(#[from] std::io::Error),
}

impl StartError {
    /// A stable name for scripts.
    pub fn code(&self) -> &'static str {
        match self {
            StartError::Key { .. } => "gateway_key",
            StartError::Open { .. } => "gateway_open",
            StartError::Book { .. } => "gateway_book",
            StartError::Listen(_) => "listen",
        }
    }
}
