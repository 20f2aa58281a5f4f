//! The sans-IO protocol core of haggle: a peer-to-peer market for language models.
//!
//! Two state machines decide everything: [`Requester`] finds providers, agrees a price with one and takes its tokens;
//! [`Provider`] offers, admits and streams. Neither has a clock, a thread, a socket or a source of chance of its own:
//! facts come in through [`Machine::handle_input`], orders go out through [`Machine::poll_output`], and
//! [`Machine::poll_timeout`] names the next deadline.
//!
//! To buy or sell over a real network, use the package `haggle`: it runs these machines over libp2p. This crate is for whoever
//! binds them to something else, simulates them, or wants to know what they do.
//!
//! # The shape of it
//!
//! ```text
//!        application, engine                        application, engine
//!          │ commands    ▲ events                     │ commands    ▲ events
//!          ▼             │                            ▼             │
//!   ┌────────────────────────────┐             ┌────────────────────────────┐
//!   │         Requester          │             │          Provider          │
//!   └────────────────────────────┘             └────────────────────────────┘
//!          │ orders      ▲ facts                      │ orders      ▲ facts
//!          ▼             │                            ▼             │
//!   ┌──────────────────────────────────────────────────────────────────────┐
//!   │     an adapter: streams, queries for peers, a clock, a seed          │
//!   └──────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! A command is a method that answers at once, with a value or a typed [`Refusal`]; as data it is a [`requester::Command`] or a
//! [`provider::Command`]. A fact is an [`Input`], an order an
//! [`Output`], an event an [`Event`] or a [`ProviderEvent`]. A node that buys and sells is a pair of machines that know nothing of
//! each other.
//!
//! # Learn it
//!
//! The [`manual`] has six chapters; its [first](manual::run_loop) joins both machines in a program that runs. In short:
//!
//! ```
//! use haggle_core::{Input, Instant, JobSpec, Limits, Machine, Model, Output, Policy, Requester, wire::Prompt};
//!
//! // The seed comes from the operating system at every start: a reused one would mint the same job ids.
//! let mut requester = Requester::new(Policy::default(), Limits::default(), [42; 32])?;
//! let model = Model::new(b"story").expect("a name has 1 to 128 bytes");
//! let now = Instant::from_millis(0);
//! let job = requester.submit(now, JobSpec::new(model, Prompt::Raw("Once upon a time".into()), 100))?;
//!
//! // Orders first …
//! let Some(Output::StartQuery { query, model }) = requester.poll_output() else { panic!("nobody is known yet") };
//! assert_eq!(model.as_bytes(), b"story");
//! // … then facts, or the time that is due.
//! let due = requester.poll_timeout().expect("a query takes ten seconds at most");
//! requester.handle_input(due.at, Input::Timeout);
//! # let _ = (query, job);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What holds at any moment
//!
//! - Any call is legal in any state. What comes too late is ignored, what cannot be is refused with a reason.
//! - Every job that was taken has exactly one ending, and nothing follows it.
//! - A token is told once and in order.
//! - What a requester can come to owe never exceeds the job's and the account's budget.
//! - The prompt goes only to a provider that was sent an Award.
//! - Every queue, table, buffer and counter has a [limit](manual::limits).
//! - The same seed and the same inputs give the same outputs, byte for byte, on every target.
//!
//! # Where to look
//!
//! | for | see |
//! | --- | --- |
//! | what a job asks for | [`spec`] |
//! | what is told of it | [`event`] |
//! | what a provider serves | [`provider::Service`] |
//! | units and sums | [`money`] |
//! | who is trusted, and how far | [`peers`] |
//! | every bound and its source | [`limits`] |
//! | messages and their encoding | [`wire`] |
//! | state that outlives the process | [`snapshot`] |
//!
//! # Features
//!
//! `serde` (off by default): serialisation of configuration, job specifications and events. Nothing else is optional; the crate is
//! `no_std` with `alloc`, forbids unsafe code, and needs `minicbor`, `sha2` and `rand_chacha`.
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
mod inbound;
pub mod limits;
pub mod machine;
pub mod manual;
pub mod money;
mod outbox;
pub mod peers;
pub mod provider;
pub mod rand;
pub mod refusal;
pub mod requester;
mod retry;
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
