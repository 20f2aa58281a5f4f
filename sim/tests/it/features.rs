//! Requests, what engines can do, and answers in channels.

use haggle_core::{
    Event, JobSpec,
    event::{Failure, Finished, Interrupted, NoRetry, PassedOver, TakeOver},
    spec::Failover,
    wire::{
        Prompt,
        message::{Channel, DeclineReason, Features},
    },
};
use haggle_sim::{
    Answer, EngineScript, Fault, FaultKind, Job, NodeId, Pace, Plan, ProviderConfig, RequesterConfig, Schedule, Told,
    World, job, owed,
};

use crate::{MODEL, is_answered, passed_over};

const JSON: &str = r#"{"messages":[{"role":"user","content":"What is it worth?"}],"tools":[]}"#;
const LENGTH: u64 = 120;

fn request(failover: Failover) -> JobSpec {
    let mut spec = job(MODEL, "", LENGTH, 1_000_000);
    spec.prompt = Prompt::Request(JSON.into());
    spec.criteria.require = Some(Features::TOOLS);
    spec.failover = failover;
    spec
}

fn serving(price: u64, class: u8, features: Option<Features>) -> ProviderConfig {
    let engine = EngineScript { class, length: LENGTH, ..EngineScript::default() };
    let mut config = ProviderConfig::new(MODEL, 100_000, price).engine(engine);
    config.service.models[0].advert.features = features;
    config
}

/// [A13] [W2] [X1] The whole request is bought from who can do it, and its answer comes token for token in its channels;
/// thoughts are told apart, counted and owed.
#[test]
fn a_request_is_answered_in_channels() {
    let mut world = World::new(1);
    world.listen();
    let lacking = [None, Some(Features::IMAGES)];
    let lacking = lacking.map(|features| world.add_provider(serving(1, Answer::IN_CHANNELS, features)));
    let able = world.add_provider(serving(400_000, Answer::IN_CHANNELS, Some(Features::TOOLS)));
    let me = world.add_requester(RequesterConfig::default());
    let id = world.submit(me, request(Failover::Continue)).unwrap();
    world.run_to_end();
    world.report().verdict().unwrap();
    let answer = Answer::new(MODEL.as_bytes(), Answer::IN_CHANNELS, &Prompt::Request(JSON.into()), 0);
    let job = world.job(id).clone();
    assert_eq!((job.awarded(), lacking.len()), (vec![able.peer()], 2), "the cheaper ones cannot");
    for channel in [None, Some(Channel::Thought), Some(Channel::Refusal), Some(Channel::ToolCall)] {
        let written = (0..LENGTH).filter(|index| answer.channel(*index) == channel).map(|index| answer.token(index));
        let written: String = written.collect();
        assert!(!written.is_empty(), "{channel:?}");
        let mut told = String::new();
        let mut copy = world.clone();
        while let Some((_, said)) = copy.told() {
            if let Told::Tokens { text, channel: own, .. } = said
                && own == channel
            {
                told.push_str(&text);
            }
        }
        assert_eq!(told, written, "{channel:?}");
    }
    let thoughts = answer.thoughts(0..LENGTH);
    let Some(Finished::Answer { reason, prompt_tokens, tokens, thought, cached }) = job.finished() else {
        panic!("{job}")
    };
    assert_eq!((*reason, *tokens, *thought), (answer.end(), LENGTH, Some(thoughts)));
    assert_eq!(*cached, answer.cached(*prompt_tokens));
    let line = &job.ending.as_ref().unwrap().1.bill.lines[0];
    assert_eq!((line.tokens, line.owed), (LENGTH, owed(line.tariff, LENGTH)), "thoughts are owed, what was cached too");
}

/// Two equal providers; the first dies after `k` tokens.
fn lost_after(k: u64, class: u8, mut spec: JobSpec) -> Job {
    let mut world = World::new(k);
    let first = world.add_provider(serving(400_000, class, Some(Features::TOOLS)));
    world.add_provider(serving(800_000, class, Some(Features::TOOLS)));
    let me = world.add_requester(RequesterConfig::default());
    spec.sampling.seed = k;
    let id = world.submit(me, spec).unwrap();
    while world.job(id).tokens < k && world.step() {}
    let at = world.now();
    world.apply(&Schedule { faults: vec![Fault { at, what: FaultKind::Kill(first, Some(3)) }] });
    world.run_to_end();
    world.report().verdict().unwrap_or_else(|broken| panic!("after {k}: {broken}"));
    world.job(id).clone()
}

fn taken_over(job: &Job) -> Vec<TakeOver> {
    let how = |event: &(u64, Event<'_>)| match event.1 {
        Event::TakenOver { how, .. } => Some(how),
        _ => None,
    };
    job.events.iter().filter_map(how).collect()
}

