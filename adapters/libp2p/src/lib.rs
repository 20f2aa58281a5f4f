//! Haggle over libp2p: find machines that serve a language model, agree a price, stream the answer token by token.
//!
//! A [`Node`] is a libp2p node of the market. It buys with [`Node::submit`], and sells the engines it was given with
//! [`Builder::sell`]. All decisions are made by [`haggle_core`], which is re-exported as [`core`]; this crate moves bytes, reads
//! the clock and runs engines.
//!
//! # A market of two
//!
//! ```
//! use haggle::engine::{Llama, TINY_STORIES};
//! use haggle::{Config, JobSpec, Model, Node, Prompt, Sale, runtime::Runtime};
//! use std::sync::Arc;
//!
//! # #[cfg(feature = "tokio")] {
//! let runtime = haggle::Tokio::start()?;
//! runtime.block_on(async {
//!     // Two nodes of this machine only: neither DHT nor multicast.
//!     let local = Config { enable_mdns: false, enable_dht: false, ..Config::default() };
//!
//!     // One sells the embedded toy model, at 0.5 units for a million tokens,
//!     let config = Config { listen_addresses: vec!["/ip4/127.0.0.1/tcp/0".into()], ..local.clone() };
//!     let sale = Sale { price_out: 500_000, ..Sale::new(Arc::new(Llama::tiny_stories()?)) };
//!     let seller = Node::builder(config).sell(sale).start(runtime.clone()).await?;
//!
//!     // one buys: at most 1,000 micro-units, whatever happens.
//!     let config = Config { providers: vec![seller.listen_addresses()[0].to_string()], ..local };
//!     let buyer = Node::start(config, runtime.clone()).await?;
//!     let model = Model::new(TINY_STORIES.as_bytes()).ok_or("a name has 1 to 128 bytes")?;
//!     let spec = JobSpec::new(model, Prompt::Raw("Once upon a time".into()), 20);
//!     let answer = buyer.submit(JobSpec { budget: Some(1_000), ..spec }).await?.answer().await?;
//!
//!     assert_eq!(answer.receipt.tokens, 20);
//!     assert_eq!(answer.receipt.bill.owed, 10); // micro-units: 20 tokens at 0.5
//!     Ok::<(), Box<dyn std::error::Error>>(())
//! })?;
//! # }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What you get
//!
//! - **A job is a stream** ([`Job`]). A cut connection is resumed at the exact token, a provider that dies is replaced; what is
//!   owed never exceeds the budget. Dropping the job cancels it.
//! - **A slow application slows itself**: a provider writes one window ahead of what was taken, and no further.
//! - **Any runtime**: a value ([`runtime::Runtime`]) spawns tasks and opens sockets; tokio, smol and async-std are there.
//! - **Every failure is typed**: a stable code, whether trying again makes sense, what is owed, what was delivered.
//! - **Tests without a network**: the feature `testing` gives the same handles over a simulated one.
//!
//! # Learn it
//!
//! The [`manual`] has four chapters: [runtimes](manual::runtimes), [buying](manual::buying) (with what happens to every future
//! that is dropped), [selling](manual::selling), [the network](manual::network). Runnable programs are in `examples/`.
//!
//! # Units
//!
//! Prices are micro-units of one named asset for 1,000,000 tokens; budgets, fees and sums are micro-units; `floor_permille` is
//! thousandths of the posted price; times in the core are milliseconds ([`core::Millis`]), in [`Config`] a
//! [`Duration`](std::time::Duration). Nothing is paid in this version: every bill says `settlement: none`.
//!
//! # Features
//!
//! `tokio` (default), `smol`, `async-std`, `async-io`, `upstream`, `testing`: [what each brings](manual::runtimes).

pub mod config;
pub mod decimal;
pub mod discovery;
pub mod driver;
pub mod groups;
pub mod id;
pub mod key;
pub mod manual;
pub mod runtime;
pub mod sessions;
pub mod state;
#[cfg(feature = "testing")]
pub mod testing;

mod address;
mod bucket;
mod builder;
mod command;
mod dials;
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
mod time_source;
mod timers;
mod trust;

pub use haggle_core as core;
pub use haggle_core::{
    Criteria, JobId, JobSpec, Limits, Model, Policy, spec::QuoteSpec, wire::Prompt, wire::message::Channel,
};
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
