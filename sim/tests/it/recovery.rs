//! Cuts cost nobody its job.

use std::sync::{Arc, Mutex};

use haggle_core::{
    JobId,
    event::{Failure, Interrupted},
    wire::{
        Message, Prompt,
        message::{Award, BodyKind, GoneReason, Sampling},
    },
};
use haggle_sim::{Answer, Fault, FaultKind, Heard, LinkConfig, NodeId, ProviderConfig, Schedule, Talk, World, job};
use sha2::{Digest, Sha256};

use crate::{MODEL, PROMPT, cheap, engine, is_answered, pair, spec};

fn strike(world: &mut World, after: u64, what: FaultKind) {
    let at = world.now() + after;
    world.apply(&Schedule { faults: vec![Fault { at, what }] });
}

/// Strikes at every event of a job, each time in a fork; says at how many, and how many of the answers came whole. From
/// the job's event `safe_from` on, all have to.
fn at_every_event(safe_from: &str, strikes: impl Fn(&mut World, NodeId, NodeId)) -> (u32, u32) {
    at_every_event_of(cheap(), safe_from, strikes)
}

fn at_every_event_of(
    provider: ProviderConfig,
    safe_from: &str,
    strikes: impl Fn(&mut World, NodeId, NodeId),
) -> (u32, u32) {
    let (mut world, provider, me) = pair(1, provider.engine(engine(12)));
    world.config.default_link = LinkConfig { delay: 10, jitter: 8, ..LinkConfig::default() };
    let id = world.submit(me, spec()).unwrap();
    let text = Answer::new(MODEL.as_bytes(), 0, &Prompt::Raw(PROMPT.into()), 0).text(12);
    let (mut moments, mut whole) = (0, 0);
    while world.job(id).ending.is_none() {
        let mut fork = world.clone();
        strikes(&mut fork, provider, me);
        fork.run_to_end();
        fork.report().verdict().unwrap_or_else(|broken| panic!("event {moments}: {broken}"));
        let job = fork.job(id);
        let safe = world.job(id).count(safe_from) > 0;
        if is_answered(job) {
            assert_eq!(job.text, text);
            whole += 1;
        }
        // Before, nothing keeps the job at this provider, and there is no other.
        assert!(is_answered(job) || !safe, "event {moments}: {:?}", job.ending);
        moments += 1;
        world.step();
    }
    (moments, whole)
}

#[test]
fn a_cut_at_any_event_costs_nothing_after_the_award() {
    let (moments, whole) =
        at_every_event("job:awarded", |world, provider, me| strike(world, 0, FaultKind::Cut(provider, me)));
    assert!(moments > 40 && whole > 30, "{whole} of {moments}");
}

#[test]
fn a_cut_at_any_event_costs_nothing_where_less_of_a_window_was_granted() {
    let mut provider = cheap();
    provider.limits.window_tokens = 8;
    let (moments, whole) = at_every_event_of(provider, "job:awarded", |world, provider, me| {
        strike(world, 0, FaultKind::Cut(provider, me))
    });
    assert!(moments > 40 && whole > 30, "{whole} of {moments}");
}

/// A prompt of 2 MB over a line of so many bytes a ms.
fn long_prompt(rate: u32) -> (World, NodeId, NodeId, JobId) {
    let (mut world, provider, me) = pair(9, cheap());
    world.config.default_link = LinkConfig { rate, ..LinkConfig::default() };
    let prompt: String = (0..2_000_000_u32).map(|at| char::from(b'a' + (at % 23) as u8)).collect();
    let id = world.submit(me, job(MODEL, &prompt, 30, u64::MAX)).unwrap();
    (world, provider, me, id)
}

#[test]
fn a_cut_in_the_middle_of_a_long_body_costs_its_time_alone() {
    let (mut world, provider, me, id) = long_prompt(60);
    strike(&mut world, 20_000, FaultKind::Cut(provider, me));
    world.run_to_end();
    world.report().verdict().unwrap();
    assert!(is_answered(world.job(id)), "{:?}", world.job(id).ending);
}

#[test]
fn a_body_that_is_on_its_way_when_its_job_ends_is_no_flood() {
    let (mut world, provider, _, id) = long_prompt(5_000);
    while world.provider(provider).held_bytes() < 100_000 && world.step() {}
    strike(&mut world, 0, FaultKind::Drain(provider, 0));
    world.run_to_end();
    world.report().verdict().unwrap();
    assert!(matches!(world.job(id).failure(), Some(Failure::Declined(_) | Failure::Interrupted(_))));
}

#[test]
fn a_cut_at_any_byte_after_the_award_costs_nothing() {
    // From the award on, in both directions: every 31st byte to the requester, every one to the provider.
    let (mut world, provider, me) = pair(6, cheap().engine(engine(200)));
    let id = world.submit(me, job(MODEL, PROMPT, 200, 1_000_000)).unwrap();
    while world.job(id).awarded().is_empty() && world.step() {}
    let text = Answer::new(MODEL.as_bytes(), 0, &Prompt::Raw(PROMPT.into()), 0).text(200);
    for (from, to, step) in [(provider, me, 31), (me, provider, 1)] {
        let mut cuts = 0;
        for bytes in (0..).step_by(step) {
            let mut fork = world.clone();
            strike(&mut fork, 0, FaultKind::CutAfter(from, to, bytes));
            fork.run_to_end();
            fork.report().verdict().unwrap_or_else(|broken| panic!("byte {bytes}: {broken}"));
            let job = fork.job(id);
            assert_eq!((is_answered(job), &job.text), (true, &text), "byte {bytes}");
            assert_eq!(job.awarded().len(), 1, "byte {bytes}");
            if job.count("job:cut") == 0 {
                break;
            }
            cuts += 1;
        }
        assert!(cuts > 100, "{cuts}");
    }
}

