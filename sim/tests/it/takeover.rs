//! A provider is lost for good: another one goes on.

use haggle_core::{
    Event,
    event::{Failure, Finished, TakeOver},
    spec::Failover,
    wire::Prompt,
};
use haggle_sim::{
    Answer, EngineScript, Fault, FaultKind, Job, NodeId, ProviderConfig, RequesterConfig, Schedule, World, job, owed,
};

use crate::{MODEL, PROMPT, engine, is_answered};

const LENGTH: u64 = 200;

/// Two providers, the cheaper one of class 0, the other of `class`; the cheaper is killed after `k` tokens.
fn killed_after(k: u64, class: u8, failover: Failover) -> (Job, [NodeId; 2]) {
    let mut world = World::new(k);
    let serving =
        |price, class| ProviderConfig::new(MODEL, 100_000, price).engine(EngineScript { class, ..engine(LENGTH) });
    let nodes = [world.add_provider(serving(1_000_000, 0)), world.add_provider(serving(2_000_000, class))];
    let me = world.add_requester(RequesterConfig::default());
    let mut spec = job(MODEL, PROMPT, LENGTH, 1_000_000);
    spec.failover = failover;
    let id = world.submit(me, spec).unwrap();
    while world.job(id).tokens < k && world.step() {}
    let at = world.now();
    world.apply(&Schedule { faults: vec![Fault { at, what: FaultKind::Kill(nodes[0], Some(3)) }] });
    world.run_to_end();
    world.report().verdict().unwrap_or_else(|broken| panic!("after {k}: {broken}"));
    (world.job(id).clone(), nodes)
}

fn text(class: u8) -> String {
    Answer::new(MODEL.as_bytes(), class, &Prompt::Raw(PROMPT.into()), 0).text(LENGTH)
}

fn taken_over(job: &Job) -> Vec<(u64, TakeOver)> {
    let how = |event: &(u64, Event<'_>)| match event.1 {
        Event::TakenOver { seq, how, .. } => Some((seq, how)),
        _ => None,
    };
    job.events.iter().filter_map(how).collect()
}

#[test]
fn an_equal_provider_goes_on_as_if_nothing_had_happened() {
    for k in 1..LENGTH {
        let (job, nodes) = killed_after(k, 0, Failover::Continue);
        assert!(is_answered(&job), "after {k}: {:?}", job.ending);
        assert_eq!(job.text, text(0), "after {k}");
        // A run's first token is no evidence.
        let how = if k == 1 { TakeOver::Spliced } else { TakeOver::Exact };
        assert_eq!(taken_over(&job), [(k, how)], "after {k}");
        let bill = &job.ending.as_ref().unwrap().1.bill;
        let counts: Vec<_> = bill.lines.iter().map(|line| (line.peer, line.tokens)).collect();
        assert_eq!(counts, [(nodes[0].peer(), k), (nodes[1].peer(), LENGTH - k)], "after {k}");
        assert_eq!(bill.owed, bill.lines.iter().map(|line| owed(line.tariff, line.tokens)).sum(), "after {k}");
        assert!(bill.lines[0].reread == 0 && bill.lines[1].reread > 0 || k <= 8, "after {k}: {bill:?}");
    }
}

#[test]
fn another_provider_goes_on_after_an_exact_prefix() {
    for k in (1..LENGTH).step_by(7) {
        let (job, _) = killed_after(k, 1, Failover::Continue);
        assert!(is_answered(&job), "after {k}: {:?}", job.ending);
        assert_eq!(taken_over(&job), [(k, TakeOver::Spliced)], "after {k}");
        let tokens = |class: u8, range: std::ops::Range<u64>| {
            let answer = Answer::new(MODEL.as_bytes(), class, &Prompt::Raw(PROMPT.into()), 0);
            range.map(|index| answer.token(index)).collect::<String>()
        };
        assert_eq!(job.text, tokens(0, 0..k) + &tokens(1, k..LENGTH), "after {k}");
    }
}

