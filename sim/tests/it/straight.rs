//! The straight path.

use haggle_core::{
    Event,
    event::{ChoiceReason, Finished},
    machine::QueryOutcome,
    requester::{Command, Reply},
    spec::QuoteSpec,
    wire::{ChatMessage, Prompt, message::EndReason},
};
use haggle_sim::{Answer, LinkConfig, NodeId, ProviderConfig, RequesterConfig, Rule, World, job, name, owed};

use crate::{MODEL, PROMPT, cheap, engine, is_answered, pair, passed_over, run, spec};

#[test]
fn a_job_is_found_priced_streamed_and_billed() {
    let (mut world, provider, me) = pair(1, cheap());
    let id = world.submit(me, spec()).unwrap();
    let job = run(&mut world, id);
    let names: Vec<_> = job.events.iter().map(|(_, event)| event.name()).collect();
    assert_eq!(names, ["job:asked", "job:offered", "job:awarded", "job:negotiated", "job:ended"]);
    assert_eq!(job.text, Answer::new(MODEL.as_bytes(), 0, &Prompt::Raw(PROMPT.into()), 0).text(30));
    let Some(Finished::Answer { reason: EndReason::Length, tokens: 30, prompt_tokens, .. }) = job.finished() else {
        panic!("{:?}", job.ending)
    };
    assert_eq!(*prompt_tokens, (PROMPT.len() as u64).div_ceil(4));
    let bill = &job.ending.as_ref().unwrap().1.bill;
    assert_eq!((bill.lines.len(), bill.tokens, bill.lines[0].peer), (1, 30, provider.peer()));
    assert_eq!(bill.owed, owed(bill.lines[0].tariff, 30));
    assert_eq!(bill.lines[0].text_bytes, job.text.len() as u64);
    // 256 bytes of prompt are counted, at 4 bytes a token and 0.1 a token: 7; 30 tokens at 0.4: 12.
    assert_eq!(bill.owed, 7 + 12);
}

/// One that the simulator does not know by name is carried through like any other.
#[test]
fn a_command_runs_as_its_method_does() {
    let (mut one, _, me) = pair(1, cheap());
    let id = one.submit(me, spec()).unwrap();
    one.cancel(id).unwrap();
    let (mut other, ..) = pair(1, cheap());
    assert_eq!(other.command(me, Command::Submit(spec())), Ok(Reply::Job(id)));
    assert_eq!(other.command(me, Command::Cancel(id)), Ok(Reply::Done));
    assert_eq!(run(&mut one, id).failure(), run(&mut other, id).failure());
    assert_eq!((one.trace().hash(), one.digest()), (other.trace().hash(), other.digest()));
}

#[test]
fn an_answer_shorter_than_ordered_stops_by_itself() {
    let (mut world, _, me) = pair(2, cheap().engine(engine(7)));
    let id = world.submit(me, spec()).unwrap();
    let job = run(&mut world, id);
    assert!(matches!(job.finished(), Some(Finished::Answer { reason: EndReason::Stop, tokens: 7, .. })));
}

#[test]
fn every_kind_of_prompt_arrives_as_it_was_given() {
    let chat = Prompt::Chat(vec![
        ChatMessage { role: "system".into(), content: "Be brief.".into() },
        ChatMessage { role: "user".into(), content: "Kürzer als das 日本語?".into() },
    ]);
    for prompt in [chat, Prompt::Tokens(vec![0, 7, u32::MAX]), Prompt::Raw("x".into())] {
        let (mut world, _, me) = pair(3, cheap());
        let mut spec = spec();
        spec.prompt = prompt.clone();
        let id = world.submit(me, spec).unwrap();
        let job = run(&mut world, id);
        assert_eq!(job.text, Answer::new(MODEL.as_bytes(), 0, &prompt, 0).text(30));
    }
}

#[test]
fn an_alias_names_the_same_model() {
    let mut config = cheap();
    config.service.models[0].advert.aliases = vec![name("tale")];
    let (mut world, _, me) = pair(4, config);
    let id = world.submit(me, job("tale", PROMPT, 30, 1_000_000)).unwrap();
    let job = run(&mut world, id);
    assert_eq!(job.text, Answer::new(MODEL.as_bytes(), 0, &Prompt::Raw(PROMPT.into()), 0).text(30));
}

#[test]
fn how_bytes_are_cut_changes_nothing() {
    let outcome = |split, piece| {
        let mut config = cheap();
        config.engine.piece = piece;
        let (mut world, _, me) = pair(5, config);
        world.config.default_link = LinkConfig { split, jitter: 7, ..LinkConfig::default() };
        let id = world.submit(me, spec()).unwrap();
        let job = run(&mut world, id);
        (job.text, job.ending.unwrap().1)
    };
    let whole = outcome(0, 1);
    for split in [1, 2, 30] {
        assert_eq!(outcome(split, 1), whole);
    }
    for piece in [3, 30, 1000] {
        assert_eq!(outcome(1, piece).0, whole.0);
    }
}

