//! Random worlds: a seed draws nodes, jobs, adversaries and a subset of faults; then the network calms down, and what
//! can be served has to be served.
//!
//! What is drawn is a [`Plan`]: from there on the generator has no say.

use haggle_core::{
    Event, JobId, Limits,
    event::{Failure, PassedOver},
    spec::{Failover, Haggle},
    wire::message::EndReason,
};

use crate::{
    Broken, EngineScript, Fault, FaultKind, Job, LinkConfig, Lookup, NodeId, Pace, Plan, REGIONS, Report, Rule, Side,
    Spread, Trouble,
    adversary::{CHEATS, PESTS, Pest},
    dice::{Draws, Purpose, Stream},
    laws,
    net::Dial,
    plan::{CheatPlan, DrawnPrompt, JobPlan, NodePlan, PestPlan, PromptPlan, ProviderPlan, RequesterPlan},
    repro,
};

/// When a seed's faults end, in ms.
pub const CALM_AT: u64 = 60_000;
/// When all come at once, if they do, in ms; and into which part of the time.
const RUSH_AT: u64 = 15_000;
const RUSH_IN: u64 = 30;
/// So long after the calm, or after the last sleeper's waking, everything that began before is over, in ms: then a last
/// job has to be served.
const PROBE_AFTER: u64 = 1_500_000;

/// The random world of a seed.
#[must_use]
pub fn plan(seed: u64) -> Plan {
    draw(seed, true)
}

fn draw(seed: u64, with_hostile: bool) -> Plan {
    let mut shape = Draws::new(seed, Stream::new(0, 0, Purpose::Shape));
    let mut plan = Plan { seed, calm_at: Some(CALM_AT), max_events: 2_000_000, ..Plan::default() };
    plan.echo_close = shape.chance(1, 2);
    plan.regions = with_hostile && shape.chance(1, 4);
    plan.lookup_delay = 10 + shape.below(800);
    plan.link = LinkConfig {
        delay: 1 + shape.below(60),
        jitter: shape.below(30),
        spread: if with_hostile { random_spread(&mut shape) } else { Spread::Even },
        rate: if with_hostile && shape.chance(1, 4) { 50 + shape.below(1000) as u32 } else { 0 },
        split: [0, 0, 0, 1, 7, 100][shape.below(6) as usize],
        dial: Dial::Answers,
    };
    let mut add = |node: NodePlan| {
        plan.nodes.push(node);
        NodeId(plan.nodes.len() as u32 - 1)
    };
    let providers: Vec<NodeId> =
        (0..=shape.below(5)).map(|_| add(NodePlan::Provider(provider(&mut shape, with_hostile)))).collect();
    let requesters: Vec<NodeId> =
        (0..=shape.below(3)).map(|_| add(NodePlan::Requester(requester(&mut shape, with_hostile)))).collect();
    let mut hostile = Vec::new();
    for _ in 0..if with_hostile { shape.below(4).saturating_sub(1) } else { 0 } {
        let how = CHEATS[shape.below(CHEATS.len() as u64) as usize];
        hostile.push(add(NodePlan::Cheat(CheatPlan {
            how,
            price_in: shape.below(1000),
            price_out: shape.below(1000),
        })));
    }
    if with_hostile && shape.chance(1, 4) {
        let how = PESTS[shape.below(PESTS.len() as u64) as usize];
        let target = providers[shape.below(providers.len() as u64) as usize];
        let streams = 1 + shape.below(if how == Pest::Silent { 40 } else { 6 }) as u32;
        add(NodePlan::Pest(PestPlan { how, target, streams }));
    }
    let probing = add(NodePlan::Requester(RequesterPlan::default()));
    let mut jobs = Draws::new(seed, Stream::new(0, 0, Purpose::Job));
    for _ in 0..=jobs.below(8) {
        let node = requesters[jobs.below(requesters.len() as u64) as usize];
        let at = jobs.below(CALM_AT);
        let strangers: Vec<NodeId> = providers.iter().chain(&hostile).copied().filter(|_| jobs.chance(1, 12)).collect();
        plan.jobs.push(JobPlan { at, node, exclude: strangers, ..job(&mut jobs) });
    }
    if with_hostile {
        let nodes: Vec<NodeId> = providers.iter().chain(&requesters).chain(&hostile).copied().collect();
        plan.faults = faults(seed, &nodes, &providers, &requesters, plan.jobs.len() as u64);
        plan.faults.extend(crashes(seed, &providers, &requesters));
        turn_knobs(&mut plan, probing);
    }
    plan.jobs.push(JobPlan {
        at: all_awake(&plan.faults) + PROBE_AFTER,
        node: probing,
        prompt: PromptPlan::Text("Is anybody still there after all of this?".into()),
        max_tokens: 20,
        budget: Some(u64::MAX),
        exclude: hostile.clone(),
        must_finish: true,
        ..JobPlan::default()
    });
    plan
}

