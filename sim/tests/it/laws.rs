//! Laws of the machines: determinism, and that the time of draining decides nothing.

use std::hash::{DefaultHasher, Hash, Hasher};

use haggle_sim::{Drain, Fault, FaultKind, LinkConfig, Plan, ProviderConfig, RequesterConfig, Schedule, World, swarm};

use crate::{MODEL, cheap, pair, spec};

/// Outcomes of a seed's world: endings and texts, hashed for a short message, and final states.
fn outcome(seed: u64, drain: Drain) -> (u64, [u8; 32]) {
    let mut plan = Plan::draw(seed);
    plan.drain = drain;
    // A node stores its state when it is told something, which is when outputs are drained: what it comes back with differs.
    plan.faults.retain(|fault| !matches!(fault.what, FaultKind::Crash(..)));
    let mut world = plan.world();
    plan.finish(&mut world);
    let report = world.report();
    report.verdict().unwrap_or_else(|broken| panic!("seed {seed}, {drain:?}: {broken}"));
    // When a machine hears of what it knows already may differ by an instant; digests are relative to one and the same.
    world.run_until(1_000_000_000);
    let mut hash = DefaultHasher::new();
    for (id, job) in world.jobs() {
        (id, job.submitted, &job.text, format!("{:?}", job.ending)).hash(&mut hash);
    }
    (hash.finish(), world.digest())
}

#[test]
fn when_outputs_are_drained_changes_no_outcome() {
    std::thread::scope(|scope| {
        for half in [0, 500] {
            scope.spawn(move || {
                for seed in half..half + 500 {
                    let at_once = outcome(seed, Drain::AtOnce);
                    let other = if seed % 2 == 0 { Drain::Late } else { Drain::Batches(1 + (seed % 5) as u32) };
                    assert_eq!(outcome(seed, other), at_once, "seed {seed}, {other:?}");
                }
            });
        }
    });
}

#[test]
fn the_same_seed_runs_the_same_way() {
    for seed in 0..100 {
        let run = || {
            let mut world = Plan::draw(seed).world();
            world.run_to_end();
            (world.trace().hash(), world.trace().records(), world.digest())
        };
        assert_eq!(run(), run(), "seed {seed}");
    }
    let hash = |seed| swarm::run(seed).trace;
    assert_ne!(hash(1), hash(2));
}

#[test]
fn a_fork_goes_on_as_the_original_does() {
    for seed in 0..20 {
        let mut world = Plan::draw(seed).world();
        for _ in 0..150 {
            world.step();
        }
        let mut fork = world.clone();
        world.run_to_end();
        fork.run_to_end();
        assert_eq!((fork.report(), fork.digest()), (world.report(), world.digest()));
    }
}

#[test]
fn a_fault_elsewhere_shifts_no_draw() {
    // Two pairs that have nothing to do with each other, on links with jitter and cuts.
    let run = |faults: Vec<FaultKind>| {
        let mut world = World::new(77);
        world.config.default_link = LinkConfig { delay: 5, jitter: 40, split: 9, ..LinkConfig::default() };
        let here = world.add_provider(ProviderConfig::new("here", 0, 1_000_000));
        let there = world.add_provider(ProviderConfig::new("there", 0, 1_000_000));
        let me = world.add_requester(RequesterConfig::default());
        let other = world.add_requester(RequesterConfig::default());
        let faults = faults.into_iter().map(|what| Fault { at: 150, what }).collect();
        world.apply(&Schedule { faults });
        let mine = world.submit(me, haggle_sim::job("here", "A prompt that is mine alone.", 30, 1000)).unwrap();
        world.submit(other, haggle_sim::job("there", "A prompt of somebody else.", 30, 1000)).unwrap();
        world.run_to_end();
        let job = world.job(mine);
        assert_eq!(job.awarded(), [here.peer()]);
        let times: Vec<u64> = job.events.iter().map(|(at, _)| *at).collect();
        (times, job.first_token, world.trace().hash(), there)
    };
    let calm = run(Vec::new());
    let there = calm.3;
    let other = haggle_sim::NodeId(3);
    let faults = [
        FaultKind::Cut(there, other),
        FaultKind::Delay(there, other, 70, 70),
        FaultKind::Kill(there, Some(3)),
        FaultKind::Split(there, other, 1),
    ];
    for fault in faults {
        let faulty = run(vec![fault]);
        assert_eq!((&faulty.0, faulty.1), (&calm.0, calm.1), "{fault:?}");
        assert_ne!(faulty.2, calm.2, "{fault:?} does something");
    }
}

#[test]
fn an_idle_hour_costs_nothing() {
    let (mut world, _, me) = pair(5, cheap());
    world.submit(me, spec()).unwrap();
    world.run_to_end();
    let events = world.report().events;
    world.run_until(world.now() + 3_600_000);
    assert_eq!(world.report().events, events);
    let _later = world.submit_at(world.now() + 3_600_000, me, haggle_sim::job(MODEL, "Later.", 5, 1000));
    world.run_to_end();
    assert!(world.report().events < 4 * events);
}
