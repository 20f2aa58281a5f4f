//! Who wins, at what price, and within which budget.

use haggle_core::{
    Event, JobSpec,
    event::{ChoiceReason, Failure, PassedOver},
    money::Tariff,
    spec::{Choose, Haggle},
};
use haggle_sim::{
    Fault, FaultKind, NodeId, ProviderConfig, RequesterConfig, Schedule, World,
    adversary::{Cheat, cheat},
    job, owed,
};

use crate::{MODEL, PROMPT, cheap, is_answered, pair, passed_over, run, spec};

/// Providers at 10, 20 and 30 micro-units a token, the dearer the faster.
fn three(seed: u64) -> (World, [NodeId; 3], NodeId) {
    let mut world = World::new(seed);
    let provider = |price: u64, eta| ProviderConfig::new(MODEL, 0, price * 1_000_000).eta(eta).slots(8);
    let providers = [(10, 9000), (20, 2000), (30, 100)].map(|(price, eta)| world.add_provider(provider(price, eta)));
    let me = world.add_requester(RequesterConfig::default());
    (world, providers, me)
}

fn tariff(job: &haggle_sim::Job) -> Tariff {
    job.ending.as_ref().unwrap().1.bill.lines.last().unwrap().tariff
}

#[test]
fn the_cheapest_wins_and_nobody_else_sees_the_prompt() {
    // That the prompt stays secret is checked by the oracle on every byte sent.
    let (mut world, [ten, ..], me) = three(1);
    let id = world.submit(me, spec()).unwrap();
    let job = run(&mut world, id);
    assert_eq!((job.awarded(), job.owed()), (vec![ten.peer()], 300));
    assert!(job.events.iter().any(|(_, e)| matches!(e, Event::Awarded { reason: ChoiceReason::Cheapest, .. })));
    assert_eq!((job.count("job:asked"), job.count("job:offered")), (3, 3));
}

#[test]
fn waiting_has_its_price() {
    // 30 tokens cost 300, 600 and 900; the waits are 9, 2 and 1 s: nobody unknown is believed to be faster.
    for (time_value, winner) in [(0, 0), (42, 0), (43, 1), (299, 1), (301, 2)] {
        let (mut world, providers, me) = three(2);
        let mut spec = spec();
        spec.time_value = time_value;
        let id = world.submit(me, spec).unwrap();
        assert_eq!(run(&mut world, id).awarded(), [providers[winner].peer()], "at {time_value} a second");
    }
}

#[test]
fn who_is_preferred_or_excluded_is() {
    let (mut world, [ten, twenty, thirty], me) = three(3);
    let mut wish = spec();
    wish.criteria.exclude = vec![ten.peer()];
    let id = world.submit(me, wish).unwrap();
    assert_eq!(run(&mut world, id).awarded(), [twenty.peer()]);
    let mut wish = spec();
    wish.criteria.only = vec![thirty.peer()];
    let id = world.submit(me, wish).unwrap();
    assert_eq!(run(&mut world, id).awarded(), [thirty.peer()]);
}

#[test]
fn of_posted_prices_the_preferred_one_is_awarded() {
    let (mut world, [_, twenty, _], me) = three(17);
    let id = world.submit(me, spec()).unwrap();
    run(&mut world, id);
    let mut wish = spec();
    wish.criteria.prefer = vec![twenty.peer()];
    let id = world.submit(me, wish).unwrap();
    let job = run(&mut world, id);
    assert_eq!((job.awarded(), job.count("job:asked")), (vec![twenty.peer()], 0));
}

#[test]
fn an_old_cache_does_not_hide_the_cheapest() {
    let (mut world, [ten, _, thirty], me) = three(16);
    let id = world.submit(me, spec()).unwrap();
    run(&mut world, id);
    world.run_until(100_000);
    let mut one = spec();
    one.criteria.only = vec![thirty.peer()];
    let id = world.submit(me, one).unwrap();
    run(&mut world, id);
    let id = world.submit(me, spec()).unwrap();
    assert_eq!(run(&mut world, id).awarded(), [ten.peer()]);
}

