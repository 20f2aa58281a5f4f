//! What users of different networks would see: the same market and the same jobs on each.

use std::fmt::{self, Write as _};

use haggle_core::Event;

use super::{MODEL, settle};
use crate::{
    Draws, EngineScript, Fault, FaultKind, Job, LinkConfig, NodeId, ProviderConfig, Purpose, RequesterConfig, Schedule,
    Side, Spread, Stream, World,
    adversary::{Cheat, cheat},
    job, owed,
};

/// Providers, requesters, jobs, and the ms within which these are submitted.
const PROVIDERS: u32 = 20;
const REQUESTERS: u32 = 10;
const JOBS: u64 = 400;
const SPAN: u64 = 200_000;
/// Tokens of an answer.
const TOKENS: u64 = 60;

/// A kind of network.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Profile {
    /// A cable in a house.
    Lan,
    /// A wireless network in a house: stalls, and a cut now and then.
    Wifi,
    /// Telephones on the move: late bytes, cuts.
    Cellular,
    /// A satellite high above the equator.
    Satellite,
    /// A line that is full: 20 bytes a ms for each stream, and queues.
    Congested,
    /// All over the earth; of one region nothing is heard for a minute.
    RegionalOutage,
    /// Three of ten providers cheat, each in another way, and are cheap.
    Byzantine,
}

/// Every kind of network, with its name in tables.
pub const PROFILES: [(&str, Profile); 7] = [
    ("LAN", Profile::Lan),
    ("wifi", Profile::Wifi),
    ("cellular", Profile::Cellular),
    ("satellite", Profile::Satellite),
    ("congested", Profile::Congested),
    ("regional outage", Profile::RegionalOutage),
    ("30 % byzantine", Profile::Byzantine),
];

/// Providers that die, for half a minute each.
const DEATHS: u64 = 16;
/// Cheats of the byzantine profile: six of twenty.
const BYZANTINE: [Cheat; 6] =
    [Cheat::SilentAfterAccepted, Cheat::Skips, Cheat::TooMany, Cheat::LyingHash, Cheat::Leaves, Cheat::AlwaysStale];

/// What users saw.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Seen {
    /// Jobs submitted.
    pub jobs: u64,
    /// Jobs answered.
    pub answered: u64,
    /// Ms to the first token: half of the answered jobs, and 99 of 100.
    pub first_token: (u64, u64),
    /// Takeovers by another provider, and the ms without a provider that half of them, and 99 of 100, took at most.
    pub takeovers: u64,
    /// See [`Seen::takeovers`].
    pub gap: (u64, u64),
    /// Tokens that engines wrote and no application kept.
    pub wasted: u64,
    /// Awards.
    pub attempts: u64,
    /// Owed beyond the price of the tokens delivered.
    pub overpaid: u128,
    /// Frames sent by all nodes.
    pub frames: u64,
}

/// Runs a profile.
///
/// # Panics
/// If a rule was broken.
#[must_use]
pub fn run(seed: u64, profile: Profile) -> Seen {
    let mut world = World::new(seed);
    world.config.default_link = link(profile);
    world.config.regions = profile == Profile::RegionalOutage;
    let mut nodes = Vec::new();
    for nth in 0..PROVIDERS {
        let cheats = if profile == Profile::Byzantine { BYZANTINE.get(nth as usize) } else { None };
        nodes.push(match cheats {
            Some(how) => world.add_script(&[MODEL], cheat(MODEL, 10, 500 + u64::from(nth), *how)),
            None => {
                let engine = EngineScript { prefill: 150, token: 20, length: TOKENS, ..EngineScript::default() };
                world.add_provider(ProviderConfig::new(MODEL, 100, 1000 + u64::from(nth)).slots(4).engine(engine))
            }
        });
    }
    let requesters: Vec<NodeId> = (0..REQUESTERS).map(|_| world.add_requester(RequesterConfig::default())).collect();
    world.apply(&Schedule { faults: faults(seed, profile, &nodes, &requesters) });
    let mut draws = Draws::new(seed, Stream::new(0, 0, Purpose::Job));
    for nth in 0..JOBS {
        let requester = requesters[draws.below(u64::from(REQUESTERS)) as usize];
        let mut spec = job(MODEL, "What is it like where you are, and how long does it take?", TOKENS, 1_000_000);
        spec.sampling.seed = nth;
        world.submit_at(draws.below(SPAN), requester, spec);
    }
    settle(&mut world);
    Seen::of(&world)
}

fn link(profile: Profile) -> LinkConfig {
    let (delay, jitter, spread, rate) = match profile {
        Profile::Lan => (1, 1, Spread::Even, 0),
        Profile::Wifi => (3, 40, Spread::Bimodal, 0),
        Profile::Cellular => (40, 60, Spread::HeavyTail, 100),
        Profile::Satellite => (300, 30, Spread::Exponential, 0),
        Profile::Congested => (30, 150, Spread::Exponential, 20),
        Profile::RegionalOutage => (1, 10, Spread::Exponential, 0),
        Profile::Byzantine => (20, 10, Spread::Even, 0),
    };
    LinkConfig { delay, jitter, spread, rate, ..LinkConfig::default() }
}

