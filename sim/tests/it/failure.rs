//! What fails, how it ends, and what is owed then.

use haggle_core::{
    JobSpec, Limits, Millis,
    event::{Failure, Interrupted, Outcome, PassedOver, Violation},
    wire::message::{DeclineReason, EndReason},
};
use haggle_sim::{
    EngineScript, Fault, FaultKind, Job, LinkConfig, NodeId, Pace, ProviderConfig, RequesterConfig, Schedule, Trouble,
    World,
    adversary::{CHEAT_LENGTH, Cheat, cheat},
    job, owed,
};

use crate::{MODEL, PROMPT, cheap, engine, is_answered, pair, passed_over, passed_over_at, run, spec};

fn trouble(at: u64, what: Trouble) -> ProviderConfig {
    cheap().engine(EngineScript { trouble: Some((at, what)), ..engine(40) })
}

/// Runs until a job has so many tokens.
fn run_to_token(world: &mut World, id: haggle_core::JobId, tokens: u64) {
    while world.job(id).tokens < tokens && world.step() {}
}

fn strike(world: &mut World, what: FaultKind) {
    let at = world.now();
    world.apply(&Schedule { faults: vec![Fault { at, what }] });
}

fn interrupted(job: &Job) -> Interrupted {
    match job.failure() {
        Some(Failure::Interrupted(why)) => why,
        other => panic!("{other:?}"),
    }
}

/// The bill's one line agrees with what was delivered.
fn is_billed(job: &Job, tokens: u64) {
    let bill = &job.ending.as_ref().unwrap().1.bill;
    assert_eq!((bill.tokens, job.tokens), (tokens, tokens));
    assert_eq!(bill.owed, owed(bill.lines[0].tariff, tokens));
}

#[test]
fn a_provider_killed_in_mid_stream_interrupts_and_is_owed_what_came() {
    let (mut world, provider, me) = pair(1, cheap());
    let id = world.submit(me, spec()).unwrap();
    run_to_token(&mut world, id, 11);
    strike(&mut world, FaultKind::Kill(provider, Some(5)));
    let job = run(&mut world, id);
    assert_eq!(interrupted(&job), Interrupted::Lost);
    is_billed(&job, 11);
}

#[test]
fn a_provider_that_vanishes_without_a_word_is_given_up_after_idle_time_and_the_wait_for_it() {
    let (mut world, provider, me) = pair(2, cheap());
    let id = world.submit(me, spec()).unwrap();
    run_to_token(&mut world, id, 11);
    let heard = world.now();
    strike(&mut world, FaultKind::Kill(provider, None));
    let job = run(&mut world, id);
    assert_eq!(interrupted(&job), Interrupted::Lost);
    // Nobody else is known: as long as it would keep the job.
    assert_eq!(passed_over_at(&job), heard + 30_000 + 120_000);
    is_billed(&job, 11);
}

#[test]
fn a_killed_provider_costs_less_than_a_second_of_silence_where_another_is_known() {
    for seed in 0..20 {
        let mut world = World::new(seed);
        let providers = [0, 1].map(|_| world.add_provider(cheap()));
        let me = world.add_requester(RequesterConfig::default());
        let id = world.submit(me, spec()).unwrap();
        run_to_token(&mut world, id, 11);
        let first = world.job(id).awarded()[0];
        let killed = providers.into_iter().find(|node| node.peer() == first).unwrap();
        strike(&mut world, FaultKind::Kill(killed, Some(1)));
        let at = world.now();
        run_to_token(&mut world, id, 12);
        assert!(world.now() - at < 1_000, "seed {seed}: {}", world.now() - at);
        assert!(is_answered(&run(&mut world, id)));
    }
}

#[test]
fn a_provider_lost_before_its_first_token_is_replaced() {
    let mut world = World::new(3);
    let first = world.add_provider(ProviderConfig::new(MODEL, 0, 1_000_000));
    let second = world.add_provider(ProviderConfig::new(MODEL, 0, 2_000_000));
    let me = world.add_requester(RequesterConfig::default());
    let id = world.submit(me, spec()).unwrap();
    while world.job(id).awarded().is_empty() && world.step() {}
    world.run_until(world.now() + 30);
    strike(&mut world, FaultKind::Kill(first, Some(1)));
    let job = run(&mut world, id);
    assert!(is_answered(&job));
    assert_eq!(job.awarded(), [first.peer(), second.peer()]);
    assert_eq!(passed_over(&job), [(first, PassedOver::Interrupted(Interrupted::Lost))]);
    assert_eq!(job.owed(), 60, "nothing is owed for an attempt without a token");
}

