//! The page at `/`, and what it lives on. How a browser shows it is tested by `tests/page/run`.

use std::net::SocketAddr;

use haggle_gateway::{Config, Key};
use serde_json::{Value, json};

use crate::{
    answers::chat,
    client::{Client, get, post, request},
    market::{MODEL, market, rich, words},
};

const LIVE: &str = "/v1/haggle/live";

/// Asks for what happens, with a key.
fn watch(at: SocketAddr, key: &str) -> Client {
    let mut client = Client::connect(at);
    client.send(request("GET", LIVE, &[("Authorization", key)], b""));
    let head = client.head();
    assert_eq!((head.status, head.header("content-type")), (200, Some("text/event-stream")));
    client
}

/// The next event of a kind that is as it is waited for.
fn told(client: &mut Client, kind: &str, what: impl Fn(&Value) -> bool) -> Value {
    for _ in 0..1_000 {
        let chunk = String::from_utf8(client.chunk().expect("it goes on")).expect("UTF-8");
        let events = chunk.split("\n\n").filter_map(|event| event.strip_prefix("data: "));
        let values = events.map(|event| serde_json::from_str::<Value>(event).expect("JSON"));
        if let Some(found) = values.filter_map(|value| value.get(kind).cloned()).find(|value| what(value)) {
            return found;
        }
    }
    panic!("{kind} is never told so");
}

#[test]
fn the_page_runs_only_what_is_in_it_and_needs_no_key_to_be_shown() {
    let keys = vec![Key::new("one", "secret-one").expect("a key")];
    let market = market(Config { keys, ..rich() });
    let (page, again) = (get(market.at, "/"), get(market.at, "/"));
    let header = |name: &str| page.head.header(name);
    assert_eq!((page.head.status, header("content-type")), (200, Some("text/html; charset=utf-8")));
    let policy = header("content-security-policy").expect("a policy");
    assert!(policy.starts_with("default-src 'none'; script-src 'nonce-"), "{policy}");
    assert!(policy.contains("frame-ancestors 'none'") && !policy.contains("unsafe"), "{policy}");
    let word = policy.split("nonce-").nth(1).and_then(|rest| rest.split('\'').next()).expect("a word");
    assert_eq!(page.text().matches(&format!("nonce=\"{word}\"")).count(), 2);
    assert_ne!(Some(policy), again.head.header("content-security-policy"), "nobody can guess it");
    assert_eq!((header("x-content-type-options"), header("referrer-policy")), (Some("nosniff"), Some("no-referrer")));
    assert_eq!(get(market.at, LIVE).error().0, 401);
    assert_eq!(post(market.at, "/", &json!({})).error().0, 405);
}

#[test]
fn a_page_by_a_foreign_name_is_not_shown() {
    let market = market(rich());
    for path in ["/", LIVE] {
        let answer = Client::connect(market.at).ask("GET", path, &[("Host", "evil.example")], b"");
        assert_eq!(answer.error().0, 403, "{path}");
    }
}

#[test]
fn who_watches_is_told_of_what_is_sold_and_of_what_they_bought_themselves() {
    let key = |name: &str| Key::new(name, format!("secret-{name}")).expect("a key").with_day_budget(Some(1_000));
    let mut market = market(Config { keys: vec![key("one"), key("two")], ..rich() });
    let (mut one, mut two) = (watch(market.at, "Bearer secret-one"), watch(market.at, "Bearer secret-two"));
    let sold = told(&mut one, "market", |sold| sold[0]["id"] == MODEL);
    assert_eq!(sold[0]["haggle"]["providers"][0]["id"], market.provider());
    let before = told(&mut two, "mine", |_| true);
    assert_eq!((&before["jobs"], &before["budgets"][0]["left"]), (&json!([]), &json!(0.001)));
    market.script.shut_after(3);
    let body = chat(json!({"stream": true})).to_string();
    let mut buyer = Client::connect(market.at);
    buyer.send(request("POST", "/v1/chat/completions", &[("Authorization", "Bearer secret-one")], body.as_bytes()));
    // While it runs, tokens are counted and what it can come to is set aside.
    let mine = told(&mut one, "mine", |mine| mine["jobs"][0]["tokens"] == 3);
    let (job, budget) = (&mine["jobs"][0], &mine["budgets"][0]);
    assert_eq!((&job["state"], &job["provider"]), (&json!("running"), &json!(market.provider())));
    assert!(budget["reserved"].as_f64() > Some(0.0) && budget["key"] == "one", "{budget}");
    market.script.open();
    assert!(buyer.answer().text().contains(words(1).trim()));
    let mine = told(&mut one, "mine", |mine| mine["jobs"][0]["state"] == "finished");
    let (job, budget) = (&mine["jobs"][0], &mine["budgets"][0]);
    assert_eq!((&job["tokens"], &job["failovers"], &budget["owed"]), (&json!(5), &json!(0), &job["owed"]));
    assert!(job["owed"].as_f64() > Some(0.0) && job.get("route").is_none(), "{job}");
    market.stop_gateway();
    let rest: Vec<u8> = std::iter::from_fn(|| two.chunk()).flatten().collect();
    assert!(!String::from_utf8_lossy(&rest).contains("running"), "what one bought is not told to the other");
}

#[test]
fn so_many_pages_watch_and_no_more() {
    let market = market(rich());
    let mut watching: Vec<Client> = (0..16).map(|_| watch(market.at, "")).collect();
    // What is not refused would never end.
    assert_eq!(status(market.at), 429);
    assert_eq!(get(market.at, LIVE).error(), (429, "too_many_watching".into(), String::new()));
    // A place becomes free when one leaves; the gateway sees that when it sees the end of the connection.
    watching.pop();
    while status(market.at) == 429 {}
}

fn status(at: SocketAddr) -> u16 {
    let mut client = Client::connect(at);
    client.send(request("GET", LIVE, &[], b""));
    client.head().status
}
