//! Requests that are sent again: with a key they are bought once.

use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use crate::{
    answers::chat,
    client::{Answer, Client, get, request},
    market::{Market, market, rich, words},
};

const CHAT: &str = "/v1/chat/completions";

fn keyed(market: &Market<haggle::Tokio>, key: &str, body: &Value) -> Answer {
    Client::connect(market.at).ask("POST", CHAT, &[("Idempotency-Key", key)], body.to_string().as_bytes())
}

#[test]
fn a_key_buys_once_whoever_asks_again() {
    let market = market(rich());
    let first = keyed(&market, "one", &chat(json!({})));
    let again = keyed(&market, "one", &chat(json!({})));
    assert_eq!((first.head.status, first.text(), market.script.begun()), (200, again.text(), 1));
    assert_eq!(again.head.header("idempotent-replayed"), Some("true"));
    assert_ne!(first.head.header("x-request-id"), again.head.header("x-request-id"));
    let other = keyed(&market, "one", &chat(json!({"max_tokens": 6})));
    assert_eq!(other.error(), (409, "idempotency_key_reused".into(), String::new()));
    assert_eq!(other.head.header("x-should-retry"), Some("false"));
    assert_eq!((keyed(&market, "two", &chat(json!({}))).head.status, market.script.begun()), (200, 2));
    let too_long = "k".repeat(300);
    assert_eq!(keyed(&market, &too_long, &chat(json!({}))).error().2, "Idempotency-Key");
}

#[test]
fn who_comes_back_has_the_answer_that_went_on_meanwhile() {
    let market = market(rich());
    market.script.shut_after(2);
    let body = chat(json!({"stream": true}));
    let mut gone = Client::connect(market.at);
    gone.send(request("POST", CHAT, &[("Idempotency-Key", "k")], body.to_string().as_bytes()));
    assert_eq!(gone.head().status, 200);
    drop(gone);
    let mut back = Client::connect(market.at);
    back.send(request("POST", CHAT, &[("Idempotency-Key", "k")], body.to_string().as_bytes()));
    assert_eq!(back.head().status, 200);
    market.script.open();
    let mut text = String::new();
    while let Some(chunk) = back.chunk() {
        text.push_str(&String::from_utf8(chunk).expect("UTF-8"));
    }
    let events = text.lines().filter_map(|line| serde_json::from_str::<Value>(line.strip_prefix("data: ")?).ok());
    let said: String =
        events.filter_map(|event| event["choices"][0]["delta"]["content"].as_str().map(str::to_owned)).collect();
    assert_eq!((said, market.script.begun()), (words(5), 1));
    assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
}

#[test]
fn what_was_not_bought_is_asked_anew_and_what_broke_off_is_not() {
    let market = market(rich());
    let unknown = chat(json!({"model": "unknown"}));
    assert_eq!(keyed(&market, "a", &unknown).head.status, 404);
    assert_eq!(keyed(&market, "a", &chat(json!({}))).head.status, 200);
    market.script.fail_at.store(3, Ordering::SeqCst);
    let broken = chat(json!({"haggle": {"failover": "never"}}));
    let first = keyed(&market, "b", &broken);
    assert_eq!(first.error(), (424, "interrupted".into(), String::new()));
    let begun = market.script.begun();
    assert_eq!((keyed(&market, "b", &broken).text(), market.script.begun()), (first.text(), begun));
}

#[test]
fn what_was_bought_is_counted() {
    let market = market(rich());
    assert_eq!(keyed(&market, "a", &chat(json!({}))).head.status, 200);
    let retry = [("X-Stainless-Retry-Count", "1")];
    let body = chat(json!({"model": "unknown"})).to_string();
    assert_eq!(Client::connect(market.at).ask("POST", CHAT, &retry, body.as_bytes()).head.status, 404);
    let counted = get(market.at, "/metrics");
    assert_eq!(counted.head.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    for line in [
        "haggle_gateway_jobs_total{model=\"test/model:1\",ending=\"finished\"} 1",
        "haggle_gateway_tokens_total 5",
        "haggle_gateway_retries_seen_total 1",
        "haggle_gateway_first_token_seconds_count 1",
        "haggle_tokens_received_total 5",
    ] {
        assert!(counted.text().lines().any(|counted| counted == line), "{line}: {}", counted.text());
    }
}