#[test]
fn an_engine_that_breaks_ends_its_job_typed_and_frees_the_slot() {
    for what in [Trouble::Panic, Trouble::Fail(EndReason::Engine)] {
        let (mut world, provider, me) = pair(4, trouble(9, what));
        let id = world.submit(me, spec()).unwrap();
        let job = run(&mut world, id);
        assert_eq!(interrupted(&job), Interrupted::Engine);
        is_billed(&job, 9);
        assert_eq!(world.provider(provider).taken_slots(), 0);
        strike(&mut world, FaultKind::Engine(provider, None));
        world.step();
        let id = world.submit(me, spec()).unwrap();
        assert!(is_answered(&run(&mut world, id)));
    }
}

#[test]
fn an_engine_that_breaks_before_its_first_token_costs_nothing() {
    let mut world = World::new(5);
    let broken = world.add_provider(trouble(0, Trouble::Panic));
    let sound = world.add_provider(ProviderConfig::new(MODEL, 200_000, 900_000));
    let me = world.add_requester(RequesterConfig::default());
    let id = world.submit(me, spec()).unwrap();
    let job = run(&mut world, id);
    assert_eq!(job.awarded(), [broken.peer(), sound.peer()]);
    assert_eq!(passed_over(&job), [(broken, PassedOver::Interrupted(Interrupted::Engine))]);
    assert!(is_answered(&job));
}

/// One provider that refuses every request for its own fault, and others at rising prices.
fn refused_among(others: &[Option<Trouble>], reason: EndReason) -> Job {
    let mut world = World::new(6);
    world.add_provider(trouble(0, Trouble::Fail(reason)));
    for (place, other) in others.iter().enumerate() {
        let sound = || ProviderConfig::new(MODEL, 200_000, 900_000);
        let mut provider = other.map_or_else(sound, |other| trouble(0, other));
        provider.service.models[0].advert.price_out = 900_000 + place as u64 * 100_000;
        world.add_provider(provider);
    }
    let me = world.add_requester(RequesterConfig::default());
    let id = world.submit(me, spec()).unwrap();
    run(&mut world, id)
}

#[test]
fn that_a_request_makes_no_sense_is_believed_when_two_say_so_or_nobody_else_is_there() {
    for (reason, failure) in [(EndReason::BadRequest, Failure::BadRequest), (EndReason::Context, Failure::Context)] {
        let alone = refused_among(&[], reason);
        assert_eq!((alone.failure(), alone.awarded().len()), (Some(failure), 1));
        let agreed = refused_among(&[Some(Trouble::Fail(reason)), None], reason);
        assert_eq!((agreed.failure(), agreed.awarded().len()), (Some(failure), 2));
        let contradicted = refused_among(&[None], reason);
        assert!(is_answered(&contradicted), "{:?}", contradicted.ending);
        let broken = refused_among(&[Some(Trouble::Panic)], reason);
        let why = PassedOver::Interrupted(Interrupted::Engine);
        assert_eq!(
            broken.failure(),
            Some(Failure::Declined(why)),
            "what another one broke on says nothing of the request"
        );
    }
}

#[test]
fn who_calls_every_request_senseless_kills_no_job_while_an_honest_provider_is_there() {
    for seed in 0..20 {
        let mut world = World::new(seed);
        world.add_script(&[MODEL], cheat(MODEL, 0, 1, Cheat::Accuses));
        world.add_provider(ProviderConfig::new(MODEL, 200_000, 900_000));
        let me = world.add_requester(RequesterConfig::default());
        for round in 0..10 {
            let id = world.submit(me, spec()).unwrap();
            let job = run(&mut world, id);
            assert!(is_answered(&job), "{seed}, {round}: {:?}", job.ending);
        }
    }
}

#[test]
fn a_provider_that_shuts_down_says_so() {
    let (mut world, provider, me) = pair(7, cheap());
    let id = world.submit(me, spec()).unwrap();
    run_to_token(&mut world, id, 5);
    strike(&mut world, FaultKind::ShutDown(provider));
    let job = run(&mut world, id);
    assert_eq!(interrupted(&job), Interrupted::Shutdown);
    is_billed(&job, job.tokens);
}