/// When the faults are over, whoever slept is awake, and no clock stands still, in ms: a sleeper may take up a job only
/// then, and a provider whose clock was set back gives up nothing before it has caught up.
fn all_awake(faults: &[Fault]) -> u64 {
    let stands = faults.iter().map(|fault| match fault.what {
        FaultKind::ClockStep(_, by) => by.min(0).unsigned_abs(),
        _ => 0,
    });
    let wakes = faults.iter().map(|fault| match fault.what {
        FaultKind::Sleep(_, ms) => fault.at + ms,
        _ => 0,
    });
    wakes.max().unwrap_or(0).max(CALM_AT) + stands.sum::<u64>()
}

/// Every so many seeds are run twice, to see that they run alike, and healed in the middle.
const OFTEN: u64 = 8;
/// Every so many seeds, each fact is told to a copy as well.
const DOUBLED: u64 = 64;
/// Every so many seeds, what travels one way only is looked at.
const ONE_WAY: u64 = 16;
/// Every so many seeds, the shares of equals are looked at: that takes many jobs.
const FAIR: u64 = 128;
/// How often such a seed is healed.
const HEALED: u64 = 3;

/// Runs a seed's world with its faults, to the end; some seeds again, and healed at moments of chance.
#[must_use]
pub fn run(seed: u64) -> Report {
    let plan = plan(seed);
    let mut report = plan.run();
    if !seed.is_multiple_of(OFTEN) {
        return report;
    }
    if again(&plan, &mut report) != report.trace {
        let what = "a second run of the same seed went another way".into();
        report.broken.push(Broken { rule: Rule::Determinism, at: report.now, job: None, what });
    }
    if seed.is_multiple_of(ONE_WAY) {
        look_at(&mut report, &laws::one_way(seed), &format!("{}:one-way", repro::line(seed)));
    }
    if seed.is_multiple_of(FAIR) {
        look_at(&mut report, &laws::fair(seed), &format!("{}:fair", repro::line(seed)));
    }
    let mut moments = Draws::new(seed, Stream::new(0, 0, Purpose::Heal));
    for _ in 0..HEALED {
        let events = moments.below(report.events);
        let healed = Plan { heal_after: Some(events), ..plan.clone() };
        look_at(&mut report, &healed, &format!("{}:{events}", repro::line(seed)));
    }
    report
}

/// Runs a seed's world once more, of some seeds with every fact told to a copy of its machine as well; gives its trace.
fn again(plan: &Plan, report: &mut Report) -> u128 {
    let mut world = plan.world();
    world.doubles = plan.seed.is_multiple_of(DOUBLED);
    plan.finish(&mut world);
    let again = world.report();
    let only_here = |broken: &Broken| broken.rule == Rule::Determinism;
    report.broken.extend(again.broken.into_iter().filter(only_here));
    again.trace
}

/// Runs another world of the same seed, and takes over what it breaks.
fn look_at(report: &mut Report, plan: &Plan, line: &str) {
    let other = plan.run();
    report.broken.extend(other.broken.into_iter().map(|broken| {
        let what = format!("{} (replay {line})", broken.what);
        Broken { what, ..broken }
    }));
    other.excuses.into_iter().for_each(|(why, count)| *report.excuses.entry(why).or_default() += count);
}

