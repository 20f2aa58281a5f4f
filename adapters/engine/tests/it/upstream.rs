//! A server with faults as an engine: each fault ends typed and right, and the connection with it.

use std::{
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use haggle_engine::{
    Done, Engine, Failure, Generation, Guarded, Message, Phase, Piece, Prefix, PrefixUse, Prompt, Request, Sampling,
    Step, Stop, Why,
    upstream::{Config, Dialect, Key, NotAKey, OpenError, Patience, Upstream},
};
use serde_json::json;

use crate::server::{Does, MODEL, Server, events, words};

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
        crate::text(&self.pieces)
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
            let done = Done { stop: Stop::MaxTokens, prompt_tokens: 7, new_tokens: 8 };
            assert_eq!(outcome.done(), done, "{does:?}: the usage counts");
        }
    }
    let asked = server.asked();
    assert_eq!((&asked[0]["model"], &asked[0]["max_tokens"]), (&json!(MODEL), &json!(8)));
    assert_eq!(asked[1]["prompt"], json!("Some words:"));
    until("every connection is closed", || engine.connections() == 0 && server.writing() == 0);
    assert!(engine.outage().is_none());
}

/// A piece of an answer, with what else is in its event.
fn piece(text: &str, reason: Option<&str>, more: &str) -> String {
    let choice = json!({ "index": 0, "delta": { "content": text }, "finish_reason": reason });
    format!("{{\"choices\":[{choice}]{more}}}")
}

