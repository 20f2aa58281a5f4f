//! Five hundred nodes that come and go.

use crate::{
    Draws, EngineScript, Fault, FaultKind, LinkConfig, NodeId, ProviderConfig, Purpose, RequesterConfig, Schedule,
    Spread, Stream, World, job,
};

/// Nodes, jobs, and the ms that they take.
pub const NODES: u32 = 500;
/// Jobs in all.
pub const JOBS: u64 = 10_000;
/// Virtual ms in which they are submitted.
pub const SPAN: u64 = 2_000_000;
/// Providers of each of so many models; all others are requesters.
const PROVIDERS: u32 = 20;
const MODELS: u32 = 5;
/// On average, a provider leaves every so many ms, and is away for as long.
const LEAVES_EVERY: u64 = 10_000;

/// Jobs of 40 to 100 tokens over links with jitter, while providers come and go.
#[must_use]
pub fn world(seed: u64) -> World {
    let mut world = World::new(seed);
    world.config.max_events = u64::MAX;
    world.config.default_link =
        LinkConfig { delay: 10, jitter: 30, spread: Spread::Exponential, ..LinkConfig::default() };
    let mut providers = Vec::new();
    for model in 0..MODELS {
        for nth in 0..u64::from(PROVIDERS) {
            let engine = EngineScript { token: 20, length: 100, ..EngineScript::default() };
            let config = ProviderConfig::new(&format!("model-{model}"), 100, 1000 + nth).slots(4).engine(engine);
            providers.push(world.add_provider(config));
        }
    }
    let requesters: Vec<NodeId> =
        (providers.len() as u32..NODES).map(|_| world.add_requester(RequesterConfig::default())).collect();
    let mut draws = Draws::new(seed, Stream::new(0, 0, Purpose::Job));
    for _ in 0..JOBS {
        let requester = requesters[draws.below(requesters.len() as u64) as usize];
        let model = format!("model-{}", draws.below(u64::from(MODELS)));
        let spec = job(&model, "Who is there, and for how long?", 40 + draws.below(60), 1_000_000);
        world.submit_at(draws.below(SPAN), requester, spec);
    }
    let mut draws = Draws::new(seed, Stream::new(0, 0, Purpose::Fault));
    let mut faults = Vec::new();
    for _ in 0..SPAN / LEAVES_EVERY {
        let node = providers[draws.below(providers.len() as u64) as usize];
        let (at, away) = (draws.below(SPAN), draws.below(2 * LEAVES_EVERY));
        faults.push(Fault { at, what: FaultKind::Kill(node, Some(100)) });
        faults.push(Fault { at: at + away, what: FaultKind::Restart(node) });
    }
    world.apply(&Schedule { faults });
    world
}
