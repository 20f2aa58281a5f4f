//! A server with faults as an engine: each fault ends typed and right, and the connection with it.

mod faults;
mod reading;

use std::{
    thread,
    time::{Duration, Instant},
};

use haggle_engine::{
    Channel, Done, Engine, Failure, Generation, Guarded, Message, Piece, Prefix, PrefixUse, Prompt, Request, Sampling,
    Step, Stop, Why,
    upstream::{Config, Dialect, Key, NotAKey, OpenError, Patience, Upstream},
};
use serde_json::json;

use crate::server::{Does, MODEL, Server, words};

const LONG: Duration = Duration::from_secs(60);

fn config(server: &Server) -> Config {
    // Long enough for a busy machine; where patience is to end, the test says when.
    let patience =
        Patience { first_token: LONG, gap: LONG, probe_every: Duration::from_millis(50), ..Patience::default() };
    Config { patience, ..Config::new("sold-model", &server.url()) }
}

fn open(server: &Server) -> Upstream {
    Upstream::open(config(server)).expect("a server that is well")
}

fn chat(max_tokens: u32) -> Request {
    Request {
        prompt: Prompt::Chat(vec![Message { role: "user".into(), content: "Say some words".into() }]),
        prefix: None,
        sampling: Sampling::default(),
        max_tokens,
        stop: Vec::new(),
    }
}

fn raw(max_tokens: u32) -> Request {
    Request { prompt: Prompt::Raw("Some words:".into()), ..chat(max_tokens) }
}

struct Outcome {
    pieces: Vec<Piece>,
    prefix: PrefixUse,
    end: Step,
}

impl Outcome {
    fn text(&self) -> String {
        self.on(None)
    }

    /// What was said on a channel.
    fn on(&self, channel: Option<Channel>) -> String {
        self.pieces.iter().filter(|piece| piece.channel == channel).map(|piece| piece.text.as_str()).collect()
    }

    fn done(&self) -> Done {
        match &self.end {
            Step::Done(done) => *done,
            other => panic!("{other:?}"),
        }
    }

    fn why(&self) -> Why {
        match &self.end {
            Step::Failed(failure) => failure.why,
            other => panic!("{other:?} after {:?}", self.text()),
        }
    }
}

/// Runs to the end, and checks what holds for every generation.
fn run(engine: &dyn Engine, request: Request) -> Outcome {
    let max_tokens = request.max_tokens;
    let mut generation = Guarded::start(engine, request).expect("taken");
    let began = Instant::now();
    let mut outcome = Outcome { pieces: Vec::new(), prefix: PrefixUse::None, end: Step::Working };
    let (mut started, mut tokens, mut bytes) = (0, 0, 0);
    while !outcome.end.is_ending() {
        assert!(began.elapsed() < LONG, "it ends");
        match generation.step(8) {
            Step::Working => {}
            Step::Waiting => thread::sleep(Duration::from_millis(1)),
            Step::Started(told) => {
                started += 1;
                outcome.prefix = told.prefix;
            }
            Step::Piece(piece) => {
                tokens += piece.n;
                bytes += piece.text.len();
                assert!(started == 1 && piece.n > 0 && !piece.text.is_empty() && tokens as usize <= bytes, "{piece:?}");
                outcome.pieces.push(piece);
            }
            end => outcome.end = end,
        }
    }
    assert!(tokens <= max_tokens);
    if let Step::Done(done) = outcome.end {
        assert_eq!((started, done.new_tokens), (1, tokens));
    }
    assert_eq!(generation.step(8), outcome.end, "the ending is repeated");
    outcome
}