#[test]
fn text_is_text_until_the_end_whatever_reasons_were_given_before() {
    let (stop, done) = (Some("stop"), "[DONE]".to_owned());
    let usage = |n: u32| format!(r#"{{"choices":[],"usage":{{"prompt_tokens":7,"completion_tokens":{n}}}}}"#);
    let with = |n: u32| format!(r#","usage":{{"prompt_tokens":7,"completion_tokens":{n}}}"#);
    let end = piece("", stop, "");
    let thought = r#"{"choices":[{"delta":{"reasoning_content":"hm"},"finish_reason":"stop"}]}"#.to_owned();
    let streams = [
        (
            "in every piece",
            vec![piece("a ", stop, ""), piece("b ", stop, ""), piece("c", stop, ""), usage(3), done.clone()],
        ),
        ("in every piece, no more", vec![piece("a ", stop, ""), piece("b ", stop, ""), piece("c", stop, "")]),
        (
            "the end twice",
            vec![
                piece("a b ", None, ""),
                piece("c", None, ""),
                end.clone(),
                end.clone(),
                usage(3),
                usage(3),
                done.clone(),
                done.clone(),
            ],
        ),
        (
            "too early",
            vec![piece("a ", None, ""), end.clone(), usage(1), piece("b c", None, ""), end.clone(), done.clone()],
        ),
        (
            "with the usage",
            vec![piece("a ", stop, &with(1)), piece("b ", stop, &with(2)), piece("c", stop, &with(3)), done.clone()],
        ),
        (
            "for a thought",
            vec![thought, piece("a b ", None, ""), piece("c", None, ""), end.clone(), usage(3), done.clone()],
        ),
        ("none", vec![piece("a b ", None, ""), piece("c", Some("null"), ""), usage(3), done]),
    ];
    let server = Server::start(Does::Writes);
    let engine = open(&server);
    for (name, data) in streams {
        server.does(events(data.iter().map(String::as_str)));
        let outcome = run(&engine, chat(9));
        assert_eq!((outcome.text(), outcome.done().stop), ("a b c".into(), Stop::End), "{name}");
        assert!(outcome.done().new_tokens <= 3, "{name}: {:?}", outcome.pieces);
    }
    server.does(events([&*piece("a ", Some("stop"), ""), &piece("b", None, "")]));
    assert_eq!(run(&engine, chat(9)).done().stop, Stop::End, "the last reason counts");
    server.does(events([&*piece("a ", Some("stop"), ""), &piece("b", Some("length"), "")]));
    assert_eq!(run(&engine, chat(9)).done().stop, Stop::MaxTokens, "the last reason counts");
}

#[test]
fn what_nobody_needs_is_no_reason_to_lose_an_answer() {
    const END: &str = r#"{"choices":[{"delta":{},"finish_reason":"stop"}]}"#;
    let delta = |content: &str| format!(r#"{{"choices":[{{"index":0,"delta":{{"content":{content}}}}}]}}"#);
    let around = |middle: &str| format!("data: {}\n\ndata: {middle}\n\ndata: {END}\n\n", delta("\"a \""));
    let plain = |middle: &str| around(&format!(r#"{{"choices":[{{"delta":{{"content":"b"}}{middle}}}]}}"#));
    let top = |field: &str| around(&format!(r#"{{"choices":[{{"delta":{{"content":"b"}}}}],{field}}}"#));
    let whole = r#"{"choices":[{"message":{"content":"a b","reasoning_content":null},"finish_reason":"stop"}]}"#;
    let halves = format!("data: {}\n\ndata: {}\n\ndata: {END}\n\n", delta(r#""a \ud83d""#), delta(r#""\ude00""#));
    let streams: Vec<(&str, String)> = vec![
        ("a b", around(&delta(r#"[{"type":"text","text":"b"}]"#))),
        ("a b", around(&delta(r#"["b"]"#))),
        ("a b", around(&delta(r#"{"type":"text","text":"b"}"#))),
        ("a 7", around(&delta("7"))),
        ("a ", around(&delta("null"))),
        ("a ", around(&delta(r#"[{"type":"thinking","thinking":[{"type":"text","text":"b"}]},null]"#))),
        ("a b", around(r#"{"choices":[{"delta":{"content":"b"},"message":{"content":"a b"}}]}"#)),
        ("a ", around(r#"{"choices":[{"delta":{},"message":{"content":"a b"}}]}"#)),
        ("a b", around(r#"{"choices":[null,"x",{"index":null,"text":"b"}]}"#)),
        ("a b", plain(r#","logprobs":{"content":[{"logprob":-Infinity}]},"index":"0""#)),
        ("a b", plain(r#","finish_reason":"null""#)),
        ("a b", plain(r#","finish_reason":"STOP""#)),
        ("a b", plain(r#","finish_reason":"of its own""#)),
        ("a b", plain(r#","finish_reason":null,"finishReason":"stop""#)),
        ("a b", top(r#""error":null"#)),
        ("a b", top(r#""error":"""#)),
        ("a b", top(r#""error":{"message":null,"code":0}"#)),
        ("a b", top(r#""usage":{"prompt_tokens":7.0,"completion_tokens":"2"},"created":1.5e9"#)),
        ("a b", top(r#""usage":{"prompt_tokens":-1,"completion_tokens":-1},"timings":[]"#)),
        ("a b", top(r#""usage":{"completion_tokens_details":{"reasoning_tokens":null}},"object":{}"#)),
        ("a b", top(r#""usage":null,"timings":{"predicted_n":1.5},"id":"\ud800""#)),
        ("a b", format!("event: ping\ndata: ping\n\n{}", around(&delta("\"b\"")))),
        ("a b", around(&delta("\"b\"")).replace("\n\n", "\n")),
        ("a b", around(&delta("\"b\"")).replace("\n\n", "\r\n\r\n").trim_end().to_owned()),
        ("a b", around(&delta("\"b\"")).replace("data: ", "")),
        ("a b", whole.to_owned()),
        ("a b", whole.replace(',', ",\n\n")),
        ("a b", format!("data: {whole}\n\n")),
        ("a 😀", halves),
    ];
    let server = Server::start(Does::Writes);
    let engine = open(&server);
    for (n, (text, body)) in streams.into_iter().enumerate() {
        let kind = ["text/event-stream", "application/json", "text/plain"][n % 3];
        server.does(Does::Sends(kind, body.clone().into()));
        let outcome = run(&engine, chat(9));
        assert_eq!((&*outcome.text(), outcome.done().stop), (text, Stop::End), "{body}");
    }
    let cut = [
        b"data: {\"choices\":[{\"delta\":{\"content\":\"\xe2\x82\"}}]}\n\n",
        &b"data: {\"choices\":[{\"text\":\"\xac \xff\"}]}\n"[..],
    ];
    server.does(Does::Sends("text/event-stream", [&cut.concat(), &b"data: [DONE]"[..]].concat()));
    assert_eq!(run(&engine, chat(9)).text(), "€ �", "bytes that were cut are one character");
}

#[test]
fn usage_for_each_piece_alone_neither_holds_text_back_nor_costs_the_seller() {
    let alone = r#","usage":{"prompt_tokens":7,"completion_tokens":1}"#;
    let data: Vec<String> = (0..20).map(|n| piece(&format!("word {n} "), None, alone)).collect();
    let server = Server::start(events(data.iter().map(String::as_str).chain(["[DONE]"])));
    let outcome = run(&open(&server), chat(50));
    assert_eq!((outcome.text(), outcome.done().new_tokens), (words(20), 20));
    assert_eq!(outcome.pieces.len(), 20, "as it came");
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
fn what_the_server_refuses_is_blamed_on_whoever_is_at_fault() {
    let server = Server::start(Does::Writes);
    let engine = open(&server);
    let context = r#"{"error":{"code":400,"message":"the request exceeds the available context size","type":"exceed_context_size_error"}}"#;
    let refusals = [
        (400, context, Why::ContextOverflow),
        (400, r#"{"error":{"message":"unknown role","type":"invalid_request_error"}}"#, Why::BadRequest),
        (422, "{}", Why::BadRequest),
        (404, "{}", Why::Engine),
        (500, "boom", Why::Engine),
    ];
    for (status, body, why) in refusals {
        server.does(Does::Refuses(status, None, body));
        assert_eq!(run(&engine, chat(8)).why(), why, "{status}");
    }
    let error =
        json!({ "error": { "code": 400, "message": "context length exceeded", "type": "invalid_request_error" } });
    server.does(Does::ErrorAfter(0, error));
    assert_eq!(run(&engine, chat(8)).why(), Why::ContextOverflow);
    server.does(Does::Writes);
    assert_eq!(run(&engine, chat(8)).text(), words(8));
    assert!(engine.start(chat(2048)).is_err_and(|failure| failure.why == Why::ContextOverflow), "as the server says");
    until("every connection is closed", || engine.connections() == 0);
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
fn a_sick_server_is_told_once_and_so_is_its_recovery() {
    let server = Server::start(Does::Writes);
    let engine = open(&server);
    let (tell, told) = mpsc::channel();
    engine.watch(Box::new(move |outage| tell.send(outage.cloned()).is_ok()));
    let next = || told.recv_timeout(LONG).expect("told");

    server.lists(503, json!({ "error": { "message": "Loading model", "type": "unavailable_error" } }));
    let outage = next().expect("an outage");
    assert!(outage.detail.contains("503"), "{outage:?}");
    server.lists(200, json!({ "data": [{ "id": MODEL }] }));
    assert_eq!(next(), None);

    server.lists(200, json!({ "data": [{ "id": "another" }] }));
    assert!(next().expect("an outage").detail.contains(MODEL));
    server.lists(200, json!({ "data": [{ "id": format!("{MODEL}:latest") }] }));
    assert_eq!(next(), None);

    server.does(Does::Refuses(429, Some("1"), "{}"));
    assert_eq!(run(&engine, chat(8)).why(), Why::Unavailable);
    assert_eq!(next().map(|outage| outage.lasts), Some(Duration::from_secs(1)), "as the server says");
    assert_eq!(next(), None, "after that it is asked again");

    let port = server.port;
    drop(server);
    let refused = next().expect("an outage");
    assert!(refused.detail.contains("cannot be reached"), "{refused:?}");
    let outcome = run(&engine, chat(8));
    assert_eq!(outcome.why(), Why::Unavailable, "nothing was begun");
    let _server = Server::start_on(port, Does::Writes, None);
    until("it is well again", || engine.outage().is_none());
    assert_eq!(run(&engine, chat(8)).text(), words(8));
}

#[test]
fn a_killed_server_is_suspected_at_once() {
    let server = Server::start(Does::SilentEnd);
    let patience = Patience { probe_every: 60 * LONG, ..config(&server).patience };
    let engine = Upstream::open(Config { patience, ..config(&server) }).expect("well");
    server.lists(500, json!({}));
    assert_eq!(run(&engine, chat(8)).why(), Why::Truncated);
    until("nobody else is sent there", || engine.outage().is_some());
    assert_eq!(server.probes(), 2);
}

#[test]
fn what_nobody_asked_for_is_left_out_where_a_server_stumbles_over_it() {
    let fields = &["continuous_usage_stats", "stream_options", "seed", "max_tokens", "top_p"];
    let server = Server::start(Does::Picky(fields));
    let vllm = Config { dialect: Some(Dialect::Vllm), ..config(&server) };
    let engine = Upstream::open(vllm).expect("well");
    assert_eq!(run(&engine, chat(8)).text(), words(8));
    assert_eq!(server.asked().len(), 5, "once for each that is there");
    assert_eq!(run(&engine, chat(8)).text(), words(8));
    assert_eq!(server.asked().len(), 6, "and never again");
    let picked = Request { sampling: Sampling { top_p_milli: 900, ..Sampling::default() }, ..chat(8) };
    assert_eq!(run(&engine, picked).why(), Why::Unavailable, "another may be able to what was asked for");
    assert!(engine.outage().is_none());
}

#[test]
fn a_packed_answer_is_read_or_named() {
    let body = format!("data: {}\n\ndata: [DONE]\n\n", piece("a b", Some("stop"), ""));
    let server = Server::start(Does::Sends("text/event-stream\r\nContent-Encoding: gzip", gzip(body.as_bytes())));
    let engine = open(&server);
    assert_eq!(run(&engine, chat(9)).text(), "a b");
    server.does(Does::Sends("text/event-stream\r\nContent-Encoding: br", b"?".to_vec()));
    let Step::Failed(failure) = run(&engine, chat(9)).end else { panic!("it cannot be read") };
    assert!(failure.why == Why::Engine && failure.detail.contains("\"br\""), "{failure}");
}

/// Bytes as a gzip file, without making them any smaller.
fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut crc = !0_u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        (0..8).for_each(|_| crc = crc >> 1 ^ if crc & 1 > 0 { 0xedb8_8320 } else { 0 });
    }
    let length = u16::try_from(bytes.len()).expect("a short one");
    let head =
        [&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255, 1][..], &length.to_le_bytes(), &(!length).to_le_bytes()].concat();
    [&head[..], bytes, &(!crc).to_le_bytes(), &u32::from(length).to_le_bytes()].concat()
}

#[test]
fn one_dropped_connection_is_looked_at_and_several_are_an_outage() {
    let server = Server::start(Does::Drops);
    let patience = Patience { probe_every: 60 * LONG, ..config(&server).patience };
    let engine = Upstream::open(Config { patience, ..config(&server) }).expect("well");
    assert_eq!(run(&engine, chat(8)).why(), Why::Unavailable);
    until("it is looked at at once", || server.probes() == 2);
    assert!(engine.outage().is_none(), "nobody is kept away for that");
    server.does(Does::Refuses(400, None, "{}"));
    assert_eq!(run(&engine, chat(8)).why(), Why::BadRequest);
    assert_eq!(run(&engine, chat(8)).why(), Why::BadRequest);
    assert!(engine.outage().is_none());
    assert_eq!(run(&engine, chat(8)).why(), Why::BadRequest);
    let outage = engine.outage().expect("it refuses everybody");
    assert!(outage.detail.contains("every job"), "{outage:?}");

    let engine = Upstream::open(config(&server)).expect("well");
    for _ in 0..3 {
        server.does(Does::Refuses(400, None, "{}"));
        (0..3).for_each(|_| assert_eq!(run(&engine, chat(8)).why(), Why::BadRequest));
        server.does(Does::Writes);
        assert_eq!(run(&engine, chat(8)).text(), words(8));
    }
    assert!(engine.outage().is_none(), "it takes others");
}

#[test]
fn a_server_that_writes_is_not_looked_at() {
    let server = Server::start(Does::OneAtATime);
    let patience = Patience { probe_every: Duration::from_millis(1), ..config(&server).patience };
    let engine = Upstream::open(Config { patience, ..config(&server) }).expect("well");
    assert_eq!(run(&engine, chat(20)).text(), words(20));
    let probes = server.probes();
    until("it is, when the answer is over", || server.probes() > probes);
}

#[test]
fn an_error_in_a_stream_keeps_others_away_as_one_before_it_does() {
    let server = Server::start(Does::Writes);
    let engine = open(&server);
    let busy = r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#;
    let patience = Patience { probe_every: 60 * LONG, ..config(&server).patience };
    let forms = [
        format!("event: error\ndata: {busy}\n\n"),
        format!("data: {busy}\n\n"),
        format!("{busy}\n"),
        r#"{"message":"too many requests","code":429}"#.to_owned(),
    ];
    for body in forms {
        let engine = Upstream::open(Config { patience, ..config(&server) }).expect("well");
        server.does(Does::Sends("text/event-stream", body.clone().into()));
        assert_eq!(run(&engine, chat(8)).why(), Why::Unavailable, "{body}");
        assert_eq!(engine.outage().map(|outage| outage.lasts.as_secs()), Some(5), "{body}");
    }
    server.does(Does::Sends("text/html", b"<html>Hello</html>".to_vec()));
    let Step::Failed(failure) = run(&engine, chat(8)).end else { panic!("no answer") };
    assert!(failure.detail.contains("is the address right?"), "{failure}");
}

#[test]
fn thoughts_are_no_answer_and_show_that_it_works() {
    let thought = r#"{"choices":[{"delta":{"reasoning_content":"hm "}}]}"#;
    let usage = r#"{"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":9}}"#;
    let length = piece("", Some("length"), "");
    let server = Server::start(events([thought, thought, thought, &length, usage, "[DONE]"]));
    let engine = open(&server);
    let outcome = run(&engine, chat(9));
    assert!(outcome.pieces.is_empty());
    let Step::Failed(failure) = outcome.end else { panic!("nothing was written") };
    assert!(failure.why == Why::Unavailable && failure.detail.contains("thoughts"), "{failure}");
    assert!(engine.outage().is_none() && engine.first_text().is_none());

    let text = piece("a b c d e f", Some("stop"), "");
    server.does(events([thought, thought, thought, &text, usage, "[DONE]"]));
    let outcome = run(&engine, chat(9));
    assert_eq!(outcome.text(), "a b c d e f");
    assert!(outcome.done().new_tokens <= 6, "what was thought is not owed as text: {:?}", outcome.pieces);
    assert!(engine.first_text().is_some(), "no guess any more");

    server.does(Does::Thinks);
    let mut generation = Guarded::start(&engine, chat(9)).expect("taken");
    assert_eq!(generation.phase(), Phase::Queued);
    until("it thinks", || {
        assert!(matches!(generation.step(8), Step::Working | Step::Waiting));
        generation.phase() == Phase::Thinking
    });
}

#[test]
fn its_operator_is_told_what_the_server_does() {
    let server = Server::start(events([r#"{"model":"another","choices":[{"text":"a","finish_reason":"stop"}]}"#]));
    let engine = open(&server);
    let (tell, told) = mpsc::channel();
    engine.listen(Box::new(move |notice| drop(tell.send(notice.to_string()))));
    let told = || told.try_iter().collect::<Vec<String>>();
    assert_eq!(run(&engine, chat(8)).text(), "a");
    assert!(matches!(&told()[..], [one] if one.contains("another") && one.contains(MODEL)));
    let same = format!(r#"{{"model":"{MODEL}","choices":[{{"text":"a","finish_reason":"stop"}}]}}"#);
    server.does(events([&*same]));
    assert_eq!(run(&engine, chat(8)).text(), "a");
    assert!(told().is_empty(), "as it was asked");
    server.does(Does::Refuses(500, None, r#"{"error":{"message":"in its own words"}}"#));
    assert_eq!(run(&engine, chat(8)).why(), Why::Engine);
    assert!(matches!(&told()[..], [one] if one.contains("in its own words")));
    server.does(Does::Picky(&["seed"]));
    assert_eq!(run(&engine, chat(8)).text(), words(8));
    assert!(matches!(&told()[..], [one] if one.contains("seed")), "the words were told a moment ago");
}

#[test]
fn a_named_model_is_believed_of_a_server_without_a_list() {
    let server = Server::start(Does::Writes);
    server.lists(404, json!({ "error": "no such page" }));
    let refused = Upstream::open(config(&server)).map(drop).expect_err("nobody knows what it has");
    assert!(matches!(&refused, OpenError::NoList(_)) && refused.to_string().contains("name the model"), "{refused}");
    let engine = Upstream::open(Config { model: Some("m".into()), ..config(&server) }).expect("believed");
    assert_eq!((engine.model(), engine.slots(), engine.tells_slots()), ("m", 1, false));
    assert_eq!(run(&engine, chat(8)).text(), words(8));
    let probes = server.probes();
    until("it is looked at", || server.probes() > probes + 1);
    assert!(engine.outage().is_none(), "that it answers is enough");
    server.lists(503, json!({}));
    until("that it cannot is seen", || engine.outage().is_some());
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
