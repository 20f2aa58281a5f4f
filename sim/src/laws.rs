//! Worlds for laws that a mixed one can not show: who is equal gets a fair share (L3), and what travels one way only keeps
//! nobody busy for nothing (L4).

use crate::{
    EngineScript, Fault, FaultKind, LinkConfig, NodeId, Plan,
    dice::{Draws, Purpose, Stream},
    plan::{JobPlan, NodePlan, ProviderPlan, RequesterPlan},
};

/// Requesters for each of the equal providers. Half of a fair share is five standard deviations away.
const SHARE: u64 = 100;
/// Between two of these jobs, in ms: each finds everybody free.
const APART: u64 = 400;
/// Longer than any job takes, in ms.
const FOR_GOOD: u64 = 1_200_000;
/// Streams that a job may cost for each provider: described, asked, awarded and resumed at most a few times each.
const DIALS: u64 = 16;

/// Equal providers, and many requesters of one job each. One that was served well comes back to whom it knows: equal
/// shares are what those get who know nobody yet.
#[must_use]
pub fn fair(seed: u64) -> Plan {
    let mut draws = Draws::new(seed, Stream::new(0, 0, Purpose::Law));
    let eta = draws.below(200);
    let provider = ProviderPlan {
        price_in: draws.below(500_000),
        price_out: draws.below(500_000),
        slots: 2,
        eta,
        engine: EngineScript { prefill: eta, token: 1, piece: 4, length: 4, ..EngineScript::default() },
        ..ProviderPlan::default()
    };
    let (count, time_value) = (2 + draws.below(3), draws.below(1000));
    let link = LinkConfig { delay: 1 + draws.below(10), ..LinkConfig::default() };
    let mut plan = Plan { seed, link, fair: true, max_events: 2_000_000, ..Plan::default() };
    plan.nodes.extend((0..count).map(|_| NodePlan::Provider(provider.clone())));
    for nth in 0..count * SHARE {
        let (at, node) = (nth * APART, NodeId(plan.nodes.len() as u32));
        plan.nodes.push(NodePlan::Requester(RequesterPlan::default()));
        let budget = Some(u64::MAX);
        plan.jobs.push(JobPlan {
            at,
            node,
            max_tokens: 4,
            budget,
            time_value,
            must_finish: true,
            ..JobPlan::default()
        });
    }
    plan
}

/// One way between a requester and a provider is cut for good; where there is another provider, that one serves.
#[must_use]
pub fn one_way(seed: u64) -> Plan {
    let mut draws = Draws::new(seed, Stream::new(1, 0, Purpose::Law));
    let link = LinkConfig { delay: 1 + draws.below(60), jitter: draws.below(30), ..LinkConfig::default() };
    let (providers, jobs) = (1 + draws.below(3), 1 + draws.below(3));
    let mut plan = Plan { seed, link, max_events: 200_000, ..Plan::default() };
    plan.echo_close = draws.chance(1, 2);
    for _ in 0..providers {
        let engine = EngineScript { token: draws.below(50), length: 100, ..EngineScript::default() };
        plan.nodes.push(NodePlan::Provider(ProviderPlan { engine, slots: 3, ..ProviderPlan::default() }));
    }
    plan.nodes.push(NodePlan::Requester(RequesterPlan::default()));
    let me = NodeId(providers as u32);
    for _ in 0..jobs {
        let (at, max_tokens) = (draws.below(2000), 1 + draws.below(100));
        let (budget, must_finish) = (Some(1_000_000), providers > 1);
        plan.jobs.push(JobPlan { at, node: me, max_tokens, budget, must_finish, ..JobPlan::default() });
    }
    let (from, to) = if draws.chance(1, 2) { (NodeId(0), me) } else { (me, NodeId(0)) };
    plan.faults.push(Fault { at: draws.below(4000), what: FaultKind::OneWay(from, to, FOR_GOOD) });
    plan.most_dials = Some(DIALS * providers * jobs);
    plan
}