#[test]
fn every_cheat_is_caught_by_its_rule() {
    use Interrupted as I;
    use Violation as V;
    let cases = [
        (Cheat::SilentAfterAward, I::Request, 0),
        (Cheat::SilentAfterAccepted, I::Lost, 0),
        (Cheat::Keepalives, I::FirstToken, 0),
        (Cheat::Drip, I::TokenGap, 1),
        (Cheat::Baits, I::FirstToken, 0),
        (Cheat::Repeats, I::Violation(V::Seq), 3),
        (Cheat::Skips, I::Violation(V::Seq), 3),
        (Cheat::OverWindow, I::Violation(V::Window), 8),
        (Cheat::Miscounts, I::Violation(V::Count), 0),
        (Cheat::Ids, I::Violation(V::Decode), 0),
        (Cheat::LyingUsage, I::Violation(V::Digest), CHEAT_LENGTH),
        (Cheat::LyingHash, I::Violation(V::Digest), CHEAT_LENGTH),
        (Cheat::EndsEarly, I::Violation(V::Digest), 0),
        (Cheat::Leaves, I::Lost, 3),
        (Cheat::Floods, I::Violation(V::Flood), 0),
        (Cheat::Garbage, I::Violation(V::Decode), 0),
        (Cheat::BadLength, I::Violation(V::Frame), 0),
        (Cheat::OtherTerms, I::Violation(V::Terms), 0),
        (Cheat::Nonsense, I::Violation(V::Unexpected), 0),
    ];
    for (how, why, tokens) in cases {
        let mut world = World::new(8);
        world.config.default_link = LinkConfig { split: 3, ..LinkConfig::default() };
        let node = world.add_script(&[MODEL], cheat(MODEL, 0, 1_000_000, how));
        // Small, so that what goes beyond it is little.
        let limits = Limits { window_bytes: 33_000, ..Limits::default() };
        let me = world.add_requester(RequesterConfig { limits, ..RequesterConfig::default() });
        let id = world.submit(me, spec()).unwrap();
        let job = run(&mut world, id);
        if tokens == 0 {
            assert_eq!(passed_over(&job), [(node, PassedOver::Interrupted(why))], "{how:?}");
            assert_eq!(job.failure(), Some(Failure::Declined(PassedOver::Interrupted(why))), "{how:?}");
        } else {
            assert_eq!(job.failure(), Some(Failure::Interrupted(why)), "{how:?}");
        }
        is_billed_cheat(&job, tokens, how);
    }
}

#[test]
fn tokens_beyond_the_last_are_neither_delivered_nor_owed() {
    let mut world = World::new(18);
    let node = world.add_script(&[MODEL], cheat(MODEL, 0, 1_000_000, Cheat::TooMany));
    let me = world.add_requester(RequesterConfig::default());
    let id = world.submit(me, spec()).unwrap();
    let job = run(&mut world, id);
    let why = PassedOver::Interrupted(Interrupted::Violation(Violation::TooMany));
    assert_eq!(passed_over(&job), [(node, why)]);
    assert!(is_answered(&job), "all that was ordered is there");
    is_billed_cheat(&job, 30, Cheat::TooMany);
}

/// Attacks 5 and 6 of providers: one that writes a token now and then, and five that are free and write none, beside one that
/// is honest and dearer. Each job is answered within its deadline, and who let one down is not asked by the next.
#[test]
fn who_only_baits_or_drips_is_left_and_remembered() {
    for (how, count, deadline) in [(Cheat::Trickles, 1, 150), (Cheat::Baits, 5, 240)] {
        for seed in 0..100 {
            let mut world = World::new(seed);
            for _ in 0..count {
                world.add_script(&[MODEL], cheat(MODEL, 0, 1, how));
            }
            world.add_provider(ProviderConfig { engine: engine(50), ..cheap() });
            let me = world.add_requester(RequesterConfig::default());
            let submit = |world: &mut World| {
                let deadline = Some(Millis::from_secs(deadline));
                let spec = JobSpec { deadline, max_tokens: 50, ..spec() };
                let id = world.submit(me, spec).unwrap();
                while world.job(id).ending.is_none() && world.step() {}
                world.job(id).clone()
            };
            let (first, second) = (submit(&mut world), submit(&mut world));
            assert!(is_answered(&first), "{how:?} {seed}: {:?} {:?}", first.ending, passed_over(&first));
            assert!(is_answered(&second), "{how:?} {seed}: {:?} {:?}", second.ending, passed_over(&second));
            assert!(how != Cheat::Baits || passed_over(&second).is_empty(), "{seed}: {:?}", passed_over(&second));
        }
    }
}

