//! Cuts: a long answer whose streams are cut at a byte, for many bytes in both directions.

use std::fmt;

use haggle_core::wire::Prompt;

use super::{MODEL, settle};
use crate::{Answer, EngineScript, Fault, FaultKind, NodeId, ProviderConfig, RequesterConfig, Schedule, World, job};

const PROMPT: &str = "Tell of a market that nobody ever closed, and of who kept it open.";

/// What was cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Cuts {
    /// Bytes that could be cut at, to the provider and to the requester: from the Award on.
    pub bytes: [u64; 2],
    /// Cuts made, each in a world of its own.
    pub cuts: u64,
    /// Cuts after which the requester told of one and resumed.
    pub resumed: u64,
}

impl fmt::Display for Cuts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bytes: [to_provider, to_requester], cuts, resumed } = self;
        write!(
            f,
            "{cuts} cuts in {to_provider} bytes to the provider and {to_requester} to the requester: \
             {resumed} resumed, every answer whole"
        )
    }
}

/// Cuts the streams of a job of so many tokens before every `step`-th byte that arrives in either direction, from the
/// byte `offset` on, in a fork each.
///
/// # Panics
/// If one of the forks broke a rule, gave another answer, or lost the provider its job.
#[must_use]
pub fn every(tokens: u64, step: u64, offset: u64) -> Cuts {
    let mut world = World::new(1);
    let engine = EngineScript { token: 1, length: tokens, ..EngineScript::default() };
    let provider = world.add_provider(ProviderConfig::new(MODEL, 0, 1_000_000).engine(engine));
    let me = world.add_requester(RequesterConfig::default());
    let id = match world.submit(me, job(MODEL, PROMPT, tokens, 1_000_000)) {
        Ok(id) => id,
        Err(refusal) => panic!("the job was refused: {refusal}"),
    };
    while world.job(id).awarded().is_empty() && world.step() {}
    let text = Answer::new(MODEL.as_bytes(), 0, &Prompt::Raw(PROMPT.into()), 0).text(tokens);
    let directions = [(me, provider), (provider, me)];
    let count = |world: &World| directions.map(|(from, to)| world.arrived(from, to));
    let start = count(&world);
    let (mut cuts, mut resumed) = (0, 0);
    while world.job(id).ending.is_none() {
        let before = world.clone();
        let from = count(&before);
        world.step();
        let to = count(&world);
        for (way, direction) in directions.into_iter().enumerate() {
            let (first, last) = (from[way] - start[way], to[way] - start[way]);
            for byte in (first..last).filter(|byte| byte % step == offset % step) {
                let fork = cut(before.clone(), direction, byte - first);
                let job = fork.job(id);
                let is_whole = job.finished().is_some() && (&job.text, job.tokens) == (&text, tokens);
                assert!(is_whole && job.awarded().len() == 1, "byte {byte} from {:?}: {:?}", direction.0, job.ending);
                cuts += 1;
                resumed += u64::from(job.count("job:cut") > 0);
            }
        }
    }
    let end = count(&world);
    Cuts { bytes: [0, 1].map(|way| end[way] - start[way]), cuts, resumed }
}

/// Cuts after so many further bytes, and runs on to the end.
fn cut(mut world: World, (from, to): (NodeId, NodeId), bytes: u64) -> World {
    world.apply(&Schedule { faults: vec![Fault { at: world.now(), what: FaultKind::CutAfter(from, to, bytes) }] });
    settle(&mut world);
    world
}