#[test]
fn a_cut_that_only_one_end_sees_costs_nothing() {
    // An award that vanished without a word is given up when it is not answered in time.
    for (requester_sees, safe_from) in [(true, "job:awarded"), (false, "job:negotiated")] {
        let (moments, whole) = at_every_event(safe_from, |world, provider, me| {
            let (a, b) = if requester_sees { (me, provider) } else { (provider, me) };
            strike(world, 0, FaultKind::HalfCut(a, b));
        });
        assert!(moments > 40 && whole > 30, "{whole} of {moments}");
    }
}

#[test]
fn two_cuts_in_a_row_cost_nothing_after_the_award() {
    for gap in [1, 15, 35, 60] {
        let (moments, whole) = at_every_event("job:awarded", |world, provider, me| {
            strike(world, 0, FaultKind::Cut(provider, me));
            strike(world, gap, FaultKind::Cut(provider, me));
        });
        assert!(moments > 40 && whole > 30, "{whole} of {moments}");
    }
}

#[test]
fn a_cut_and_a_cancel_at_once_leave_nothing_behind() {
    let (mut world, provider, me) = pair(2, cheap().engine(engine(12)));
    let id = world.submit(me, spec()).unwrap();
    while world.job(id).ending.is_none() {
        for after in [0, 5, 25] {
            let mut fork = world.clone();
            strike(&mut fork, 0, FaultKind::Cut(provider, me));
            strike(&mut fork, after, FaultKind::Cancel(0));
            fork.run_to_end();
            fork.report().verdict().unwrap();
            assert_eq!(fork.provider(provider).open_jobs(), 0);
        }
        world.step();
    }
}

#[test]
fn a_provider_that_forgot_the_job_says_so() {
    let (mut world, provider, me) = pair(3, cheap());
    let id = world.submit(me, spec()).unwrap();
    while world.job(id).tokens < 9 && world.step() {}
    strike(&mut world, 0, FaultKind::Restart(provider));
    world.run_to_end();
    world.report().verdict().unwrap();
    let job = world.job(id);
    assert_eq!(job.failure(), Some(Failure::Interrupted(Interrupted::Gone)));
    assert_eq!(job.tokens, 9);
}

#[test]
fn a_provider_computes_on_while_it_is_out_of_reach() {
    let (mut world, provider, me) = pair(4, cheap());
    let id = world.submit(me, spec()).unwrap();
    while world.job(id).tokens < 9 && world.step() {}
    let unreachable = haggle_core::machine::StreamFailure::Unreachable;
    strike(&mut world, 0, FaultKind::Dial(provider, me, haggle_sim::Dial::Refused(unreachable)));
    strike(&mut world, 0, FaultKind::Cut(provider, me));
    strike(&mut world, 900, FaultKind::Dial(provider, me, haggle_sim::Dial::Answers));
    world.run_to_end();
    world.report().verdict().unwrap();
    let job = world.job(id);
    assert!(is_answered(job), "{:?}", job.ending);
    assert_eq!(job.awarded().len(), 1);
}

#[test]
fn an_older_epoch_is_fenced() {
    let mut world = World::new(5);
    let provider = world.add_provider(ProviderConfig::new(MODEL, 0, 0));
    let log = Arc::new(Mutex::new(Vec::new()));
    let heard_by = Arc::clone(&log);
    let job = JobId([7; 16]);
    let resume = move |epoch| Message::Resume { job, attempt: 1, epoch, next: 0 };
    let award = free_award(job);
    let mut streams = 0;
    let requester = move |talk: &mut Talk<'_>, heard: Heard<'_>| match heard {
        Heard::Start => talk.open(provider),
        Heard::Opened => {
            streams += 1;
            match streams {
                1 => {
                    talk.send(&award);
                    talk.send(&Message::Body { offset: 0, bytes: PROMPT.as_bytes() });
                    talk.open(provider);
                }
                // Streams open in order: the newest epoch comes first, then an equal and an older one.
                2 => {
                    talk.send(&resume(5));
                    talk.open(provider);
                }
                3 => {
                    talk.send(&resume(5));
                    talk.open(provider);
                }
                _ => talk.send(&resume(4)),
            }
        }
        Heard::Message(Message::Resumed { next }) => heard_by.lock().unwrap().push(format!("resumed at {next}")),
        Heard::Message(Message::Gone(reason)) => heard_by.lock().unwrap().push(format!("{reason:?}")),
        _ => {}
    };
    world.add_script(&[], requester);
    world.run_until(200);
    let stale = format!("{:?}", GoneReason::Stale);
    assert_eq!(*log.lock().unwrap(), ["resumed at 0".to_string(), stale.clone(), stale]);
    assert_eq!(world.provider(provider).open_streams(), 1, "the newest epoch's, and no other");
}

/// An award of [`PROMPT`] that costs nothing.
fn free_award(job: JobId) -> Message<'static> {
    Message::Award(Award {
        job,
        attempt: 1,
        epoch: 1,
        model: haggle_sim::name(MODEL),
        offer: None,
        tariff: haggle_core::money::Tariff::default(),
        max_tokens: 30,
        kind: BodyKind::Raw,
        body_bytes: PROMPT.len() as u64,
        body_hash: Sha256::digest(PROMPT.as_bytes()).into(),
        prefix_bytes: 0,
        prefix_tokens: 0,
        overlap: 0,
        sampling: Sampling::default(),
        stop: Vec::new(),
        window_tokens: 64,
        window_bytes: 32 << 10,
        prefix_id_bytes: None,
        features: None,
        voucher: None,
        choice: None,
    })
}
