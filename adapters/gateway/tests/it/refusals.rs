//! What is refused, before anything is bought.

use serde_json::json;

use crate::{
    answers::chat,
    client::{Client, get, post},
    market::{market, rich},
};

const CHAT: &str = "/v1/chat/completions";

#[test]
fn every_refusal_has_the_one_envelope() {
    let market = market(rich());
    let at = market.at;
    for (answer, expected) in [
        (get(at, "/v1/files"), (404, "unknown_url", "")),
        (get(at, "/unknown"), (404, "unknown_url", "")),
        (post(at, "/v1/embeddings", &json!({})), (404, "unknown_url", "")),
        (post(at, "/v1/responses", &json!({})), (400, "missing_parameter", "model")),
        (get(at, CHAT), (405, "method_not_allowed", "")),
        (post(at, "/v1/models", &json!({})), (405, "method_not_allowed", "")),
        (get(at, "/v1/haggle/jobs/unknown"), (404, "job_not_found", "")),
        (Client::connect(at).ask("POST", CHAT, &[], b"{"), (400, "invalid_json", "")),
        (Client::connect(at).ask("POST", CHAT, &[], b"[]"), (400, "invalid_json", "")),
        (post(at, CHAT, &json!({"messages": []})), (400, "missing_parameter", "model")),
        (post(at, CHAT, &chat(json!({"n": 2}))), (400, "unsupported_parameter", "n")),
        (post(at, CHAT, &chat(json!({"tools": [{}]}))), (400, "unsupported_parameter", "tools")),
        (post(at, CHAT, &chat(json!({"tools": [{}], "tool_choice": "auto"}))), (400, "unsupported_parameter", "tools")),
        (
            post(at, CHAT, &chat(json!({"response_format": {"type": "json_object"}}))),
            (400, "unsupported_parameter", "response_format"),
        ),
        (post(at, CHAT, &chat(json!({"temperature": 3}))), (400, "invalid_value", "temperature")),
        (post(at, CHAT, &chat(json!({"model": "unknown"}))), (404, "model_not_found", "model")),
    ] {
        let (status, code, param) = answer.error();
        assert_eq!((status, code.as_str(), param.as_str()), expected, "{}", answer.text());
    }
    assert_eq!(get(at, CHAT).head.header("allow"), Some("POST"));
    assert_eq!(market.script.begun(), 0);
}

#[test]
fn what_the_budget_has_no_room_for_is_not_bought() {
    let market = market(rich());
    let body = chat(json!({"stream": true})).to_string();
    let tight = [("x-haggle-budget", "0.00001")];
    let answer = Client::connect(market.at).ask("POST", CHAT, &tight, body.as_bytes());
    assert_eq!(answer.error(), (402, "budget_exceeded".into(), String::new()));
    let details = &answer.json()["error"]["details"];
    assert_eq!(details["available"], json!(0.00001));
    let required = details["required"].to_string();
    assert!(details["cheapest"] == details["required"] && market.script.begun() == 0, "{details}");
    // Exactly what it says is needed is enough.
    let enough = [("x-haggle-budget", required.as_str())];
    let answer = Client::connect(market.at).ask("POST", CHAT, &enough, body.as_bytes());
    assert_eq!((answer.head.status, market.script.begun()), (200, 1), "{}", answer.text());
}

#[test]
fn without_a_budget_only_what_is_free_is_taken() {
    let market = market(haggle_gateway::Config::default());
    let answer = post(market.at, CHAT, &chat(json!({})));
    assert_eq!(answer.error().0, 402, "{}", answer.text());
    assert_eq!(post(market.at, CHAT, &chat(json!({"haggle": {"budget": 1}}))).head.status, 200);
}

#[test]
fn a_provider_that_is_gone_is_no_purchase_and_may_be_back() {
    let market = market(rich());
    assert_eq!(post(market.at, CHAT, &chat(json!({}))).head.status, 200);
    market.stop_seller();
    // Known, and gone: however often it is asked for.
    for _ in 0..3 {
        let answer = post(market.at, CHAT, &chat(json!({})));
        let (status, code, _) = answer.error();
        assert_eq!((status, code.as_str()), (503, "no_provider"), "{}", answer.text());
        assert!(answer.head.header("retry-after").is_some());
    }
}

#[test]
fn as_many_jobs_run_as_are_allowed() {
    let market = market(haggle_gateway::Config { max_jobs: 1, ..rich() });
    market.script.shut_after(1);
    let mut first = Client::connect(market.at);
    first.send(crate::client::request("POST", CHAT, &[], chat(json!({"stream": true})).to_string().as_bytes()));
    assert_eq!(first.head().status, 200);
    let answer = post(market.at, CHAT, &chat(json!({})));
    assert_eq!(answer.error(), (429, "too_many_jobs".into(), String::new()));
    assert!(answer.head.header("retry-after").is_some());
    market.script.open();
    while first.chunk().is_some() {}
    assert_eq!(post(market.at, CHAT, &chat(json!({}))).head.status, 200);
}
