//! The core's behaviour, shown in the simulator.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests, which may panic")]

mod abuse;
mod bootstrap;
mod choice;
mod cli;
mod closing;
mod conformance;
mod discovery;
mod explain;
mod failure;
mod features;
mod figures;
mod flow;
mod golden;
mod laws;
mod mutants;
mod persistence;
mod recovery;
mod repro;
mod straight;
mod swarm;
mod takeover;
mod time;

use haggle_core::{
    Event, JobId, JobSpec,
    event::{Finished, PassedOver},
};
use haggle_sim::{EngineScript, Job, NodeId, ProviderConfig, RequesterConfig, World, job};

const MODEL: &str = "story";
const PROMPT: &str = "Once upon a time there was a market without a square.";

/// A job of 30 tokens with money enough.
fn spec() -> JobSpec {
    job(MODEL, PROMPT, 30, 1_000_000)
}

fn engine(length: u64) -> EngineScript {
    EngineScript { length, ..EngineScript::default() }
}

/// One provider and one requester.
fn pair(seed: u64, config: ProviderConfig) -> (World, NodeId, NodeId) {
    let mut world = World::new(seed);
    let provider = world.add_provider(config);
    let requester = world.add_requester(RequesterConfig::default());
    (world, provider, requester)
}

fn cheap() -> ProviderConfig {
    ProviderConfig::new(MODEL, 100_000, 400_000)
}

/// Runs until a job has ended; that all is well from there to the end, a fork shows.
fn run(world: &mut World, id: JobId) -> Job {
    while world.job(id).ending.is_none() && world.step() {}
    let mut fork = world.clone();
    fork.run_to_end();
    fork.report().verdict().unwrap();
    world.job(id).clone()
}

fn is_answered(job: &Job) -> bool {
    matches!(job.finished(), Some(Finished::Answer { .. }))
}

/// When the last provider fell out.
fn passed_over_at(job: &Job) -> u64 {
    job.events.iter().rfind(|(_, event)| matches!(event, Event::PassedOver { .. })).unwrap().0
}

fn passed_over(job: &Job) -> Vec<(NodeId, PassedOver)> {
    let node = |peer: &haggle_core::PeerId| (0..64).map(NodeId).find(|node| node.peer() == *peer).unwrap();
    let why = |event: &(u64, Event<'_>)| match &event.1 {
        Event::PassedOver { peer, why, .. } => Some((node(peer), *why)),
        _ => None,
    };
    job.events.iter().filter_map(why).collect()
}
