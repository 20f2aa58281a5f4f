//! Random worlds.

use std::collections::BTreeMap;

use haggle_core::{Limits, Policy, spec::Haggle};
use haggle_sim::{
    Draws, Fault, FaultKind, LinkConfig, ProviderConfig, Purpose, RequesterConfig, Schedule, Stream, World,
    adversary::{CHEATS, cheat},
    job, swarm,
};

use crate::MODEL;

#[test]
fn two_thousand_seeds_keep_every_rule() {
    let reports: Vec<_> = std::thread::scope(|scope| {
        let halves: Vec<_> = [0, 1000]
            .into_iter()
            .map(|from| {
                scope.spawn(move || (from..from + 1000).map(|seed| (seed, swarm::run(seed))).collect::<Vec<_>>())
            })
            .collect();
        halves.into_iter().flat_map(|half| half.join().unwrap()).collect()
    });
    let (mut failed, mut faults, mut finished) = (BTreeMap::new(), BTreeMap::new(), 0);
    for (seed, report) in reports {
        report.verdict().unwrap_or_else(|broken| panic!("seed {seed}: {broken}"));
        finished += report.finished;
        report.failed.into_iter().for_each(|(code, count)| *failed.entry(code).or_insert(0) += count);
        report.faults.into_iter().for_each(|(name, count)| *faults.entry(name).or_insert(0) += count);
    }
    // A swarm that does not cover something proves nothing of it.
    assert!(finished > 4000, "{finished}");
    for code in ["cancelled", "deadline", "nobody_found", "declined", "over_budget", "interrupted"] {
        assert!(failed.get(code).is_some_and(|count| *count > 20), "{code}: {failed:?}");
    }
    let names = ["cut", "half-cut", "stall", "dial", "delay", "split", "kill", "restart", "engine", "lookup", "price"];
    for name in names {
        assert!(faults.get(name).is_some_and(|count| *count > 100), "{name}: {faults:?}");
    }
}

#[test]
fn without_faults_nothing_is_wasted() {
    for seed in 0..300 {
        let report = swarm::run_calm(seed);
        report.verdict().unwrap_or_else(|broken| panic!("seed {seed}: {broken}"));
    }
}

/// [M4] where money is short: one account, many jobs, cheats and cuts, prices from nothing to everything.
#[test]
fn no_order_of_events_makes_anybody_owe_more_than_the_budget() {
    for seed in 0..300 {
        let mut draws = Draws::new(seed, Stream::new(0, 0, Purpose::Shape));
        let mut world = World::new(seed);
        world.config.default_link = LinkConfig { delay: 3, jitter: draws.below(50), ..LinkConfig::default() };
        let mut nodes = Vec::new();
        for _ in 0..3 {
            let (price_in, price_out) = (draws.below(3_000_000), draws.below(4_000_000));
            let mut config = ProviderConfig::new(MODEL, price_in, price_out).slots(3);
            config.service.models[0].floor_permille = 500;
            nodes.push(world.add_provider(config));
            let how = CHEATS[draws.below(CHEATS.len() as u64) as usize];
            let price = if draws.chance(1, 5) { u64::MAX } else { draws.below(3_000_000) };
            nodes.push(world.add_script(&[MODEL], cheat(MODEL, draws.below(1_000_000), price, how)));
        }
        let account = draws.below(400);
        let me = world.add_requester(RequesterConfig {
            policy: Policy::default(),
            limits: Limits { window_tokens: 1 + draws.below(40) as u32, ..Limits::default() },
            account_budget: Some(account),
            ..RequesterConfig::default()
        });
        for nth in 0..8 {
            let mut spec =
                job(MODEL, &format!("Prompt number {nth} of this world."), 1 + draws.below(60), draws.below(150));
            spec.haggle = [Haggle::No, Haggle::Offers, Haggle::Bid(600)][draws.below(3) as usize];
            world.submit_at(draws.below(20_000), me, spec);
        }
        let faults = (0..draws.below(12)).map(|_| {
            let node = nodes[draws.below(nodes.len() as u64) as usize];
            let what = match draws.below(5) {
                0 => FaultKind::Cut(me, node),
                1 => FaultKind::Stall(me, node, draws.below(40_000)),
                2 => FaultKind::Price(node, draws.below(2_000_000), draws.below(9_000_000)),
                3 => FaultKind::Kill(node, Some(draws.below(100))),
                _ => FaultKind::Cancel(draws.below(8) as usize),
            };
            Fault { at: draws.below(20_000), what }
        });
        let faults = faults.collect();
        world.apply(&Schedule { faults });
        // The oracle checks the budgets at every event; here they are checked once more, in the end.
        world.run_to_end();
        let report = world.report();
        report.verdict().unwrap_or_else(|broken| panic!("seed {seed}: {broken}"));
        assert!(report.owed <= u128::from(account), "seed {seed}: {} of {account}", report.owed);
        assert_eq!(world.requester(me).account().owed(), report.owed, "seed {seed}");
    }
}
