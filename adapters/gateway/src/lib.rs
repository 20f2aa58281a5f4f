//! Buy on the market with any OpenAI client: an HTTP gateway in front of a node.
//!
//! A client that speaks OpenAI's interface points its base URL at a [`Gateway`], and every request is bought: a provider is
//! found, priced, paid within a budget and replaced unseen if it is lost. What the interface has and the market has not is refused by
//! name; nothing that changes an answer is dropped silently (the table is in the crate's README).
//!
//! ```no_run
//! use haggle::{Node, runtime::Runtime};
//! use haggle_gateway::{Config, Gateway};
//!
//! # #[cfg(feature = "tokio")] {
//! let runtime = haggle::Tokio::start()?;
//! runtime.block_on(async {
//!     let node = Node::start(haggle::Config::default(), runtime.clone()).await?;
//!     let socket = std::net::TcpListener::bind("127.0.0.1:8484")?;
//!     // At most 0.01 units an answer.
//!     let config = Config { budget: Some(10_000), ..Config::default() };
//!     let gateway = Gateway::start(runtime.clone(), node, config, socket)?;
//!     println!("base URL: http://{}/v1", gateway.address());
//!     Ok::<(), Box<dyn std::error::Error>>(())
//! })?;
//! # }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What holds
//!
//! - A status that invites a retry means that nothing is owed. An answer that broke off after its first token is a 424, or an error
//!   event in its stream.
//! - A client that goes away cancels its job.
//! - Nobody but the owner spends: without a key only this machine is listened to, and no page of another origin.
//! - Everything is bounded: heads of 64 KiB and 100 lines in 10 s, bodies of 4 MiB with a byte every 15 s in 300 s, connections and
//!   jobs.

mod bill;
mod body;
mod book;
mod calls;
mod catalog;
mod chat;
mod chunks;
mod completions;
mod config;
mod connection;
mod errors;
mod failure;
mod fields;
mod fresh;
mod gateway;
mod heads;
mod intake;
mod jobs;
mod live;
mod messages;
mod metrics;
mod order;
mod owner;
mod page;
mod purchase;
mod purse;
mod read;
mod repeats;
mod responses;
mod rights;
mod route;
pub mod runtime;
mod server;
mod shop;
mod stream;
mod units;

pub use config::{Config, Key, Patience, StartError};
pub use gateway::Gateway;
