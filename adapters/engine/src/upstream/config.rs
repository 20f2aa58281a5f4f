//! Which server, how long it is waited for, and why it cannot be sold.

use std::{fmt, io, time::Duration};

use crate::Outage;

use super::{dialect::Dialect, key::Key};

/// The context that is assumed of a server that does not tell it: what Ollama gives a model by default.
pub const DEFAULT_CONTEXT: u32 = 4096;
/// The answers that are asked for at once from a server that does not tell how many it can write: many write one, and
/// drop it when asked for a second.
pub const DEFAULT_SLOTS: u32 = 1;
/// The same for one that is known to write several, however many.
pub(super) const BATCHING_SLOTS: u32 = 4;

/// Which server, and what of it is sold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The model's name on the market, at most 128 bytes.
    pub name: String,
    /// Where the server is, up to and with `/v1`.
    pub url: String,
    /// The model's name at the server. `None`: the same, or the only one that the server has. It is believed of a server
    /// that does not list its models.
    pub model: Option<String>,
    /// What opens the server, if it is locked.
    pub key: Option<Key>,
    /// What kind of server it is. `None`: as it says, and the one that is able to the least if it does not.
    pub dialect: Option<Dialect>,
    /// Tokens of its context. `None`: as it says, and [`DEFAULT_CONTEXT`] if it does not.
    pub context: Option<u32>,
    /// What requests may ask of it, as bits of PROTOCOL.md. `None`: it is given prompts only.
    pub features: Option<u32>,
    /// How long it is waited for.
    pub patience: Patience,
}

impl Config {
    /// A model of a server without a key.
    pub fn new(name: &str, url: &str) -> Self {
        Self {
            name: name.into(),
            url: url.into(),
            model: None,
            key: None,
            dialect: None,
            context: None,
            features: None,
            patience: Patience::default(),
        }
    }
}

/// How long a server is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// For its name to be resolved, and again for the connection.
    pub connect: Duration,
    /// For a sign of life before the first text of an answer: any byte is one. Requesters have a patience of their own.
    pub first_token: Duration,
    /// For anything after that.
    pub gap: Duration,
    /// For the usage, once the answer is complete.
    pub usage: Duration,
    /// For the answer to a question about its health.
    pub probe: Duration,
    /// Between two such questions.
    pub probe_every: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            first_token: Duration::from_secs(600),
            gap: Duration::from_secs(60),
            usage: Duration::from_secs(5),
            probe: Duration::from_secs(10),
            probe_every: Duration::from_secs(30),
        }
    }
}

/// Why a server cannot be sold.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OpenError {
    /// The address is none, and why.
    Url(String),
    /// A context of 0 tokens.
    Context,
    /// The server cannot answer.
    Out(Outage),
    /// The server wants a key, or another one.
    Locked(Outage),
    /// The server does not list its models, and none was named.
    NoList(Outage),
    /// The server does not have the model; it has these.
    UnknownModel {
        /// What was wanted.
        model: String,
        /// What is there, 16 at most.
        listed: Vec<String>,
    },
    /// The system gives no thread.
    Thread(io::ErrorKind),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(problem) => write!(f, "the address of the upstream server: {problem}"),
            Self::Context => f.write_str("the context of the upstream server must be at least 1"),
            Self::Out(outage) | Self::Locked(outage) => f.write_str(&outage.detail),
            Self::NoList(outage) => write!(f, "{} If it is, name the model that it has", outage.detail),
            Self::UnknownModel { model, listed } if listed.is_empty() => {
                write!(f, "the upstream server has no model {model:?}, and no other")
            }
            Self::UnknownModel { model, listed } => {
                write!(f, "the upstream server has no model {model:?}; it has {}", listed.join(", "))
            }
            Self::Thread(kind) => write!(f, "the system gives no thread: {kind}"),
        }
    }
}

impl std::error::Error for OpenError {}
