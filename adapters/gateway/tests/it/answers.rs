//! Answers, whole and streamed, and what is owed for them.

use std::sync::atomic::Ordering;

use haggle_gateway::Config;
use serde_json::{Value, json};

use crate::{
    client::{Client, get, post, request},
    market::{CONTEXT, MODEL, market, rich, words},
};

pub(crate) fn chat(more: Value) -> Value {
    let mut body = json!({"model": MODEL, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 5});
    body.as_object_mut().expect("an object").extend(more.as_object().cloned().unwrap_or_default());
    body
}

const CHAT: &str = "/v1/chat/completions";

#[test]
fn an_answer_is_bought_and_its_bill_is_in_it() {
    let market = market(rich());
    let answer = post(market.at, CHAT, &chat(json!({"user": "u", "seed": 7, "temperature": 0.25, "stop": "x"})));
    assert_eq!(answer.head.status, 200, "{}", answer.text());
    let said = answer.json();
    assert_eq!(said["choices"][0]["message"]["content"], words(5));
    assert_eq!((&said["choices"][0]["finish_reason"], &said["object"]), (&json!("length"), &json!("chat.completion")));
    let usage = &said["usage"];
    let counts = ["prompt_tokens", "completion_tokens", "total_tokens"].map(|name| usage[name].as_u64());
    assert_eq!(counts, [Some(5), Some(5), Some(10)]);
    assert_eq!(said["haggle"]["bill"]["lines"][0]["provider"], market.provider());
    assert_eq!(usage["cost"], said["haggle"]["bill"]["owed"]);
    assert!(usage["cost"].as_f64() > Some(0.00001), "{usage}");
    assert_eq!(answer.head.header("x-haggle-provider"), Some(market.provider().as_str()));
    assert_eq!(answer.head.header("x-haggle-price-out"), Some("2.0"));
    assert_eq!(answer.head.header("x-haggle-ignored"), Some("user"));
    let request = market.script.last.lock().expect("not poisoned").clone().expect("a request");
    assert_eq!(
        (request.sampling.seed, request.sampling.temperature_milli, request.stop),
        (7, 250, vec!["x".to_owned()])
    );
    // The job can be asked for by the answer's id.
    let id = said["id"].as_str().expect("an id");
    let job = get(market.at, &format!("/v1/haggle/jobs/{id}")).json();
    assert_eq!((&job["state"], &job["bill"]), (&json!("finished"), &said["haggle"]["bill"]));
    assert!(job["route"][0].as_str().is_some_and(|step| step.contains(&market.provider())), "{job}");
}

#[test]
fn a_stream_has_the_chunks_that_clients_know_and_ends() {
    let market = market(rich());
    let mut client = Client::connect(market.at);
    let body = chat(json!({"stream": true, "stream_options": {"include_usage": true}}));
    let answer = client.ask("POST", CHAT, &[("Accept", "application/json")], body.to_string().as_bytes());
    let header = |name: &str| answer.head.header(name);
    assert_eq!((answer.head.status, header("content-type")), (200, Some("text/event-stream")));
    assert_eq!((header("cache-control"), header("x-accel-buffering")), (Some("no-store"), Some("no")));
    let events = answer.events();
    assert_eq!(events.last().map(String::as_str), Some("[DONE]"));
    let chunks: Vec<Value> =
        events[..events.len() - 1].iter().map(|event| serde_json::from_str(event).expect("JSON")).collect();
    for name in ["id", "object", "created", "model"] {
        assert!(chunks.iter().all(|chunk| chunk[name] == chunks[0][name] && !chunk[name].is_null()), "{name}");
    }
    assert_eq!(chunks[0]["choices"][0]["delta"], json!({"role": "assistant", "content": ""}));
    let text: String = chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(text, words(5));
    let (usage, finish) = (&chunks[chunks.len() - 1], &chunks[chunks.len() - 2]["choices"][0]);
    assert_eq!((&finish["delta"], &finish["finish_reason"]), (&json!({}), &json!("length")));
    let reasons = chunks.iter().filter(|chunk| chunk["choices"][0]["finish_reason"].is_string()).count();
    assert_eq!((reasons, &usage["choices"], &usage["usage"]["completion_tokens"]), (1, &json!([]), &json!(5)));
    assert!(answer.text().contains(": haggle owed 0.0000"), "{}", answer.text());
    // The connection goes on, and without being asked for, usage is not told.
    let answer = client.ask("POST", CHAT, &[], chat(json!({"stream": true})).to_string().as_bytes());
    assert!(!answer.text().contains("usage") && answer.text().ends_with("data: [DONE]\n\n"), "{}", answer.text());
}

#[test]
fn a_text_is_continued_as_it_stands() {
    let market = market(rich());
    let body = json!({"model": MODEL, "prompt": "Once", "max_tokens": 3});
    let said = post(market.at, "/v1/completions", &body).json();
    assert_eq!((&said["choices"][0]["text"], &said["object"]), (&json!(words(3)), &json!("text_completion")));
    let body = json!({"model": MODEL, "prompt": [1, 2, 3], "max_tokens": 3, "stream": true});
    let events = post(market.at, "/v1/completions", &body).events();
    let text: String = events
        .iter()
        .filter_map(|event| {
            serde_json::from_str::<Value>(event).ok()?["choices"][0]["text"].as_str().map(str::to_owned)
        })
        .collect();
    assert_eq!((text, events.last().map(String::as_str)), (words(3), Some("[DONE]")));
}

