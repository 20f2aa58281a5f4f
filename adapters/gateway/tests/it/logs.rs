//! Nothing that is written down says what was asked, or who may ask.

use std::{
    io,
    sync::atomic::{AtomicUsize, Ordering},
};

use haggle_gateway::{Config, Key};
use serde_json::json;
use tracing_subscriber::{Layer, filter::filter_fn, fmt, prelude::*};

use crate::{
    answers::chat,
    client::Client,
    market::{market, rich},
};

const SECRETS: [&str; 3] = ["s3cret-of-the-owner", "s3cret-of-nobody", "s3cret-prompt"];

static LINES: AtomicUsize = AtomicUsize::new(0);
static TOLD: AtomicUsize = AtomicUsize::new(0);

/// Keeps nothing, and counts what it was not to hear.
struct Watch;

impl io::Write for Watch {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let told = |secret: &&str| line.windows(secret.len()).any(|bytes| bytes == secret.as_bytes());
        TOLD.fetch_add(SECRETS.iter().filter(|secret| told(secret)).count(), Ordering::SeqCst);
        LINES.fetch_add(1, Ordering::SeqCst);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn keys_and_prompts_are_in_no_line_whatever_is_logged() {
    let ours = filter_fn(|about| ["haggle", "hyper"].iter().any(|name| about.target().starts_with(name)));
    let layer = fmt::layer().with_ansi(false).with_writer(|| Watch).with_filter(ours);
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(layer)).expect("there is no other");
    let [owner, nobody, prompt] = SECRETS;
    let market = market(Config { keys: vec![Key::new("one", owner).expect("a key")], ..rich() });
    let asked = chat(json!({"messages": [{"role": "user", "content": prompt}], "stop": prompt})).to_string();
    let wrong = chat(json!({"messages": prompt, "n": prompt})).to_string();
    let mut statuses = Vec::new();
    for (key, origin, body) in [
        (owner, "http://localhost", asked.as_str()),
        (owner, "http://localhost", wrong.as_str()),
        (owner, "http://localhost", &asked[..asked.len() - 1]),
        (owner, "http://s3cret-prompt.example", asked.as_str()),
        (nobody, "http://localhost", asked.as_str()),
    ] {
        let headers = [("Authorization", format!("Bearer {key}")), ("Origin", origin.to_owned())];
        let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
        let answer = Client::connect(market.at).ask("POST", "/v1/chat/completions", &headers, body.as_bytes());
        statuses.push(answer.head.status);
    }
    let mut client = Client::connect(market.at);
    client.send(format!("GET /v1/models HTTP/1.1\r\nAuthorization: Bearer {owner}\r\n folded\r\n\r\n"));
    statuses.push(client.answer().head.status);
    assert_eq!(statuses, [200, 400, 400, 403, 401, 400]);
    drop(market);
    assert!(LINES.load(Ordering::SeqCst) > 4, "refusals are logged");
    assert_eq!(TOLD.load(Ordering::SeqCst), 0);
}
