//! What somebody sends who wants more than an answer: refused with a name, within bounds, and nothing is bought.

use std::{fs, time::Duration};

use haggle_gateway::{Config, Key, Patience};
use serde_json::json;

use crate::{
    answers::chat,
    client::{Client, request},
    market::{market, rich, words},
};

const CHAT: &str = "/v1/chat/completions";
const POST: &str = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n";
const LONG: Duration = Duration::from_secs(3_600);
const SHORT: Duration = Duration::from_millis(60);

#[test]
fn a_head_that_can_be_read_in_two_ways_is_refused_with_its_connection() {
    let market = market(rich());
    let (long, many) = ("a".repeat(70 << 10), "X: 1\r\n".repeat(120));
    for (text, status, code) in [
        (format!("{POST}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), 400, "ambiguous_length"),
        (format!("{POST}Content-Length: 2\r\nContent-Length: 2\r\n\r\n{{}}"), 400, "ambiguous_length"),
        (format!("{POST}Content-Length: 2\r\nContent-Length: 40\r\n\r\n{{}}"), 400, "malformed_request"),
        (format!("{POST}Content-Length: 2, 2\r\n\r\n{{}}"), 400, "malformed_request"),
        (format!("{POST}Content-Length: +2\r\n\r\n{{}}"), 400, "malformed_request"),
        (format!("{POST}Transfer-Encoding: gzip\r\n\r\n"), 400, "malformed_request"),
        (format!("{POST}Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n"), 400, "malformed_request"),
        (format!("{POST}Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n"), 400, "malformed_request"),
        (format!("{POST}X: 1\r\n folded\r\n\r\n"), 400, "malformed_request"),
        (format!("{POST}X: 1\nContent-Length: 2\r\n\r\n{{}}"), 400, "malformed_request"),
        (format!("{POST}Content-Length: 2\n\n{{}}"), 400, "malformed_request"),
        (format!("{POST}X: \0\r\n\r\n"), 400, "malformed_request"),
        ("GET /v1/models HTTP/1.1\r\nHost: localhost\r\nno colon\r\n\r\n".into(), 400, "malformed_request"),
        ("nonsense\r\n\r\n".into(), 400, "malformed_request"),
        (format!("GET /{long} HTTP/1.1\r\nHost: localhost\r\n\r\n"), 431, "headers_too_large"),
        (format!("{POST}X: {long}\r\n\r\n"), 431, "headers_too_large"),
        (format!("{POST}{many}\r\n"), 431, "headers_too_large"),
    ] {
        let shown = &text[..text.len().min(160)];
        let mut client = Client::connect(market.at);
        client.send(&text);
        client.send("GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let answer = client.answer();
        assert_eq!(answer.error(), (status, code.into(), String::new()), "{shown:?}");
        assert!(client.is_closed(), "what is behind it is not looked at: {shown:?}");
    }
    assert_eq!(market.script.begun(), 0);
}

#[test]
fn what_hides_behind_a_good_request_is_seen() {
    let market = market(rich());
    let good = request("POST", CHAT, &[], chat(json!({"max_tokens": 1})).to_string().as_bytes());
    let hidden = format!("{POST}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{POST}\r\n");
    let broken = "GET / HTTP/1.1\r\nno colon\r\n\r\n";
    for (behind, code) in [(hidden.as_str(), "ambiguous_length"), (broken, "malformed_request")] {
        let mut client = Client::connect(market.at);
        client.send([&good, behind.as_bytes()].concat());
        assert_eq!(client.answer().json()["choices"][0]["message"]["content"], words(1));
        assert_eq!(client.answer().error().1, code);
        assert!(client.is_closed());
    }
}

#[test]
fn a_body_in_malformed_chunks_buys_nothing() {
    let market = market(rich());
    let body = chat(json!({})).to_string();
    for chunks in [
        format!("{:x}\n{body}\n0\n\n", body.len()),
        format!("-5\r\n{body}\r\n0\r\n\r\n"),
        format!("{:x}\r\n{body}0\r\n\r\n", body.len()),
        format!("ffffffffffffffffff\r\n{body}\r\n0\r\n\r\n"),
    ] {
        let mut client = Client::connect(market.at);
        client.send(format!("{POST}Transfer-Encoding: chunked\r\n\r\n{chunks}"));
        assert_eq!(client.answer().error(), (400, "broken_body".into(), String::new()), "{chunks:?}");
        assert!(client.is_closed());
    }
    assert_eq!(market.script.begun(), 0);
}

#[test]
fn who_sends_drop_by_drop_is_left() {
    let eternal = Patience { head: LONG, body_gap: LONG, body: LONG, idle: LONG, unread: LONG, parting: LONG };
    let declared = format!("{POST}Content-Length: 4000000\r\n\r\n");
    let cases = [
        (Patience { head: SHORT, ..eternal }, POST, "X-Drop: 1\r\n", "head_timeout"),
        (Patience { body: SHORT, ..eternal }, declared.as_str(), " ", "body_timeout"),
        (Patience { body_gap: SHORT, ..eternal }, declared.as_str(), "", "body_timeout"),
    ];
    for (patience, begin, drop, code) in cases {
        let market = market(Config { patience, ..rich() });
        let mut client = Client::connect(market.at);
        client.send(begin);
        client.drip(drop.as_bytes());
        assert_eq!(client.answer().error(), (408, code.into(), String::new()));
        assert!(client.is_closed());
    }
    // Who says nothing at all has asked nothing.
    let market = market(Config { patience: Patience { idle: SHORT, ..eternal }, ..rich() });
    assert!(Client::connect(market.at).is_closed());
}

#[test]
fn who_reads_nothing_is_left_and_the_job_with_them() {
    let patience = Patience { unread: SHORT, ..Patience::default() };
    let market = market(Config { patience, ..rich() });
    // More than fits into the sockets' buffers.
    *market.script.said.lock().expect("not poisoned") = vec![(None, "x".repeat(1 << 10)); 60_000];
    let mut client = Client::connect(market.at);
    let body = chat(json!({"stream": true, "max_tokens": 1_900})).to_string();
    client.send(request("POST", CHAT, &[], body.as_bytes()).repeat(12));
    market.until(|script| script.begun() > 0 && script.live.load(std::sync::atomic::Ordering::SeqCst) == 0);
    drop(client);
}

#[test]
fn of_a_gigabyte_no_more_is_taken_than_a_request_may_have() {
    let market = market(rich());
    const MOST: usize = 1 << 10;
    let piece = vec![b' '; 1 << 20];
    let chunk = [b"100000\r\n".as_slice(), &piece, b"\r\n"].concat();
    for (head, piece) in
        [("Content-Length: 1073741824\r\n\r\n", &piece), ("Transfer-Encoding: chunked\r\n\r\n", &chunk)]
    {
        let mut client = Client::connect(market.at);
        client.send(format!("{POST}{head}"));
        let taken = client.pour(piece, MOST);
        assert!(taken < MOST / 8, "{taken} MiB were taken");
        assert_eq!(client.answer().error(), (413, "request_too_large".into(), String::new()));
    }
}

#[test]
fn who_is_refused_early_can_send_all_and_reads_why() {
    let patience = Patience { parting: LONG, ..Patience::default() };
    let keys = vec![Key::new("one", "secret-one").expect("a key")];
    let market = market(Config { patience, keys, ..rich() });
    let piece = vec![b' '; 1 << 20];
    for (key, status) in [("secret-one", 413), ("secret-two", 401)] {
        let mut client = Client::connect(market.at);
        client.send(format!("{POST}Authorization: Bearer {key}\r\nContent-Length: {}\r\n\r\n", 12 << 20));
        assert_eq!(client.pour(&piece, 12), 12);
        assert_eq!(client.answer().error().0, status);
    }
}

/// Sockets that this process may have open.
fn files() -> usize {
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find(|line| line.starts_with("Max open files"));
    line.and_then(|line| line.split_whitespace().nth(3)?.parse().ok()).unwrap_or(1_024)
}

#[test]
fn of_many_connections_as_many_are_kept_as_are_allowed() {
    keeps(100, 400);
}

/// As many as the system lets one process have.
#[test]
#[ignore = "half a minute on a busy machine"]
fn of_ten_thousand_connections_as_many_are_kept_as_are_allowed() {
    // Other tests have some, too.
    let all = files().saturating_sub(600).min(10_000);
    keeps((all / 2).min(1_024), all);
}

fn keeps(kept: usize, all: usize) {
    let market = market(Config { max_connections: kept, ..rich() });
    println!("{all} connections, of which {kept} are kept");
    let mut clients: Vec<Client> = (0..all).map(|_| Client::connect(market.at)).collect();
    let further = clients.split_off(kept);
    assert!(further.into_iter().all(|mut client| client.is_closed()));
    for client in &mut clients {
        assert_eq!(client.ask("GET", "/healthz", &[], b"").head.status, 200);
    }
    drop(clients);
    // Whoever comes later finds room again, as soon as it was seen that they went.
    let healthy = |client: &mut Client| {
        client.send(request("GET", "/healthz", &[], b""));
        client.is_answered()
    };
    while !healthy(&mut Client::connect(market.at)) {}
}
