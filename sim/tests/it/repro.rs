//! A failure can be run again, kept and cut down.

use std::time::{Duration, Instant};

use haggle_sim::{
    Draws, Fault, FaultKind, NodeId, Plan, Purpose, Rule, Stream, Trouble,
    log::{self, Entry},
    plan::NodePlan,
    repro,
    shrink::shrink,
};

#[test]
fn a_plan_survives_being_written_down() {
    for seed in 0..200 {
        let plan = Plan::draw(seed);
        let text = plan.to_text();
        assert_eq!(Plan::parse(&text).unwrap_or_else(|error| panic!("seed {seed}: {error}\n{text}")), plan);
    }
}

/// A seed's world under 60 faults, one of which makes an engine write what it should not.
fn planted(seed: u64) -> Plan {
    let mut plan = Plan::draw(seed);
    let mut draws = Draws::new(seed, Stream::new(9, 9, Purpose::Fault));
    let providers = plan.nodes.iter().filter(|node| matches!(node, NodePlan::Provider(_))).count() as u64;
    let others = (1..).flat_map(|more| Plan::draw(seed + 1000 * more).faults);
    let fits = |fault: &Fault| {
        let known = |node: &NodeId| (node.0 as usize) < plan.nodes.len() - 1;
        // A fault that was drawn for a provider is for one here too.
        let sells = |node: &NodeId| u64::from(node.0) < providers;
        match fault.what {
            FaultKind::Cancel(nth) => nth < plan.jobs.len(),
            FaultKind::Engine(node, _) | FaultKind::Price(node, ..) | FaultKind::Drain(node, _) => sells(&node),
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

#[test]
fn a_line_names_a_world_and_says_when_it_draws_another() {
    for seed in [0, 7, u64::MAX] {
        assert_eq!(repro::seed_plan(&repro::line(seed)).unwrap(), Plan::draw(seed));
        assert_eq!(repro::seed_plan(&seed.to_string()).unwrap(), Plan::draw(seed));
    }
    for wrong in ["v1:7:00000000", "v2:7:00000000", "v1:x:00000000", "nonsense", "v1:7"] {
        assert!(repro::seed_plan(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn a_story_ends_with_what_broke_the_rule_and_a_kept_world_runs_alike() {
    // Byte by byte, the award would be too long ago to be told.
    let whole = |plan: &Plan| plan.link.split == 0 && plan.link.rate == 0;
    let plan = (0..).map(planted).find(|plan| whole(plan) && broken(plan) == Some(Rule::Text)).unwrap();
    let kept = Plan::parse(&plan.to_text()).unwrap();
    assert_eq!(kept.run(), plan.run());
    let story = repro::story(&kept).unwrap();
    let first = &plan.run().broken[0];
    assert!(story.starts_with(&format!("BROKEN {first}\n  job {}\n", first.job.unwrap())), "{story}");
    assert!(story.lines().last().unwrap().contains("stream:token"), "{story}");
    assert!(story.lines().count() <= 32 && story.contains("Award"), "{story}");
    let test = repro::as_test(&kept, first);
    assert!(
        test.contains("fn text_")
            && Plan::parse(test.split("r#\"").nth(1).unwrap().split("\"#").next().unwrap()).unwrap() == kept
    );
}

/// Randomness is keyed: without a fault everything goes as before, up to the moment when the fault would have struck.
#[test]
fn without_a_fault_two_runs_part_where_it_struck() {
    let (mut parted, mut equal) = (0, 0);
    for seed in 0..60 {
        let plan = Plan::draw(seed);
        let entries = |plan: &Plan| {
            let mut world = plan.world();
            world.keep_log();
            plan.finish(&mut world);
            world.log()
        };
        let whole = entries(&plan);
        for index in 0..plan.faults.len().min(4) {
            let mut less = plan.clone();
            let removed = less.faults.remove(index);
            let rest = entries(&less);
            // The entries that tell of faults differ for sure; what counts is what they do. Whose a stream was is known
            // by an award that may come after the fault only.
            let effects = |entries: &[Entry]| {
                let effects = entries.iter().filter(|entry| entry.does != "fault");
                effects.map(|entry| Entry { job: None, ..entry.clone() }).collect::<Vec<_>>()
            };
            let (whole, rest) = (effects(&whole), effects(&rest));
            match log::diverge(&whole, &rest) {
                None => equal += 1,
                Some(at) => {
                    parted += 1;
                    let first =
                        [whole.get(at), rest.get(at)].into_iter().flatten().map(|entry| entry.at).min().unwrap();
                    assert!(
                        first >= removed.at,
                        "seed {seed}: {removed:?} struck, but at {first} ms all was different"
                    );
                }
            }
        }
    }
    assert!(parted > 30 && equal > 10, "{parted} parted, {equal} equal");
}

/// Worlds that broke a rule once: kept, and run first.
#[test]
fn what_was_mended_stays_mended() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/regressions");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort_unstable();
    assert!(!files.is_empty());
    for file in files {
        let plan = Plan::parse(&std::fs::read_to_string(&file).unwrap()).unwrap();
        plan.run().verdict().unwrap_or_else(|broken| panic!("{}: {broken}", file.display()));
    }
}