/// Runs a seed's world without faults and hostile peers. What nothing went wrong with wastes nothing: no provider is
/// passed over but for its price, its speed or its own word, and no job is cut short.
#[must_use]
pub fn run_calm(seed: u64) -> Report {
    let plan = draw(seed, false);
    let mut world = plan.world();
    plan.finish(&mut world);
    let wasted: Vec<String> = world.jobs().filter_map(|(id, job)| waste(id, job)).collect();
    for what in wasted {
        world.fail(Rule::Calm, &what);
    }
    world.report()
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

/// A provider; it may have room for little where not all is well.
fn provider(shape: &mut Draws, may_be_small: bool) -> ProviderPlan {
    let price = |shape: &mut Draws| match shape.below(20) {
        0 => u64::MAX,
        1 | 2 => 0,
        _ => 1 + shape.below(2_000_000),
    };
    // The probe's budget is for sane prices: reading may cost anything, but one figure beyond it excludes the provider.
    let (price_in, price_out) = (shape.below(500_000), price(shape).min(u64::MAX >> 20));
    let slots = 1 + shape.below(3) as u32;
    let queue = shape.below(5) as u32;
    let eta = shape.below(500);
    let floor_permille = 700 + 100 * shape.below(4) as u32;
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
    let can_continue = shape.chance(3, 4);
    let mut limits = Limits::default();
    if may_be_small && shape.chance(1, 4) {
        limits.streams = 4 + shape.below(6) as u32;
        limits.streams_per_peer = 2 + shape.below(3) as u32;
        limits.offers = 1 + shape.below(3) as u32;
        limits.jobs = 1 + shape.below(4) as u32;
    }
    let offer_expiry = if may_be_small { [60_000, 60_000, 5_000, 1_500][shape.below(4) as usize] } else { 60_000 };
    ProviderPlan {
        price_in,
        price_out,
        slots,
        queue,
        eta,
        floor_permille,
        can_continue,
        limits,
        offer_expiry,
        engine,
        ..ProviderPlan::default()
    }
}

/// A requester; its application may be slow where not all is well.
fn requester(shape: &mut Draws, may_be_slow: bool) -> RequesterPlan {
    let mut limits = Limits::default();
    if shape.chance(1, 3) {
        limits.window_tokens = 8 + shape.below(64) as u32;
        limits.window_bytes = 16_512;
    }
    if may_be_slow && shape.chance(1, 8) {
        limits.jobs = 1 + shape.below(2) as u32;
    }
    let pace = match shape.below(8) {
        0 if may_be_slow => Pace::Every(1 + shape.below(300)),
        1 if may_be_slow => Pace::Never,
        _ => Pace::AtOnce,
    };
    let account_budget = shape.chance(1, 4).then(|| shape.below(2_000));
    RequesterPlan { limits, account_budget, pace, ..RequesterPlan::default() }
}

/// Settings drawn apart: how often requesters try again; and in some worlds all jobs come at once, to providers with little
/// room whose engines break off often.
fn turn_knobs(plan: &mut Plan, probing: NodeId) {
    let mut knobs = Draws::new(plan.seed, Stream::new(0, 0, Purpose::Knob));
    let is_rush = knobs.chance(1, 4);
    for (index, node) in plan.nodes[..probing.0 as usize].iter_mut().enumerate() {
        match node {
            NodePlan::Requester(requester) if is_rush || knobs.chance(1, 2) => {
                requester.policy.max_retries = knobs.below(3) as u32;
            }
            NodePlan::Provider(provider) if is_rush => {
                (provider.slots, provider.queue) = (1, knobs.below(2) as u32);
                provider.engine.trouble_permille = 500;
                let trouble = Some((knobs.below(5), Trouble::Fail(EndReason::Engine)));
                plan.faults.push(Fault { at: 0, what: FaultKind::Engine(NodeId(index as u32), trouble) });
            }
            _ => {}
        }
    }
    for job in plan.jobs.iter_mut().filter(|_| is_rush) {
        job.at = RUSH_AT + job.at / RUSH_IN;
    }
}

/// What is asked for; when and by whom is drawn apart.
fn job(draws: &mut Draws) -> JobPlan {
    let bytes = match draws.below(12) {
        0 => 20_000 + draws.below(80_000),
        _ => 20 + draws.below(300),
    };
    let prompt = PromptPlan::Drawn(DrawnPrompt { bytes, key: draws.below(1 << 32) as u32 });
    let max_tokens = 1 + draws.below(150);
    let budget = match draws.below(8) {
        0 => None,
        1 => Some(draws.below(100)),
        2 => Some(u64::MAX),
        _ => Some(draws.below(50_000)),
    };
    let deadline = draws.chance(1, 6).then(|| 1 + draws.below(60_000));
    let time_value = if draws.chance(1, 3) { draws.below(1000) } else { 0 };
    let haggle = match draws.below(4) {
        0 => Haggle::Offers,
        1 => Haggle::Bid(500 + draws.below(499) as u32),
        _ => Haggle::No,
    };
    let sampling_seed = draws.below(u64::MAX);
    let explain = sampling_seed.is_multiple_of(4);
    let refresh = draws.chance(1, 8);
    let failover =
        [Failover::Continue, Failover::Continue, Failover::Restart, Failover::Never][draws.below(4) as usize];
    JobPlan {
        prompt,
        max_tokens,
        budget,
        deadline,
        time_value,
        haggle,
        sampling_seed,
        refresh,
        failover,
        explain,
        ..JobPlan::default()
    }
}

/// Processes that die and come back with what they had stored, in some worlds.
fn crashes(seed: u64, providers: &[NodeId], requesters: &[NodeId]) -> Vec<Fault> {
    let mut draws = Draws::new(seed, Stream::new(0, 0, Purpose::Crash));
    let mut faults = Vec::new();
    for nodes in [requesters, providers] {
        let crashes = if draws.chance(1, 4) { 1 + draws.below(3) } else { 0 };
        for _ in 0..crashes {
            let node = nodes[draws.below(nodes.len() as u64) as usize];
            let longest = [20, 1000, 20_000][draws.below(3) as usize];
            let what = FaultKind::Crash(node, 1 + draws.below(longest));
            faults.push(Fault { at: draws.below(CALM_AT), what });
        }
    }
    faults
}

/// A random subset of fault kinds, a few faults of each.
fn faults(seed: u64, nodes: &[NodeId], providers: &[NodeId], requesters: &[NodeId], jobs: u64) -> Vec<Fault> {
    let mut draws = Draws::new(seed, Stream::new(0, 0, Purpose::Fault));
    let kinds: Vec<u64> = (0..26).filter(|_| draws.chance(1, 4)).collect();
    let mut faults = Vec::new();
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
                11 => FaultKind::Drain(provider, draws.below(60_000)),
                12 => FaultKind::OneWay(b, a, draws.below(90_000)),
                13 => FaultKind::Flap(a, b, draws.below(5000), 1 + draws.below(10) as u32),
                14 => FaultKind::Partition(random_side(b, &mut draws), draws.below(90_000)),
                15 => FaultKind::Spread(a, b, random_spread(&mut draws)),
                16 => FaultKind::Bandwidth(a, b, 20 + draws.below(200) as u32),
                17 => FaultKind::Sleep(b, draws.below(90_000)),
                18 => FaultKind::ClockStep(b, draws.below(172_800_000).cast_signed() - 86_400_000),
                19 => FaultKind::ClockDrift(b, draws.below(1001) as i32 - 500),
                20 => FaultKind::Slow(provider, 2 + draws.below(60) as u32),
                21 => FaultKind::Unpublish(provider),
                22 => FaultKind::Sleep(a, draws.below(28_800_000)),
                23 => FaultKind::ShutDown(provider),
                24 => FaultKind::Ban(a, if b == a { provider } else { b }),
                _ => FaultKind::Cancel(draws.below(jobs) as usize),
            };
            faults.push(Fault { at: draws.below(CALM_AT), what });
        }
    }
    faults
}

fn random_dial(draws: &mut Draws) -> Dial {
    use haggle_core::machine::StreamFailure;
    match draws.below(4) {
        0 => Dial::Refused(StreamFailure::Unreachable),
        1 => Dial::Refused([StreamFailure::Refused, StreamFailure::Unsupported][draws.below(2) as usize]),
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
    let nobodies = 1 + draws.below(30) as u32;
    [
        Lookup::Partial(1),
        Lookup::Empty,
        Lookup::TimesOut,
        Lookup::Silent,
        Lookup::NoSource,
        Lookup::Poisoned(nobodies),
        Lookup::Eclipsed(nobodies),
    ][draws.below(7) as usize]
}

fn random_spread(draws: &mut Draws) -> Spread {
    [Spread::Even, Spread::Exponential, Spread::HeavyTail, Spread::Bimodal, Spread::Bursts][draws.below(5) as usize]
}

fn random_side(node: NodeId, draws: &mut Draws) -> Side {
    let (region, half) = (draws.below(u64::from(REGIONS)) as u8, draws.below(256) as u8);
    [Side::Node(node), Side::Region(region), Side::Half(half)][draws.below(3) as usize]
}