fn is_billed_cheat(job: &Job, tokens: u64, how: Cheat) {
    assert_eq!((job.tokens, job.owed()), (tokens, u128::from(tokens)), "{how:?}");
}

#[test]
fn an_honest_script_is_served_by() {
    let mut world = World::new(9);
    world.add_script(&[MODEL], cheat(MODEL, 0, 1_000_000, Cheat::Honest));
    let me = world.add_requester(RequesterConfig::default());
    let id = world.submit(me, spec()).unwrap();
    assert!(is_answered(&run(&mut world, id)));
}

#[test]
fn terms_that_are_stale_again_and_again_are_passed_over() {
    let mut world = World::new(10);
    let cheater = world.add_script(&[MODEL], cheat(MODEL, 0, 1, Cheat::AlwaysStale));
    let honest = world.add_provider(cheap());
    let me = world.add_requester(RequesterConfig::default());
    let id = world.submit(me, spec()).unwrap();
    let job = run(&mut world, id);
    // What it offers instead is believed twice.
    assert_eq!(job.awarded(), [cheater.peer(), cheater.peer(), cheater.peer(), honest.peer()]);
    assert_eq!(passed_over(&job), [(cheater, PassedOver::Declined(DeclineReason::Stale))]);
    assert!(is_answered(&job));
}

#[test]
fn a_job_ends_at_its_deadline_to_the_millisecond() {
    for deadline in [1, 50, 150, 400] {
        let (mut world, _, me) = pair(11, trouble(5, Trouble::Hang));
        let mut hurried = spec();
        hurried.deadline = Some(Millis(deadline));
        let id = world.submit(me, hurried).unwrap();
        let job = run(&mut world, id);
        assert!(job.finished().is_none());
        assert!(job.took().unwrap() <= deadline, "{deadline}: {:?}", job.took());
    }
    let (mut world, _, me) = pair(12, trouble(5, Trouble::Hang));
    let mut hurried = spec();
    hurried.deadline = Some(Millis(2000));
    let id = world.submit(me, hurried).unwrap();
    let job = run(&mut world, id);
    assert_eq!((job.failure(), job.took()), (Some(Failure::Deadline), Some(2000)));
    is_billed(&job, 5);
}

#[test]
fn a_cancel_at_any_moment_is_the_one_ending_and_frees_the_slot() {
    let mut config = cheap();
    config.service.models[0].floor_permille = 800;
    let (mut world, provider, me) = pair(13, config.engine(engine(6)));
    world.config.echo_close = true;
    let mut haggler = spec();
    haggler.haggle = haggle_core::spec::Haggle::Bid(700);
    let id = world.submit(me, haggler).unwrap();
    let mut moments = 0;
    loop {
        let mut fork = world.clone();
        let was_open = fork.job(id).ending.is_none();
        assert_eq!(fork.cancel(id).is_ok(), was_open);
        // Not at some timeout: as soon as the provider can have heard of it.
        fork.run_until(world.now() + 100);
        assert_eq!(fork.provider(provider).taken_slots(), 0);
        fork.run_to_end();
        fork.report().verdict().unwrap();
        let job = fork.job(id);
        if was_open {
            assert_eq!(job.failure(), Some(Failure::Cancelled));
            assert_eq!(job.ending.as_ref().unwrap().0, world.now());
        }
        assert_eq!(fork.provider(provider).taken_slots(), 0);
        assert!(fork.cancel(id).is_err(), "a second cancel is refused");
        moments += 1;
        if !world.step() {
            break;
        }
    }
    assert!(moments > 40, "{moments}");
    assert!(is_answered(world.job(id)));
}

#[test]
fn ten_thousand_aborted_jobs_leave_all_slots_free_and_no_table_grown() {
    let mut world = World::new(14);
    let mut config = ProviderConfig::new(MODEL, 0, 1_000_000).slots(4);
    config.service.queue = 100;
    let provider = world.add_provider(config);
    let me = world.add_requester(RequesterConfig::default());
    let size = |world: &World| {
        // What the machines print is a measure of what they hold.
        (format!("{:?}", world.requester(me)).len(), format!("{:?}", world.provider(provider)).len())
    };
    let mut sizes = Vec::new();
    for round in 0..1000_u64 {
        let ids: Vec<_> = (0..10).map(|_| world.submit(me, spec()).unwrap()).collect();
        for (nth, id) in ids.into_iter().enumerate() {
            world.run_until(world.now() + (round * 7 + nth as u64) % 60);
            let _over = world.cancel(id);
        }
        world.run_until(world.now() + 500);
        if round == 10 {
            sizes.push(size(&world));
        }
        assert_eq!(world.provider(provider).taken_slots(), 0);
        assert_eq!((world.requester(me).open_jobs(), world.provider(provider).open_jobs()), (0, 0));
    }
    sizes.push(size(&world));
    world.run_to_end();
    let report = world.report();
    report.verdict().unwrap();
    assert_eq!(report.jobs, 10_000);
    assert!(report.failed["cancelled"] > 9000, "{report}");
    assert!(sizes[1].0 <= sizes[0].0 + 2000 && sizes[1].1 <= sizes[0].1 + 2000, "{sizes:?}");
    let id = world.submit(me, spec()).unwrap();
    assert!(is_answered(&run(&mut world, id)));
}