#[test]
fn an_offer_beyond_the_deadline_does_not_win() {
    let (mut world, [_, _, thirty], me) = three(4);
    let mut hurry = spec();
    hurry.deadline = Some(haggle_core::Millis(1500));
    let id = world.submit(me, hurry).unwrap();
    assert_eq!(run(&mut world, id).awarded(), [thirty.peer()]);
}

#[test]
fn haggling_lowers_the_price_down_to_the_floor_at_most() {
    let price = |floor, bid| {
        let mut config = ProviderConfig::new(MODEL, 0, 1_000_000_000);
        config.service.models[0].floor_permille = floor;
        let (mut world, _, me) = pair(5, config);
        let mut spec = spec();
        spec.haggle = Haggle::Bid(bid);
        let id = world.submit(me, spec).unwrap();
        tariff(&run(&mut world, id)).price_out
    };
    assert_eq!(price(700, 850), 850_000_000, "half of the way down to the floor is taken at once");
    assert_eq!(price(700, 700), 850_000_000, "and its second bid, half of the way up, is taken then");
    let met = price(700, 500);
    assert!((700_000_000..1_000_000_000).contains(&met), "{met}");
    assert_eq!(price(1000, 500), 1_000_000_000, "who does not haggle does not");
}

#[test]
fn an_ask_that_rises_loses() {
    let mut world = World::new(6);
    let honest = world.add_provider(ProviderConfig::new(MODEL, 0, 900_000));
    world.add_script(&[MODEL], cheat(MODEL, 0, 1000, Cheat::Raises));
    let me = world.add_requester(RequesterConfig::default());
    let mut spec = spec();
    spec.haggle = Haggle::Bid(500);
    let id = world.submit(me, spec).unwrap();
    let job = run(&mut world, id);
    assert_eq!(job.awarded(), [honest.peer()]);
    assert!(is_answered(&job));
}

#[test]
fn a_price_that_changed_meanwhile_is_one_more_offer() {
    let (mut world, provider, me) = pair(7, cheap());
    let first = world.submit(me, spec()).unwrap();
    run(&mut world, first);
    let at = world.now();
    world.apply(&Schedule { faults: vec![Fault { at, what: FaultKind::Price(provider, 0, 3_000_000) }] });
    let second = world.submit_at(at + 1, me, spec());
    world.run_to_end();
    world.report().verdict().unwrap();
    let second = world.nth(second);
    assert!(is_answered(second));
    assert_eq!((second.count("job:asked"), second.awarded().len()), (0, 2), "the posted price, then the new one");
    assert_eq!((tariff(second).price_out, second.owed()), (3_000_000, 90));
    assert_eq!(passed_over(second), []);
}

#[test]
fn a_changed_price_beyond_the_budget_is_not_taken() {
    let (mut world, provider, me) = pair(8, cheap());
    let first = world.submit(me, spec()).unwrap();
    run(&mut world, first);
    let at = world.now();
    world.apply(&Schedule { faults: vec![Fault { at, what: FaultKind::Price(provider, 0, u64::MAX) }] });
    let second = world.submit_at(at + 1, me, job(MODEL, PROMPT, 30, 19));
    world.run_to_end();
    world.report().verdict().unwrap();
    let second = world.nth(second);
    assert!(matches!(second.failure(), Some(Failure::OverBudget { budget: 19, .. })), "{:?}", second.ending);
    assert_eq!(second.owed(), 0);
}

