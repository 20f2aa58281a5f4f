//! Random worlds: a seed draws nodes, jobs, adversaries and a subset of faults; then the network calms down, and what
//! can be served has to be served.

use haggle_core::{
    Event, JobId, JobSpec, Limits, Policy,
    event::{Failure, PassedOver},
    spec::{Failover, Haggle},
    time::Millis,
    wire::{Prompt, message::EndReason},
};

use crate::{
    Broken, EngineScript, Fault, FaultKind, Job, LinkConfig, Lookup, NodeId, Pace, ProviderConfig, Report,
    RequesterConfig, Rule, Schedule, Trouble, World,
    adversary::{CHEATS, PESTS, Pest, cheat, pest},
    dice::{Draws, Purpose, Stream},
    name,
    net::Dial,
};

/// When a seed's faults end, in ms.
pub const CALM_AT: u64 = 60_000;
/// When everything that began before is long over, in ms: then a last job has to be served.
const PROBE_AT: u64 = CALM_AT + 1_500_000;
/// The one model of a random world.
const MODEL: &str = "swarm";

/// A random world, ready to run.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// The world, with its jobs, but without faults.
    pub world: World,
    /// The faults of the seed.
    pub faults: Schedule,
    /// What ends them.
    pub heal: Schedule,
    probe: usize,
}

/// The random world of a seed.
#[must_use]
pub fn scenario(seed: u64) -> Scenario {
    build(seed, true)
}

fn build(seed: u64, with_hostile: bool) -> Scenario {
    let mut shape = Draws::new(seed, Stream::new(0, 0, Purpose::Shape));
    let mut world = World::new(seed);
    world.echo_close = shape.chance(1, 2);
    world.dht.delay = 10 + shape.below(800);
    world.max_events = 2_000_000;
    world.default_link = LinkConfig {
        delay: 1 + shape.below(60),
        jitter: shape.below(30),
        split: [0, 0, 0, 1, 7, 100][shape.below(6) as usize],
        dial: Dial::Answers,
    };
    let providers: Vec<NodeId> = (0..=shape.below(5)).map(|_| world.add_provider(provider(&mut shape))).collect();
    let requesters: Vec<NodeId> =
        (0..=shape.below(3)).map(|_| world.add_requester(requester(&mut shape, with_hostile))).collect();
    let mut hostile = Vec::new();
    for _ in 0..if with_hostile { shape.below(4).saturating_sub(1) } else { 0 } {
        let how = CHEATS[shape.below(CHEATS.len() as u64) as usize];
        hostile.push(world.add_script(&[MODEL], cheat(MODEL, shape.below(1000), shape.below(1000), how)));
    }
    if with_hostile && shape.chance(1, 4) {
        let how = PESTS[shape.below(PESTS.len() as u64) as usize];
        let target = providers[shape.below(providers.len() as u64) as usize];
        let streams = 1 + shape.below(if how == Pest::Silent { 40 } else { 6 }) as u32;
        world.add_script(&[], pest(target, MODEL, 0, 0, streams, how));
    }
    let probing = world.add_requester(RequesterConfig::default());
    let mut jobs = Draws::new(seed, Stream::new(0, 0, Purpose::Job));
    for _ in 0..=jobs.below(8) {
        let requester = requesters[jobs.below(requesters.len() as u64) as usize];
        world.submit_at(jobs.below(CALM_AT), requester, random_job(&mut jobs));
    }
    let mut last = JobSpec::new(name(MODEL), Prompt::Raw("Is anybody still there after all of this?".into()), 20);
    last.budget = Some(u64::MAX);
    last.criteria.exclude = hostile.iter().map(|node| node.peer()).collect();
    let probe = world.submit_at(PROBE_AT, probing, last);
    let nodes = world_nodes(&providers, &requesters, &hostile);
    let (faults, heal) = faults(seed, &nodes, &providers, &requesters);
    Scenario { world, faults, heal, probe }
}

/// Every so many seeds are run twice, to see that they run alike.
const TWICE: u64 = 16;

/// Runs a seed's world with its faults, to the end; some seeds twice.
#[must_use]
pub fn run(seed: u64) -> Report {
    let mut report = scenario(seed).run();
    if seed.is_multiple_of(TWICE) && scenario(seed).run().trace != report.trace {
        let what = "a second run of the same seed went another way".into();
        report.broken.push(Broken { rule: Rule::Determinism, at: report.now, what });
    }
    report
}