/// [R9] Once somebody saw a byte of it, nobody continues an answer to a request: it begins anew where that was ordered, else it
/// ends and says why. The same bytes as plain text go on.
#[test]
fn an_answer_to_a_request_is_never_continued() {
    for k in (1..LENGTH).step_by(9) {
        let job = lost_after(k, 0, request(Failover::Continue));
        assert_eq!((job.failure(), job.tokens), (Some(Failure::Interrupted(Interrupted::Lost)), k));
        assert_eq!(job.ending.as_ref().unwrap().1.no_retry, Some(NoRetry::Forgotten));
        assert_eq!((taken_over(&job), job.awarded().len()), (Vec::new(), 1));
        for failover in [Failover::Restart, Failover::ContinueOrRestart] {
            let job = lost_after(k, 0, request(failover));
            assert_eq!((taken_over(&job), is_answered(&job)), (vec![TakeOver::Restarted], true), "after {k}");
        }
        let plain = JobSpec { prompt: Prompt::Raw(JSON.into()), ..request(Failover::Continue) };
        let job = lost_after(k, 0, plain);
        assert!(is_answered(&job) && taken_over(&job) != [TakeOver::Restarted], "after {k}: {job}");
    }
    // Nobody saw a byte yet.
    let job = lost_after(0, 0, request(Failover::Continue));
    assert!(is_answered(&job) && taken_over(&job).is_empty(), "{job}");
}

/// [R9] So it is with an answer to plain text once it holds something else than text.
#[test]
fn what_is_not_all_text_is_never_continued() {
    let (mut continued, mut sealed) = (0, 0);
    for k in 1..30 {
        let prompt = Prompt::Raw(JSON.into());
        let answer = Answer::new(MODEL.as_bytes(), Answer::IN_CHANNELS, &prompt, k);
        let plain = JobSpec { prompt, ..request(Failover::Continue) };
        let job = lost_after(k, Answer::IN_CHANNELS, plain);
        if (0..k).all(|index| answer.channel(index).is_none()) {
            assert!(is_answered(&job), "after {k}: {job}");
            continued += 1;
        } else {
            assert_eq!(job.ending.as_ref().unwrap().1.no_retry, Some(NoRetry::Forgotten), "after {k}: {job}");
            sealed += 1;
        }
    }
    assert!(continued > 0 && sealed > 0, "{continued} {sealed}");
}

/// [X1] A process that comes back goes on in the channels in which its application stored what was told.
#[test]
fn a_buyer_that_crashes_goes_on_in_channels() {
    for k in 1..LENGTH {
        let mut world = World::new(k);
        world.add_provider(serving(400_000, Answer::IN_CHANNELS, Some(Features::TOOLS)));
        let me = world.add_requester(RequesterConfig { pace: Pace::Every(1), ..RequesterConfig::default() });
        world.config.stores = true;
        world.keep_state(me);
        let id = world.submit(me, request(Failover::Continue)).unwrap();
        while world.job(id).tokens < k && world.step() {}
        let at = world.now();
        world.apply(&Schedule { faults: vec![Fault { at, what: FaultKind::Crash(me, 20) }] });
        world.run_to_end();
        world.report().verdict().unwrap_or_else(|broken| panic!("after {k}: {broken}"));
        let thoughts =
            Answer::new(MODEL.as_bytes(), Answer::IN_CHANNELS, &Prompt::Request(JSON.into()), 0).thoughts(0..LENGTH);
        let job = world.job(id);
        assert!(
            matches!(job.finished(), Some(Finished::Answer { tokens: LENGTH, thought, .. }) if *thought == Some(thoughts)),
            "after {k}: {job}"
        );
    }
}

/// [A13] An engine that cannot do any more what its advert said declines, and somebody else is found.
#[test]
fn who_cannot_any_more_declines() {
    for left in [None, Some(Features::IMAGES)] {
        let mut world = World::new(1);
        let first = world.add_provider(serving(1, 0, Some(Features::TOOLS)));
        let other = world.add_provider(serving(400_000, 0, Some(Features::TOOLS)));
        let me = world.add_requester(RequesterConfig::default());
        let id = world.submit(me, request(Failover::Continue)).unwrap();
        // Adverts are believed for a while only.
        while world.job(id).ending.is_none() && world.step() {}
        assert_eq!(world.job(id).awarded(), [first.peer()]);
        let at = world.now();
        world.apply(&Schedule { faults: vec![Fault { at, what: FaultKind::Features(first, left) }] });
        let id = world.submit(me, request(Failover::Continue)).unwrap();
        world.run_to_end();
        world.report().verdict().unwrap();
        let cannot = PassedOver::Declined(DeclineReason::Unsupported);
        let job = world.job(id);
        assert_eq!((job.awarded(), is_answered(job)), (vec![first.peer(), other.peer()], true), "{left:?}");
        assert_eq!(passed_over(job), [(first, cannot)]);
    }
}

#[test]
fn a_file_names_features() {
    let text = r#"
        jobs = [{ at = 0, node = 2, request = true, prompt = '{"tools":[]}', require = ["tools"], must_finish = true, budget = 1000 }]
        faults = [{ at = 0, what = { features = [0, "never"] } }, { at = 0, what = { features = [1, ["tools", "images"]] } }]
        nodes = [
            { kind = "provider", features = ["tools"] },
            { kind = "provider", engine = { class = 128 } },
            { kind = "requester" },
        ]
    "#;
    let plan = Plan::parse(text).unwrap();
    assert_eq!(plan.faults[0].what, FaultKind::Features(NodeId(0), None));
    assert_eq!(Plan::parse(&plan.to_text()).unwrap(), plan);
    plan.run().verdict().unwrap();
    let wrong = Plan::parse(&text.replace("\"images\"", "\"imagse\"")).unwrap_err().to_string();
    assert!(wrong.contains("there is no feature 'imagse'") && wrong.contains("images"), "{wrong}");
}
