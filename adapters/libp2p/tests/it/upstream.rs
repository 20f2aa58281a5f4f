//! A server with faults behind a real provider: who is blamed, who goes on, what is advertised.

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use haggle::{
    Channel, Config, Criteria, Error, JobEvent, JobSpec, Model, Node, NodeEvent, Prompt, Sale,
    core::{
        Millis,
        event::{Failure, PassedOver},
        wire::{
            ChatMessage,
            message::{EndReason, Features},
        },
    },
    engine::upstream::{self, Patience, Upstream},
    id,
};

use serde_json::json;

use crate::{
    bounded,
    server::{Does, Server, events, words},
    world::*,
};

const MODEL: &str = "sold-model";

async fn provider(server: &Server, price_out: u64) -> (Node, Arc<Upstream>) {
    able(server, price_out, None).await
}

/// One whose server is known to have these features.
async fn able(server: &Server, price_out: u64, features: Option<Features>) -> (Node, Arc<Upstream>) {
    let features = features.map(|features| features.0);
    let patience = Patience { probe_every: Duration::from_millis(50), ..Patience::default() };
    let upstream = upstream::Config { patience, features, ..upstream::Config::new(MODEL, &server.url()) };
    let engine = Arc::new(Upstream::open(upstream).expect("a server that is well"));
    let config = Config { enable_dht: false, slots: 2, ..listening() };
    (start(builder(config).sell(Sale { price_out, ..Sale::new(engine.clone()) })).await, engine)
}

async fn requester(providers: &[&Node]) -> Node {
    let providers = providers.iter().map(|node| address(node)).collect();
    start(builder(Config { enable_dht: false, providers, ..local() })).await
}

fn model() -> Model {
    Model::try_from(MODEL).expect("a name")
}

fn chat(max_tokens: u64) -> JobSpec {
    let message = ChatMessage { role: "user".into(), content: "Say some words".into() };
    JobSpec { budget: Some(1_000_000_000), ..JobSpec::new(model(), Prompt::Chat(vec![message]), max_tokens) }
}

/// Nobody is blamed, every slot is free, every connection closed.
async fn all_is_well(requester: &Node, providers: &[(&Node, &Arc<Upstream>, &Server)]) {
    for (provider, engine, server) in providers {
        until(|| engine.connections() == 0 && server.writing() == 0).await;
        let counts = requester.reliability(provider.peer_id()).await.expect("runs").map(|known| known.counts);
        assert!(counts.is_none_or(|counts| counts.failures == 0 && counts.violations == 0), "{counts:?}");
    }
}

#[tokio::test]
async fn tokens_of_a_server_are_sold_and_its_usage_is_the_bill() {
    bounded(async {
        let server = Server::start(Does::SeveralPerEvent);
        let (provider, engine) = provider(&server, 1_000_000).await;
        let requester = requester(&[&provider]).await;
        for does in [Does::SeveralPerEvent, Does::WritesBytes, Does::Whole] {
            server.does(does);
            let answer = requester.submit(chat(30)).await.expect("taken").answer().await.expect("answered");
            assert_eq!((answer.text, answer.receipt.bill.owed), (words(30), 30));
            assert_eq!(answer.receipt.prompt_tokens, 7);
        }
        server.does(Does::Wide(30_000));
        let answer = requester.submit(chat(1_500)).await.expect("taken").answer().await.expect("answered");
        assert_eq!((answer.text.len(), answer.receipt.bill.owed), (30_000, 1_500), "wider than a chunk");
        all_is_well(&requester, &[(&provider, &engine, &server)]).await;
    })
    .await;
}

