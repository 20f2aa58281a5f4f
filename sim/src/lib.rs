//! The deterministic world that drives haggle-core: virtual network, clock and faults.
//!
//! A [`World`] holds nodes, each with the shipped [`haggle_core::Requester`] or [`haggle_core::Provider`] (or both), and
//! carries their orders out over virtual links. Time is virtual, chance is keyed by the world's seed: the same seed runs
//! the same way everywhere, and an hour of waiting costs nothing. While it runs, oracles with books of their own check
//! every event against the rules of the protocol ([`Rule`]).
//!
//! A first simulation: two providers, one requester, one of the providers is killed.
//!
//! ```
//! use haggle_sim::{Fault, FaultKind, ProviderConfig, RequesterConfig, Schedule, World, job};
//!
//! let mut world = World::new(7);
//! let cheap = world.add_provider(ProviderConfig::new("story", 100_000, 400_000));
//! let dear = world.add_provider(ProviderConfig::new("story", 200_000, 900_000));
//! let me = world.add_requester(RequesterConfig::default());
//!
//! let spec = job("story", "Once upon a time there was a market.", 40, 10_000);
//! let first = world.submit(me, spec.clone()).unwrap();
//! world.run_to_end();
//! assert_eq!(world.job(first).awarded(), [cheap.peer()]);
//! assert_eq!(world.job(first).tokens, 40);
//!
//! world.apply(&Schedule { faults: vec![Fault { at: world.now(), what: FaultKind::Kill(cheap, Some(20)) }] });
//! let second = world.submit_at(world.now() + 100_000, me, spec);
//! world.run_to_end();
//! assert_eq!(world.nth(second).awarded().last(), Some(&dear.peer()));
//!
//! let report = world.report();
//! println!("{report}");
//! report.verdict().unwrap();
//! ```
#![forbid(unsafe_code)]

pub mod adversary;
pub mod bench;
mod clock;
pub mod conformance;
mod dice;
mod engine;
pub mod figures;
pub mod golden;
mod job;
pub mod laws;
pub mod log;
pub mod mutants;
mod net;
mod node;
mod oracle;
pub mod plan;
pub mod points;
mod queue;
mod report;
pub mod repro;
mod schedule;
mod script;
pub mod shrink;
pub mod swarm;
mod toml_forms;
mod trace;
pub mod volume;
mod world;
mod writer;

pub use dice::{Draws, Purpose, Stream, below, rand};
pub use engine::{Answer, EngineScript, Trouble};
pub use job::{Ask, Job};
pub use net::{DIAL_TIMEOUT, Dht, Dial, LinkConfig, Lookup, REGIONS, Side, Spread};
pub use node::{NodeId, Pace, ProviderConfig, RequesterConfig, name};
pub use oracle::{Broken, Rule, owed};
pub use plan::Plan;
pub use report::Report;
pub use schedule::{Fault, FaultKind, Schedule};
pub use script::{Heard, Script, Talk};
pub use trace::Trace;
pub use world::{Checkpoint, Drain, Told, World, WorldConfig};
pub use writer::{Torn, Words, Writer, Writing, Written};

use haggle_core::{JobSpec, money::Amount, wire::Prompt};

/// A job for a raw prompt with a budget; the rest by assignment.
///
/// # Panics
/// If the model's name is empty or longer than 128 bytes.
#[must_use]
pub fn job(model: &str, prompt: &str, max_tokens: u64, budget: Amount) -> JobSpec {
    let mut spec = JobSpec::new(name(model), Prompt::Raw(prompt.into()), max_tokens);
    spec.budget = Some(budget);
    spec
}