fn faults(seed: u64, profile: Profile, providers: &[NodeId], requesters: &[NodeId]) -> Vec<Fault> {
    let mut draws = Draws::new(seed, Stream::new(0, 0, Purpose::Fault));
    let mut faults = Vec::new();
    let (stalls, cuts, deaths) = match profile {
        Profile::Wifi => (400, 100, DEATHS),
        Profile::Cellular => (100, 400, DEATHS),
        Profile::RegionalOutage => {
            faults.push(Fault { at: SPAN / 4, what: FaultKind::Partition(Side::Region(3), 60_000) });
            (0, 0, DEATHS)
        }
        Profile::Lan | Profile::Satellite | Profile::Congested | Profile::Byzantine => (0, 0, DEATHS),
    };
    for nth in 0..stalls + cuts {
        let a = requesters[draws.below(requesters.len() as u64) as usize];
        let b = providers[draws.below(providers.len() as u64) as usize];
        let stall = FaultKind::Stall(a, b, 200 + draws.below(1500));
        let what = if nth < stalls { stall } else { FaultKind::Cut(a, b) };
        faults.push(Fault { at: draws.below(SPAN), what });
    }
    for _ in 0..deaths {
        // One of those that are asked most.
        let node = providers[providers.len() / 3 + draws.below(4) as usize];
        let at = draws.below(SPAN);
        faults.push(Fault { at, what: FaultKind::Kill(node, Some(50)) });
        faults.push(Fault { at: at + 30_000, what: FaultKind::Restart(node) });
    }
    faults
}

impl Seen {
    fn of(world: &World) -> Self {
        let mut seen = Self { frames: world.frames(), ..Self::default() };
        let (mut firsts, mut gaps, mut kept) = (Vec::new(), Vec::new(), 0);
        for (_, job) in world.jobs() {
            seen.jobs += 1;
            seen.answered += u64::from(job.finished().is_some());
            seen.attempts += job.awarded().len() as u64;
            kept += job.tokens;
            firsts.extend(job.first_token.map(|at| at - job.submitted));
            gaps.extend(takeovers(job));
            let lines = job.ending.iter().flat_map(|(_, ending)| &ending.bill.lines);
            seen.overpaid += lines.map(|line| line.owed - owed(line.tariff, line.tokens).min(line.owed)).sum::<u128>();
        }
        seen.takeovers = gaps.len() as u64;
        seen.first_token = (quantile(&mut firsts, 50), quantile(&mut firsts, 99));
        seen.gap = (quantile(&mut gaps, 50), quantile(&mut gaps, 99));
        seen.wasted = world.computed().saturating_sub(kept);
        seen
    }
}

/// For each takeover of a job, how long it had no provider: from the cut, or from the loss, to the first word of another.
fn takeovers(job: &Job) -> Vec<u64> {
    let (mut lost, mut gaps) = (None, Vec::new());
    for (at, event) in &job.events {
        match event {
            Event::Cut { .. } => lost = lost.or(Some(*at)),
            Event::PassedOver { .. } if !gaps.is_empty() || job.first_token.is_some_and(|first| first < *at) => {
                lost = lost.or(Some(*at));
            }
            Event::Resumed { .. } => lost = None,
            Event::TakenOver { .. } => gaps.extend(lost.take().map(|lost| *at - lost)),
            _ => {}
        }
    }
    gaps
}

/// What so many of 100 do not exceed; 0 of nothing.
fn quantile(values: &mut [u64], percent: usize) -> u64 {
    values.sort_unstable();
    values.get((values.len() * percent).div_ceil(100).saturating_sub(1)).copied().unwrap_or(0)
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { jobs, answered, first_token, takeovers, gap, wasted, attempts, overpaid, frames } = self;
        let per_job = |count: u64| {
            let hundredths = count * 100 / jobs.max(&1);
            format!("{}.{:02}", hundredths / 100, hundredths % 100)
        };
        let gap = if *takeovers == 0 { "– | –".into() } else { format!("{} | {}", gap.0, gap.1) };
        write!(
            f,
            "{answered}/{jobs} | {} | {} | {takeovers} | {gap} | {wasted} | {} | {overpaid} | {}",
            first_token.0,
            first_token.1,
            per_job(*attempts),
            per_job(*frames)
        )
    }
}

/// The table of all profiles.
///
/// # Panics
/// If a rule was broken.
#[must_use]
pub fn table() -> String {
    let mut table = String::from(
        "| profile | answered | first token p50, ms | p99 | takeovers | gap p50, ms | p99 | wasted tokens | attempts a job \
         | overpaid | messages a job |\n|---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for (name, profile) in PROFILES {
        let _infallible = writeln!(table, "| {name} | {} |", run(1, profile));
    }
    table
}
