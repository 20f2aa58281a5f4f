//! What servers do instead of answering: who is blamed, and who is sent there next.

use std::{sync::mpsc, time::Duration};

use haggle_engine::{
    Engine, Prompt, Request, Sampling, Step, Why,
    upstream::{Config, Dialect, OpenError, Patience, Upstream},
};
use serde_json::json;

use super::{LONG, chat, config, open, run, until};
use crate::server::{Does, MODEL, Server, events, words};

#[test]
fn what_the_server_refuses_is_blamed_on_whoever_is_at_fault() {
    let server = Server::start(Does::Writes);
    let engine = open(&server);
    let context = r#"{"error":{"code":400,"message":"the request exceeds the available context size","type":"exceed_context_size_error"}}"#;
    // Of a refusal no more than 64 KiB are read: the rest might have no end.
    let beyond: &str = Box::leak(format!("{}{context}", " ".repeat(64 << 10)).into_boxed_str());
    let refusals = [
        (400, context, Why::ContextOverflow),
        (400, beyond, Why::BadRequest),
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
fn a_server_without_the_page_for_conversations_is_doubted_at_the_first_job_and_never_once_it_wrote() {
    let server = Server::start(Does::Refuses(404, None, "404 page not found"));
    let patience = Patience { probe_every: 60 * LONG, ..config(&server).patience };
    let base = format!("{}/v1", server.url());
    let engine =
        Upstream::open(Config { url: base.clone(), patience, ..config(&server) }).expect("it lists its models");
    assert_eq!(run(&engine, chat(8)).why(), Why::Engine);
    let outage = engine.outage().expect("nobody else is sent there");
    for said in [&format!("{base}/chat/completions answers HTTP 404"), &format!("{}.", server.url())] {
        assert!(outage.detail.contains(said), "{said} is not in {}", outage.detail);
    }
    let engine = Upstream::open(Config { patience, ..config(&server) }).expect("well");
    server.does(Does::Writes);
    assert_eq!(run(&engine, chat(8)).text(), words(8));
    server.does(Does::Refuses(404, None, "404 page not found"));
    assert_eq!(run(&engine, chat(8)).why(), Why::Engine);
    assert_eq!(engine.outage(), None);
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
fn what_a_server_quotes_of_a_prompt_says_nothing_of_the_server() {
    let quotes = r#"{"error":{"message":"bad role in: no model loaded"}}"#;
    let server = Server::start(Does::Refuses(400, None, quotes));
    let engine = open(&server);
    let planted = Request { prompt: Prompt::Raw("No model loaded".into()), ..chat(8) };
    assert_eq!(run(&engine, planted).why(), Why::BadRequest);
    assert!(engine.outage().is_none(), "no buyer takes a server off the market by what he writes");
    assert_eq!(run(&engine, chat(8)).why(), Why::Engine);
    assert!(engine.outage().is_some());
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
        r#"data: {"choices":[{"error":{"code":"429"},"finish_reason":"error"}]}"#.to_owned() + "\n\n",
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
