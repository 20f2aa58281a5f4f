//! Nothing is lost when a process dies.

use haggle_core::{
    Event, Instant, JobId, Limits, Millis, Policy, Requester, SnapshotError,
    event::{Failure, Interrupted, PassedOver, TakeOver},
    requester::Stored,
    spec::Failover,
    wire::{Prompt, message::DeclineReason},
};
use haggle_sim::adversary::{Cheat, cheat};
use haggle_sim::{
    Answer, Checkpoint, Fault, FaultKind, LinkConfig, NodeId, ProviderConfig, RequesterConfig, Schedule, World,
};

use crate::{MODEL, PROMPT, cheap, engine, is_answered, pair, passed_over, spec};

fn whole(length: u64) -> String {
    Answer::new(MODEL.as_bytes(), 0, &Prompt::Raw(PROMPT.into()), 0).text(length)
}

/// What the adapter has stored: it writes when a provider is awarded, goes on, or takes over.
fn as_stored(world: &World, me: NodeId, id: JobId, last: &mut (usize, Checkpoint)) {
    let writes = |event: &&(u64, Event<'_>)| {
        matches!(event.1, Event::Awarded { .. } | Event::Resumed { .. } | Event::TakenOver { .. })
    };
    let written = world.job(id).events.iter().filter(writes).count();
    if written > last.0 {
        *last = (written, world.checkpoint(me));
    }
}

fn judged(mut world: World, what: &str) -> World {
    world.run_to_end();
    world.report().verdict().unwrap_or_else(|broken| panic!("{what}: {broken}"));
    world
}

#[test]
fn a_requester_that_dies_at_any_event_loses_and_repeats_nothing() {
    for (piece, away, fresh) in [(1, 0, true), (3, 0, false), (1, 30_000, true), (4, 30_000, false), (2, 7, false)] {
        let (mut world, _, me) = pair(1, cheap().engine(haggle_sim::EngineScript { piece, ..engine(25) }));
        world.config.stores = true;
        world.config.default_link = LinkConfig { delay: 10, jitter: 8, ..LinkConfig::default() };
        let id = world.submit(me, spec()).unwrap();
        let uncut = judged(world.clone(), "uncut");
        let mut stored = (0, world.checkpoint(me));
        let (mut moments, mut resumed) = (0, 0);
        while world.job(id).ending.is_none() {
            let mut fork = world.clone();
            let checkpoint = if fresh { fork.checkpoint(me) } else { stored.1.clone() };
            fork.crash(me);
            fork.run_until(fork.now() + away);
            fork.recover(me, &checkpoint).unwrap_or_else(|error| panic!("event {moments}: {error}"));
            let fork = judged(fork, &format!("event {moments}"));
            let job = fork.job(id);
            assert_eq!((is_answered(job), &job.text), (true, &whole(25)), "event {moments}: {:?}", job.ending);
            if job.count("job:resumed") > 0 {
                let (own, other) =
                    (&job.ending.as_ref().unwrap().1.bill, &uncut.job(id).ending.as_ref().unwrap().1.bill);
                assert_eq!((own.owed, own.tokens, own.lines.len()), (other.owed, other.tokens, 1), "event {moments}");
                resumed += 1;
            }
            moments += 1;
            world.step();
            as_stored(&world, me, id, &mut stored);
        }
        assert!(moments > 30 && resumed > 5, "{resumed} of {moments}");
    }
}

#[test]
fn dying_again_and_again_costs_nothing() {
    let (mut world, _, me) = pair(4, cheap().engine(haggle_sim::EngineScript { token: 20, ..engine(60) }));
    world.config.stores = true;
    let id = world.submit(me, haggle_sim::job(MODEL, PROMPT, 60, 1_000_000)).unwrap();
    let mut stored = (0, world.checkpoint(me));
    let mut steps = 0;
    while world.job(id).ending.is_none() {
        if steps % 23 == 22 && stored.0 > 0 {
            world.crash(me);
            world.recover(me, &stored.1).unwrap();
            stored.1 = world.checkpoint(me);
        }
        steps += 1;
        world.step();
        as_stored(&world, me, id, &mut stored);
    }
    let world = judged(world, "again and again");
    assert_eq!((is_answered(world.job(id)), &world.job(id).text), (true, &whole(60)), "{:?}", world.job(id).ending);
    assert_eq!(world.job(id).awarded().len(), 1);
}

