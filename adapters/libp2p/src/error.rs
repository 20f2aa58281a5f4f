use std::{fmt, io};

use haggle_core::{
    Refusal,
    event::{Bill, Failure, NoRetry},
};

use crate::{config::ConfigError, id, key::KeyFileError, runtime::MdnsError, state::StateError};

/// Why a node could not do what it was asked.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// A setting cannot work.
    Config(ConfigError),
    /// The key file cannot be used.
    Key(KeyFileError),
    /// The state directory cannot be used.
    State(StateError),
    /// An address cannot be listened on.
    Listen {
        /// Which.
        address: String,
        /// Why not.
        source: io::Error,
    },
    /// The runtime could not give what a node needs.
    Runtime(io::Error),
    /// The runtime does not have what was asked for.
    Unsupported {
        /// What was asked for.
        what: &'static str,
        /// Which runtime.
        runtime: &'static str,
        /// The runtimes that have it.
        available: &'static [&'static str],
        /// What to ask for instead.
        instead: &'static str,
    },
    /// The request cannot be taken; nothing was started.
    Refused(Refusal),
    /// The request was taken and failed.
    Job(JobError),
    /// The node was stopped.
    Stopped,
}

impl Error {
    /// A stable name for scripts, logs and metrics.
    pub fn code(&self) -> &'static str {
        match self {
            Error::Config(_) => "config",
            Error::Key(_) => "key",
            Error::State(error) => error.code(),
            Error::Listen { .. } => "listen",
            Error::Runtime(_) => "runtime",
            Error::Unsupported { .. } => "unsupported",
            Error::Refused(refusal) => refusal.code(),
            Error::Job(error) => error.code(),
            Error::Stopped => "stopped",
        }
    }

    /// Whether the same request can be made again with hope.
    pub fn retry_safe(&self) -> bool {
        match self {
            Error::Refused(Refusal::TooManyJobs { .. } | Refusal::NodeFull | Refusal::TooManyStreams) => true,
            Error::Job(error) => error.retry_safe(),
            _ => false,
        }
    }

    /// What is owed in spite of the error, in micro-units.
    pub fn billed(&self) -> u128 {
        match self {
            Error::Job(error) => error.billed(),
            _ => 0,
        }
    }

    /// Tokens that were delivered before the error.
    pub fn tokens_delivered(&self) -> u64 {
        match self {
            Error::Job(error) => error.tokens_delivered(),
            _ => 0,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Config(error) => error.fmt(f),
            Error::Key(error) => error.fmt(f),
            Error::State(error) => error.fmt(f),
            Error::Listen { address, source } => {
                write!(f, "cannot listen on {address}: {source}; choose another port or address, port 0 takes any")
            }
            Error::Runtime(error) => write!(f, "the node cannot use this machine's network: {error}"),
            Error::Unsupported { what, runtime, available, instead } => {
                let available = available.join(", ");
                write!(f, "there is no {what} on the {runtime} runtime: {instead}, or run the node on {available}")
            }
            Error::Refused(refusal) => refusal.fmt(f),
            Error::Job(error) => error.fmt(f),
            Error::Stopped => f.write_str("the node was stopped"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Key(error) => error.source(),
            Error::State(error) => error.source(),
            Error::Listen { source, .. } => Some(source),
            Error::Runtime(error) => Some(error),
            Error::Job(error) => error.source(),
            Error::Config(_) | Error::Unsupported { .. } | Error::Refused(_) | Error::Stopped => None,
        }
    }
}

impl From<StateError> for Error {
    fn from(error: StateError) -> Self {
        Error::State(error)
    }
}

impl From<MdnsError> for Error {
    fn from(error: MdnsError) -> Self {
        match error {
            MdnsError::Unsupported { runtime, available } => {
                Error::Unsupported { what: "mDNS", runtime, available, instead: "set enable_mdns = false" }
            }
            MdnsError::Io(error) => Error::Runtime(error),
        }
    }
}

impl From<ConfigError> for Error {
    fn from(error: ConfigError) -> Self {
        Error::Config(error)
    }
}

impl From<KeyFileError> for Error {
    fn from(error: KeyFileError) -> Self {
        Error::Key(error)
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Error::Refused(refusal)
    }
}

impl From<JobError> for Error {
    fn from(error: JobError) -> Self {
        Error::Job(error)
    }
}

/// Why a job failed, and what it came to until then.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct JobError {
    /// Why.
    pub failure: Failure,
    /// Why nothing further was tried; `None` where the failure says it itself.
    pub no_retry: Option<NoRetry>,
    /// What is owed for what was delivered; nothing is paid in this version.
    pub bill: Box<Bill>,
}

impl JobError {
    /// A stable name for scripts, logs and metrics.
    pub fn code(&self) -> &'static str {
        self.failure.code()
    }

    /// Whether the same request can be made again with hope.
    pub fn retry_safe(&self) -> bool {
        self.failure.retry_safe()
    }

    /// What is owed, in micro-units.
    pub fn billed(&self) -> u128 {
        self.bill.owed
    }

    /// Tokens that were delivered.
    pub fn tokens_delivered(&self) -> u64 {
        self.bill.tokens
    }

    /// The providers that were awarded, in order.
    pub fn providers(&self) -> impl Iterator<Item = libp2p::PeerId> + '_ {
        self.bill.lines.iter().filter_map(|line| id::to_libp2p(&line.peer))
    }
}

impl fmt::Display for JobError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.failure.fmt(f)?;
        if let Some(why) = self.no_retry {
            write!(f, "; no further attempt: {why}")?;
        }
        if self.bill.tokens > 0 {
            write!(f, " ({} tokens were delivered, {} micro-units are owed)", self.bill.tokens, self.bill.owed)?;
        }
        Ok(())
    }
}

impl std::error::Error for JobError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.failure)
    }
}