#[tokio::test]
async fn thoughts_are_delivered_apart_from_the_answer_and_owed() {
    bounded(async {
        let said = |field: &str, text: &str| format!(r#"{{"choices":[{{"delta":{{"{field}":"{text}"}}}}]}}"#);
        let thought = said("reasoning", &"hm ".repeat(4_000));
        let usage = r#"{"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":9,"prompt_tokens_details":{"cached_tokens":4}}}"#;
        let server = Server::start(events([&*thought, &*said("reasoning", "so"), &*said("content", "Well."), usage, "[DONE]"]));
        let (provider, engine) = provider(&server, 1_000_000).await;
        let requester = requester(&[&provider]).await;
        let answer = requester.submit(chat(30)).await.expect("taken").answer().await.expect("answered");
        assert_eq!(answer.text, "Well.");
        assert!(answer.beside.iter().all(|(channel, _)| *channel == Channel::Thought));
        let thoughts: String = answer.beside.into_iter().map(|(_, text)| text).collect();
        assert_eq!(thoughts, "hm ".repeat(4_000) + "so", "however wide");
        let receipt = answer.receipt;
        assert_eq!((receipt.bill.owed, receipt.tokens, receipt.cached), (9, 9, Some(4)));
        assert!(receipt.thought.is_some_and(|thought| (3..9).contains(&thought)), "{receipt:?}");
        all_is_well(&requester, &[(&provider, &engine, &server)]).await;
    })
    .await;
}

#[tokio::test]
async fn a_tool_is_called_and_its_answer_read_by_who_offers_that_and_by_nobody_else() {
    bounded(async {
        let (plain, server) = (Server::start(Does::Writes), Server::start(Does::CallsTools));
        let (cheap, _engine) = provider(&plain, 1).await;
        let (provider, engine) = able(&server, 1_000_000, Some(Features::TOOLS)).await;
        let requester = requester(&[&cheap, &provider]).await;
        let request = |request: &serde_json::Value, needs| {
            let mut spec = JobSpec { prompt: Prompt::Request(request.to_string()), ..chat(30) };
            spec.criteria.require = Some(needs);
            spec
        };
        let tools = json!([{ "type": "function", "function": { "name": "weather", "parameters": { "type": "object" } } }]);
        let mut asked = json!({ "messages": [{ "role": "user", "content": "Is it wet?" }], "tools": tools, "x": 0.5 });
        let answer = requester.submit(request(&asked, Features::TOOLS)).await.expect("taken").answer().await.expect("answered");
        assert_eq!((answer.receipt.reason, answer.text.as_str()), (EndReason::ToolCalls, ""));
        assert_eq!((answer.receipt.tokens, answer.receipt.bill.owed), (3, 3), "a call is owed like text");
        let pieces: Vec<serde_json::Value> =
            answer.beside.iter().map(|(_, piece)| serde_json::from_str(piece).expect("an object each")).collect();
        assert!(answer.beside.iter().all(|(channel, _)| *channel == Channel::ToolCall));
        assert_eq!(pieces[0], json!({ "index": 0, "id": "call_1", "name": "weather", "arguments": "" }));
        let arguments: String = pieces.iter().filter_map(|piece| piece["arguments"].as_str()).collect();
        assert_eq!(arguments, r#"{"city":"Turin"}"#);
        let sent = server.asked().pop().expect("asked");
        assert!(["messages", "tools", "x"].iter().all(|field| sent[field] == asked[field]), "as it came: {sent}");
        assert_eq!((&sent["model"], &sent["max_tokens"]), (&json!(crate::server::MODEL), &json!(30)));

        let call = json!({ "id": "call_1", "type": "function", "function": { "name": "weather", "arguments": arguments } });
        let more = [
            json!({ "role": "assistant", "content": null, "tool_calls": [call] }),
            json!({ "role": "tool", "tool_call_id": "call_1", "content": "wet" }),
        ];
        asked["messages"].as_array_mut().expect("a list").extend(more);
        let answer = requester.submit(request(&asked, Features::TOOLS)).await.expect("taken").answer().await.expect("answered");
        assert_eq!((answer.receipt.reason, answer.text.as_str()), (EndReason::Stop, "It is wet."));

        for (wrong, expected) in [(json!({ "messages": [], "n": 2 }), Failure::BadRequest)] {
            let error = requester.submit(request(&wrong, Features::TOOLS)).await.expect("taken").answer().await;
            assert!(matches!(&error, Err(Error::Job(error)) if error.failure == expected), "{error:?}");
        }
        let images = requester.submit(request(&asked, Features::IMAGES)).await.expect("taken").answer().await;
        let unfit = |error: &Error| matches!(error, Error::Job(error) if matches!(error.failure, Failure::NobodyFound { unfit: 2, .. }));
        assert!(images.as_ref().is_err_and(unfit), "{images:?}");
        assert!(plain.asked().is_empty() && server.asked().len() == 2, "nobody else was sent a request");
        all_is_well(&requester, &[(&provider, &engine, &server)]).await;
    })
    .await;
}

#[tokio::test]
async fn refusals_and_filters_are_told_as_what_they_are() {
    bounded(async {
        let server =
            Server::start(events([r#"{"choices":[{"delta":{"refusal":"I will not."},"finish_reason":"stop"}]}"#]));
        let (provider, _engine) = provider(&server, 1_000_000).await;
        let requester = requester(&[&provider]).await;
        let answer = requester.submit(chat(30)).await.expect("taken").answer().await.expect("answered");
        assert_eq!(answer.beside, [(Channel::Refusal, "I will not.".to_owned())]);
        server.does(events([r#"{"choices":[{"delta":{"content":"Well"},"finish_reason":"content_filter"}]}"#]));
        let answer = requester.submit(chat(30)).await.expect("taken").answer().await.expect("answered");
        assert_eq!((answer.receipt.reason, answer.receipt.bill.owed), (EndReason::Filtered, 1));
    })
    .await;
}

#[tokio::test]
async fn what_the_requester_did_wrong_is_told_and_blamed_on_nobody() {
    bounded(async {
        let server = Server::start(Does::Writes);
        let (provider, engine) = provider(&server, 1_000_000).await;
        let requester = requester(&[&provider]).await;
        let context = r#"{"error":{"code":400,"message":"too much","type":"exceed_context_size_error"}}"#;
        let wrong = r#"{"error":{"message":"unknown role","type":"invalid_request_error"}}"#;
        for (body, failure) in [(context, Failure::Context), (wrong, Failure::BadRequest)] {
            server.does(Does::Refuses(400, None, body));
            let error = requester.submit(chat(30)).await.expect("taken").answer().await.expect_err("refused");
            assert!(matches!(&error, Error::Job(error) if error.failure == failure), "{error:?}");
        }
        assert_eq!(server.asked().len(), 2, "no other attempt helps");
        all_is_well(&requester, &[(&provider, &engine, &server)]).await;
        server.does(Does::Writes);
        let answer = requester.submit(chat(30)).await.expect("taken").answer().await.expect("answered");
        assert_eq!(answer.text, words(30));
    })
    .await;
}

#[tokio::test]
async fn an_overloaded_server_is_passed_over_without_blame_and_comes_back() {
    bounded(async {
        let (cheap, dear) = (Server::start(Does::Refuses(429, Some("1"), "{}")), Server::start(Does::Writes));
        let (first, first_engine) = provider(&cheap, 1_000_000).await;
        let (second, second_engine) = provider(&dear, 2_000_000).await;
        let mut events = first.events();
        let requester = requester(&[&first, &second]).await;
        let answer = requester.submit(chat(30)).await.expect("taken").answer().await.expect("answered");
        let writer = answer.receipt.bill.lines.last().map(|line| line.peer);
        assert_eq!((answer.text, writer), (words(30), id::to_core(&second.peer_id())));
        all_is_well(&requester, &[(&first, &first_engine, &cheap), (&second, &second_engine, &dear)]).await;
        let mut told = Vec::new();
        while told.len() < 2 {
            if let NodeEvent::Outage { detail, .. } = events.next().await.expect("it runs") {
                told.push(detail);
            }
        }
        assert!(told[0].as_ref().is_some_and(|detail| detail.contains("429")) && told[1].is_none(), "{told:?}");
    })
    .await;
}

#[tokio::test]
async fn a_sick_server_is_not_advertised_and_its_provider_is_busy() {
    bounded(async {
        let server = Server::start(Does::Writes);
        let (provider, engine) = provider(&server, 1_000_000).await;
        let requester = requester(&[&provider]).await;
        let criteria = || Criteria { refresh: true, ..Criteria::new(model()) };
        assert_eq!(requester.discover(criteria(), None).await.expect("found").providers.len(), 1);

        let mut events = provider.events();
        let mut next = async |out: bool| loop {
            if let NodeEvent::Outage { detail, .. } = events.next().await.expect("it runs") {
                assert_eq!(detail.is_some(), out);
                return;
            }
        };
        server.lists(503, serde_json::json!({}));
        next(true).await;
        // It is still in the requester's cache, with a price to be awarded.
        let spec = JobSpec { deadline: Some(Millis(3_000)), ..chat(30) };
        let error = requester.submit(spec).await.expect("taken").answer().await.expect_err("busy");
        let Error::Job(error) = error else { panic!("{error:?}") };
        assert_eq!(error.bill.owed, 0);
        assert!(!matches!(error.failure, Failure::Declined(PassedOver::Interrupted(_))), "no failed job: {error:?}");
        assert!(requester.discover(criteria(), None).await.is_err(), "it is not advertised");
        assert!(server.asked().is_empty(), "nobody was sent there");
        all_is_well(&requester, &[(&provider, &engine, &server)]).await;

        server.lists(200, serde_json::json!({ "data": [{ "id": crate::server::MODEL }] }));
        next(false).await;
        assert_eq!(requester.discover(criteria(), None).await.expect("found").providers.len(), 1);
        let answer = requester.submit(chat(30)).await.expect("taken").answer().await.expect("answered");
        assert_eq!(answer.text, words(30));
    })
    .await;
}

#[tokio::test]
async fn a_server_that_dies_in_mid_answer_is_replaced() {
    bounded(async {
        let (cheap, dear) = (Server::start(Does::SilentEnd), Server::start(Does::Echoes));
        let (first, first_engine) = provider(&cheap, 1_000_000).await;
        let (second, _engine) = provider(&dear, 2_000_000).await;
        let requester = requester(&[&first, &second]).await;
        let mut job = requester.submit(chat(30)).await.expect("taken");
        let (mut text, mut over) = (String::new(), 0);
        let receipt = loop {
            match job.next().await.expect("an ending").expect("answered") {
                JobEvent::Tokens { text: more, .. } => text.push_str(&more),
                JobEvent::TakenOver { seq, .. } => {
                    assert_eq!(seq, 2);
                    over += 1;
                }
                JobEvent::Finished(receipt) => break receipt,
                _ => {}
            }
        };
        assert_eq!((text, over), (format!("{}{}", words(2), words(28)), 1), "exactly after what was delivered");
        assert_eq!(receipt.bill.owed, 2 + 2 * 28);
        let begun = dear.asked().pop().expect("asked");
        assert_eq!(begun["messages"][1]["content"], words(2), "it was told what is there");
        until(|| first_engine.connections() == 0).await;
        let known = requester.reliability(first.peer_id()).await.expect("runs").expect("known");
        assert_eq!(known.counts.failures, 1, "an answer that breaks off is the provider's");
    })
    .await;
}

#[tokio::test]
async fn a_cancelled_job_closes_the_request() {
    bounded(async {
        let server = Server::start(Does::Endless);
        let (provider, engine) = provider(&server, 1_000_000).await;
        let requester = requester(&[&provider]).await;
        for cancelled in 1..=3 {
            let mut job = requester.submit(chat(1_500)).await.expect("taken");
            while !matches!(job.next().await, Some(Ok(JobEvent::Tokens { .. }))) {}
            drop(job);
            until(|| server.left() == cancelled && server.writing() == 0 && engine.connections() == 0).await;
        }
        all_is_well(&requester, &[(&provider, &engine, &server)]).await;
    })
    .await;
}