#[test]
fn every_way_of_failover_goes_on_after_the_requester_died() {
    for (failover, second, seed) in
        [(Failover::Continue, 0, 1), (Failover::Continue, 7, 2), (Failover::Restart, 7, 3), (Failover::Never, 0, 4)]
    {
        let mut world = World::new(seed);
        let first = world.add_provider(cheap().engine(engine(40)));
        let class = haggle_sim::EngineScript { class: second, ..engine(40) };
        world.add_provider(ProviderConfig::new(MODEL, 200_000, 800_000).engine(class));
        let me = world.add_requester(RequesterConfig::default());
        world.config.stores = true;
        let mut spec = haggle_sim::job(MODEL, PROMPT, 40, 1_000_000);
        spec.failover = failover;
        let id = world.submit(me, spec).unwrap();
        while world.job(id).tokens < 11 && world.step() {}
        world.apply(&Schedule { faults: vec![Fault { at: world.now(), what: FaultKind::Kill(first, Some(20)) }] });
        let mut stored = (1, world.checkpoint(me));
        let mut moments = 0;
        while world.job(id).ending.is_none() && world.step() {
            as_stored(&world, me, id, &mut stored);
            moments += 1;
            if moments % 3 > 0 || world.job(id).ending.is_some() {
                continue;
            }
            for checkpoint in [world.checkpoint(me), stored.1.clone()] {
                let mut fork = world.clone();
                fork.crash(me);
                fork.recover(me, &checkpoint).unwrap_or_else(|error| panic!("{failover:?} {moments}: {error}"));
                let fork = judged(fork, &format!("{failover:?} {moments}"));
                let job = fork.job(id);
                match failover {
                    Failover::Never => {
                        let lost = matches!(job.failure(), Some(Failure::Interrupted(Interrupted::Lost)));
                        assert!(lost || fork.job(id).ending.is_none(), "{:?}", job.ending);
                    }
                    _ => assert!(is_answered(job), "{failover:?} {moments}: {:?}", job.ending),
                }
                if failover == Failover::Continue && second == 0 {
                    assert_eq!(job.text, whole(40), "{moments}");
                }
                let restarted = matches!(
                    job.events.iter().rev().find_map(|(_, event)| match event {
                        Event::TakenOver { how, .. } => Some(*how),
                        _ => None,
                    }),
                    Some(TakeOver::Restarted)
                );
                assert!(failover != Failover::Restart || restarted);
            }
        }
        assert!(moments > 10, "{moments}");
    }
}

#[test]
fn a_snapshot_older_than_the_last_streams_is_no_older_than_the_provider() {
    let (mut world, provider, me) = pair(7, cheap().engine(haggle_sim::EngineScript { token: 20, ..engine(60) }));
    world.config.stores = true;
    let id = world.submit(me, haggle_sim::job(MODEL, PROMPT, 60, 1_000_000)).unwrap();
    while world.job(id).tokens < 5 && world.step() {}
    let early = world.checkpoint(me);
    // Each resumption has a higher epoch, and the snapshot knows of none.
    for resumed in 1..4 {
        let tokens = world.job(id).tokens;
        let cut = Fault { at: world.now(), what: FaultKind::Cut(provider, me) };
        world.apply(&Schedule { faults: vec![cut] });
        while (world.job(id).count("job:resumed") < resumed || world.job(id).tokens == tokens) && world.step() {}
    }
    world.crash(me);
    world.recover(me, &early).unwrap();
    let world = judged(world, "an early snapshot");
    assert_eq!((is_answered(world.job(id)), &world.job(id).text), (true, &whole(60)), "{:?}", world.job(id).ending);
    assert_eq!(world.job(id).awarded().len(), 1);
}

#[test]
fn an_award_that_no_snapshot_knows_of_does_not_stand_in_the_way_of_the_next() {
    let (mut world, provider, me) = pair(8, cheap().slots(2).engine(engine(12)));
    world.config.stores = true;
    let id = world.submit(me, spec()).unwrap();
    let mut before = world.checkpoint(me);
    while world.provider(provider).open_jobs() == 0 && world.step() {
        if world.job(id).awarded().is_empty() {
            before = world.checkpoint(me);
        }
    }
    assert_eq!(world.job(id).tokens, 0);
    world.crash(me);
    world.recover(me, &before).unwrap();
    // What the provider computes of the first award nobody can cancel: no snapshot knows that it was made.
    world.run_to_end();
    assert_eq!((is_answered(world.job(id)), &world.job(id).text), (true, &whole(12)), "{:?}", world.job(id).ending);
}

