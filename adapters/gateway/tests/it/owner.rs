//! Nobody but the owner spends.

use std::net::TcpListener;

use haggle::{Node, Tokio, runtime::Runtime};
use haggle_gateway::{Config, Gateway, Key, StartError};
use serde_json::json;

use crate::{
    answers::chat,
    client::Client,
    market::{MODEL, market, rich},
};

const CHAT: &str = "/v1/chat/completions";

#[test]
fn pages_and_names_of_others_spend_nothing() {
    let market = market(Config { allow_origins: vec!["https://chat.example".into()], ..rich() });
    let body = chat(json!({})).to_string();
    for (headers, status, code) in [
        (vec![("Host", "evil.example")], 403, "foreign_host"),
        (vec![("Host", "evil.example:80"), ("Origin", "http://evil.example")], 403, "foreign_host"),
        // A page may send text without asking first.
        (vec![("Origin", "https://evil.example"), ("Content-Type", "text/plain")], 403, "foreign_origin"),
        (vec![("Origin", "null")], 403, "foreign_origin"),
    ] {
        let answer = Client::connect(market.at).ask("POST", CHAT, &headers, body.as_bytes());
        let (was, said, _) = answer.error();
        assert_eq!((was, said.as_str()), (status, code), "{headers:?}");
        assert!(answer.head.header("access-control-allow-origin").is_none());
    }
    assert_eq!(market.script.begun(), 0);
    for headers in
        [vec![("Origin", "https://chat.example")], vec![("Sec-Fetch-Mode", "cors")], vec![("Host", "127.0.0.1:80")]]
    {
        let answer = Client::connect(market.at).ask("POST", CHAT, &headers, body.as_bytes());
        assert_eq!(answer.head.status, 200, "{headers:?}");
    }
    let asks = [
        ("Origin", "https://chat.example"),
        ("Access-Control-Request-Method", "POST"),
        ("Access-Control-Request-Headers", "authorization, x-stainless-os"),
    ];
    let told = Client::connect(market.at).ask("OPTIONS", CHAT, &asks, b"");
    let header = |name: &str| told.head.header(&format!("access-control-allow-{name}"));
    assert_eq!((told.head.status, header("origin")), (204, Some("https://chat.example")));
    assert_eq!(header("headers"), Some("authorization, x-stainless-os"));
}

#[test]
fn with_a_key_only_who_knows_it_spends() {
    let keys = vec![Key::new("one", "secret-one").expect("a key"), Key::new("two", "secret-two").expect("a key")];
    let market = market(Config { keys, ..rich() });
    let body = chat(json!({})).to_string();
    let ask = |path: &str, key: &str| {
        let method = if path == CHAT { "POST" } else { "GET" };
        Client::connect(market.at).ask(method, path, &[("Authorization", key)], body.as_bytes())
    };
    for key in ["", "Bearer sk-dummy", "Bearer secret-onetwo"] {
        let answer = ask(CHAT, key);
        assert_eq!((answer.error().0, answer.head.header("www-authenticate")), (401, Some("Bearer")), "{key}");
        assert_eq!(ask("/v1/models", key).head.status, 401);
    }
    assert_eq!((market.script.begun(), ask("/healthz", "").head.status), (0, 200));
    let answer = ask(CHAT, "Bearer secret-one");
    let job = format!("/v1/haggle/jobs/{}", answer.head.header("x-haggle-job").expect("a job"));
    // What one bought is not told to the other.
    assert_eq!((ask(&job, "Bearer secret-one").head.status, ask(&job, "Bearer secret-two").head.status), (200, 404));
}

#[test]
fn a_key_asks_for_its_models_only_and_as_often_as_it_may() {
    let model = |name: &str| haggle::Model::new(name.as_bytes()).expect("a model");
    let key = |name: &str| Key::new(name, format!("secret-{name}")).expect("a key");
    let keys = vec![
        key("slow").with_rate(std::num::NonZeroU32::new(2)),
        key("bound").with_models(vec![model("other"), model(MODEL)]),
        key("barred").with_models(vec![model("other")]),
    ];
    let market = market(Config { keys, ..rich() });
    let ask = |name: &str, more| {
        let key = format!("Bearer secret-{name}");
        Client::connect(market.at).ask("POST", CHAT, &[("Authorization", &key)], chat(more).to_string().as_bytes())
    };
    assert_eq!((ask("slow", json!({})).head.status, ask("slow", json!({})).head.status), (200, 200));
    let refused = ask("slow", json!({}));
    assert_eq!(refused.error(), (429, "rate_limit_exceeded".into(), String::new()));
    let after: u64 = refused.head.header("retry-after").and_then(|text| text.parse().ok()).expect("seconds");
    assert!((1..=61).contains(&after), "{after}");
    assert_eq!(ask("bound", json!({})).head.status, 200);
    // Neither at first nor in the second place.
    for (name, more) in [("barred", json!({})), ("bound", json!({"models": ["third"]}))] {
        assert_eq!(ask(name, more).error(), (403, "model_not_allowed".into(), "model".into()), "{name}");
    }
    assert_eq!(market.script.begun(), 3, "what is refused buys nothing");
}

#[test]
fn beyond_this_machine_nobody_listens_without_a_key() {
    let runtime = Tokio::start().expect("threads");
    let config = haggle::Config { enable_mdns: false, enable_dht: false, ..haggle::Config::default() };
    let node = runtime.block_on(Node::start(config, runtime.clone())).expect("a node");
    let socket = || TcpListener::bind("0.0.0.0:0").expect("a port");
    let open = Gateway::start(runtime.clone(), node.clone(), Config::default(), socket());
    assert!(matches!(open, Err(StartError::Open { .. })), "{open:?}");
    let keys = vec![Key::new("one", "secret-one").expect("a key")];
    let kept = Gateway::start(runtime.clone(), node.clone(), Config { keys, ..Config::default() }, socket());
    assert!(kept.is_ok(), "{kept:?}");
    assert!(Key::new("short", "secret").is_err() && Key::new("odd", "two words").is_err());
    runtime.block_on(node.stop());
}