#[test]
fn a_requester_that_dies_frees_its_slot() {
    for seen_after in [Some(5), None] {
        let (mut world, provider, me) = pair(15, trouble(5, Trouble::Hang));
        let id = world.submit(me, spec()).unwrap();
        run_to_token(&mut world, id, 5);
        let at = world.now();
        strike(&mut world, FaultKind::Kill(me, seen_after));
        world.run_to_end();
        world.report().verdict().unwrap();
        assert_eq!(world.provider(provider).taken_slots(), 0);
        assert!(
            world.now() <= at + 30_000 + 120_000 + 1000,
            "idle time and the wait for a resume: {}",
            world.now() - at
        );
    }
}

/// There is one slot, and somebody waits for it. A process that dies is seen at once, a machine only by its silence.
#[test]
fn who_waits_for_the_slot_of_a_dead_requester_is_served_soon() {
    for (seen_after, most) in [(Some(5), 6_000), (None, 30_000 + 6_000)] {
        let slow = EngineScript { token: 2_000, ..engine(40) };
        let (mut world, _, dies) = pair(16, cheap().slots(1).engine(slow));
        let waits = world.add_requester(RequesterConfig::default());
        let first = world.submit(dies, spec()).unwrap();
        run_to_token(&mut world, first, 3);
        let second = world.submit(waits, spec()).unwrap();
        while world.job(second).count("job:negotiated") == 0 && world.step() {}
        let at = world.now();
        strike(&mut world, FaultKind::Kill(dies, seen_after));
        run_to_token(&mut world, second, 1);
        let took = world.now() - at;
        println!("served {took} ms after the other died");
        assert!((5_000..=most).contains(&took), "{seen_after:?}: {took} ms");
        assert!(is_answered(&run(&mut world, second)));
    }
}

#[test]
fn attempts_are_counted() {
    let mut world = World::new(16);
    let broken: Vec<NodeId> = (0..6).map(|_| world.add_provider(trouble(0, Trouble::Panic))).collect();
    let policy = haggle_core::Policy { max_retries: 2, ..haggle_core::Policy::default() };
    let me = world.add_requester(RequesterConfig { policy, pace: Pace::AtOnce, ..RequesterConfig::default() });
    let id = world.submit(me, spec()).unwrap();
    let job = run(&mut world, id);
    assert_eq!(job.awarded().len(), 3, "one and two retries, of {} providers", broken.len());
    assert!(matches!(job.ending.unwrap().1.outcome, Outcome::Failed(Failure::Declined(_))));
}

#[test]
fn what_can_not_be_asked_is_refused_at_once() {
    use haggle_core::Refusal;
    let (mut world, _, me) = pair(17, cheap());
    assert_eq!(world.submit(me, job(MODEL, PROMPT, 0, 1)), Err(Refusal::NoTokens));
    assert_eq!(world.submit(me, job(MODEL, "", 1, 1)), Err(Refusal::Prompt(haggle_core::wire::PromptError::Empty)));
    let long = "x".repeat((2 << 20) + 1);
    assert!(matches!(world.submit(me, job(MODEL, &long, 1, 1)), Err(Refusal::PromptTooLong { .. })));
    let mut hurried = spec();
    hurried.deadline = Some(Millis(0));
    assert_eq!(world.submit(me, hurried), Err(Refusal::NoTime));
    let mut haggler = spec();
    haggler.haggle = haggle_core::spec::Haggle::Bid(1000);
    assert_eq!(world.submit(me, haggler), Err(Refusal::Bid));
    let mut stops = spec();
    stops.stop = vec![String::new()];
    assert_eq!(world.submit(me, stops), Err(Refusal::Stops));
    assert_eq!(world.requester(me).open_jobs(), 0);
}