#[test]
fn an_ending_that_was_not_stored_is_told_again() {
    let (mut world, _, me) = pair(5, cheap().engine(engine(12)));
    world.config.stores = true;
    // Nothing was awarded yet: from here on every ending is kept.
    let empty = world.checkpoint(me);
    world.crash(me);
    world.recover(me, &empty).unwrap();
    let id = world.submit(me, spec()).unwrap();
    let mut before = world.clone();
    while world.job(id).ending.is_none() && world.step() {}
    let ended = world.checkpoint(me);
    while before.job(id).tokens < 12 && before.step() {}
    // The application had all but the ending, or nothing.
    let (now, stored) = (Instant::from_millis(world.now()), []);
    let bytes = ended.requester.unwrap();
    let restore = |stored: &[Stored<'_>]| {
        Requester::restore((now, Millis::ZERO), &bytes, stored, Policy::default(), Limits::default(), [1; 32])
    };
    let mut machine = restore(&stored).unwrap();
    let mut told = Vec::new();
    let mut text = String::new();
    while let Some(output) = haggle_core::Machine::poll_output(&mut machine) {
        if let haggle_core::Output::Event(event) = output {
            told.push(event.name());
            if let Event::Tokens { text: more, .. } = event {
                text.push_str(more);
            }
        }
    }
    assert_eq!((told, text), (vec!["stream:token", "job:ended"], whole(12)));
    assert_eq!(machine.jobs().collect::<Vec<_>>(), [id]);
    machine.concluded(id);
    assert_eq!(machine.jobs().count(), 0);
}

#[test]
fn torn_and_changed_snapshots_are_told_as_such() {
    let (mut world, provider, me) = pair(2, cheap().engine(engine(12)));
    world.config.stores = true;
    let id = world.submit(me, spec()).unwrap();
    while world.job(id).tokens < 6 && world.step() {}
    world.crash(me);
    world.crash(provider);
    let checkpoint = {
        let (mut world, provider, me) = pair(2, cheap().engine(engine(12)));
        world.config.stores = true;
        let id = world.submit(me, spec()).unwrap();
        while world.job(id).tokens < 6 && world.step() {}
        (world.checkpoint(me).requester.unwrap(), world.checkpoint(provider).provider.unwrap(), world.now())
    };
    let (bytes, other, at) = checkpoint;
    let restore = |world: &mut World, bytes: &[u8]| {
        world.recover(me, &Checkpoint { at, requester: Some(bytes.to_vec()), provider: None })
    };
    for len in 0..bytes.len() {
        assert_eq!(restore(&mut world, &bytes[..len]), Err(SnapshotError::Torn), "cut at {len}");
    }
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1 << (at % 8);
        let error = restore(&mut world, &changed).unwrap_err();
        let fits = match at {
            0..8 => error == SnapshotError::Foreign,
            8 => error == SnapshotError::Damaged,
            9..13 => matches!(error, SnapshotError::Version { .. }),
            13..21 => error == SnapshotError::Torn,
            _ => error == SnapshotError::Damaged,
        };
        assert!(fits, "byte {at}: {error:?}");
    }
    assert_eq!(restore(&mut world, &other), Err(SnapshotError::Foreign), "a provider's");
    restore(&mut world, &bytes).unwrap();
}

#[test]
fn what_is_stored_of_another_time_is_refused() {
    let (mut world, _, me) = pair(3, cheap().engine(engine(12)));
    world.config.stores = true;
    let id = world.submit(me, spec()).unwrap();
    let early = world.checkpoint(me);
    while world.job(id).tokens < 6 && world.step() {}
    world.step();
    world.crash(me);
    if world.job(id).tokens > 0 {
        // Before the award: nobody can have written what the application holds.
        assert_eq!(world.recover(me, &early), Err(SnapshotError::Disagrees { job: id }));
    }
}

#[test]
fn a_provider_that_comes_back_says_that_the_job_is_gone_and_computes_nothing_twice() {
    let (mut moments, mut conflicts) = (0, 0);
    for seed in 0..4 {
        let mut world = World::new(seed);
        world.config.default_link = LinkConfig { delay: 10, jitter: 8, ..LinkConfig::default() };
        let first = world.add_provider(cheap().engine(engine(12)));
        world.add_provider(ProviderConfig::new(MODEL, 200_000, 800_000).engine(engine(12)));
        let me = world.add_requester(RequesterConfig::default());
        let id = world.submit(me, spec()).unwrap();
        while world.job(id).ending.is_none() {
            let mut fork = world.clone();
            let checkpoint = fork.checkpoint(first);
            let was_open = fork.provider(first).open_jobs();
            fork.crash(first);
            // At once, so that it is asked again; or later, when it was given up.
            fork.run_until(fork.now() + 50 * (moments % 2));
            fork.recover(first, &checkpoint).unwrap();
            let fork = judged(fork, &format!("seed {seed}"));
            let job = fork.job(id);
            assert_eq!((is_answered(job), &job.text), (true, &whole(12)), "{:?}", job.ending);
            let awarded = job.awarded();
            let refused = PassedOver::Declined(DeclineReason::Conflict);
            conflicts += u32::from(passed_over(job).contains(&(first, refused)));
            assert!(
                was_open == 0 || awarded.len() == 2,
                "{awarded:?}: an attempt of {was_open} jobs was computed twice"
            );
            moments += 1;
            world.step();
        }
    }
    assert!(moments > 100 && conflicts > 5, "{conflicts} of {moments}");
}

