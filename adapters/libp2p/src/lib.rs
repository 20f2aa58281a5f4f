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
mod builder;
mod clockwork;
mod command;
mod entropy;
mod error;
mod event;
mod feed;
mod handle;
mod job;
mod metrics;
mod network;
mod node;
mod run;
mod sale;
mod shared;
mod timers;
mod trust;

pub use haggle_core as core;
pub use haggle_core::{Criteria, JobId, JobSpec, Limits, Model, Policy, spec::QuoteSpec, wire::Prompt};
pub use haggle_engine as engine;
pub use haggle_flight as flight;
pub use libp2p;

pub use address::Scope;
pub use builder::Builder;
pub use config::{Config, ConfigError};
pub use driver::Driver;
pub use error::{Error, JobError};
pub use event::{Events, NodeEvent};
pub use feed::{Found, JobEvent, Offer, Receipt};
pub use job::{Answer, Job};
pub use node::{Load, Node, NodeInfo};
#[cfg(feature = "async-std")]
pub use runtime::AsyncStd;
#[cfg(feature = "smol")]
pub use runtime::Smol;
#[cfg(feature = "tokio")]
pub use runtime::Tokio;
pub use sale::Sale;
pub use shared::Reachability;
pub use timers::timers;
