//! Who is found, how long it is believed, and how nobody is told.

use haggle_core::{
    Policy,
    event::{Failure, PassedOver},
    machine::{QueryOutcome, StreamFailure},
    wire::message::DeclineReason,
};
use haggle_sim::{
    Dial, Fault, FaultKind, LinkConfig, Lookup, ProviderConfig, RequesterConfig, Schedule, World,
    adversary::{Cheat, cheat},
    job,
};

use crate::{MODEL, PROMPT, cheap, is_answered, pair, passed_over, run, spec};

#[test]
fn nobody_there_is_said_in_time_and_truthfully() {
    let cases = [
        (Lookup::Empty, QueryOutcome::Complete),
        (Lookup::TimesOut, QueryOutcome::TimedOut),
        (Lookup::Silent, QueryOutcome::TimedOut),
        (Lookup::NoSource, QueryOutcome::NoSource),
        (Lookup::Answers, QueryOutcome::Complete),
    ];
    for (lookup, expected) in cases {
        let mut world = World::new(1);
        world.dht.lookup = lookup;
        let me = world.add_requester(RequesterConfig::default());
        let asked = [world.submit(me, spec()).unwrap(), world.discover(me, spec().criteria, None).unwrap()];
        for id in asked {
            let job = run(&mut world, id);
            assert_eq!(job.failure(), Some(Failure::NobodyFound { outcome: expected, unfit: 0 }), "{lookup:?}");
            assert!(job.took().unwrap() <= 12_000, "{lookup:?}: {:?} ms", job.took());
        }
    }
}

#[test]
fn a_hundred_jobs_within_the_ttl_make_one_query() {
    let (mut world, _, me) = pair(2, cheap().slots(100));
    for nth in 0..100 {
        world.submit_at(nth * 550, me, job(MODEL, PROMPT, 3, 1000));
    }
    world.run_to_end();
    let report = world.report();
    report.verdict().unwrap();
    assert_eq!((report.finished, report.queries), (100, 1));
    // When the time is over, the next one asks again.
    let late = world.submit_at(61_000, me, job(MODEL, PROMPT, 3, 1000));
    world.run_to_end();
    assert!(is_answered(world.nth(late)));
    assert_eq!(world.report().queries, 2);
}

#[test]
fn a_hundred_jobs_at_once_make_one_query() {
    let (mut world, _, me) = pair(3, cheap().slots(100));
    for _ in 0..100 {
        world.submit(me, job(MODEL, PROMPT, 3, 1000)).unwrap();
    }
    world.run_to_end();
    world.report().verdict().unwrap();
    assert_eq!(world.report().queries, 1);
}

#[test]
fn a_filter_changed_after_caching_acts_at_once() {
    let mut world = World::new(4);
    let small = world.add_provider(cheap());
    let mut config = ProviderConfig::new(MODEL, 200_000, 800_000);
    config.service.models[0].advert.context = 1 << 21;
    let large = world.add_provider(config);
    let me = world.add_requester(RequesterConfig::default());
    let id = world.submit(me, spec()).unwrap();
    assert_eq!(run(&mut world, id).awarded(), [small.peer()]);
    let mut wide = spec();
    wide.criteria.min_context = (1 << 20) + 1;
    let id = world.submit(me, wide).unwrap();
    assert_eq!(run(&mut world, id).awarded(), [large.peer()]);
    let mut narrow = spec();
    narrow.criteria.max_price_out = Some(1);
    let id = world.submit(me, narrow).unwrap();
    let job = run(&mut world, id);
    assert_eq!(job.failure(), Some(Failure::NobodyFound { outcome: QueryOutcome::Complete, unfit: 2 }));
    assert_eq!(world.report().queries, 1);
}

#[test]
fn nobody_is_believed_for_a_shorter_time() {
    let mut world = World::new(5);
    let me = world.add_requester(RequesterConfig::default());
    let first = world.submit(me, spec()).unwrap();
    run(&mut world, first);
    world.add_provider(cheap());
    let soon = world.submit_at(4000, me, spec());
    let later = world.submit_at(6000, me, spec());
    world.run_to_end();
    world.report().verdict().unwrap();
    assert!(matches!(world.nth(soon).failure(), Some(Failure::NobodyFound { .. })));
    assert!(is_answered(world.nth(later)));
    assert_eq!(world.report().queries, 2);
}

#[test]
fn refresh_passes_over_every_cache() {
    let mut world = World::new(6);
    let me = world.add_requester(RequesterConfig::default());
    let first = world.submit(me, spec()).unwrap();
    run(&mut world, first);
    world.add_provider(cheap());
    world.run_until(world.now() + 1);
    let mut fresh = spec();
    fresh.criteria.refresh = true;
    let id = world.submit(me, fresh).unwrap();
    assert!(is_answered(&run(&mut world, id)));
}

