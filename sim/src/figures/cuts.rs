//! Cuts: a long answer whose streams are cut at a byte, for many bytes in both directions.

use std::fmt;

use haggle_core::{JobId, wire::Prompt};

use super::{MODEL, settle};
use crate::{
    Answer, Draws, EngineScript, Fault, FaultKind, Job, NodeId, ProviderConfig, Purpose, RequesterConfig, Schedule,
    Stream, World, job,
};

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
    let (mut world, id, directions) = awarded(1, tokens);
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
                assert_whole(fork.job(id), tokens, &format!("byte {byte} from {:?}", direction.0));
                cuts += 1;
                resumed += u64::from(fork.job(id).count("job:cut") > 0);
            }
        }
    }
    let end = count(&world);
    Cuts { bytes: [0, 1].map(|way| end[way] - start[way]), cuts, resumed }
}

/// Cuts the streams of a job of so many tokens twice, `times` times in a world of its own: at a random byte, and at another
/// one after it. Every other second cut falls within the first 300 bytes after the first: into the resume.
///
/// # Panics
/// If one of them broke a rule, gave another answer, or lost the provider its job.
#[must_use]
pub fn twice(seed: u64, tokens: u64, times: u64) -> Cuts {
    let mut draws = Draws::new(seed, Stream::new(0, 0, Purpose::Fault));
    let mut made = Cuts::default();
    let (begun, id, directions) = awarded(seed, tokens);
    let count = |world: &World| directions.map(|(from, to)| world.arrived(from, to));
    let start = count(&begun);
    let mut whole = begun.clone();
    settle(&mut whole);
    made.bytes = [0, 1].map(|way| count(&whole)[way] - start[way]);
    for nth in 0..times {
        let mut world = begun.clone();
        let ways = [draws.below(2) as usize, draws.below(2) as usize];
        let first = draws.below(made.bytes[ways[0]]);
        cut_in(&mut world, directions[ways[0]], first);
        while world.job(id).count("job:cut") == 0 && world.job(id).ending.is_none() && world.step() {}
        let second = draws.below(if nth % 2 == 0 { 300 } else { made.bytes[ways[1]] });
        cut_in(&mut world, directions[ways[1]], second);
        settle(&mut world);
        assert_whole(
            world.job(id),
            tokens,
            &format!("seed {seed}, pair {nth}: bytes {first} and {second}, ways {ways:?}"),
        );
        made.cuts += 1;
        made.resumed += u64::from(world.job(id).count("job:cut") > 1);
    }
    made
}

/// A world whose only job has been awarded, and the two directions of its streams.
fn awarded(seed: u64, tokens: u64) -> (World, JobId, [(NodeId, NodeId); 2]) {
    let mut world = World::new(seed);
    let engine = EngineScript { token: 1, length: tokens, ..EngineScript::default() };
    let provider = world.add_provider(ProviderConfig::new(MODEL, 0, 1_000_000).engine(engine));
    let me = world.add_requester(RequesterConfig::default());
    let id = match world.submit(me, job(MODEL, PROMPT, tokens, 1_000_000)) {
        Ok(id) => id,
        Err(refusal) => panic!("the job was refused: {refusal}"),
    };
    while world.job(id).awarded().is_empty() && world.step() {}
    (world, id, [(me, provider), (provider, me)])
}

/// The answer is the one of an uncut run, by the provider that was awarded first.
fn assert_whole(job: &Job, tokens: u64, what: &str) {
    let text = Answer::new(MODEL.as_bytes(), 0, &Prompt::Raw(PROMPT.into()), 0).text(tokens);
    let is_whole = job.finished().is_some() && (&job.text, job.tokens) == (&text, tokens);
    assert!(is_whole && job.awarded().len() == 1, "{what}: {:?}", job.ending);
}

/// Cuts after so many further bytes, and runs on to the end.
fn cut(mut world: World, direction: (NodeId, NodeId), bytes: u64) -> World {
    cut_in(&mut world, direction, bytes);
    settle(&mut world);
    world
}

fn cut_in(world: &mut World, (from, to): (NodeId, NodeId), bytes: u64) {
    world.apply(&Schedule { faults: vec![Fault { at: world.now(), what: FaultKind::CutAfter(from, to, bytes) }] });
}
