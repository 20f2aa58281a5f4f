//! What arrives on a socket besides good requests.

use serde_json::json;

use crate::{
    answers::chat,
    client::{Client, request},
    market::{market, rich, words},
};

const CHAT: &str = "/v1/chat/completions";

#[test]
fn a_body_in_chunks_is_read_and_closes_the_connection() {
    let market = market(rich());
    let body = chat(json!({})).to_string();
    let mut client = Client::connect(market.at);
    client.send(format!("POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"));
    client.send(format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len()));
    assert_eq!(client.answer().json()["choices"][0]["message"]["content"], words(5));
    assert!(client.is_closed());
}

#[test]
fn requests_in_one_piece_are_answered_in_turn() {
    let market = market(rich());
    let mut client = Client::connect(market.at);
    let one = request("POST", CHAT, &[], chat(json!({"max_tokens": 1})).to_string().as_bytes());
    let other = request("POST", CHAT, &[], chat(json!({"max_tokens": 2})).to_string().as_bytes());
    client.send([one, other].concat());
    for n in [1, 2] {
        assert_eq!(client.answer().json()["choices"][0]["message"]["content"], words(n));
    }
}

#[test]
fn a_client_that_will_send_nothing_more_counts_as_gone() {
    let market = market(rich());
    market.script.shut_after(1);
    let mut client = Client::connect(market.at);
    client.send(request("POST", CHAT, &[], chat(json!({"stream": true})).to_string().as_bytes()));
    assert_eq!(client.head().status, 200);
    client.shut();
    market.until(|script| script.live.load(std::sync::atomic::Ordering::SeqCst) == 0);
}

#[test]
fn further_connections_than_allowed_are_closed() {
    let market = market(haggle_gateway::Config { max_connections: 2, ..rich() });
    let mut kept: Vec<Client> = (0..2).map(|_| Client::connect(market.at)).collect();
    for client in &mut kept {
        assert_eq!(client.ask("GET", "/healthz", &[], b"").head.status, 200);
    }
    let mut further = Client::connect(market.at);
    further.send(request("GET", "/healthz", &[("Connection", "close")], b""));
    assert!(further.is_closed(), "it was answered");
    assert_eq!(kept[0].ask("GET", "/readyz", &[], b"").head.status, 200);
}