#[test]
fn what_is_sold_is_listed_with_prices() {
    let market = market(rich());
    let list = get(market.at, "/v1/models").json();
    let model = &list["data"][0];
    assert_eq!((&list["object"], &model["id"], &model["object"]), (&json!("list"), &json!(MODEL), &json!("model")));
    assert!(model["created"].is_u64() && model["owned_by"].is_string());
    assert_eq!((&model["context_length"], &model["pricing"]["completion"]), (&json!(CONTEXT), &json!("0.000002")));
    assert_eq!(model["haggle"]["price_out"], json!({"min": 2.0, "median": 2.0}));
    assert_eq!(model["haggle"]["providers"][0]["id"], market.provider());
    for path in ["/v1/models/test/model:1", "/v1/models/test%2Fmodel%3A1"] {
        assert_eq!(get(market.at, path).json(), *model, "{path}");
    }
    assert_eq!(get(market.at, "/v1/models/other").error(), (404, "model_not_found".into(), "model".into()));
}

#[test]
fn without_a_number_as_much_is_bought_as_the_context_has_room_for() {
    let market = market(Config { max_tokens: 5_000, ..rich() });
    let mut body = chat(json!({"stream": true}));
    body.as_object_mut().expect("an object").remove("max_tokens");
    let answer = post(market.at, CHAT, &body);
    assert!(answer.text().ends_with("[DONE]\n\n"), "{}", answer.text());
    let max = market.script.last.lock().expect("not poisoned").as_ref().map(|request| request.max_tokens);
    assert!(max.is_some_and(|max| max < CONTEXT && max > CONTEXT - 100), "{max:?}");
    let mut body = chat(json!({"max_completion_tokens": 3}));
    let said = post(market.at, CHAT, &body).json();
    assert_eq!(said["usage"]["completion_tokens"], 3, "the lesser of both");
    body["max_tokens"] = json!(CONTEXT);
    body["max_completion_tokens"] = Value::Null;
    assert_eq!(post(market.at, CHAT, &body).error(), (400, "context_length_exceeded".into(), "messages".into()));
}

#[test]
fn another_model_is_taken_where_the_first_cannot_be_had() {
    let market = market(rich());
    let said = post(market.at, CHAT, &chat(json!({"model": "unknown", "models": [MODEL]}))).json();
    assert_eq!((&said["model"], &said["choices"][0]["message"]["content"]), (&json!(MODEL), &json!(words(5))));
}

#[test]
fn an_answer_that_broke_off_is_told_with_its_bill_and_never_invites_to_buy_again() {
    let market = market(rich());
    market.script.fail_at.store(3, Ordering::SeqCst);
    let never = json!({"haggle": {"failover": "never"}});
    let answer = post(market.at, CHAT, &chat(never.clone()));
    assert_eq!(answer.error(), (424, "interrupted".into(), String::new()));
    assert_eq!(answer.head.header("x-should-retry"), Some("false"));
    let details = &answer.json()["error"]["details"];
    assert_eq!((&details["text"], &details["tokens"]), (&json!(words(3)), &json!(3)));
    assert!(details["bill"]["owed"].as_f64() > Some(0.0), "{details}");
    let mut streamed = chat(never);
    streamed["stream"] = json!(true);
    let answer = post(market.at, CHAT, &streamed);
    let events = answer.events();
    let last: Value = serde_json::from_str(events.last().expect("an event")).expect("JSON");
    assert_eq!((answer.head.status, &last["error"]["code"]), (200, &json!("interrupted")));
    assert!(!answer.text().contains("[DONE]"));
    assert!(events.iter().all(|event| !event.contains("\"finish_reason\":\"")), "{events:?}");
}

#[test]
fn a_client_that_goes_away_cancels_its_job() {
    let market = market(rich());
    for stream in [true, false] {
        market.script.shut_after(2);
        let mut client = Client::connect(market.at);
        client.send(request("POST", CHAT, &[], chat(json!({"stream": stream})).to_string().as_bytes()));
        if stream {
            assert_eq!(client.head().status, 200);
            client.chunk();
        } else {
            market.until(|script| script.live.load(Ordering::SeqCst) == 1);
        }
        drop(client);
        market.until(|script| script.live.load(Ordering::SeqCst) == 0);
        // The one slot serves the next.
        market.script.open();
        assert_eq!(post(market.at, CHAT, &chat(json!({}))).head.status, 200);
    }
}

#[test]
fn a_gateway_that_is_stopped_ends_all_and_tells_what_is_owed() {
    let mut market = market(rich());
    market.script.shut_after(2);
    let mut client = Client::connect(market.at);
    client.send(request("POST", CHAT, &[], chat(json!({"stream": true})).to_string().as_bytes()));
    assert_eq!(client.head().status, 200);
    let mut text = String::new();
    while !text.contains("word 1") {
        text.push_str(&String::from_utf8(client.chunk().expect("more")).expect("UTF-8"));
    }
    market.stop_gateway();
    while let Some(chunk) = client.chunk() {
        text.push_str(&String::from_utf8(chunk).expect("UTF-8"));
    }
    assert!(text.contains("\"interrupted\"") && text.contains("\"reason\":\"cancelled\""), "{text}");
    assert!(client.is_closed());
}
