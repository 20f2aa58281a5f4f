//! What arrives on a socket besides good requests.

use serde_json::json;

use crate::{
    answers::chat,
    client::{Client, request},
    market::{market, rich, words},
};

const CHAT: &str = "/v1/chat/completions";

#[test]
fn a_body_with_two_lengths_is_refused_and_nothing_behind_it_is_looked_at() {
    let market = market(rich());
    for lengths in
        ["Content-Length: 5\r\nTransfer-Encoding: chunked", "Transfer-Encoding: chunked\r\nContent-Length: 5"]
    {
        let mut client = Client::connect(market.at);
        let smuggled = "GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n";
        client.send(format!("POST {CHAT} HTTP/1.1\r\nHost: localhost\r\n{lengths}\r\n\r\n0\r\n\r\n{smuggled}"));
        assert_eq!(client.answer().error(), (400, "ambiguous_length".into(), String::new()), "{lengths}");
        assert!(client.is_closed());
    }
    // In chunks is fine, and closes.
    let body = chat(json!({})).to_string();
    let mut client = Client::connect(market.at);
    client.send(format!("POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"));
    client.send(format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len()));
    assert_eq!(client.answer().json()["choices"][0]["message"]["content"], words(5));
    assert!(client.is_closed());
}

#[test]
fn what_is_too_long_is_not_read() {
    let market = market(rich());
    let mut client = Client::connect(market.at);
    client.send(format!("POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1073741824\r\n\r\n"));
    assert_eq!(client.answer().error(), (413, "request_too_large".into(), String::new()));
    // Nor is what does not say how long it is.
    let mut client = Client::connect(market.at);
    client.send(format!("POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"));
    let chunk = [b"100000\r\n".as_slice(), &vec![b' '; 1 << 20], b"\r\n"].concat();
    (0..5).for_each(|_| client.send(&chunk));
    assert_eq!(client.head().status, 413);
    let mut client = Client::connect(market.at);
    client.send(request("GET", "/v1/models", &[("X-Long", &"a".repeat(70 << 10))], b""));
    assert_eq!(client.head().status, 431);
    let many: Vec<(String, String)> = (0..120).map(|n| (format!("x-{n}"), "1".into())).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let mut client = Client::connect(market.at);
    client.send(request("GET", "/healthz", &many, b""));
    assert_eq!(client.head().status, 431);
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
