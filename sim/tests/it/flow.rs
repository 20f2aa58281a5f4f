//! Windows, slow applications, silence and patience.

use haggle_core::{
    Instant, Limits, Millis, Policy,
    event::{Failure, Interrupted, PassedOver},
};
use haggle_sim::{
    EngineScript, Pace, ProviderConfig, RequesterConfig, Trouble, World,
    adversary::{Cheat, cheat},
    job,
};

use crate::{MODEL, PROMPT, cheap, engine, is_answered, pair, passed_over, passed_over_at, run, spec};

fn slow_engine(prefill: u64) -> EngineScript {
    EngineScript { prefill, ..engine(40) }
}

#[test]
fn a_slow_application_bounds_what_the_provider_computes_and_hinders_nobody() {
    let mut world = World::new(1);
    let provider = world.add_provider(cheap().slots(2).engine(EngineScript { token: 1, ..engine(5000) }));
    let limits = Limits { window_tokens: 64, ..Limits::default() };
    let me = world.add_requester(RequesterConfig { limits, ..RequesterConfig::default() });
    let slow = world.submit(me, job(MODEL, PROMPT, 2000, 1_000_000)).unwrap();
    let fast = world.submit(me, job(MODEL, "Another prompt, to be answered fast.", 2000, 1_000_000)).unwrap();
    world.set_pace(slow, Pace::Every(100));
    let mut ahead = 0;
    while world.job(fast).ending.is_none() && world.step() {
        let waiting = world.job(slow).tokens.saturating_sub(world.job(slow).tokens.min(world.now() / 100));
        ahead = ahead.max(waiting);
    }
    assert!(is_answered(world.job(fast)));
    assert!(world.job(fast).took().unwrap() < 20_000, "{:?}", world.job(fast).took());
    assert!(world.job(slow).tokens < 400, "{}", world.job(slow).tokens);
    // What the slow one's engine wrote is at most a window ahead of what was consumed.
    let progress = world.engine_progress(provider);
    assert!(progress.iter().all(|next| *next <= world.job(slow).tokens + 64), "{progress:?}");
    assert!(ahead <= 64 + 20, "{ahead}");
    assert!(is_answered(&run(&mut world, slow)), "and in the end it has all");
}

#[test]
fn an_application_that_takes_nothing_stops_the_engine_at_one_window() {
    let limits = Limits { window_tokens: 50, ..Limits::default() };
    let mut world = World::new(2);
    let provider = world.add_provider(cheap().engine(EngineScript { token: 1, ..engine(5000) }));
    let me = world.add_requester(RequesterConfig { limits, pace: Pace::Never, ..RequesterConfig::default() });
    let id = world.submit(me, job(MODEL, PROMPT, 2000, 1_000_000)).unwrap();
    world.run_until(300_000);
    assert_eq!(world.engine_progress(provider), [50]);
    assert!(world.job(id).ending.is_none(), "token gap and idle time stand still while the window is full");
    let job = run(&mut world, id);
    assert_eq!((job.failure(), job.took()), (Some(Failure::Deadline), Some(600_000)));
    assert_eq!(job.tokens, 50);
}

#[test]
fn what_is_held_for_a_resume_is_one_window() {
    let largest = |tokens| {
        let limits = Limits { window_tokens: 64, ..Limits::default() };
        let mut world = World::new(10);
        let provider = world.add_provider(cheap().engine(engine(tokens)));
        let me = world.add_requester(RequesterConfig { limits, ..RequesterConfig::default() });
        let id = world.submit(me, job(MODEL, PROMPT, tokens, 1_000_000)).unwrap();
        let mut largest = 0;
        while world.step() {
            largest = largest.max(format!("{:?}", world.provider(provider)).len());
        }
        assert!(is_answered(&run(&mut world, id)));
        largest
    };
    let (short, long) = (largest(200), largest(2000));
    assert!(long < short + short / 4, "{short} bytes printed for 200 tokens, {long} for 2000");
}

#[test]
fn a_slow_application_is_not_blamed_on_a_provider_with_wide_pieces() {
    let limits = Limits { window_tokens: 11, ..Limits::default() };
    let mut world = World::new(9);
    world.add_provider(cheap().engine(EngineScript { piece: 4, ..engine(40) }));
    let me = world.add_requester(RequesterConfig { limits, pace: Pace::Never, ..RequesterConfig::default() });
    let id = world.submit(me, spec()).unwrap();
    world.run_until(200_000);
    assert!(world.job(id).ending.is_none(), "{:?}", world.job(id).ending);
    world.set_pace(id, Pace::AtOnce);
    assert!(is_answered(&run(&mut world, id)));
}

#[test]
fn a_window_of_one_token_works() {
    let limits = Limits { window_tokens: 1, ..Limits::default() };
    let mut world = World::new(3);
    world.add_provider(cheap());
    let me = world.add_requester(RequesterConfig { limits, ..RequesterConfig::default() });
    let id = world.submit(me, spec()).unwrap();
    assert!(is_answered(&run(&mut world, id)));
}

#[test]
fn pieces_larger_than_the_window_work_or_end_typed() {
    for window_tokens in [1, 3, 8] {
        let limits = Limits { window_tokens, ..Limits::default() };
        let mut world = World::new(4);
        world.add_provider(cheap().engine(EngineScript { piece: 8, ..engine(40) }));
        let me = world.add_requester(RequesterConfig { limits, ..RequesterConfig::default() });
        let id = world.submit(me, spec()).unwrap();
        assert!(is_answered(&run(&mut world, id)), "window of {window_tokens}");
    }
}

