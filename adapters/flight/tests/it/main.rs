//! What was recorded is run again, and what was changed is not followed.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests, which may panic")]

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use haggle_core::{
    AttemptId, Criteria, Event, Input, Instant, JobId, JobSpec, Limits, Machine, Millis, Model, Output, PeerId, Policy,
    Provider, ProviderEvent, QueryId, Refusal, Requester, StreamId,
    machine::QueryOutcome,
    peers::{BanCause, BanRecord},
    provider::{self, Piece, Service, Serving},
    requester,
    spec::{Haggle, QuoteSpec},
    wire::{
        Prompt,
        message::{EndReason, Exactness, ModelAdvert, Phase},
    },
};
use haggle_flight::{Damage, Recorded, Recorder, ReplayError, What, Who, replay};
use proptest::prelude::*;

const SECRET: &str = "the secret prompt";
const ANSWER: &str = "an answer of some words";

/// A file of its own, removed in the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("haggle-flight-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        Self(std::env::temp_dir().join(name))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn service() -> Service {
    let advert = ModelAdvert {
        model: Model::new(b"tales").unwrap(),
        aliases: Vec::new(),
        context: 4096,
        price_in: 0,
        bytes_per_token: 4,
        price_out: 1_000_000,
        eta: Millis(100),
        can_continue: true,
        exactness: Exactness::default(),
        features: None,
        longest: None,
        price_part: None,
    };
    Service { models: vec![Serving { advert, floor_permille: 1000 }], slots: 1, ..Service::default() }
}

fn submit(requester: &mut Recorded<Requester>, now: Instant, spec: JobSpec) -> Result<JobId, Refusal> {
    match requester.command(now, requester::Command::Submit(spec))? {
        requester::Reply::Job(job) => Ok(job),
        reply => panic!("{reply:?}"),
    }
}

fn accept(provider: &mut Recorded<Provider>, now: Instant, peer: PeerId) -> StreamId {
    match provider.command(now, provider::Command::AcceptStream(peer)) {
        Ok(provider::Reply::Stream(stream)) => stream,
        answer => panic!("{answer:?}"),
    }
}

/// What a provider sends, whose engine answers as soon as it is started.
fn serve(provider: &mut Recorded<Provider>, at: Instant) -> Vec<(StreamId, Vec<u8>)> {
    let mut sent = Vec::new();
    let mut start = None;
    while let Some(output) = provider.poll_output() {
        match output {
            Output::Transmit { stream, bytes } => sent.push((stream, bytes.to_vec())),
            Output::Event(ProviderEvent::Start { attempt, .. }) => start = Some(attempt),
            _ => {}
        }
    }
    if let Some(attempt) = start {
        let piece = Piece { n: 5, text: ANSWER, ids: None, channel: None };
        provider.command(at, provider::Command::Started { attempt, prompt_tokens: 4, cached: None }).unwrap();
        provider.command(at, provider::Command::push(attempt, piece)).unwrap();
        provider.command(at, provider::Command::Finish { attempt, reason: EndReason::Stop }).unwrap();
    }
    sent
}