/// Runs a seed's world without faults and hostile peers. What nothing went wrong with wastes nothing: no provider is
/// passed over but for its price, its speed or its own word, and no job is cut short.
#[must_use]
pub fn run_calm(seed: u64) -> Report {
    let mut calm = build(seed, false);
    calm.world.run_to_end();
    calm.judge_probe();
    let wasted: Vec<String> = calm.world.jobs().filter_map(|(id, job)| waste(id, job)).collect();
    for what in wasted {
        calm.world.fail(Rule::Calm, &what);
    }
    calm.world.report()
}

/// What a job wasted, if anything.
fn waste(id: JobId, job: &Job) -> Option<String> {
    if let Some(Failure::Interrupted(why)) = job.failure() {
        return Some(format!("{id}: {why:?}"));
    }
    job.events.iter().find_map(|(at, event)| match event {
        Event::PassedOver { why: PassedOver::Declined(_) | PassedOver::OverBudget | PassedOver::TooSlow, .. } => None,
        Event::PassedOver { why, .. } => Some(format!("{id}: {why:?} at {at} ms")),
        _ => None,
    })
}

impl Scenario {
    /// Runs it to the end.
    #[must_use]
    pub fn run(mut self) -> Report {
        self.world.apply(&self.faults);
        self.world.apply(&self.heal);
        self.world.run_to_end();
        self.judge_probe();
        self.world.report()
    }

    fn judge_probe(&mut self) {
        let probe = self.world.nth(self.probe);
        if probe.finished().is_none() {
            let what = format!("nobody serves the last job: {:?}", probe.failure());
            self.world.fail(Rule::Liveness, &what);
        }
    }
}

fn provider(shape: &mut Draws) -> ProviderConfig {
    let price = |shape: &mut Draws| match shape.below(20) {
        0 => u64::MAX,
        1 | 2 => 0,
        _ => 1 + shape.below(2_000_000),
    };
    // The probe's budget is for sane prices: reading may cost anything, but one figure beyond it excludes the provider.
    let (price_in, price_out) = (shape.below(500_000), price(shape).min(u64::MAX >> 20));
    let mut config = ProviderConfig::new(MODEL, price_in, price_out).slots(1 + shape.below(3) as u32);
    config.service.queue = shape.below(5) as u32;
    config.service.models[0].advert.eta = Millis(shape.below(500));
    config.service.models[0].floor_permille = 700 + 100 * shape.below(4) as u32;
    let engine = EngineScript {
        prefill: shape.below(2000),
        token: shape.below(50),
        piece: 1 + shape.below(8) as u32,
        length: 1 + shape.below(200),
        class: shape.below(2) as u8,
        ids: shape.chance(1, 2),
        trouble: None,
        trouble_permille: 1000,
    };
    let mut config = config.engine(engine);
    config.service.models[0].advert.can_continue = shape.chance(3, 4);
    config
}

/// A requester; its application may be slow where not all is well.
fn requester(shape: &mut Draws, may_be_slow: bool) -> RequesterConfig {
    let mut limits = Limits::default();
    if shape.chance(1, 3) {
        limits.window_tokens = 8 + shape.below(64) as u32;
        limits.window_bytes = 16_512;
    }
    let pace = match shape.below(8) {
        0 if may_be_slow => Pace::Every(1 + shape.below(300)),
        1 if may_be_slow => Pace::Never,
        _ => Pace::AtOnce,
    };
    let account_budget = shape.chance(1, 4).then(|| shape.below(2_000));
    RequesterConfig { policy: Policy::default(), limits, account_budget, pace }
}

fn random_job(draws: &mut Draws) -> JobSpec {
    let length = match draws.below(12) {
        0 => 20_000 + draws.below(80_000),
        _ => 20 + draws.below(300),
    };
    let letters = (0..length.div_ceil(8)).map(|_| format!("{:08x}", draws.below(1 << 32))).collect::<String>();
    let mut spec = JobSpec::new(name(MODEL), Prompt::Raw(letters), 1 + draws.below(150));
    spec.budget = match draws.below(8) {
        0 => None,
        1 => Some(draws.below(100)),
        2 => Some(u64::MAX),
        _ => Some(draws.below(50_000)),
    };
    spec.deadline = draws.chance(1, 6).then(|| Millis(1 + draws.below(60_000)));
    spec.time_value = if draws.chance(1, 3) { draws.below(1000) } else { 0 };
    spec.haggle = match draws.below(4) {
        0 => Haggle::Offers,
        1 => Haggle::Bid(500 + draws.below(499) as u32),
        _ => Haggle::No,
    };
    spec.sampling.seed = draws.below(u64::MAX);
    spec.explain = spec.sampling.seed % 4 == 0;
    spec.criteria.refresh = draws.chance(1, 8);
    spec.failover =
        [Failover::Continue, Failover::Continue, Failover::Restart, Failover::Never][draws.below(4) as usize];
    spec
}

