//! The sans-IO protocol core of haggle: a peer-to-peer market for language models.
//!
//! Two state machines decide everything: [`Requester`] finds providers, agrees a price with one and takes its tokens;
//! [`Provider`] offers, admits and streams. Neither has a clock, a thread, a socket or a source of chance of its own:
//! facts come in through [`Machine::handle_input`], orders go out through [`Machine::poll_output`], and
//! [`Machine::poll_timeout`] names the next deadline.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod backoff;
pub mod bootstrap;
mod bucket;
mod deadlines;
mod digest;
pub mod event;
pub mod id;
pub mod limits;
pub mod machine;
pub mod money;
mod outbox;
pub mod peers;
pub mod provider;
pub mod rand;
pub mod refusal;
pub mod requester;
pub mod retry;
pub mod snapshot;
pub mod spec;
pub mod time;
mod window;
pub mod wire;

pub use event::{Event, ProviderEvent};
pub use id::{AttemptId, JobId, Model, PeerId, QueryId, StreamId};
pub use limits::{ConfigError, Limits, Policy};
pub use machine::{Input, Machine, Output};
pub use provider::Provider;
pub use refusal::Refusal;
pub use requester::Requester;
pub use snapshot::SnapshotError;
pub use spec::{Criteria, JobSpec};
pub use time::{Instant, Millis};
