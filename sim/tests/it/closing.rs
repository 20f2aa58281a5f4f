//! A provider that leaves: what runs is finished, what is left is ended typed, and nobody is blamed.

use haggle_core::{
    Instant, Machine, Millis, Output, Provider, ProviderEvent,
    event::{Failure, Interrupted, PassedOver, ServedReason},
    wire::message::{DeclineReason, EndReason},
};
use haggle_sim::{Fault, FaultKind, NodeId, ProviderConfig, RequesterConfig, Schedule, World};

use super::{MODEL, cheap, engine, is_answered, pair, passed_over, run, spec};

fn drain(world: &mut World, provider: NodeId, patience: u64) -> u64 {
    let at = world.now();
    world.apply(&Schedule { faults: vec![Fault { at, what: FaultKind::Drain(provider, patience) }] });
    at + patience
}

/// A provider that writes without end, and a job whose first tokens have come.
fn busy(seed: u64) -> (World, NodeId, haggle_core::JobId) {
    let endless = ProviderConfig { engine: engine(u64::MAX), ..cheap() };
    let (mut world, provider, me) = pair(seed, endless);
    let id = world.submit(me, haggle_core::JobSpec { max_tokens: 900, ..spec() }).unwrap();
    while world.job(id).tokens < 5 && world.step() {}
    (world, provider, id)
}

fn events(machine: &mut Provider) -> Vec<ProviderEvent> {
    let mut told = Vec::new();
    while let Some(output) = machine.poll_output() {
        if let Output::Event(event) = output {
            told.push(event);
        }
    }
    told
}

#[test]
fn what_runs_is_finished_and_what_comes_is_declined() {
    let mut world = World::new(1);
    let leaving = world.add_provider(cheap());
    let staying = world.add_provider(ProviderConfig::new(MODEL, 100_000, 900_000));
    let me = world.add_requester(RequesterConfig::default());
    let first = world.submit(me, spec()).unwrap();
    while world.job(first).tokens == 0 && world.step() {}
    drain(&mut world, leaving, 600_000);
    let second = world.submit(me, spec()).unwrap();
    world.run_to_end();
    world.report().verdict().unwrap();
    assert!(is_answered(world.job(first)) && is_answered(world.job(second)));
    assert_eq!(world.job(first).awarded(), [leaving.peer()]);
    assert_eq!(world.job(second).awarded().last(), Some(&staying.peer()));
    assert_eq!(passed_over(world.job(second)), [(leaving, PassedOver::Declined(DeclineReason::Draining))]);
    assert!(world.provider(leaving).is_drained() && !world.provider(staying).is_drained());
    let now = Instant::from_millis(world.now());
    assert_eq!(world.requester(me).bans(now), [], "nobody is blamed");
}

#[test]
fn what_is_left_when_time_is_up_ends_typed_at_that_moment() {
    let (mut world, provider, id) = busy(2);
    let due = drain(&mut world, provider, 1_000);
    world.run_until(due - 1);
    assert_eq!(world.provider(provider).unended_jobs(), 1);
    assert!(!world.provider(provider).is_drained());
    world.run_until(due);
    assert_eq!(world.provider(provider).unended_jobs(), 0);
    assert!(world.provider(provider).is_drained());
    let job = run(&mut world, id);
    assert_eq!(job.failure(), Some(Failure::Interrupted(Interrupted::Shutdown)));
}

#[test]
fn said_again_it_can_only_shorten_the_time() {
    let (world, provider, _) = busy(3);
    let now = world.now();
    let mut machine = world.provider(provider).clone();
    let due = |machine: &mut Provider, at| {
        machine.handle_input(Instant::from_millis(at), haggle_core::Input::Timeout);
        machine.unended_jobs() == 0
    };
    machine.drain(Instant::from_millis(now), Millis(5_000));
    machine.drain(Instant::from_millis(now), Millis(9_000));
    machine.drain(Instant::from_millis(now), Millis(u64::MAX));
    assert!(!due(&mut machine.clone(), now + 4_999));
    assert!(due(&mut machine.clone(), now + 5_000));
    machine.drain(Instant::from_millis(now), Millis(700));
    assert!(!due(&mut machine.clone(), now + 699));
    assert!(due(&mut machine.clone(), now + 700));
    machine.drain(Instant::from_millis(now), Millis::ZERO);
    assert_eq!(machine.unended_jobs(), 0, "no time at all is a shutdown");
}

#[test]
fn closing_tells_of_every_job_that_was_accepted() {
    let (world, provider, id) = busy(4);
    let mut machine = world.provider(provider).clone();
    let _ = events(&mut machine);
    machine.close(Instant::from_millis(world.now()));
    let served = |event: &ProviderEvent| match event {
        ProviderEvent::Served { job, attempt, reason, acked, owed, tariff, .. } => {
            assert_eq!(*owed, tariff.owed(*acked));
            Some((*job, *attempt, *reason))
        }
        _ => None,
    };
    let told: Vec<_> = events(&mut machine).iter().filter_map(served).collect();
    assert_eq!(told, [(id, 1, ServedReason::Unacknowledged(EndReason::Shutdown))]);
    assert_eq!((machine.open_jobs(), machine.open_streams(), machine.held_bytes()), (0, 0, 0));
    machine.close(Instant::from_millis(world.now()));
    assert_eq!(events(&mut machine), [], "and once only");
}
