//! Haggle over libp2p: find machines that serve a language model, agree a price, stream the answer.
//!
//! A [`Node`] is a libp2p node of the market. It buys with [`Node::submit`], and sells the engines it was given with
//! [`Builder::sell`]. All decisions are made by [`haggle_core`], which is re-exported as [`core`].

pub mod config;
pub mod discovery;
pub mod driver;
pub mod groups;
pub mod id;
pub mod key;
pub mod runtime;
pub mod sessions;
pub mod state;
#[cfg(feature = "testing")]
pub mod testing;

mod address;
mod bucket;
mod error;
mod event;
mod job;
mod metrics;
mod network;
mod node;
mod shared;
mod timers;

pub use haggle_core as core;
pub use haggle_core::{Criteria, JobId, JobSpec, Limits, Model, Policy, spec::QuoteSpec, wire::Prompt};
pub use haggle_engine as engine;
pub use haggle_flight as flight;
pub use libp2p;

pub use address::Scope;
pub use config::{Config, ConfigError};
pub use driver::{Driver, Found};
pub use error::{Error, JobError};
pub use event::{Events, NodeEvent};
pub use job::{Answer, Job, JobEvent, Offer, Receipt};
pub use node::{Builder, Load, Node, NodeInfo, Sale};
#[cfg(feature = "async-std")]
pub use runtime::AsyncStd;
#[cfg(feature = "smol")]
pub use runtime::Smol;
#[cfg(feature = "tokio")]
pub use runtime::Tokio;
pub use shared::Reachability;
pub use timers::timers;
