//! A failure can be run again, kept and cut down.

use std::time::{Duration, Instant};

use haggle_sim::{
    Draws, Fault, FaultKind, NodeId, Plan, Purpose, Rule, Stream, Trouble, plan::NodePlan, shrink::shrink, swarm,
};

#[test]
fn a_plan_survives_being_written_down() {
    for seed in 0..200 {
        let plan = swarm::plan(seed);
        let text = plan.to_text();
        assert_eq!(Plan::parse(&text).unwrap_or_else(|error| panic!("seed {seed}: {error}\n{text}")), plan);
    }
}

/// A seed's world under 60 faults, one of which makes an engine write what it should not.
fn planted(seed: u64) -> Plan {
    let mut plan = swarm::plan(seed);
    let mut draws = Draws::new(seed, Stream::new(9, 9, Purpose::Fault));
    let providers = plan.nodes.iter().filter(|node| matches!(node, NodePlan::Provider(_))).count() as u64;
    let others = (1..).flat_map(|more| swarm::plan(seed + 1000 * more).faults);
    let fits = |fault: &Fault| {
        let known = |node: &NodeId| (node.0 as usize) < plan.nodes.len() - 1;
        // A fault that was drawn for a provider is for one here too.
        let sells = |node: &NodeId| u64::from(node.0) < providers;
        match fault.what {
            FaultKind::Cancel(nth) => nth < plan.jobs.len(),
            FaultKind::Engine(node, _) | FaultKind::Price(node, ..) | FaultKind::Drain(node) => sells(&node),
            what => what.nodes().iter().all(known),
        }
    };
    let noise: Vec<Fault> = others.filter(fits).take(59 - plan.faults.len()).collect();
    plan.faults.extend(noise);
    let plant = FaultKind::Engine(NodeId(draws.below(providers) as u32), Some((draws.below(4), Trouble::Misspell)));
    let at = draws.below(10_000);
    plan.faults.insert(draws.below(59) as usize, Fault { at, what: plant });
    plan
}

#[test]
fn a_planted_failure_under_sixty_faults_shrinks_to_almost_nothing() {
    let mut sizes = Vec::new();
    for plan in (0..).map(planted).filter(|plan| broken(plan) == Some(Rule::Text)).take(8) {
        assert_eq!(plan.faults.len(), 60);
        let start = Instant::now();
        let shrunk = shrink(&plan, Duration::from_secs(20)).unwrap();
        let took = start.elapsed();
        assert_eq!((shrunk.rule, broken(&shrunk.plan)), (Rule::Text, Some(Rule::Text)));
        let nodes = shrunk.plan.nodes.iter().filter(|node| **node != NodePlan::Absent).count();
        println!(
            "{} faults, {nodes} nodes, {} jobs, {} runs, {took:?}",
            shrunk.plan.faults.len(),
            shrunk.plan.jobs.len(),
            shrunk.runs
        );
        sizes.push((shrunk.plan.faults.len(), nodes, shrunk.runs));
    }
    let median = |mut of: Vec<usize>| {
        of.sort_unstable();
        of[of.len() / 2]
    };
    assert!(median(sizes.iter().map(|size| size.0).collect()) <= 3, "{sizes:?}");
    assert!(median(sizes.iter().map(|size| size.1).collect()) <= 3, "{sizes:?}");
    assert!(sizes.iter().all(|size| size.2 < 1000), "{sizes:?}");
}

fn broken(plan: &Plan) -> Option<Rule> {
    plan.run().broken.first().map(|broken| broken.rule)
}