#[test]
fn scores_and_bans_are_the_same_after_any_time_away() {
    // A provider that writes nonsense is banned.
    let mut world = World::new(9);
    let liar = world.add_script(&[MODEL], cheat(MODEL, 1, 1, Cheat::Repeats));
    let me = world.add_requester(RequesterConfig::default());
    let honest = world.add_provider(cheap().engine(engine(12)));
    for _ in 0..6 {
        let id = world.submit(me, spec()).unwrap();
        while world.job(id).ending.is_none() && world.step() {}
    }
    let checkpoint = world.checkpoint(me);
    let banned = world.requester(me).reliability(Instant::from_millis(world.now()), &liar.peer()).unwrap().banned_for;
    let until = banned.unwrap().0;
    for away in [0, 1, until - 1, until, until + 1, 10 * until, 200_000_000] {
        let mut stayed = world.clone();
        stayed.run_until(world.now() + away);
        let mut gone = world.clone();
        gone.crash(me);
        gone.run_until(world.now() + away);
        gone.recover(me, &checkpoint).unwrap();
        let now = Instant::from_millis(gone.now());
        for peer in [liar.peer(), honest.peer()] {
            let of = |world: &World| world.requester(me).reliability(now, &peer);
            assert_eq!(of(&gone), of(&stayed), "{peer:?} after {away} ms");
        }
        assert_eq!(gone.requester(me).bans(now), stayed.requester(me).bans(now));
    }
}

#[test]
fn crashes_are_plan_data_and_cost_nobody_a_job() {
    let text = r#"
[[nodes]]
kind = "provider"
[[nodes]]
kind = "requester"
[[jobs]]
at = 0
node = 1
budget = 1000000
must_finish = true
[[faults]]
at = 800
what = { crash = [1, 40] }
[[faults]]
at = 900
what = { crash = [1, 500] }
"#;
    let plan = haggle_sim::Plan::parse(text).unwrap();
    assert_eq!(haggle_sim::Plan::parse(&plan.to_text()).unwrap(), plan);
    let report = plan.run();
    report.verdict().unwrap();
    assert_eq!((report.faults.get("crash"), report.finished), (Some(&2), 1));
}

/// What a requester tells, and to how many streams it says something at once.
fn said(machine: &mut Requester) -> (Vec<(&'static str, u64)>, usize) {
    let (mut told, mut opened) = (Vec::new(), 0);
    while let Some(output) = haggle_core::Machine::poll_output(machine) {
        match output {
            haggle_core::Output::Event(Event::Tokens { n, .. }) => told.push(("stream:token", u64::from(n))),
            haggle_core::Output::Event(event) => told.push((event.name(), 0)),
            haggle_core::Output::Open { .. } => opened += 1,
            _ => {}
        }
    }
    (told, opened)
}

#[test]
fn a_provider_whose_answer_is_lost_is_told_so_and_nothing_is_told_that_nobody_holds() {
    for failover in [Failover::Never, Failover::Restart] {
        let (mut world, _, me) = pair(6, cheap().engine(engine(12)));
        // Neither the requester nor its application keeps the text.
        let id = world.submit(me, haggle_core::JobSpec { failover, ..spec() }).unwrap();
        while world.job(id).tokens < 6 && world.step() {}
        let now = Instant::from_millis(world.now());
        let restore = |bytes: &[u8]| {
            Requester::restore((now, Millis::ZERO), bytes, &[], Policy::default(), Limits::default(), [1; 32]).unwrap()
        };
        let mut machine = restore(&world.checkpoint(me).requester.unwrap());
        let (told, opened) = said(&mut machine);
        let ended = if failover == Failover::Never { vec![("job:ended", 0)] } else { Vec::new() };
        assert_eq!((told, opened), (ended.clone(), 1), "{failover:?}: the Cancel");
        // It dies again, before another provider is found.
        let mut again = restore(&machine.snapshot(now));
        assert_eq!(said(&mut again), (ended, 1), "{failover:?}: the Cancel, again");
    }
}