/// Both machines of one node, wired to each other: a job from its submission to its bill. Returns what was written.
fn fly(path: &Path, redacted: bool) -> String {
    let recorder = Recorder::create(path, redacted).unwrap();
    let (buyer, seller) = (PeerId::new(&[1]).unwrap(), PeerId::new(&[2]).unwrap());
    let mut requester = Recorded::requester(Policy::default(), Limits::default(), [3; 32], Some(&recorder)).unwrap();
    let mut provider = Recorded::provider(service(), Limits::default(), [4; 32], Some(&recorder)).unwrap();
    let mut spec = JobSpec::new(Model::new(b"tales").unwrap(), Prompt::Raw(SECRET.into()), 50);
    (spec.budget, spec.explain) = (Some(1_000_000), true);
    let mut now = 0;
    let job = submit(&mut requester, Instant::from_millis(now), spec).unwrap();
    let mut links: Vec<(StreamId, StreamId)> = Vec::new();
    let mut text = String::new();
    for _ in 0..40 {
        now += 7;
        let at = Instant::from_millis(now);
        let mut facts: Vec<(Who, u64, Option<Vec<u8>>)> = Vec::new();
        let mut found = None;
        let mut taken = 0;
        while let Some(output) = requester.poll_output() {
            match output {
                Output::StartQuery { query, .. } => found = Some(query),
                Output::Open { stream, .. } => facts.push((Who::Requester, stream.0, None)),
                Output::Transmit { stream, bytes } => facts.push((Who::Provider, stream.0, Some(bytes.to_vec()))),
                Output::Event(Event::Tokens { n, text: more, .. }) => {
                    text.push_str(more);
                    taken += u64::from(n);
                }
                _ => {}
            }
        }
        if taken > 0 {
            requester.command(at, requester::Command::Consumed { job, tokens: taken }).unwrap();
        }
        if let Some(query) = found {
            requester.handle_input(at, Input::PeersFound(query, &[seller]));
            requester.handle_input(at, Input::QueryDone(query, QueryOutcome::Complete));
        }
        for (_, stream, bytes) in facts {
            match bytes {
                None => {
                    links.push((StreamId(stream), accept(&mut provider, at, buyer)));
                    requester.handle_input(at, Input::StreamOpened(StreamId(stream)));
                }
                Some(bytes) => {
                    let there = links.iter().find(|(here, _)| here.0 == stream).unwrap().1;
                    provider.handle_input(at, Input::Received(there, &bytes));
                }
            }
        }
        for (stream, bytes) in serve(&mut provider, at) {
            let here = links.iter().find(|(_, there)| *there == stream).unwrap().0;
            requester.handle_input(at, Input::Received(here, &bytes));
        }
    }
    assert!(recorder.take_error().is_none());
    assert_eq!(requester.open_jobs(), 0, "the job came to its end");
    text
}

#[test]
fn a_flight_is_replayed_byte_for_byte_and_told() {
    let file = Scratch::new();
    assert_eq!(fly(&file.0, false), ANSWER);
    let (mut told, mut tokens) = (Vec::new(), String::new());
    let summary = replay(&file.0, u64::MAX, |moment| match &moment.what {
        What::Requester(event) => {
            told.push(event.name());
            if let Event::Tokens { text, .. } = event {
                tokens.push_str(text);
            }
        }
        What::Provider(ProviderEvent::Served { .. }) => told.push("served"),
        _ => {}
    })
    .unwrap();
    assert_eq!(tokens, ANSWER);
    assert!(!summary.torn && summary.steps > 20 && summary.outputs > 10, "{summary:?}");
    for name in ["job:weighed", "job:awarded", "job:negotiated", "stream:token", "job:ended", "served"] {
        assert!(told.contains(&name), "{name} is not in {told:?}");
    }
}

#[test]
fn a_replay_stops_at_the_time_that_was_asked_for() {
    let file = Scratch::new();
    fly(&file.0, false);
    let whole = replay(&file.0, u64::MAX, |_| {}).unwrap();
    let part = replay(&file.0, 20, |moment| assert!(moment.at <= 20)).unwrap();
    assert!(part.until <= 20 && part.steps < whole.steps);
}

#[test]
fn a_redacted_flight_is_told_and_not_compared() {
    let (file, plain) = (Scratch::new(), Scratch::new());
    fly(&file.0, true);
    fly(&plain.0, false);
    let text = fs::read_to_string(&file.0).unwrap();
    let hex: String = SECRET.bytes().map(|byte| format!("{byte:02x}")).collect();
    for secret in [SECRET, ANSWER, &hex] {
        assert!(!text.contains(secret), "{secret} is in {text}");
    }
    assert!(fs::read_to_string(&plain.0).unwrap().contains(SECRET), "the plain one has it, and says so");
    let mut seen = Vec::new();
    let error = replay(&file.0, u64::MAX, |moment| match &moment.what {
        What::Seen(event) => seen.push(event.to_string()),
        what => panic!("{what:?}"),
    })
    .unwrap_err();
    assert!(matches!(error, ReplayError::Redacted), "{error}");
    for part in ["weighed", "awarded", "\"tokens\":{", "ended", "served"] {
        assert!(seen.iter().any(|event| event.contains(part)), "{part} is not in {seen:?}");
    }
}

