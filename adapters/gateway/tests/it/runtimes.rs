//! The same gateway on every runtime.

use haggle_gateway::runtime::Sockets;
use serde_json::json;

use crate::{
    answers::chat,
    client::{Client, get, post, request},
    market::{Market, rich, words},
};

const CHAT: &str = "/v1/chat/completions";

fn serves(runtime: impl Sockets) {
    let mut market = Market::start(runtime, rich());
    let said = post(market.at, CHAT, &chat(json!({}))).json();
    assert_eq!(said["choices"][0]["message"]["content"], words(5));
    let streamed = post(market.at, CHAT, &chat(json!({"stream": true})));
    assert!(streamed.text().ends_with("data: [DONE]\n\n"), "{}", streamed.text());
    assert_eq!(get(market.at, "/v1/models").json()["data"].as_array().map(Vec::len), Some(1));
    assert_eq!(post(market.at, CHAT, &chat(json!({"n": 2}))).error().0, 400);
    market.script.shut_after(1);
    let mut client = Client::connect(market.at);
    client.send(request("POST", CHAT, &[], chat(json!({"stream": true})).to_string().as_bytes()));
    assert_eq!(client.head().status, 200);
    drop(client);
    market.until(|script| script.live.load(std::sync::atomic::Ordering::SeqCst) == 0);
    market.stop_gateway();
}

#[test]
fn tokio_serves() {
    serves(haggle::Tokio::start().expect("threads"));
}

#[test]
fn smol_serves() {
    serves(haggle::Smol::global());
}

#[test]
fn async_std_serves() {
    serves(haggle::AsyncStd);
}
