//! Every choice can be asked why, and to ask changes nothing.

use haggle_core::{
    Event, Millis,
    event::{
        ChoiceReason,
        explain::{LeftOut, Step, Verdict, Weighed, Weighing},
    },
    machine::StreamFailure,
    spec::{Choose, Haggle},
};
use haggle_sim::{Dial, Fault, FaultKind, Job, NodeId, Plan, ProviderConfig, RequesterConfig, Schedule, World};

use crate::{MODEL, run, spec};

/// Providers at 10, 20 and 30 micro-units a token, the dearer the faster.
fn three(seed: u64) -> (World, [NodeId; 3], NodeId) {
    let mut world = World::new(seed);
    let provider = |price: u64, eta| ProviderConfig::new(MODEL, 0, price * 1_000_000).eta(eta).slots(8);
    let providers = [(10, 9000), (20, 2000), (30, 100)].map(|(price, eta)| world.add_provider(provider(price, eta)));
    let me = world.add_requester(RequesterConfig::default());
    (world, providers, me)
}

fn weighings(job: &Job) -> Vec<Weighing> {
    let weighing = |(_, event): &(u64, Event<'_>)| match event {
        Event::Weighed { weighing, .. } => Some(weighing.clone()),
        _ => None,
    };
    job.events.iter().filter_map(weighing).collect()
}

fn verdict(weighing: &Weighing, node: NodeId) -> Verdict {
    weighing.candidates.iter().find(|weighed| weighed.peer == node.peer()).unwrap().verdict
}

fn explained(world: &mut World, me: NodeId, change: impl FnOnce(&mut haggle_core::JobSpec)) -> Vec<Weighing> {
    let mut spec = spec();
    spec.explain = true;
    change(&mut spec);
    let id = world.submit(me, spec).unwrap();
    weighings(&run(world, id))
}

#[test]
fn an_award_names_all_who_were_asked_with_price_and_time() {
    let (mut world, [ten, twenty, thirty], me) = three(1);
    let [asking, choosing] = explained(&mut world, me, |_| {}).try_into().unwrap();
    assert_eq!((asking.step, choosing.step), (Step::Asking, Step::Choosing));
    assert!([ten, twenty, thirty].map(|node| verdict(&asking, node)).iter().all(|verdict| *verdict == Verdict::Asked));
    assert_eq!(verdict(&choosing, ten), Verdict::Awarded(ChoiceReason::Cheapest));
    assert_eq!(verdict(&choosing, twenty), Verdict::Beaten);
    let facts = |weighed: &Weighed| (weighed.cost, weighed.expected);
    let costs: Vec<_> = choosing.candidates.iter().map(facts).collect();
    assert_eq!(costs, [(300, 9000), (600, 2000), (900, 1000)].map(|(cost, ms)| (Some(cost), Some(Millis(ms)))));
    assert_eq!(choosing.funds, Some(1_000_000));
}

#[test]
fn a_posted_price_that_is_taken_at_once_is_explained_too() {
    let (mut world, [ten, twenty, thirty], me) = three(2);
    explained(&mut world, me, |_| {});
    let [posted] = explained(&mut world, me, |spec| spec.budget = Some(700)).try_into().unwrap();
    assert_eq!(verdict(&posted, ten), Verdict::Awarded(ChoiceReason::Posted));
    assert_eq!((verdict(&posted, twenty), verdict(&posted, thirty)), (Verdict::Beaten, Verdict::OverBudget));
}

#[test]
fn who_is_beyond_budget_or_deadline_is_told_apart() {
    let (mut world, [ten, twenty, thirty], me) = three(3);
    let weighings = explained(&mut world, me, |spec| {
        (spec.haggle, spec.budget, spec.deadline) = (Haggle::Offers, Some(700), Some(Millis(4000)));
    });
    let choosing = weighings.last().unwrap();
    assert_eq!(verdict(choosing, ten), Verdict::TooSlow);
    assert_eq!(verdict(choosing, twenty), Verdict::Awarded(ChoiceReason::Only));
    assert_eq!(verdict(choosing, thirty), Verdict::OverBudget);
}

#[test]
fn an_application_that_chooses_sees_what_is_acceptable() {
    let (mut world, [ten, ..], me) = three(4);
    let mut spec = spec();
    (spec.explain, spec.choose) = (true, Choose::Application);
    let id = world.submit(me, spec).unwrap();
    let job = run(&mut world, id);
    let choosing = weighings(&job).into_iter().find(|weighing| weighing.step == Step::Choosing).unwrap();
    assert_eq!(verdict(&choosing, ten), Verdict::Acceptable);
}

#[test]
fn nobody_is_explained_by_everybody() {
    let (mut world, [ten, twenty, thirty], me) = three(5);
    let away = FaultKind::Dial(me, thirty, Dial::Refused(StreamFailure::Unreachable));
    world.apply(&Schedule { faults: vec![Fault { at: 0, what: away }] });
    world.ban(me, twenty.peer()).unwrap();
    let [nobody] = explained(&mut world, me, |spec| spec.criteria.max_price_out = Some(5_000_000)).try_into().unwrap();
    assert_eq!(nobody.step, Step::Nobody);
    assert_eq!(verdict(&nobody, ten), Verdict::LeftOut(LeftOut::Price));
    assert_eq!(verdict(&nobody, twenty), Verdict::LeftOut(LeftOut::Banned(None)));
    assert_eq!(verdict(&nobody, thirty), Verdict::LeftOut(LeftOut::Unreachable(StreamFailure::Unreachable)));
    let [nobody] = explained(&mut world, me, |spec| spec.criteria.min_context = u32::MAX).try_into().unwrap();
    assert_eq!(verdict(&nobody, ten), Verdict::LeftOut(LeftOut::Context));
}

#[test]
fn to_ask_why_changes_nothing() {
    let mut awards = 0;
    for seed in 0..60 {
        let run = |explain: bool| {
            let mut world = Plan::draw(seed).world();
            world.config.explain = explain;
            world.run_to_end();
            world
        };
        let (plain, explained) = (run(false), run(true));
        for ((id, plain), (_, explained)) in plain.jobs().zip(explained.jobs()) {
            assert!(others(plain).eq(others(explained)), "seed {seed}, job {id}");
            assert_eq!((&plain.text, &plain.ending), (&explained.text, &explained.ending));
            awards += explained.awarded().len();
            assert_reasons(explained);
        }
    }
    assert!(awards > 100, "{awards}");
}

fn others(job: &Job) -> impl Iterator<Item = &(u64, Event<'static>)> {
    job.events.iter().filter(|(_, event)| event.name() != "job:weighed")
}

/// Every award of the core was weighed right before.
fn assert_reasons(job: &Job) {
    let mut last = None;
    for (_, event) in &job.events {
        match event {
            Event::Weighed { weighing, .. } => last = weighing.candidates.first().cloned(),
            Event::Awarded { quote, reason, .. } => {
                let best = last.clone().unwrap();
                assert_eq!((best.peer, best.verdict), (quote.peer, Verdict::Awarded(*reason)));
            }
            _ => {}
        }
    }
}
