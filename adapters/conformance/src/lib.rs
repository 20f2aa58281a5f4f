//! Does a peer in another language keep the protocol? One conversation each, and the label of the rule that was broken.
//!
//! A [`Scenario`] is one question about one peer, written as a conversation from the other side of it: [`PROVIDER`] has those
//! that ask a provider, [`REQUESTER`] those that a requester answers by what it does with a job. To play one is to run a
//! [`Play`], which has neither sockets nor a clock: it is a [`Machine`](haggle_core::Machine) like those of the core, so that
//! whatever runs them (libp2p's streams, a test in memory) runs it, and what it tells in the end is a [`Verdict`].
//!
//! It stands beside the core and not in it: what judges a peer must not share the judgement of the machines that are judged.
//! Of the core it has the wire (messages, frames, bounds), the formulas of prices and the vocabulary of inputs and orders.
//! What a run of tokens has to keep it counts for itself.
//!
//! ```
//! use haggle_conformance::{PROVIDER, Play, Setting};
//! use haggle_core::{Input, Instant, Machine, Model, Output, PeerId};
//!
//! let peer = PeerId::new(b"under test").expect("1 to 64 bytes");
//! let setting = Setting { model: Model::new(b"story"), ..Setting::new(peer, [7; 32]) };
//! let mut play = Play::new(&PROVIDER[0], setting, Instant::ZERO);
//! let Some(Output::Open { stream, .. }) = play.poll_output() else { panic!("it speaks first") };
//! // The peer is silent: after a while that is told, too.
//! play.handle_input(Instant::ZERO, Input::StreamOpened(stream));
//! while let Some(due) = play.poll_timeout() {
//!     play.handle_input(due.at, Input::Timeout);
//! }
//! println!("{:?}", play.verdict());
//! ```
#![forbid(unsafe_code)]

mod diagnose;
mod line;
mod play;
mod provider;
mod requester;
mod run;
mod scenario;
mod stage;
mod verdict;

pub use play::Play;
pub use provider::PROVIDER;
pub use requester::REQUESTER;
pub use scenario::{Needs, Scenario, Setting};
pub use verdict::{Broken, Verdict};