#[test]
fn a_restart_begins_anew_and_both_are_owed() {
    for k in (1..LENGTH).step_by(7) {
        let (job, nodes) = killed_after(k, 1, Failover::Restart);
        assert_eq!(taken_over(&job), [(0, TakeOver::Restarted)], "after {k}");
        assert_eq!(job.text, text(1), "after {k}");
        assert!(matches!(job.finished(), Some(Finished::Answer { tokens: LENGTH, .. })));
        let bill = &job.ending.as_ref().unwrap().1.bill;
        let counts: Vec<_> = bill.lines.iter().map(|line| (line.peer, line.tokens)).collect();
        assert_eq!(counts, [(nodes[0].peer(), k), (nodes[1].peer(), LENGTH)], "after {k}");
    }
}

/// The first provider dies after `k` tokens. The second one serves the same, and goes on with what another wrote, or not.
fn killed_before(k: u64, can_continue: bool, failover: Failover) -> Job {
    let mut world = World::new(k);
    let first = world.add_provider(ProviderConfig::new(MODEL, 100_000, 1_000_000).engine(engine(LENGTH)));
    let mut second = ProviderConfig::new(MODEL, 100_000, 2_000_000).engine(engine(LENGTH));
    second.service.models[0].advert.can_continue = can_continue;
    world.add_provider(second);
    let me = world.add_requester(RequesterConfig::default());
    let mut spec = job(MODEL, PROMPT, LENGTH, 1_000_000);
    spec.failover = failover;
    let id = world.submit(me, spec).unwrap();
    while world.job(id).tokens < k && world.step() {}
    let at = world.now();
    world.apply(&Schedule { faults: vec![Fault { at, what: FaultKind::Kill(first, None) }] });
    world.run_to_end();
    world.report().verdict().unwrap_or_else(|broken| panic!("after {k}: {broken}"));
    world.job(id).clone()
}

#[test]
fn where_nobody_can_go_on_another_one_begins_anew_if_it_may() {
    for k in (2..LENGTH).step_by(17) {
        let job = killed_before(k, true, Failover::ContinueOrRestart);
        assert_eq!((taken_over(&job), is_answered(&job)), (vec![(k, TakeOver::Exact)], true), "after {k}");
        let job = killed_before(k, false, Failover::ContinueOrRestart);
        assert_eq!((taken_over(&job), is_answered(&job)), (vec![(0, TakeOver::Restarted)], true), "after {k}");
        assert_eq!(job.text, text(0), "after {k}");
        let job = killed_before(k, false, Failover::Continue);
        assert_eq!((taken_over(&job), job.tokens), (Vec::new(), k), "after {k}");
        assert!(matches!(job.failure(), Some(Failure::Interrupted(_))), "{:?}", job.ending);
    }
}

#[test]
fn who_wants_no_other_provider_gets_none() {
    for k in (1..LENGTH).step_by(31) {
        let (job, nodes) = killed_after(k, 0, Failover::Never);
        assert!(matches!(job.failure(), Some(Failure::Interrupted(_))), "{:?}", job.ending);
        assert_eq!((job.awarded(), job.tokens), (vec![nodes[0].peer()], k));
        assert!(text(0).starts_with(&job.text));
    }
}

#[test]
fn a_restart_gives_back_what_the_abandoned_answer_held() {
    let mut world = World::new(1);
    world.config.stores = true;
    let nodes = [1_000_000, 2_000_000]
        .map(|price| world.add_provider(ProviderConfig::new(MODEL, 100_000, price).engine(engine(LENGTH))));
    let me = world.add_requester(RequesterConfig::default());
    let mut spec = job(MODEL, PROMPT, LENGTH, 1_000_000);
    spec.failover = Failover::Restart;
    let id = world.submit(me, spec).unwrap();
    while world.job(id).tokens < 40 && world.step() {}
    let at = world.now();
    world.apply(&Schedule { faults: vec![Fault { at, what: FaultKind::Kill(nodes[0], Some(3)) }] });
    world.run_to_end();
    world.report().verdict().unwrap();
    assert_eq!(taken_over(world.job(id)), [(0, TakeOver::Restarted)]);
    // Its ending is kept: what it holds is the answer with its ids, and nothing of the abandoned one.
    assert_eq!(world.requester(me).held_bytes(), world.job(id).text.len() as u64 + 4 * LENGTH);
}