fn world_nodes(providers: &[NodeId], requesters: &[NodeId], hostile: &[NodeId]) -> Vec<NodeId> {
    providers.iter().chain(requesters).chain(hostile).copied().collect()
}

/// A random subset of fault kinds, a few faults of each, and what heals them.
fn faults(seed: u64, nodes: &[NodeId], providers: &[NodeId], requesters: &[NodeId]) -> (Schedule, Schedule) {
    let mut draws = Draws::new(seed, Stream::new(0, 0, Purpose::Fault));
    let kinds: Vec<u64> = (0..13).filter(|_| draws.chance(1, 3)).collect();
    let mut faults = Schedule::default();
    let mut heal = Schedule::default();
    let healing = |what| Fault { at: CALM_AT, what };
    heal.faults.push(healing(FaultKind::Lookup(Lookup::Answers)));
    for kind in kinds {
        for _ in 0..=draws.below(3) {
            let a = requesters[draws.below(requesters.len() as u64) as usize];
            let b = nodes[draws.below(nodes.len() as u64) as usize];
            let provider = providers[draws.below(providers.len() as u64) as usize];
            let what = match kind {
                0 => FaultKind::Cut(a, b),
                1 => FaultKind::HalfCut(if draws.chance(1, 2) { a } else { b }, a),
                2 => FaultKind::Stall(a, b, draws.below(90_000)),
                3 => FaultKind::Dial(a, b, random_dial(&mut draws)),
                4 => FaultKind::Delay(a, b, 1 + draws.below(3000), draws.below(1000)),
                5 => FaultKind::Split(a, b, 1 + draws.below(5) as u32),
                6 => FaultKind::Kill(b, draws.chance(2, 3).then(|| draws.below(5000))),
                7 => FaultKind::Restart(b),
                8 => FaultKind::Engine(provider, Some((draws.below(30), random_trouble(&mut draws)))),
                9 => FaultKind::Lookup(random_lookup(&mut draws)),
                10 => FaultKind::Price(provider, draws.below(500_000), draws.below(2_000_000)),
                11 => FaultKind::Drain(provider),
                _ => FaultKind::Cancel(draws.below(8) as usize),
            };
            faults.faults.push(Fault { at: draws.below(CALM_AT), what });
            match what {
                FaultKind::Dial(a, b, _) => heal.faults.push(healing(FaultKind::Dial(a, b, Dial::Answers))),
                FaultKind::Delay(a, b, ..) => heal.faults.push(healing(FaultKind::Delay(a, b, 5, 0))),
                FaultKind::Engine(node, _) => heal.faults.push(healing(FaultKind::Engine(node, None))),
                FaultKind::Kill(node, _) | FaultKind::Drain(node) => {
                    heal.faults.push(healing(FaultKind::Restart(node)))
                }
                _ => {}
            }
        }
    }
    (faults, heal)
}

fn random_dial(draws: &mut Draws) -> Dial {
    use haggle_core::machine::StreamFailure;
    match draws.below(4) {
        0 => Dial::Refused(StreamFailure::Unreachable),
        1 => Dial::Refused(StreamFailure::Refused),
        2 => Dial::Slow(draws.below(20_000)),
        _ => Dial::Hangs,
    }
}

fn random_trouble(draws: &mut Draws) -> Trouble {
    match draws.below(4) {
        0 => Trouble::Fail(EndReason::Engine),
        1 => Trouble::Panic,
        2 => Trouble::Pause(draws.below(100_000)),
        _ => Trouble::Hang,
    }
}

fn random_lookup(draws: &mut Draws) -> Lookup {
    [Lookup::Partial(1), Lookup::Empty, Lookup::TimesOut, Lookup::Silent, Lookup::NoSource][draws.below(5) as usize]
}
