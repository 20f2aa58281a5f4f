//! Outages: what retries add to the load, whom they help, and what happens when all is well again.

use std::fmt;

use haggle_core::{Event, wire::message::EndReason};

use super::{MODEL, permille, settle};
use crate::{
    Dial, Draws, EngineScript, Fault, FaultKind, Job, NodeId, ProviderConfig, Purpose, RequesterConfig, Schedule,
    Stream, Trouble, World, job,
};

/// How providers fail.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Failing {
    /// They accept, and break before the first token.
    Breaks,
    /// Their processes are gone: a dial is refused.
    Gone,
    /// Nothing answers: a dial hangs.
    Hangs,
}

/// Every way to fail.
pub const FAILINGS: [Failing; 3] = [Failing::Breaks, Failing::Gone, Failing::Hangs];

/// Providers, each with more slots than all clients need.
const PROVIDERS: u32 = 8;
/// A client submits a job every so many ms, on average.
const EVERY: u64 = 5_000;
/// Until then every client had one job, so that all know the providers.
const WARM: u64 = 10_000;

/// What was asked of providers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Load {
    /// Jobs submitted.
    pub jobs: usize,
    /// Jobs answered.
    pub answered: usize,
    /// Awards.
    pub awards: usize,
}

impl Load {
    fn of<'a>(jobs: impl Iterator<Item = &'a Job>) -> Self {
        jobs.fold(Self::default(), |load, job| Self {
            jobs: load.jobs + 1,
            answered: load.answered + usize::from(job.finished().is_some()),
            awards: load.awards + job.awarded().len(),
        })
    }
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { jobs, answered, awards } = *self;
        let (load, success) = (permille(awards, jobs), permille(answered * 100, jobs));
        write!(f, "{jobs} jobs, {awards} awards ({load} ‰), {answered} answered ({success} of 100,000)")
    }
}

/// `clients` submit jobs for `seconds` while no provider works.
///
/// # Panics
/// If a rule was broken.
#[must_use]
pub fn total(seed: u64, clients: u32, seconds: u64, how: Failing) -> Load {
    let (mut world, providers, clients) = build(seed, clients);
    submit(&mut world, &clients, seed, WARM, seconds * 1000);
    strike(&mut world, &providers, &clients, WARM, how);
    settle(&mut world);
    Load::of(world.jobs().map(|(_, job)| job).filter(|job| job.submitted >= WARM))
}

/// `clients` submit jobs for `seconds` while so many of 1,000 attempts break before their first token.
///
/// # Panics
/// If a rule was broken.
#[must_use]
pub fn transient(seed: u64, clients: u32, seconds: u64, faults: u32) -> Load {
    let mut world = World::new(seed);
    let trouble = Some((0, Trouble::Fail(EndReason::Engine)));
    let engine = EngineScript { trouble, trouble_permille: faults, ..quick() };
    for _ in 0..PROVIDERS {
        world.add_provider(provider(engine.clone()));
    }
    let clients: Vec<NodeId> = (0..clients).map(|_| world.add_requester(RequesterConfig::default())).collect();
    submit(&mut world, &clients, seed, 0, seconds * 1000);
    settle(&mut world);
    Load::of(world.jobs().map(|(_, job)| job))
}

/// What an outage leaves behind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Healed {
    /// Awards a second that the clients make when all is well.
    pub steady: usize,
    /// Most awards in any second that began after the outage.
    pub peak: usize,
    /// Most awards in any second before the outage.
    pub before: usize,
    /// What was submitted after the outage.
    pub after: Load,
}

impl fmt::Display for Healed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { steady, peak, before, after } = self;
        let factor = permille(*peak, *steady);
        write!(f, "steady {steady}/s (at most {before}), after the heal at most {peak} ({factor} ‰); then {after}")
    }
}