#[test]
fn keepalives_hold_a_slow_start_open() {
    let (mut world, _, me) = pair(5, cheap().engine(slow_engine(50_000)));
    let id = world.submit(me, spec()).unwrap();
    let job = run(&mut world, id);
    assert!(is_answered(&job));
    assert!(job.took().unwrap() > 50_000);
}

#[test]
fn patience_for_the_first_token_ends_to_the_millisecond() {
    // Four times the offered eta, but at least a minute.
    for (eta, patience) in [(100, 60_000), (30_000, 120_000)] {
        for (prefill, in_time) in [(patience - 1000, true), (patience + 1000, false)] {
            let mut config = cheap().eta(eta);
            config.engine = EngineScript { tells: false, ..slow_engine(prefill) };
            let (mut world, provider, me) = pair(6, config);
            let id = world.submit(me, spec()).unwrap();
            let mut accepted = 0;
            while world.job(id).ending.is_none() && world.step() {
                if accepted == 0 && world.job(id).count("job:negotiated") > 0 {
                    accepted = world.now();
                }
            }
            let job = run(&mut world, id);
            assert_eq!(is_answered(&job), in_time, "eta {eta}, prefill {prefill}");
            if !in_time {
                let why = PassedOver::Interrupted(Interrupted::FirstToken);
                assert_eq!(passed_over(&job), [(provider, why)]);
                assert_eq!(passed_over_at(&job), accepted + patience);
                assert_eq!(job.owed(), 0);
            }
        }
    }
}

#[test]
fn a_model_that_loads_is_waited_for_while_nobody_else_is_known() {
    for (others, load, answered_by) in [(false, 300_000, 0), (true, 50_000, 0), (true, 300_000, 1)] {
        let mut world = World::new(9);
        let cold = world.add_provider(cheap().engine(EngineScript { load, ..engine(40) }));
        let other = others.then(|| world.add_provider(ProviderConfig::new(MODEL, 100_000, 800_000)));
        let me = world.add_requester(RequesterConfig::default());
        let id = world.submit(me, spec()).unwrap();
        let job = run(&mut world, id);
        assert!(is_answered(&job), "{others}, {load}: {:?}", job.ending);
        let by = [Some(cold), other][answered_by].map(haggle_sim::NodeId::peer);
        assert_eq!(job.awarded().last().copied(), by, "{others}, {load}");
        assert_eq!(job.awarded().len(), 1 + answered_by, "{others}, {load}: a load that is broken off begins anew");
        assert!(job.count("job:working") > 0);
    }
}

#[test]
fn who_says_for_ever_that_it_works_is_left_at_the_bound_and_counts_as_failed() {
    let mut world = World::new(11);
    let node = world.add_script(&[MODEL], cheat(MODEL, 0, 1_000_000, Cheat::Loads));
    let policy = Policy { first_token: Millis::from_secs(200), max_retries: 0, ..Policy::default() };
    let me = world.add_requester(RequesterConfig { policy, ..RequesterConfig::default() });
    let id = world.submit(me, spec()).unwrap();
    let mut awarded = 0;
    while world.job(id).ending.is_none() && world.step() {
        if awarded == 0 && world.job(id).count("job:awarded") > 0 {
            awarded = world.now();
        }
    }
    let job = run(&mut world, id);
    assert_eq!(passed_over(&job), [(node, PassedOver::Interrupted(Interrupted::FirstToken))]);
    assert_eq!((passed_over_at(&job) - awarded, job.owed()), (200_000, 0));
    let known = world.requester(me).reliability(Instant::from_millis(world.now()), &node.peer()).unwrap();
    assert_eq!((known.counts.attempts, known.counts.failures), (1, 1));
}

#[test]
fn a_stalled_engine_is_left_when_the_token_gap_is_over() {
    for (pause, in_time) in [(59_000, true), (61_000, false)] {
        let trouble = Some((7, Trouble::Pause(pause)));
        let (mut world, _, me) = pair(7, cheap().engine(EngineScript { trouble, ..engine(40) }));
        let id = world.submit(me, spec()).unwrap();
        while world.job(id).tokens < 7 && world.step() {}
        let last = world.now();
        let job = run(&mut world, id);
        assert_eq!(is_answered(&job), in_time, "a pause of {pause} ms");
        if !in_time {
            assert_eq!(job.failure(), Some(Failure::Interrupted(Interrupted::TokenGap)));
            assert_eq!(passed_over_at(&job), last + 60_000);
        }
    }
}

#[test]
fn a_network_that_holds_its_breath_costs_no_job() {
    use haggle_sim::{Fault, FaultKind, Schedule};
    let (mut world, provider, me) = pair(8, cheap());
    let id = world.submit(me, spec()).unwrap();
    while world.job(id).tokens < 7 && world.step() {}
    let at = world.now();
    world.apply(&Schedule { faults: vec![Fault { at, what: FaultKind::Stall(provider, me, 25_000) }] });
    let job = run(&mut world, id);
    assert!(is_answered(&job));
    assert_eq!(job.awarded().len(), 1);
}
