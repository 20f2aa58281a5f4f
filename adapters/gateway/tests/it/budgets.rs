//! Budgets of a day: exactly what fits is bought, at every instant and over restarts.

use std::{fs, path::PathBuf, thread};

use haggle_gateway::{Config, Key};
use serde_json::json;

use crate::{
    answers::chat,
    client::{Client, post, request},
    market::{Market, market, rich},
};

const CHAT: &str = "/v1/chat/completions";

/// What an answer to the tests' request costs, in micro-units.
fn cost() -> u64 {
    let market = market(rich());
    let owed = post(market.at, CHAT, &chat(json!({}))).json()["usage"]["cost"].as_f64().expect("a number");
    (owed * 1e6).round() as u64
}

fn book(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("haggle-spent-{}-{name}.jsonl", std::process::id()));
    let _ = fs::remove_file(&path);
    path
}

/// Statuses of as many requests as are sent at once.
fn at_once(market: &Market<haggle::Tokio>, n: usize) -> Vec<u16> {
    let ask = |at| move || post(at, CHAT, &chat(json!({}))).head.status;
    let threads: Vec<_> = (0..n).map(|_| thread::spawn(ask(market.at))).collect();
    threads.into_iter().map(|thread| thread.join().expect("an answer")).collect()
}

#[test]
fn of_fifty_at_once_exactly_those_are_bought_that_the_day_has_room_for() {
    let cost = cost();
    let path = book("fifty");
    let config = Config { day_budget: Some(10 * cost + cost / 2), spent: Some(path.clone()), ..Config::default() };
    {
        let market = market(config.clone());
        let mut statuses = at_once(&market, 50);
        statuses.sort_unstable();
        assert_eq!((&statuses[..10], &statuses[10..]), (&[200; 10][..], &[402; 40][..]));
        assert_eq!(market.script.begun(), 10);
        let refused = post(market.at, CHAT, &chat(json!({})));
        assert_eq!(refused.error(), (402, "budget_exceeded".into(), String::new()));
        let details = &refused.json()["error"]["details"];
        let figures = ["required", "available", "cheapest"]
            .map(|name| (details[name].as_f64().unwrap_or(-1.0) * 1e6).round() as u64);
        assert_eq!(figures, [cost, cost / 2, cost]);
    }
    // Another gateway, later the same day.
    let market = market(config);
    assert_eq!(post(market.at, CHAT, &chat(json!({}))).head.status, 402);
    let _ = fs::remove_file(path);
}

#[test]
fn a_purchase_that_nobody_heard_the_end_of_counts_in_full() {
    let cost = cost();
    let path = book("killed");
    let config = Config { day_budget: Some(3 * cost), spent: Some(path.clone()), ..Config::default() };
    let killed = market(config.clone());
    killed.script.shut_after(2);
    let mut client = Client::connect(killed.at);
    client.send(request("POST", CHAT, &[], chat(json!({"stream": true})).to_string().as_bytes()));
    assert_eq!(client.head().status, 200);
    // What a process that is killed now leaves behind.
    let left = book("left");
    fs::copy(&path, &left).expect("a copy");
    let after = market(Config { spent: Some(left.clone()), ..config });
    // Two were set aside.
    assert_eq!(post(after.at, CHAT, &chat(json!({}))).head.status, 200);
    assert_eq!(post(after.at, CHAT, &chat(json!({}))).head.status, 402);
    killed.script.open();
    while client.chunk().is_some() {}
    // What was set aside and not spent came back.
    assert_eq!(at_once(&killed, 3).iter().filter(|status| **status == 200).count(), 2);
    let _ = (fs::remove_file(path), fs::remove_file(left));
}

#[test]
fn a_key_spends_no_more_than_its_own() {
    let cost = cost();
    let key = |name: &str, day_budget| {
        Key::new(name, format!("secret-of-{name}")).expect("a key").with_day_budget(day_budget)
    };
    let market = market(Config { keys: vec![key("poor", Some(cost)), key("rich", None)], ..rich() });
    let ask = |name: &str, more| {
        let body = chat(more).to_string();
        let bearer = format!("Bearer secret-of-{name}");
        Client::connect(market.at).ask("POST", CHAT, &[("Authorization", &bearer)], body.as_bytes()).head.status
    };
    assert_eq!([ask("poor", json!({})), ask("poor", json!({})), ask("rich", json!({}))], [200, 402, 200]);
    assert_eq!(market.script.begun(), 2);
}
