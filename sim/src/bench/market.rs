//! The real core under a steady load, at any number of nodes.

use crate::{EngineScript, NodeId, ProviderConfig, RequesterConfig, World, job};

/// Nodes that know a model, of which so many serve it.
const CROWD: u32 = 100;
const SERVING: u32 = 20;
/// Tokens of an answer, and ms between two of them.
const TOKENS: u64 = 60;
const PACE: u64 = 20;
/// A requester submits a job every so many ms.
const EVERY: u64 = 8_000;

/// An empty world with nodes in crowds of a hundred: 20 providers of a model and 80 requesters who ask for it, one job of 60 tokens each every
/// 8 s. Jobs are submitted for `seconds`, the first of every requester within the first 8.
#[must_use]
pub fn world(mut world: World, nodes: u32, seconds: u64) -> World {
    world.config.max_events = u64::MAX;
    let mut requesters = Vec::new();
    for crowd in 0..nodes / CROWD {
        let model = format!("model-{crowd}");
        let engine = EngineScript { length: TOKENS, token: PACE, ..EngineScript::default() };
        for nth in 0..u64::from(SERVING) {
            let config = ProviderConfig::new(&model, 100 + nth, 1000 + nth).slots(8).engine(engine.clone());
            world.add_provider(config);
        }
        for _ in SERVING..CROWD {
            requesters.push((world.add_requester(RequesterConfig::default()), model.clone()));
        }
    }
    let count = requesters.len() as u64;
    for (nth, (requester, model)) in requesters.into_iter().enumerate() {
        for round in 0..seconds * 1000 / EVERY {
            let at = round * EVERY + nth as u64 * EVERY / count;
            world.submit_at(at, requester, job(&model, "How many tokens a second are there in all?", TOKENS, 1000));
        }
    }
    world
}

/// Runs until a virtual time, in ms; how many facts and commands were handed to machines.
pub fn run(world: &mut World, until: u64) -> u64 {
    let from = world.inputs();
    world.run_until(until);
    world.inputs() - from
}

/// So many cores that do nothing, half of them requesters, half of them providers.
#[must_use]
pub fn idle(nodes: u32, seed: u64) -> World {
    let mut world = World::new(seed);
    for node in 0..nodes / 2 {
        world.add_requester(RequesterConfig::default());
        let _provider: NodeId = world.add_provider(ProviderConfig::new("idle", 1, u64::from(node)));
    }
    world
}