#[test]
fn any_flipped_bit_is_reported_and_not_followed() {
    let file = Scratch::new();
    fly(&file.0, false);
    let whole = fs::read(&file.0).unwrap();
    let lines = whole.iter().filter(|byte| **byte == b'\n').count() as u64;
    proptest!(ProptestConfig::with_cases(300), |(at in 0..whole.len(), bit in 0..8)| {
        let mut bytes = whole.clone();
        bytes[at] ^= 1_u8 << bit;
        let other = Scratch::new();
        fs::write(&other.0, &bytes).unwrap();
        let line = whole[..at].iter().filter(|byte| **byte == b'\n').count() as u64 + 1;
        match replay(&other.0, u64::MAX, |_| {}) {
            Err(ReplayError::Damage(Damage::NoRecording | Damage::Changed(1))) => prop_assert_eq!(line, 1),
            Err(ReplayError::Damage(Damage::Changed(reported))) => prop_assert!(reported == line, "{reported}, not {line}"),
            // Without its newline, the last line looks as if the node had been killed there.
            Ok(summary) => prop_assert!(summary.torn && line == lines),
            Err(error) => prop_assert!(false, "{error}"),
        }
    });
}

#[test]
fn a_line_that_was_left_out_or_put_in_is_reported() {
    let file = Scratch::new();
    fly(&file.0, false);
    let text = fs::read_to_string(&file.0).unwrap();
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let replayed = |lines: &[&str]| {
        let other = Scratch::new();
        fs::write(&other.0, lines.concat()).unwrap();
        replay(&other.0, u64::MAX, |_| {})
    };
    let without = [&lines[..5], &lines[6..]].concat();
    assert!(matches!(replayed(&without), Err(ReplayError::Damage(Damage::Changed(6)))));
    let twice = [&lines[..6], &lines[5..]].concat();
    assert!(matches!(replayed(&twice), Err(ReplayError::Damage(Damage::Changed(7)))));
    // A node that was killed leaves what it had: that is true as far as it goes.
    let torn = [&lines[..9], &["0123"]].concat();
    assert!(replayed(&torn).unwrap().torn);
    for foreign in ["", "{}\n", "hello", "0123456789abcdef {\"format\":1}\n"] {
        assert!(matches!(replayed(&[foreign]), Err(ReplayError::Damage(_))), "{foreign}");
    }
}

/// A recorder on which the machine is said to have done what it does not do.
#[test]
fn a_core_that_decides_otherwise_is_found_out() {
    let file = Scratch::new();
    let recorder = Recorder::create(&file.0, false).unwrap();
    let limits = Limits::default();
    let mut requester = Recorded::requester(Policy::default(), limits.clone(), [3; 32], Some(&recorder)).unwrap();
    let spec = JobSpec::new(Model::new(b"tales").unwrap(), Prompt::Raw("p".into()), 0);
    assert!(submit(&mut requester, Instant::ZERO, spec).is_err());
    replay(&file.0, u64::MAX, |_| {}).unwrap();
    // The same steps, but as if the first machine had had another seed.
    let other = Scratch::new();
    let recorder = Recorder::create(&other.0, false).unwrap();
    let mut requester = Recorded::requester(Policy::default(), limits, [5; 32], Some(&recorder)).unwrap();
    let spec = JobSpec::new(Model::new(b"tales").unwrap(), Prompt::Raw("p".into()), 1);
    submit(&mut requester, Instant::ZERO, spec).unwrap();
    let text = fs::read_to_string(&other.0).unwrap();
    drop(requester);
    let forged = Scratch::new();
    fs::write(&forged.0, forge(&text, "[5,5,", "[6,5,")).unwrap();
    let error = replay(&forged.0, u64::MAX, |_| {}).unwrap_err();
    assert!(matches!(error, ReplayError::Diverged { line: 3, who: Who::Requester, .. }), "{error}");
}

