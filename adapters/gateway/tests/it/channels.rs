//! What is more than an answer's text.

use haggle::engine::Channel;
use serde_json::{Value, json};

use crate::{
    answers::chat,
    client::post,
    market::{MODEL, Market, market, rich},
};

const CHAT: &str = "/v1/chat/completions";

fn saying(pieces: &[(Option<Channel>, &str)]) -> Market<haggle::Tokio> {
    let market = market(rich());
    let said = pieces.iter().map(|(channel, text)| (*channel, (*text).to_owned())).collect();
    *market.script.said.lock().expect("not poisoned") = said;
    market
}

/// The deltas of a streamed chat that have a field, put together.
fn streamed(events: &[String], name: &str) -> String {
    let delta =
        |event: &String| serde_json::from_str::<Value>(event).ok().map(|event| event["choices"][0]["delta"].clone());
    events.iter().filter_map(delta).filter_map(|delta| delta[name].as_str().map(str::to_owned)).collect()
}

#[test]
fn thoughts_have_a_place_of_their_own() {
    let thought = Some(Channel::Thought);
    let market = saying(&[(thought, "hm "), (thought, "so"), (None, "It is "), (None, "4.")]);
    let said = post(market.at, CHAT, &chat(json!({"max_tokens": 50}))).json();
    let message = &said["choices"][0]["message"];
    let found = ["reasoning_content", "content"].map(|name| message[name].clone());
    assert_eq!(found, [json!("hm so"), json!("It is 4.")]);
    // All of it is owed.
    assert_eq!(
        (&said["usage"]["completion_tokens"], &said["choices"][0]["finish_reason"]),
        (&json!(4), &json!("stop"))
    );
    assert_eq!(said["usage"]["prompt_tokens_details"]["cached_tokens"], 2);
    let events = post(market.at, CHAT, &chat(json!({"max_tokens": 50, "stream": true}))).events();
    let found = ["reasoning_content", "content"].map(|name| streamed(&events, name));
    assert_eq!(found, ["hm so", "It is 4."]);
    let asked = json!({"model": MODEL, "input": "2 + 2?", "max_output_tokens": 50});
    let output = post(market.at, "/v1/responses", &asked).json()["output"].clone();
    let kinds = [0, 1].map(|at| (output[at]["type"].clone(), output[at]["content"][0]["type"].clone()));
    let expected = [(json!("reasoning"), json!("reasoning_text")), (json!("message"), json!("output_text"))];
    assert_eq!((kinds, &output[0]["content"][0]["text"]), (expected, &json!("hm so")));
}