fn until(what: &str, mut is: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is() {
        assert!(began.elapsed() < LONG, "{what}");
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn answers_are_the_same_however_they_are_sent() {
    let late = Duration::from_millis(50);
    let ways = [
        Does::Writes,
        Does::WritesBytes,
        Does::UsageOnFinish,
        Does::UsageLate(late),
        Does::SeveralPerEvent,
        Does::Heartbeats,
        Does::SlowFirst(late),
        Does::Whole,
    ];
    let server = Server::start(Does::Writes);
    let engine = open(&server);
    for does in ways {
        for request in [chat(8), raw(8)] {
            server.does(does.clone());
            let outcome = run(&engine, request);
            assert_eq!(outcome.text(), words(8), "{does:?}");
            let done = Done { stop: Stop::MaxTokens, prompt_tokens: 7, new_tokens: 8, cached: None };
            assert_eq!(outcome.done(), done, "{does:?}: the usage counts");
        }
    }
    let asked = server.asked();
    assert_eq!((&asked[0]["model"], &asked[0]["max_tokens"]), (&json!(MODEL), &json!(8)));
    assert_eq!(asked[1]["prompt"], json!("Some words:"));
    until("every connection is closed", || engine.connections() == 0 && server.writing() == 0);
    assert!(engine.outage().is_none());
}

#[test]
fn what_breaks_off_is_told_as_that_and_what_came_is_delivered() {
    let server = Server::start(Does::Writes);
    let engine = open(&server);
    let error = json!({ "error": { "code": 500, "message": "boom", "type": "server_error" } });
    let faults = [
        (Does::SilentEnd, Why::Truncated),
        (Does::Cut, Why::Truncated),
        (Does::ErrorAfter(2, error), Why::Engine),
        (Does::GiantLine, Why::Engine),
        (Does::Damaged, Why::Engine),
    ];
    for (does, why) in faults {
        server.does(does.clone());
        let outcome = run(&engine, chat(8));
        assert_eq!((outcome.why(), outcome.text()), (why, words(2)), "{does:?}");
        assert!(outcome.why().another_may_help());
        until("the connection is closed", || engine.connections() == 0 && server.writing() == 0);
    }
    server.does(Does::Writes);
    assert_eq!(run(&engine, chat(8)).text(), words(8));
    assert!(engine.outage().is_none(), "the server itself is well");
}

#[test]
fn silence_is_borne_as_long_as_patience_lasts() {
    let server = Server::start(Does::Stalls);
    let short = Duration::from_millis(200);
    let patience = Patience { gap: short, usage: short, ..config(&server).patience };
    let engine = Upstream::open(Config { patience, ..config(&server) }).expect("well");
    let outcome = run(&engine, chat(8));
    assert_eq!((outcome.why(), outcome.text()), (Why::Engine, words(2)));
    server.does(Does::NeverCloses);
    let outcome = run(&engine, chat(8));
    assert_eq!((outcome.done().stop, outcome.text()), (Stop::MaxTokens, words(8)), "the answer was complete");

    let patience = Patience { first_token: short, ..config(&server).patience };
    let engine = Upstream::open(Config { patience, ..config(&server) }).expect("well");
    server.does(Does::Hangs);
    assert_eq!(run(&engine, chat(8)).why(), Why::Engine);
    until("the server was left", || server.writing() == 0 && engine.connections() == 0);
    assert_eq!(server.left(), 3);
}

#[test]
fn a_dropped_generation_closes_its_connection_whatever_the_thread_waits_for() {
    let server = Server::start(Does::Writes);
    let engine = open(&server);
    for (left, does) in [Does::Hangs, Does::Stalls, Does::Endless].into_iter().enumerate() {
        server.does(does.clone());
        let mut generation = engine.start(chat(500)).expect("taken");
        until("the server computes", || server.writing() == 1);
        if does != Does::Hangs {
            until("text comes", || matches!(generation.step(8), Step::Piece(_)));
        }
        if does == Does::Endless {
            // Nobody steps: the channel and the sockets are full, and the thread waits for us.
            thread::sleep(Duration::from_millis(50));
        }
        drop(generation);
        until("the server noticed", || server.writing() == 0 && server.left() == left + 1);
        until("the thread ended", || engine.connections() == 0);
    }
}

#[test]
fn a_server_that_writes_on_is_left_at_the_last_token() {
    let server = Server::start(Does::Endless);
    let outcome = run(&open(&server), chat(8));
    assert_eq!((outcome.done().stop, outcome.done().new_tokens), (Stop::MaxTokens, 8));
    assert!(outcome.text().starts_with(&words(8)));
    until("the server was left", || server.writing() == 0);
}

#[test]
fn wide_text_is_delivered_in_pieces_that_can_be_sent() {
    let server = Server::start(Does::Wide(30_000));
    let outcome = run(&open(&server), chat(2000));
    assert_eq!(outcome.text(), "€".repeat(10_000));
    assert!(outcome.pieces.iter().all(|piece| piece.text.len() <= 8192));
    assert_eq!(outcome.done().new_tokens, 2000, "the usage counts");
}

#[test]
fn whole_characters_only() {
    let server = Server::start(Does::Says(&["👩‍👩‍👧", "日本", "語 \u{fffd}", " ok"]));
    let outcome = run(&open(&server), chat(9));
    assert_eq!(outcome.text(), "👩‍👩‍👧日本語 \u{fffd} ok");
    assert_eq!(outcome.done().new_tokens, 9);
}

#[test]
fn an_answer_is_continued_and_an_echo_is_not_sold() {
    let server = Server::start(Does::Echoes);
    let engine = open(&server);
    assert!(engine.info().can_continue);
    let prefix = Prefix { text: "These are words: ".into(), tokens: 4, ids: None };
    let outcome = run(&engine, Request { prefix: Some(prefix.clone()), ..chat(8) });
    assert_eq!((outcome.text(), outcome.prefix), (words(8), PrefixUse::Text));
    let asked = server.asked().pop().expect("asked");
    assert_eq!(asked["messages"][1], json!({ "role": "assistant", "content": prefix.text }));
    assert_eq!((&asked["continue_final_message"], &asked["add_generation_prompt"]), (&json!(true), &json!(false)));

    server.does(Does::Says(&["These ", "are ", "others."]));
    let outcome = run(&engine, Request { prefix: Some(prefix.clone()), ..chat(8) });
    assert_eq!(outcome.text(), "These are others.", "it only looked like one");
    server.does(Does::Says(&["These ", "are"]));
    assert_eq!(run(&engine, Request { prefix: Some(prefix.clone()), ..chat(8) }).text(), "These are");

    let plain = Config { dialect: Some(Dialect::OpenAi), ..config(&server) };
    let engine = Upstream::open(plain).expect("well");
    assert!(!engine.info().can_continue, "and its advert says so");
    let refused = engine.start(Request { prefix: Some(prefix), ..chat(8) }).err();
    assert_eq!(refused.map(|failure| failure.why), Some(Why::Unavailable));
}

#[test]
fn a_key_opens_and_shows_nowhere() {
    let server = Server::start_on(0, Does::Writes, Some("s3cret"));
    let key = Key::new(" s3cret\n").expect("a key");
    let engine = Upstream::open(Config { key: Some(key.clone()), ..config(&server) }).expect("opened");
    assert_eq!(run(&engine, chat(8)).text(), words(8));
    let shown = format!("{engine:?} {:?} {key:?}", Config { key: Some(key.clone()), ..config(&server) });
    assert!(!shown.contains("s3cret"), "{shown}");

    let wrong = Upstream::open(Config { key: Some(Key::new("wr0ng").expect("a key")), ..config(&server) });
    let wrong = wrong.expect_err("refused").to_string();
    assert!(wrong.contains("401") && wrong.contains("key") && !wrong.contains("wr0ng"), "{wrong}");
    assert_eq!(Key::new("a\nb").err(), Some(NotAKey));
    assert_eq!(Key::new(" ").err(), Some(NotAKey));

    // It is changed while we run.
    let port = server.port;
    drop(server);
    let _server = Server::start_on(port, Does::Writes, Some("other"));
    until("the key is refused", || engine.outage().is_some_and(|outage| outage.detail.contains("401")));
    let outcome = run(&engine, chat(8));
    assert_eq!(outcome.why(), Why::Engine, "the provider's fault");
}

#[test]
fn what_cannot_be_sold_is_told_before_it_is() {
    let server = Server::start(Does::Writes);
    let open = |change: fn(&mut Config)| {
        let mut config = config(&server);
        change(&mut config);
        Upstream::open(config).map(drop).expect_err("refused")
    };
    for url in ["127.0.0.1:1/v1", "ftp://127.0.0.1/v1", "http://", "http://user:pw@127.0.0.1/v1", "http://a/v1?key=b"] {
        let refused = Upstream::open(Config::new("m", url)).map(drop).expect_err(url);
        assert!(matches!(&refused, OpenError::Url(_)) && !refused.to_string().contains("pw"), "{url}: {refused}");
    }
    assert!(matches!(open(|config| config.model = Some("gpt".into())), OpenError::UnknownModel { .. }));
    assert!(open(|config| config.model = Some("gpt".into())).to_string().contains(MODEL));
    assert_eq!(open(|config| config.context = Some(0)), OpenError::Context);

    let engine = self::open(&server);
    assert_eq!((engine.model(), engine.dialect(), engine.slots()), (MODEL, Dialect::Llama, 3));
    assert_eq!((engine.info().name.as_str(), engine.info().context), ("sold-model", 2048), "as it says");
    for list in
        [json!([{ "id": "m", "owned_by": 3 }]), json!({ "models": [null, 7, {}, { "name": "m" }] }), json!(["m"])]
    {
        server.lists(200, list.clone());
        let named = Upstream::open(Config { model: Some("m".into()), ..config(&server) });
        assert!(named.is_ok(), "{list}: {named:?}");
    }
    server.lists(200, json!({ "data": [{ "id": "a" }, { "id": "b", "owned_by": "vllm", "max_model_len": 512 }] }));
    assert_eq!(open(|_| {}).to_string(), "the upstream server has no model \"sold-model\"; it has a, b");
    let engine = Upstream::open(Config { model: Some("b".into()), ..config(&server) }).expect("well");
    assert_eq!((engine.dialect(), engine.info().context, engine.slots()), (Dialect::Vllm, 512, 4));
    drop(server);
    let failure: Result<_, Failure> = engine.start(chat(8)).map(drop);
    assert_eq!(failure, Ok(()), "whether it can be reached, the first step tells");
}
