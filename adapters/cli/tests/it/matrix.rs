//! Every runtime sells to every runtime, as processes of their own: found by the DHT, haggled, cut in mid-answer, resumed.
//!
//! This build's runtimes are those of its features; all pairs over both transports are played by
//! `cargo test -p haggle-cli --features smol,async-std --test it -- --ignored --nocapture matrix`

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::{
    line::{Line, Trouble},
    market::once_found,
    server::{Does, Server, words},
    world::{Folder, Node, Over, Running, run},
};

pub(crate) const RUNTIMES: &[&str] = &[
    #[cfg(feature = "tokio")]
    "tokio",
    #[cfg(feature = "smol")]
    "smol",
    #[cfg(feature = "async-std")]
    "async-std",
];

/// The end of an address: TCP, and WebSocket.
const TRANSPORTS: [&str; 2] = ["", "/ws"];

/// Who plays, and how long the answer is.
pub(crate) struct Play<'a> {
    pub(crate) seller: &'a str,
    pub(crate) buyer: &'a str,
    pub(crate) transport: &'a str,
    pub(crate) tokens: u64,
}

/// What came of it.
pub(crate) struct Played {
    pub(crate) over: Over,
    pub(crate) line: Line,
    pub(crate) took: Duration,
}

impl Play<'_> {
    /// A bootstrap node, a provider that is announced at the end of a line only, and a requester that knows neither
    /// the provider nor its line. What the provider writes comes from a server, as fast as it is taken.
    pub(crate) fn through(&self, trouble: Trouble) -> Played {
        let Play { seller, buyer, transport, tokens } = *self;
        let server = Server::start(Does::Writes);
        let line = Line::lay(trouble, tokens * 5);
        let listen = format!("/ip4/127.0.0.1/tcp/0{transport}");
        let bootstrap = Node::start(&["bootstrap", "--runtime", seller, "--listen", &listen]);
        let announced = format!("/ip4/127.0.0.1/tcp/{}{transport}", line.port);
        let where_to = ["--listen", &listen, "--announce", &announced, "--bootstrap", &bootstrap.address];
        let what = ["--upstream", &server.url(), "--model", "words", "--context", "20000"];
        let price = ["--price-out", "1000", "--floor", "700"];
        let serve = Node::start(&[&["serve", "--runtime", seller][..], &where_to, &what, &price].concat());
        line.lead_to(serve.port());
        let folder = Folder::new();
        let max_tokens = tokens.to_string();
        let ask = ["ask", "--json", "--runtime", buyer, "--bootstrap", &bootstrap.address, "--model", "words"];
        let job = ["--budget", "100", "--haggle", "700", "--max-tokens", &max_tokens, "--chat", "Words, please"];
        let begun = Instant::now();
        let over = once_found(&folder, &[&ask[..], &job].concat());
        Played { over, line, took: begun.elapsed() }
    }

    /// The whole answer, each token once, at the price that was haggled.
    pub(crate) fn is_complete(&self, over: &Over) {
        over.exits(0);
        let text: String =
            over.events("stream:token").iter().filter_map(|event| event["text"].as_str().map(str::to_owned)).collect();
        assert!(text == words(self.tokens as usize), "{} bytes that are not the answer: {}", text.len(), over.err);
        assert_eq!(over.events("job:negotiated")[0]["price_out"], "850");
        let bill = &over.events("job:ended")[0]["bill"];
        assert_eq!(bill["tokens"], self.tokens);
        assert_eq!(bill["lines"].as_array().map(Vec::len), Some(1), "one attempt wrote all of it: {bill}");
    }
}

fn play(seller: &str, buyer: &str, transport: &str, tokens: u64) {
    let play = Play { seller, buyer, transport, tokens };
    let Played { over, line, took } = play.through(Trouble::Cut);
    play.is_complete(&over);
    assert!(line.has_struck(), "the provider was reached by another way than the one it announced");
    assert_eq!(over.events("job:cut").len(), 1);
    let resumed: Vec<Value> = over.events("job:resumed").into_iter().map(|event| event["seq"].clone()).collect();
    let seq = resumed[0].as_u64().expect("a number");
    assert!(resumed.len() == 1 && (1..tokens).contains(&seq), "{resumed:?}");
    let name = if transport.is_empty() { "tcp" } else { "ws" };
    println!("{seller:>9} -> {buyer:<9} {name:<3} {tokens} tokens, cut after {seq}, resumed: {took:.1?}");
}

#[test]
fn each_runtime_sells_and_buys_over_each_transport() {
    for (at, seller) in RUNTIMES.iter().cycle().take(RUNTIMES.len().max(TRANSPORTS.len())).enumerate() {
        let buyer = RUNTIMES[(at + 1) % RUNTIMES.len()];
        play(seller, buyer, TRANSPORTS[at % TRANSPORTS.len()], 2_000);
    }
}

#[test]
fn a_runtime_without_mdns_works_as_it_comes() {
    for runtime in RUNTIMES.iter().filter(|runtime| **runtime != "tokio") {
        let folder = Folder::new();
        let bare = |args: &[&str]| {
            let mut command = folder.haggle(&[args, &["--runtime", runtime]].concat());
            command.env_remove("HAGGLE_ENABLE_MDNS");
            command
        };
        let serve = Node::ready(Running::spawn(bare(&["serve", "--json"])), Folder::new());
        let ask = ["ask", "--provider", &serve.address, "--max-tokens", "3", "Once upon a time"];
        run(bare(&ask)).exits(0);
        run(bare(&[&ask[..], &["--mdns", "true"]].concat())).says(3, &[runtime, "--mdns false", "--runtime tokio"]);
    }
}

#[test]
#[ignore = "a minute: all pairs of runtimes, 10,000 tokens each"]
fn every_runtime_sells_to_every_runtime() {
    assert_eq!(RUNTIMES.len(), 3, "this build has {RUNTIMES:?} only: add --features smol,async-std");
    let begun = Instant::now();
    for transport in TRANSPORTS {
        for seller in RUNTIMES {
            RUNTIMES.iter().for_each(|buyer| play(seller, buyer, transport, 10_000));
        }
    }
    println!("in all: {:.1?}", begun.elapsed());
}
