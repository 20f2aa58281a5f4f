//! What is more than an answer's text.

use haggle::{
    Tokio,
    core::wire::message::Features,
    engine::{Channel, Prompt},
};
use serde_json::{Value, json};

use crate::{
    answers::chat,
    client::post,
    market::{MODEL, Market, rich},
};

const CHAT: &str = "/v1/chat/completions";

fn saying(pieces: &[(Option<Channel>, &str)]) -> Market<Tokio> {
    let market = Market::offering(Tokio::start().expect("threads"), rich(), Some(Features::TOOLS.0));
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

/// Two calls, as their provider tells them.
fn calling() -> Market<Tokio> {
    let call = Some(Channel::ToolCall);
    saying(&[
        (None, "Let me see. "),
        (call, r#"{"index":0,"id":"c1","name":"look","arguments":"{\"city\""}"#),
        (call, r#"{"index":0,"arguments":":\"Ulm\"}"}"#),
        (call, r#"{"index":1,"id":"c2","name":"time","arguments":"{}"}"#),
    ])
}

/// The two calls, as OpenAI's interface has them.
fn calls() -> Value {
    let call = |id: &str, name: &str, arguments: &str| json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}});
    json!([call("c1", "look", r#"{"city":"Ulm"}"#), call("c2", "time", "{}")])
}

fn tools() -> Value {
    json!([{"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}])
}

#[test]
fn tools_are_passed_on_and_their_calls_come_back_whole() {
    let market = calling();
    let asked = json!({"tools": tools(), "tool_choice": "auto", "max_tokens": 50, "user": "u"});
    let said = post(market.at, CHAT, &chat(asked.clone())).json();
    let choice = &said["choices"][0];
    assert_eq!((&choice["message"]["tool_calls"], &choice["finish_reason"]), (&calls(), &json!("tool_calls")));
    assert_eq!(choice["message"]["content"], "Let me see. ");
    let request = market.script.last.lock().expect("not poisoned").clone().expect("a request");
    let Prompt::Request(request) = request.prompt else { panic!("a whole request") };
    let expected = json!({"messages": [{"role": "user", "content": "Hello"}], "tools": tools(), "tool_choice": "auto"});
    assert_eq!(serde_json::from_str::<Value>(&request).ok(), Some(expected));
    let mut streamed = chat(asked);
    streamed["stream"] = json!(true);
    let events = post(market.at, CHAT, &streamed).events();
    let choices: Vec<Value> = events
        .iter()
        .filter_map(|event| serde_json::from_str::<Value>(event).ok().map(|event| event["choices"][0].clone()))
        .collect();
    let told: Vec<&Value> = choices.iter().filter_map(|choice| choice["delta"]["tool_calls"].get(0)).collect();
    let mut expected = calls();
    for (at, call) in expected.as_array_mut().expect("calls").iter_mut().enumerate() {
        call["index"] = json!(at);
    }
    assert_eq!(told, expected.as_array().expect("calls").iter().collect::<Vec<_>>());
    assert_eq!(choices[choices.len() - 1]["finish_reason"], "tool_calls");
}

#[test]
fn a_response_calls_tools_and_is_given_their_results() {
    let market = calling();
    let tool = json!({"type": "function", "name": "look", "parameters": {"type": "object"}});
    let input = json!([
        {"role": "user", "content": "Weather?"},
        {"type": "function_call", "call_id": "c0", "name": "look", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c0", "output": "rain"},
    ]);
    let asked = json!({"model": MODEL, "input": input, "tools": [tool], "max_output_tokens": 50});
    let said = post(market.at, "/v1/responses", &asked).json();
    let output = &said["output"];
    assert_eq!((&said["status"], &output[0]["type"]), (&json!("completed"), &json!("message")));
    let fields = ["type", "call_id", "name", "arguments"].map(|name| output[1][name].clone());
    assert_eq!(fields, [json!("function_call"), json!("c1"), json!("look"), json!(r#"{"city":"Ulm"}"#)]);
    assert_eq!((&output[2]["call_id"], output.as_array().map(Vec::len)), (&json!("c2"), Some(3)));
}

#[test]
fn what_a_provider_does_not_offer_is_refused_and_a_call_that_is_none_ends_it() {
    let market = calling();
    let json_wanted = chat(json!({"response_format": {"type": "json_object"}}));
    let refused = post(market.at, CHAT, &json_wanted).error();
    assert_eq!(refused, (400, "unsupported_parameter".into(), "response_format".into()));
    assert_eq!(market.script.begun(), 0);
    *market.script.said.lock().expect("not poisoned") = vec![(Some(Channel::ToolCall), "nonsense".into())];
    let broken = post(market.at, CHAT, &chat(json!({"tools": tools(), "max_tokens": 50})));
    assert_eq!(broken.error(), (424, "interrupted".into(), String::new()));
}