#[test]
fn the_first_good_ones_do_not_wait_for_the_last() {
    let mut world = World::new(7);
    world.dht.lookup = Lookup::Partial(1);
    world.dht.delay = 900;
    world.add_provider(cheap());
    let me = world.add_requester(RequesterConfig::default());
    let id = world.submit(me, spec()).unwrap();
    let job = run(&mut world, id);
    assert!(is_answered(&job));
    assert!(job.took().unwrap() < 2500, "{:?}", job.took());
}

#[test]
fn who_does_not_describe_itself_holds_nobody_up() {
    let mut world = World::new(8);
    let honest = world.add_provider(cheap());
    for how in [Cheat::Mute, Cheat::SlamsDoor] {
        world.add_script(&[MODEL], cheat(MODEL, 0, 0, how));
    }
    let dead = world.add_provider(ProviderConfig::new(MODEL, 0, 0));
    let me = world.add_requester(RequesterConfig::default());
    world.set_link(me, dead, LinkConfig { dial: Dial::Hangs, ..LinkConfig::default() });
    let id = world.submit(me, spec()).unwrap();
    let job = run(&mut world, id);
    assert_eq!(job.awarded(), [honest.peer()]);
    assert!(job.took().unwrap() < 2500, "{:?}", job.took());
}

#[test]
fn adverts_are_told_and_remembered() {
    let (mut world, provider, me) = pair(9, cheap());
    let id = world.submit(me, spec()).unwrap();
    run(&mut world, id);
    let adverts: Vec<_> = world.requester(me).adverts().collect();
    assert_eq!(adverts.len(), 1);
    assert_eq!(*adverts[0].0, provider.peer());
}

#[test]
fn declined_by_all_says_what_the_last_one_said() {
    let mut world = World::new(10);
    let providers = [world.add_provider(cheap()), world.add_provider(cheap())];
    let me = world.add_requester(RequesterConfig::default());
    let drained = providers.map(|node| Fault { at: 0, what: FaultKind::Drain(node, 600_000) });
    world.apply(&Schedule { faults: drained.to_vec() });
    let late = world.submit_at(5, me, spec());
    world.run_to_end();
    world.report().verdict().unwrap();
    let job = world.nth(late);
    assert_eq!(job.failure(), Some(Failure::Declined(PassedOver::Declined(DeclineReason::Draining))));
    assert_eq!(passed_over(job).len(), 2);
    assert_eq!(job.owed(), 0);
}

#[test]
fn busy_after_the_award_goes_to_the_next() {
    let mut world = World::new(11);
    let busy = world.add_script(&[MODEL], cheat(MODEL, 0, 1, Cheat::AlwaysBusy));
    let honest = world.add_provider(cheap());
    let me = world.add_requester(RequesterConfig::default());
    let id = world.submit(me, spec()).unwrap();
    let job = run(&mut world, id);
    assert_eq!(job.awarded(), [busy.peer(), honest.peer()]);
    assert!(is_answered(&job));
    assert_eq!(passed_over(&job), [(busy, PassedOver::Declined(DeclineReason::Busy))]);
}

#[test]
fn only_one_peer_that_can_not_be_reached_is_said_so() {
    let (mut world, provider, me) = pair(12, cheap());
    let refused = Dial::Refused(StreamFailure::WrongPeer);
    world.set_link(me, provider, LinkConfig { dial: refused, ..LinkConfig::default() });
    let mut spec = spec();
    spec.criteria.only = vec![provider.peer()];
    let id = world.submit(me, spec).unwrap();
    let job = run(&mut world, id);
    assert_eq!(job.failure(), Some(Failure::Declined(PassedOver::Stream(StreamFailure::WrongPeer))));
}

#[test]
fn slots_that_are_taken_queue_and_then_decline() {
    for (max_retries, finished) in [(0, 2), (3, 4)] {
        let mut config = cheap();
        config.service.queue = 1;
        config.engine.token = 100;
        let mut world = World::new(13);
        world.add_provider(config);
        let policy = Policy { max_retries, ..Policy::default() };
        let me = world.add_requester(RequesterConfig { policy, ..RequesterConfig::default() });
        for _ in 0..4 {
            world.submit(me, spec()).unwrap();
        }
        world.run_to_end();
        let report = world.report();
        report.verdict().unwrap();
        // One computes, one waits; the others are told to come again, if they do that.
        assert!(report.finished >= finished.min(3), "{report}");
        assert_eq!(report.failed.get("declined").copied().unwrap_or(0), 4 - report.finished);
        assert!(max_retries > 0 || report.finished == finished, "{report}");
    }
}