/// `clients` submit jobs all the time; of three times `seconds`, no provider works in the second.
///
/// # Panics
/// If a rule was broken.
#[must_use]
pub fn heal(seed: u64, clients: u32, seconds: u64, how: Failing) -> Healed {
    let steady = u64::from(clients) * 1000 / EVERY;
    let (mut world, providers, clients) = build(seed, clients);
    let span = seconds * 1000;
    submit(&mut world, &clients, seed, WARM, 3 * span);
    strike(&mut world, &providers, &clients, WARM + span, how);
    mend(&mut world, &providers, &clients, WARM + 2 * span, how);
    settle(&mut world);
    let awards = world.jobs().flat_map(|(_, job)| &job.events);
    let mut times: Vec<u64> =
        awards.filter(|(_, event)| matches!(event, Event::Awarded { .. })).map(|(at, _)| *at).collect();
    times.sort_unstable();
    let healed = WARM + 2 * span;
    Healed {
        steady: usize::try_from(steady).unwrap_or(usize::MAX),
        peak: busiest_second(&times, healed..u64::MAX),
        before: busiest_second(&times, WARM..WARM + span),
        after: Load::of(world.jobs().map(|(_, job)| job).filter(|job| job.submitted >= healed)),
    }
}

/// The most events in any second within a span, of sorted times.
fn busiest_second(times: &[u64], span: std::ops::Range<u64>) -> usize {
    let times = &times[times.partition_point(|at| *at < span.start)..times.partition_point(|at| *at < span.end)];
    let within = |(first, start): (usize, &u64)| times.partition_point(|at| *at < start + 1000) - first;
    times.iter().enumerate().map(within).max().unwrap_or(0)
}

fn quick() -> EngineScript {
    EngineScript { length: 10, piece: 5, ..EngineScript::default() }
}

fn provider(engine: EngineScript) -> ProviderConfig {
    let mut config = ProviderConfig::new(MODEL, 0, 1_000_000).slots(256).engine(engine);
    config.limits.streams = 4096;
    config
}

/// A world in which every client had a first job.
fn build(seed: u64, clients: u32) -> (World, Vec<NodeId>, Vec<NodeId>) {
    let mut world = World::new(seed);
    let providers = (0..PROVIDERS).map(|_| world.add_provider(provider(quick()))).collect();
    let clients: Vec<NodeId> = (0..clients).map(|_| world.add_requester(RequesterConfig::default())).collect();
    for (nth, client) in clients.iter().enumerate() {
        let at = nth as u64 * (WARM / 2) / clients.len() as u64;
        world.submit_at(at, *client, job(MODEL, "What does a warm market cost?", 10, 1000));
    }
    (world, providers, clients)
}

/// Every client submits `span / EVERY` jobs, at times of its own.
fn submit(world: &mut World, clients: &[NodeId], seed: u64, from: u64, span: u64) {
    for client in clients {
        let mut draws = Draws::new(seed, Stream::new(client.0, client.0, Purpose::Job));
        for _ in 0..span / EVERY {
            let at = from + draws.below(span);
            world.submit_at(at, *client, job(MODEL, "What does it cost, and what is it worth?", 10, 1000));
        }
    }
}

fn strike(world: &mut World, providers: &[NodeId], clients: &[NodeId], at: u64, how: Failing) {
    inflict(world, providers, clients, at, |provider, client| match (how, client) {
        (Failing::Breaks, None) => Some(FaultKind::Engine(provider, Some((0, Trouble::Fail(EndReason::Engine))))),
        (Failing::Gone, None) => Some(FaultKind::Kill(provider, Some(20))),
        (Failing::Hangs, Some(client)) => Some(FaultKind::Dial(provider, client, Dial::Hangs)),
        _ => None,
    });
}

fn mend(world: &mut World, providers: &[NodeId], clients: &[NodeId], at: u64, how: Failing) {
    inflict(world, providers, clients, at, |provider, client| match (how, client) {
        (Failing::Breaks, None) => Some(FaultKind::Engine(provider, None)),
        (Failing::Gone, None) => Some(FaultKind::Restart(provider)),
        (Failing::Hangs, Some(client)) => Some(FaultKind::Dial(provider, client, Dial::Answers)),
        _ => None,
    });
}

/// Faults of every provider, and of each of its links to clients.
fn inflict(
    world: &mut World,
    providers: &[NodeId],
    clients: &[NodeId],
    at: u64,
    fault: impl Fn(NodeId, Option<NodeId>) -> Option<FaultKind>,
) {
    let links = |provider: &NodeId| {
        let provider = *provider;
        std::iter::once(None).chain(clients.iter().copied().map(Some)).map(move |client| (provider, client))
    };
    let faults = providers.iter().flat_map(links).filter_map(|(provider, client)| fault(provider, client));
    world.apply(&Schedule { faults: faults.map(|what| Fault { at, what }).collect() });
}
