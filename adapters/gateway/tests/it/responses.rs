//! `POST /v1/responses`.

use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use crate::{
    client::post,
    market::{MODEL, market, rich, words},
};

const RESPONSES: &str = "/v1/responses";

fn asked(more: Value) -> Value {
    let mut body = json!({"model": MODEL, "input": "Hello", "instructions": "be brief", "max_output_tokens": 5});
    body.as_object_mut().expect("an object").extend(more.as_object().cloned().unwrap_or_default());
    body
}

/// Names and data of the events, which are numbered.
fn events(text: &str) -> Vec<(String, Value)> {
    let mut all = Vec::new();
    for event in text.split("\n\n").filter_map(|event| event.strip_prefix("event: ")) {
        let (name, data) = event.split_once("\ndata: ").expect("a name and data");
        let data: Value = serde_json::from_str(data).expect("JSON");
        assert_eq!((&data["type"], &data["sequence_number"]), (&json!(name), &json!(all.len())), "{data}");
        all.push((name.to_owned(), data));
    }
    all
}

#[test]
fn an_answer_is_one_message_with_its_bill() {
    let market = market(rich());
    let answer = post(market.at, RESPONSES, &asked(json!({"metadata": {"a": "b"}})));
    assert_eq!(answer.head.status, 200, "{}", answer.text());
    let said = answer.json();
    let item = &said["output"][0];
    assert_eq!((&item["type"], &item["role"]), (&json!("message"), &json!("assistant")));
    assert_eq!((&item["content"][0]["type"], &item["content"][0]["text"]), (&json!("output_text"), &json!(words(5))));
    // The market's engine stops at the number: that is not the whole of an answer.
    assert_eq!((&said["status"], &item["status"]), (&json!("incomplete"), &json!("incomplete")));
    assert_eq!(said["incomplete_details"], json!({"reason": "max_output_tokens"}));
    assert_eq!((&said["usage"]["input_tokens"], &said["usage"]["output_tokens"]), (&json!(5), &json!(5)));
    assert_eq!(said["usage"]["cost"], said["haggle"]["bill"]["owed"]);
    let echoed =
        ["instructions", "max_output_tokens", "metadata", "tools", "tool_choice"].map(|name| said[name].clone());
    assert_eq!(echoed, [json!("be brief"), json!(5), json!({"a": "b"}), json!([]), json!("auto")]);
    let id = said["id"].as_str().expect("an id");
    assert_eq!(crate::client::get(market.at, &format!("/v1/haggle/jobs/{id}")).json()["state"], "finished");
}

#[test]
fn a_stream_tells_each_step_and_ends_with_the_whole() {
    let market = market(rich());
    let answer = post(market.at, RESPONSES, &asked(json!({"stream": true})));
    assert_eq!((answer.head.status, answer.head.header("content-type")), (200, Some("text/event-stream")));
    let events = events(&answer.text());
    let mut names: Vec<&str> = events.iter().map(|(name, _)| name.trim_start_matches("response.")).collect();
    names.dedup();
    let expected = [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "incomplete",
    ];
    assert_eq!(names, expected);
    let text: String = events.iter().filter_map(|(_, data)| data["delta"].as_str()).collect();
    assert_eq!(text, words(5));
    let last = &events[events.len() - 1].1["response"];
    let item = &events.iter().find(|(name, _)| name == "response.output_item.done").expect("an item").1["item"];
    assert_eq!((&last["output"][0], &item["content"][0]["text"]), (item, &json!(text)));
    assert_eq!((&last["usage"]["output_tokens"], &last["id"]), (&json!(5), &events[0].1["response"]["id"]));
}

#[test]
fn an_answer_that_broke_off_is_failed_and_an_error() {
    let market = market(rich());
    market.script.fail_at.store(3, Ordering::SeqCst);
    let never = asked(json!({"stream": true, "haggle": {"failover": "never"}}));
    let events = events(&post(market.at, RESPONSES, &never).text());
    let [.., (failed, data), (error, envelope)] = &events[..] else { panic!("{events:?}") };
    assert_eq!((failed.as_str(), error.as_str()), ("response.failed", "error"));
    assert_eq!(
        (&data["response"]["status"], &data["response"]["error"]["code"]),
        (&json!("failed"), &json!("interrupted"))
    );
    assert_eq!((&envelope["error"]["code"], &envelope["code"]), (&json!("interrupted"), &json!("interrupted")));
    assert!(envelope["error"]["details"]["bill"]["owed"].as_f64() > Some(0.0), "{envelope}");
    let whole = post(market.at, RESPONSES, &asked(json!({"haggle": {"failover": "never"}})));
    assert_eq!(whole.error(), (424, "interrupted".into(), String::new()));
}
