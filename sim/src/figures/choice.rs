//! Choice: how long jobs take where some providers are slow and one is broken, against least-loaded-of-two.

use std::{collections::BTreeMap, fmt};

use haggle_core::{JobId, PeerId, wire::message::EndReason};

use super::{MODEL, permille, settle};
use crate::{Draws, EngineScript, NodeId, ProviderConfig, Purpose, RequesterConfig, Stream, Trouble, World, job};

/// Requesters, each with a view of its own.
const REQUESTERS: usize = 10;
/// Providers that are four times as slow as others; one more is broken.
const SLOW: usize = 2;
/// All providers.
const PROVIDERS: usize = 20;
/// Jobs a second: 60 % of what 80 slots do in 2 s each.
const JOBS_PER_SECOND: u64 = 24;
/// When a baseline's application looks at what became of its jobs, in ms.
const TICK: u64 = 5;

/// Who chooses.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Chooser {
    /// The core.
    Core,
    /// An application: of two providers drawn at random, the one at which it has fewer jobs; anew after a failure.
    LeastLoadedOfTwo,
}

/// How it went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Choice {
    /// Jobs submitted.
    pub jobs: usize,
    /// Jobs answered.
    pub answered: usize,
    /// Half of them, those that failed as if they took for ever, took so many ms at most.
    pub p50: u64,
    /// 99 of 100 took so many ms at most.
    pub p99: u64,
    /// Awards.
    pub attempts: usize,
    /// Awards to the broken one.
    pub wasted: usize,
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { jobs, answered, p50, p99, attempts, wasted } = *self;
        let share = permille(wasted, attempts);
        write!(
            f,
            "{answered} of {jobs} jobs, p50 {p50} ms, p99 {p99} ms, {wasted} of {attempts} awards wasted ({share} ‰)"
        )
    }
}

/// Runs jobs for `seconds`.
///
/// # Panics
/// If a rule was broken.
#[must_use]
pub fn run(seed: u64, seconds: u64, chooser: Chooser) -> Choice {
    let mut world = World::new(seed);
    let providers: Vec<NodeId> = (0..PROVIDERS).map(|nth| world.add_provider(provider(nth))).collect();
    let mut config = RequesterConfig::default();
    if chooser == Chooser::LeastLoadedOfTwo {
        // It tries again by itself, at once and as often as it takes.
        config.policy.max_retries = 0;
    }
    let requesters: Vec<NodeId> = (0..REQUESTERS).map(|_| world.add_requester(config.clone())).collect();
    let mut draws = Draws::new(seed, Stream::new(0, 0, Purpose::Job));
    let mut arrivals: Vec<(u64, NodeId)> = (0..seconds * JOBS_PER_SECOND)
        .map(|_| (draws.below(seconds * 1000), requesters[draws.below(REQUESTERS as u64) as usize]))
        .collect();
    arrivals.sort_unstable();
    let mut times = match chooser {
        Chooser::Core => by_core(&mut world, &arrivals),
        Chooser::LeastLoadedOfTwo => by_load(&mut world, &arrivals, &providers, &mut draws),
    };
    times.sort_unstable();
    let broken = providers[PROVIDERS - 1].peer();
    let awarded: Vec<PeerId> = world.jobs().flat_map(|(_, job)| job.awarded()).collect();
    let rank = |percent: usize| times[(times.len() * percent).div_ceil(100).max(1) - 1];
    Choice {
        jobs: arrivals.len(),
        answered: times.iter().filter(|time| **time < u64::MAX).count(),
        p50: rank(50),
        p99: rank(99),
        attempts: awarded.len(),
        wasted: awarded.iter().filter(|peer| **peer == broken).count(),
    }
}

/// 2 s a job, half of it before the first token. All cost the same, and say the same of themselves.
fn provider(nth: usize) -> ProviderConfig {
    let slower = if nth < SLOW { 4 } else { 1 };
    let mut engine =
        EngineScript { prefill: 1000 * slower, token: 100 * slower, length: 10, ..EngineScript::default() };
    if nth == PROVIDERS - 1 {
        engine.prefill = 5;
        engine.trouble = Some((0, Trouble::Fail(EndReason::Engine)));
    }
    ProviderConfig::new(MODEL, 0, 1_000_000).slots(4).engine(engine)
}

fn spec() -> haggle_core::JobSpec {
    job(MODEL, "Who is quick today, and who is not?", 10, 1000)
}

/// How long each job took, in ms; a failed one for ever.
fn by_core(world: &mut World, arrivals: &[(u64, NodeId)]) -> Vec<u64> {
    for (at, requester) in arrivals {
        world.submit_at(*at, *requester, spec());
    }
    settle(world);
    world.jobs().map(|(_, job)| job.finished().and(job.took()).unwrap_or(u64::MAX)).collect()
}

/// An application's job that is under way.
struct Errand {
    since: u64,
    requester: NodeId,
    provider: NodeId,
}

fn by_load(world: &mut World, arrivals: &[(u64, NodeId)], providers: &[NodeId], draws: &mut Draws) -> Vec<u64> {
    let mut open: BTreeMap<JobId, Errand> = BTreeMap::new();
    let mut times = Vec::new();
    let mut due = arrivals.iter().copied().peekable();
    while due.peek().is_some() || !open.is_empty() {
        let next = due.peek().map_or(u64::MAX, |(at, _)| *at);
        let now = if open.is_empty() { next } else { next.min(world.now() + TICK) };
        world.run_until(now);
        let mut starting = Vec::new();
        open.retain(|id, errand| {
            let job = world.job(*id);
            let Some((at, _)) = &job.ending else { return true };
            match job.finished() {
                Some(_) => times.push(at - errand.since),
                None => starting.push((errand.since, errand.requester)),
            }
            false
        });
        while let Some(arrival) = due.next_if(|(at, _)| *at <= now) {
            starting.push(arrival);
        }
        for (since, requester) in starting {
            let load = |provider: &NodeId| {
                open.values().filter(|errand| errand.requester == requester && errand.provider == *provider).count()
            };
            let two = [0; 2].map(|_| providers[draws.below(providers.len() as u64) as usize]);
            let provider = if load(&two[1]) < load(&two[0]) { two[1] } else { two[0] };
            let mut spec = spec();
            spec.criteria.only = vec![provider.peer()];
            match world.submit(requester, spec) {
                Ok(id) => drop(open.insert(id, Errand { since, requester, provider })),
                Err(refusal) => panic!("an application's job was refused: {refusal}"),
            }
        }
    }
    settle(world);
    times
}