#[test]
fn a_budget_below_the_cheapest_offer_names_the_price_and_awards_nothing() {
    let (mut world, _, me) = three(9);
    let id = world.submit(me, job(MODEL, PROMPT, 30, 299)).unwrap();
    let job = run(&mut world, id);
    assert_eq!(job.failure(), Some(Failure::OverBudget { cheapest: 300, budget: 299 }));
    assert_eq!(job.awarded(), []);
    assert_eq!(passed_over(&job).len(), 3);
    assert!(passed_over(&job).iter().all(|(_, why)| *why == PassedOver::OverBudget));
    let id = world.submit(me, crate::job(MODEL, PROMPT, 30, 300)).unwrap();
    assert!(is_answered(&run(&mut world, id)), "exactly enough is enough");
}

#[test]
fn without_a_budget_only_what_is_free_is_taken() {
    let mut spec = spec();
    spec.budget = None;
    for (price, free) in [(1, false), (0, true)] {
        let (mut world, _, me) = pair(10, ProviderConfig::new(MODEL, 0, price));
        let id = world.submit(me, spec.clone()).unwrap();
        assert_eq!(is_answered(&run(&mut world, id)), free);
    }
}

#[test]
fn an_account_bounds_all_jobs_together() {
    let mut world = World::new(11);
    world.add_provider(ProviderConfig::new(MODEL, 0, 10_000_000).slots(8));
    let me = world.add_requester(RequesterConfig { account_budget: Some(750), ..RequesterConfig::default() });
    // Each costs 300: two fit at once, whatever their own budgets are.
    for _ in 0..3 {
        world.submit(me, spec()).unwrap();
    }
    world.run_to_end();
    let report = world.report();
    report.verdict().unwrap();
    assert_eq!((report.finished, report.owed), (2, 600));
    let failures: Vec<_> = world.jobs().filter_map(|(_, job)| job.failure()).collect();
    assert_eq!(failures, [Failure::OverBudget { cheapest: 300, budget: 150 }]);
    // What was not used is free again; a larger account takes more.
    world.set_account_budget(me, Some(900));
    let id = world.submit(me, spec()).unwrap();
    assert!(is_answered(&run(&mut world, id)));
}

#[test]
fn the_application_may_choose() {
    let (mut world, [_, twenty, _], me) = three(12);
    let mut own = spec();
    own.choose = Choose::Application;
    let id = world.submit(me, own).unwrap();
    world.run_until(world.now() + 3000);
    assert_eq!(world.job(id).count("job:choice-due"), 1);
    assert!(world.award(id, me.peer()).is_err(), "who made no offer can not be awarded");
    world.award(id, twenty.peer()).unwrap();
    let job = run(&mut world, id);
    assert_eq!(job.awarded(), [twenty.peer()]);
    assert!(job.events.iter().any(|(_, e)| matches!(e, Event::Awarded { reason: ChoiceReason::Application, .. })));
}

#[test]
fn an_application_that_never_chooses_has_an_ending() {
    let (mut world, _, me) = three(13);
    let mut own = spec();
    own.choose = Choose::Application;
    let id = world.submit(me, own).unwrap();
    let job = run(&mut world, id);
    assert!(job.failure().is_some() && job.awarded().is_empty());
}

#[test]
fn money_at_its_edges_neither_wraps_nor_panics() {
    for (price_in, price_out, budget) in [(u64::MAX, u64::MAX, u64::MAX), (u64::MAX, 0, 1), (0, u64::MAX, u64::MAX)] {
        let (mut world, _, me) = pair(14, ProviderConfig::new(MODEL, price_in, price_out));
        let mut spec: JobSpec = job(MODEL, PROMPT, 1_000_001, budget);
        spec.time_value = u64::MAX;
        let id = world.submit(me, spec).unwrap();
        assert!(run(&mut world, id).failure().is_some());
    }
    let (mut world, _, me) = pair(15, ProviderConfig::new(MODEL, 0, u64::MAX));
    let id = world.submit(me, job(MODEL, PROMPT, 1, u64::MAX)).unwrap();
    let job = run(&mut world, id);
    assert_eq!(job.owed(), owed(Tariff { fee_in: 0, price_out: u64::MAX }, 1));
}
