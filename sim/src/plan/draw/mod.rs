//! The generator: a seed draws nodes, jobs, adversaries and a subset of faults; then the network calms down, and what can be
//! served has to be served. What is drawn is a [`Plan`]: from there on the generator has no say.

mod faults;
mod features;

use haggle_core::{
    Limits,
    spec::{Failover, Haggle},
    time::Millis,
    wire::message::EndReason,
};

use super::{CheatPlan, DrawnPrompt, JobPlan, NodePlan, PestPlan, Plan, PromptPlan, ProviderPlan, RequesterPlan};
use crate::{
    EngineScript, Fault, FaultKind, LinkConfig, NodeId, Pace, Spread, Trouble,
    adversary::{CHEATS, PESTS, Pest},
    dice::{Draws, Purpose, Stream},
    net::Dial,
};

/// When a seed's faults end, in ms.
const CALM_AT: u64 = 60_000;
/// When all come at once, if they do, in ms; and into which part of the time.
const RUSH_AT: u64 = 15_000;
const RUSH_IN: u64 = 30;
/// So long after the calm, or after the last sleeper's waking, everything that began before is over, in ms: then a last
/// job has to be served.
const PROBE_AFTER: u64 = 1_500_000;

impl Plan {
    /// The random world of a seed.
    #[must_use]
    pub fn draw(seed: u64) -> Self {
        draw(seed, true)
    }

    /// The same without faults and hostile peers.
    #[must_use]
    pub(crate) fn draw_calm(seed: u64) -> Self {
        draw(seed, false)
    }
}

/// Who takes part in a random world.
struct Cast {
    providers: Vec<NodeId>,
    requesters: Vec<NodeId>,
    hostile: Vec<NodeId>,
    /// Submits the last job, which has to be served.
    probing: NodeId,
}

fn draw(seed: u64, with_hostile: bool) -> Plan {
    let mut shape = Draws::new(seed, Stream::new(0, 0, Purpose::Shape));
    let mut plan = Plan { seed, calm_at: Some(CALM_AT), max_events: 2_000_000, ..Plan::default() };
    plan.echo_close = shape.chance(1, 2);
    plan.regions = with_hostile && shape.chance(1, 4);
    plan.lookup_delay = 10 + shape.below(800);
    plan.link = link(&mut shape, with_hostile);
    let cast = cast(&mut plan, &mut shape, with_hostile);
    let mut jobs = Draws::new(seed, Stream::new(0, 0, Purpose::Job));
    for _ in 0..=jobs.below(8) {
        let node = cast.requesters[jobs.below(cast.requesters.len() as u64) as usize];
        let at = jobs.below(CALM_AT);
        let strangers = cast.providers.iter().chain(&cast.hostile).copied();
        let exclude: Vec<NodeId> = strangers.filter(|_| jobs.chance(1, 12)).collect();
        plan.jobs.push(JobPlan { at, node, exclude, ..job(&mut jobs) });
    }
    if with_hostile {
        plan.faults = faults::faults(seed, &cast, plan.jobs.len() as u64);
        plan.faults.extend(faults::crashes(seed, &cast));
        turn_knobs(&mut plan, cast.probing);
        turn_patience(&mut plan, cast.probing);
    }
    features::features(&mut plan, &cast, with_hostile);
    plan.jobs.push(JobPlan {
        at: all_awake(&plan.faults) + PROBE_AFTER,
        node: cast.probing,
        prompt: PromptPlan::Text("Is anybody still there after all of this?".into()),
        max_tokens: 20,
        budget: Some(u64::MAX),
        exclude: cast.hostile,
        must_finish: true,
        ..JobPlan::default()
    });
    plan
}

fn link(shape: &mut Draws, with_hostile: bool) -> LinkConfig {
    LinkConfig {
        delay: 1 + shape.below(60),
        jitter: shape.below(30),
        spread: if with_hostile { faults::spread(shape) } else { Spread::Even },
        rate: if with_hostile && shape.chance(1, 4) { 50 + shape.below(1000) as u32 } else { 0 },
        split: [0, 0, 0, 1, 7, 100][shape.below(6) as usize],
        dial: Dial::Answers,
    }
}

fn cast(plan: &mut Plan, shape: &mut Draws, with_hostile: bool) -> Cast {
    let mut add = |node: NodePlan| {
        plan.nodes.push(node);
        NodeId(plan.nodes.len() as u32 - 1)
    };
    let providers: Vec<NodeId> =
        (0..=shape.below(5)).map(|_| add(NodePlan::Provider(provider(shape, with_hostile)))).collect();
    let requesters: Vec<NodeId> =
        (0..=shape.below(3)).map(|_| add(NodePlan::Requester(requester(shape, with_hostile)))).collect();
    let mut hostile = Vec::new();
    for _ in 0..if with_hostile { shape.below(4).saturating_sub(1) } else { 0 } {
        let how = CHEATS[shape.below(CHEATS.len() as u64) as usize];
        let (price_in, price_out) = (shape.below(1000), shape.below(1000));
        hostile.push(add(NodePlan::Cheat(CheatPlan { how, price_in, price_out })));
    }
    if with_hostile && shape.chance(1, 4) {
        let how = PESTS[shape.below(PESTS.len() as u64) as usize];
        let target = providers[shape.below(providers.len() as u64) as usize];
        let streams = 1 + shape.below(if how == Pest::Silent { 40 } else { 6 }) as u32;
        add(NodePlan::Pest(PestPlan { how, target, streams }));
    }
    let probing = add(NodePlan::Requester(RequesterPlan::default()));
    Cast { providers, requesters, hostile, probing }
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
        ..EngineScript::default()
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
            // A model that is not in memory.
            NodePlan::Provider(provider) if knobs.chance(1, 8) => provider.engine.load = 1_000 + knobs.below(100_000),
            _ => {}
        }
    }
    for job in plan.jobs.iter_mut().filter(|_| is_rush) {
        job.at = RUSH_AT + job.at / RUSH_IN;
    }
}

/// How long some requesters wait for a first token: often not as long as a model takes to load.
fn turn_patience(plan: &mut Plan, probing: NodeId) {
    let mut knobs = Draws::new(plan.seed, Stream::new(0, 1, Purpose::Knob));
    for node in &mut plan.nodes[..probing.0 as usize] {
        if let NodePlan::Requester(requester) = node
            && knobs.chance(1, 3)
        {
            requester.policy.work_gap = Millis(200 + knobs.below(20_000));
            requester.policy.first_token = Millis(1_000 + knobs.below(60_000));
        }
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
        [Failover::Continue, Failover::ContinueOrRestart, Failover::Restart, Failover::Never][draws.below(4) as usize];
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