/// Changes what is recorded, and makes all digests fit again.
fn forge(text: &str, from: &str, to: &str) -> String {
    use sha2::{Digest, Sha256};
    let mut chain = [0; 32];
    let forged = text.lines().map(|line| {
        let json = line.split_once(' ').unwrap().1.replace(from, to);
        chain = Sha256::new().chain_update(chain).chain_update(&json).finalize().into();
        let digest: String = chain[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{digest} {json}\n")
    });
    forged.collect()
}

/// Every command that there is, whether the machine can follow it or not.
fn commands() -> (Vec<requester::Command>, Vec<provider::Command<'static>>) {
    use provider::Command as Sell;
    use requester::Command as Buy;
    let model = || Model::new(b"tales").unwrap();
    let (peer, job, attempt) = (PeerId::new(&[7]).unwrap(), JobId([3; 16]), AttemptId(5));
    let mut spec = JobSpec::new(model(), Prompt::Raw(SECRET.into()), 50);
    (spec.budget, spec.stop) = (Some(u64::MAX), vec!["\"quoted\"\n".into()]);
    let criteria = Criteria::new(model());
    let quote = QuoteSpec {
        criteria: criteria.clone(),
        body_bytes: 9,
        max_tokens: 5,
        deadline: Some(Millis(5)),
        haggle: Haggle::Bid(900),
    };
    let time = Millis::from_secs(60);
    let records = vec![BanRecord { peer, cause: BanCause::Score, remaining: time, remembered: time, proven: false }];
    let requester = vec![
        Buy::KeepEndings,
        Buy::SetAccountBudget(Some(u64::MAX)),
        Buy::SetAccountBudget(None),
        Buy::Submit(spec),
        Buy::Quote(quote),
        Buy::Discover { criteria, deadline: None },
        Buy::Award { job, peer },
        Buy::Cancel(job),
        Buy::Consumed { job, tokens: u64::MAX },
        Buy::Concluded(job),
        Buy::Ban(peer),
        Buy::Allow(peer),
        Buy::ImportBans { away: Millis(1), records },
    ];
    let ids: &[u8] = &[1, 0, 0, 255];
    let provider = vec![
        Sell::AcceptStream(peer),
        Sell::SetModels(service().models),
        Sell::SetModels(vec![Serving { floor_permille: 1001, ..service().models.remove(0) }]),
        Sell::SetOutage { model: model(), lasts: Some(Millis(9)) },
        Sell::SetOutage { model: model(), lasts: None },
        Sell::Started { attempt, prompt_tokens: 9, cached: None },
        Sell::Working { attempt, phase: Phase::Thinking },
        Sell::push(attempt, Piece { n: 1, text: ANSWER, ids: Some(ids), channel: None }),
        Sell::push(attempt, Piece { n: 1, text: "\"quoted\"\n", ids: None, channel: None }),
        Sell::Finish { attempt, reason: EndReason::Stop },
        Sell::Drain { patience: time },
        Sell::ShutDown,
        Sell::Close,
    ];
    (requester, provider)
}

#[test]
fn every_command_is_carried_through_and_told_without_contents() {
    let file = Scratch::new();
    let recorder = Recorder::create(&file.0, false).unwrap();
    let mut requester = Recorded::requester(Policy::default(), Limits::default(), [3; 32], Some(&recorder)).unwrap();
    let mut provider = Recorded::provider(service(), Limits::default(), [4; 32], Some(&recorder)).unwrap();
    let (to_requester, to_provider) = commands();
    let mut given: Vec<String> = Vec::new();
    for (at, command) in (1..).zip(to_requester) {
        given.push(command.to_string());
        let _refused = requester.command(Instant::from_millis(at), command);
        while requester.poll_output().is_some() {}
    }
    for (at, command) in (1..).zip(to_provider) {
        given.push(command.to_string());
        let _refused = provider.command(Instant::from_millis(at), command);
        while provider.poll_output().is_some() {}
    }
    assert!(recorder.take_error().is_none());
    let mut told = Vec::new();
    let summary = replay(&file.0, u64::MAX, |moment| {
        if let What::Step(step) = moment.what {
            told.push(step.to_string());
        }
    })
    .unwrap();
    assert!(summary.outputs > 0 && summary.steps > given.len() as u64, "{summary:?}");
    told.retain(|step| step != "begins");
    assert_eq!(told, given);
    for secret in [SECRET, ANSWER] {
        assert!(!told.iter().any(|step| step.contains(secret)), "{secret} is in {told:?}");
    }
}

#[test]
fn a_recording_of_another_format_is_refused_by_name() {
    let file = Scratch::new();
    fly(&file.0, false);
    let text = fs::read_to_string(&file.0).unwrap();
    let other = Scratch::new();
    fs::write(&other.0, forge(&text, "haggle-flight/2", "haggle-flight/1")).unwrap();
    let error = replay(&other.0, u64::MAX, |moment| panic!("{moment:?} is followed")).unwrap_err();
    assert!(matches!(&error, ReplayError::Damage(Damage::Format(format)) if format == "haggle-flight/1"), "{error}");
    assert!(error.to_string().contains("use the version of haggle that wrote it"), "{error}");
}

#[test]
fn without_a_tape_nothing_is_different() {
    let (at, later) = (Instant::ZERO, Instant::from_millis(60_000));
    let spec = || JobSpec::new(Model::new(b"tales").unwrap(), Prompt::Raw(SECRET.into()), 50);
    let seller = PeerId::new(&[2]).unwrap();
    let mut plain = Requester::new(Policy::default(), Limits::default(), [1; 32]).unwrap();
    let mut recorded = Recorded::requester(Policy::default(), Limits::default(), [1; 32], None).unwrap();
    assert_eq!(plain.submit(at, spec()).unwrap(), submit(&mut recorded, at, spec()).unwrap());
    let mut said = same_outputs(&mut plain, &mut recorded);
    let query = QueryId(0);
    for input in [Input::PeersFound(query, &[seller]), Input::QueryDone(query, QueryOutcome::Complete)] {
        plain.handle_input(at, input);
        recorded.handle_input(at, input);
    }
    said += same_outputs(&mut plain, &mut recorded);
    plain.handle_input(later, Input::Timeout);
    recorded.handle_input(later, Input::Timeout);
    assert!(said + same_outputs(&mut plain, &mut recorded) > 2, "there was something to compare");
    assert_eq!(plain.digest(later), recorded.digest(later));
    let mut plain = Provider::new(service(), Limits::default(), [1; 32]).unwrap();
    let mut recorded = Recorded::provider(service(), Limits::default(), [1; 32], None).unwrap();
    let (own, other) = (plain.accept_stream(at, seller).unwrap(), accept(&mut recorded, at, seller));
    assert_eq!(own, other);
    plain.handle_input(at, Input::Received(own, &[0xff; 9]));
    recorded.handle_input(at, Input::Received(own, &[0xff; 9]));
    assert!(same_outputs(&mut plain, &mut recorded) > 0, "there was something to compare");
    assert_eq!(plain.digest(at), recorded.digest(at));
}

/// Drains two machines that are to say the same, and counts what they said.
fn same_outputs<A, B>(one: &mut A, other: &mut B) -> usize
where
    A: Machine,
    B: Machine,
    for<'a> A::Event<'a>: std::fmt::Debug,
    for<'a> B::Event<'a>: std::fmt::Debug,
{
    let mut n = 0;
    loop {
        let (said, also) = (format!("{:?}", one.poll_output()), format!("{:?}", other.poll_output()));
        assert_eq!(said, also);
        if said == "None" {
            return n;
        }
        n += 1;
    }
}

#[test]
fn what_was_written_is_read_however_long_it_is() {
    let file = Scratch::new();
    let recorder = Recorder::create(&file.0, false).unwrap();
    let limits = Limits { body_bytes: 16 << 20, ..Limits::default() };
    let mut requester = Recorded::requester(Policy::default(), limits, [3; 32], Some(&recorder)).unwrap();
    let prompt = "a".repeat(9 << 20);
    let spec = JobSpec::new(Model::new(b"tales").unwrap(), Prompt::Raw(prompt), 50);
    submit(&mut requester, Instant::ZERO, spec).unwrap();
    drop(requester);
    assert!(recorder.take_error().is_none());
    assert!(fs::metadata(&file.0).unwrap().len() > 9 << 20);
    replay(&file.0, u64::MAX, |_| {}).unwrap();
}

#[cfg(unix)]
#[test]
fn a_recording_is_for_its_owner_and_never_overwrites() {
    use std::os::unix::fs::PermissionsExt;
    let file = Scratch::new();
    let _tape = Recorder::create(&file.0, false).unwrap();
    assert_eq!(fs::metadata(&file.0).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(Recorder::create(&file.0, false).unwrap_err().kind(), std::io::ErrorKind::AlreadyExists);
}