#[test]
fn a_calm_network_wastes_nothing() {
    let mut world = World::new(6);
    let providers: Vec<NodeId> = (0..3)
        .map(|price| world.add_provider(ProviderConfig::new(MODEL, 0, 1_000_000 + 100_000 * price).slots(30)))
        .collect();
    let me = world.add_requester(RequesterConfig::default());
    for nth in 0..20 {
        world.submit_at(nth * 700, me, spec());
    }
    world.run_to_end();
    let report = world.report();
    report.verdict().unwrap();
    assert_eq!((report.finished, report.queries), (20, 1));
    // Three adverts, three quotes and the award on one of their streams; after that one stream a job.
    assert_eq!(report.dials, 3 + 3 + 19);
    for (_, job) in world.jobs() {
        assert_eq!(job.awarded(), [providers[0].peer()]);
        assert_eq!(passed_over(job), []);
        assert_eq!(job.count("job:awarded"), 1);
    }
}

#[test]
fn a_prompt_of_one_and_a_half_mebibytes_travels_under_credit() {
    let (mut world, provider, me) = pair(7, cheap());
    let prompt: String = (0..1_572_864_u32).map(|at| char::from(b'a' + (at % 23) as u8)).collect();
    let id = world.submit(me, job(MODEL, &prompt, 30, 1_000_000)).unwrap();
    let mut held = 0;
    while world.step() {
        held = held.max(world.provider(provider).held_bytes());
    }
    assert_eq!(held, 1_572_864, "what was awarded is held, no more");
    let job = run(&mut world, id);
    assert!(is_answered(&job));
    assert_eq!(world.provider(provider).held_bytes(), 0);
}

#[test]
fn a_quote_awards_nothing_and_a_discovery_asks_nothing() {
    let mut world = World::new(8);
    let one = world.add_provider(cheap());
    let two = world.add_provider(ProviderConfig::new(MODEL, 5, 5));
    let me = world.add_requester(RequesterConfig::default());
    let quote = QuoteSpec {
        criteria: haggle_core::Criteria::new(name(MODEL)),
        body_bytes: 50,
        max_tokens: 10,
        deadline: None,
        haggle: haggle_core::spec::Haggle::No,
    };
    let id = world.quote(me, quote).unwrap();
    let quotes = run(&mut world, id);
    let Some(Finished::Quotes(offers)) = quotes.finished() else { panic!("{:?}", quotes.ending) };
    assert_eq!(offers.iter().map(|quote| quote.peer).collect::<Vec<_>>(), [two.peer(), one.peer()]);
    assert!(quotes.awarded().is_empty());
    let id = world.discover(me, haggle_core::Criteria::new(name(MODEL)), None).unwrap();
    let found = run(&mut world, id);
    let Some(Finished::Providers { found: peers, outcome: QueryOutcome::Complete }) = found.finished() else {
        panic!("{:?}", found.ending)
    };
    assert_eq!(peers.iter().map(|(peer, _)| *peer).collect::<Vec<_>>(), [two.peer(), one.peer()]);
    assert_eq!(found.count("job:asked"), 0);
}

#[test]
fn the_second_job_awards_the_posted_price_without_asking() {
    let (mut world, _, me) = pair(9, cheap());
    let first = world.submit(me, spec()).unwrap();
    let first = run(&mut world, first);
    let (queries, dials) = (world.report().queries, world.report().dials);
    let second = world.submit(me, spec()).unwrap();
    let second = run(&mut world, second);
    assert!(is_answered(&second));
    assert_eq!((world.report().queries, world.report().dials), (queries, dials + 1));
    assert_eq!(second.count("job:asked"), 0);
    assert!(second.events.iter().any(|(_, e)| matches!(e, Event::Awarded { reason: ChoiceReason::Posted, .. })));
    assert_eq!(second.owed(), first.owed());
    // One round trip and the prefill to the first token: open, opened, award, tokens are 10 ms each.
    assert_eq!(second.first_token.unwrap() - second.submitted, 40 + 40);
}

#[test]
fn a_world_runs_alike_without_oracles_and_says_that_nobody_looked() {
    let run = |mut world: World| {
        world.add_provider(cheap());
        let me = world.add_requester(RequesterConfig::default());
        world.submit(me, spec()).unwrap();
        world.run_to_end();
        world.report()
    };
    let (judged, other) = (run(World::new(3)), run(World::new(3).without_oracles()));
    assert_eq!((judged.trace, judged.tokens, judged.verdict()), (other.trace, other.tokens, Ok(())));
    assert_eq!(other.verdict().map_err(|broken| broken.rule), Err(Rule::Watched));
}
