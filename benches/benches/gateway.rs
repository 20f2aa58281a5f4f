//! What a gateway adds to its node: 32 answers at once, each token stamped when its engine wrote it.
//!
//! In one run, in turn: the node's own API, the gateway in front of it, and a bare hyper server that sends the same bytes. First with
//! paced tokens, which show delays, then as fast as they come.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "what can not happen here is a failed measurement")]

#[path = "gateway/bare.rs"]
mod bare;
#[path = "gateway/market.rs"]
mod market;

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{OnceLock, mpsc},
    thread,
    time::{Duration, Instant},
};

use futures::StreamExt as _;
use haggle::{JobEvent, runtime::Runtime as _};
use market::{MODEL, Market, Pace};

/// Digits of a stamp, which is a token with the space behind it.
const DIGITS: usize = 16;

/// How much is measured.
#[derive(Clone, Copy)]
struct Size {
    streams: usize,
    /// Of each answer that is paced, and of each that is not.
    tokens: [u32; 2],
    rounds: usize,
}

/// A name, and how so many tokens are asked for and seen.
type Way<'a> = (&'a str, &'a dyn Fn(Pace, u32) -> Seen);

/// What was seen of some answers.
#[derive(Default)]
struct Seen {
    /// From asking to the first token.
    first: Vec<Duration>,
    /// From the engine to the client, of each token behind the first.
    later: Vec<Duration>,
    /// Of all answers together.
    tokens_per_second: f64,
}

fn main() {
    let is_test = std::env::args().any(|arg| arg == "--test");
    let size = match is_test {
        true => Size { streams: 2, tokens: [3, 10], rounds: 1 },
        false => Size { streams: 32, tokens: [100, 4_000], rounds: 5 },
    };
    let market = Market::start(size.streams);
    let bare = bare::start(market.runtime.clone());
    let ways: [Way<'_>; 3] = [
        ("the node's own API", &|pace, tokens| all(size.streams, |n| market.ask_node(n, pace, tokens))),
        ("the gateway", &|pace, tokens| all(size.streams, |n| ask_http(market.gateway.address(), n, pace, tokens))),
        ("a bare hyper server", &|pace, tokens| all(size.streams, |n| ask_http(bare, n, pace, tokens))),
    ];
    println!(
        "{} answers at once; ms at p50 and p99 to the first token, and from engine to client; tokens a second",
        size.streams
    );
    let mut sums: [Seen; 3] = Default::default();
    for _ in 0..size.rounds {
        for ((_, way), sum) in ways.iter().zip(&mut sums) {
            let paced = way(Pace::Slow, size.tokens[0]);
            sum.first.extend(paced.first);
            sum.later.extend(paced.later);
            sum.tokens_per_second = sum.tokens_per_second.max(way(Pace::Fast, size.tokens[1]).tokens_per_second);
        }
    }
    for ((name, _), seen) in ways.iter().zip(&mut sums) {
        let [first, later] = [&mut seen.first, &mut seen.later].map(|spans| [at(spans, 50), at(spans, 99)]);
        let tokens = seen.tokens_per_second / 1_000.0;
        println!(
            "{name:20} first {:7.2} {:7.2}  later {:6.3} {:6.3}  {tokens:7.0} k/s",
            first[0], first[1], later[0], later[1]
        );
    }
}

/// A percentile, in milliseconds.
fn at(spans: &mut [Duration], percent: usize) -> f64 {
    spans.sort_unstable();
    spans.get(spans.len().saturating_sub(1) * percent / 100).map_or(f64::NAN, |span| span.as_secs_f64() * 1e3)
}

/// Since the program began, which all stamps count from.
fn now() -> Duration {
    static BEGAN: OnceLock<Instant> = OnceLock::new();
    BEGAN.get_or_init(Instant::now).elapsed()
}

fn stamp() -> String {
    format!("{:0DIGITS$} ", now().as_nanos())
}

/// Asks as often at once, each in a thread of its own.
fn all(streams: usize, ask: impl Fn(usize) -> mpsc::Receiver<(Duration, Vec<Duration>)>) -> Seen {
    let began = now();
    let answers: Vec<_> = (0..streams).map(ask).collect();
    let mut seen = Seen::default();
    let mut tokens = 0;
    for (first, later) in answers.into_iter().flat_map(|answer| answer.recv()) {
        tokens += 1 + later.len();
        seen.first.push(first);
        seen.later.extend(later);
    }
    seen.tokens_per_second = tokens as f64 / (now() - began).as_secs_f64();
    seen
}

/// Reads stamps as they come: what the first took since `asked`, and each later one since it was written.
#[derive(Default)]
struct Stamps {
    rest: Vec<u8>,
    first: Option<Duration>,
    later: Vec<Duration>,
}

impl Stamps {
    fn read(&mut self, bytes: &[u8], asked: Duration) {
        let came = now();
        self.rest.extend_from_slice(bytes);
        let is_digit = |at: usize| self.rest.get(at).is_some_and(u8::is_ascii_digit);
        let (mut at, mut written) = (0, Vec::new());
        while at + DIGITS < self.rest.len() {
            if (at..at + DIGITS).all(is_digit) && self.rest[at + DIGITS] == b' ' {
                written.push(str::from_utf8(&self.rest[at..at + DIGITS]).unwrap().parse().unwrap());
                at += DIGITS;
            }
            at += 1;
        }
        self.rest.drain(..at);
        for nanos in written {
            match self.first {
                None => self.first = Some(came - asked),
                Some(_) => self.later.push(came.saturating_sub(Duration::from_nanos(nanos))),
            }
        }
    }

    fn tell(self, to: &mpsc::Sender<(Duration, Vec<Duration>)>) {
        to.send((self.first.expect("a token"), self.later)).expect("it is waited for");
    }
}

/// One answer over HTTP, as a client reads it.
fn ask_http(to: SocketAddr, n: usize, pace: Pace, tokens: u32) -> mpsc::Receiver<(Duration, Vec<Duration>)> {
    let (told, answer) = mpsc::channel();
    thread::spawn(move || {
        let prompt = pace.prompt(n);
        let body = format!(
            r#"{{"model":"{MODEL}","stream":true,"max_tokens":{tokens},"messages":[{{"role":"user","content":"{prompt}"}}]}}"#
        );
        let head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close";
        let mut stream = TcpStream::connect(to).unwrap();
        stream.set_nodelay(true).unwrap();
        let (asked, mut stamps, mut buffer) = (now(), Stamps::default(), vec![0; 64 << 10]);
        stream.write_all(format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).as_bytes()).unwrap();
        loop {
            match stream.read(&mut buffer).unwrap() {
                0 => break,
                read => stamps.read(&buffer[..read], asked),
            }
        }
        stamps.tell(&told);
    });
    answer
}

impl Market {
    /// One answer by the node's own API.
    fn ask_node(&self, n: usize, pace: Pace, tokens: u32) -> mpsc::Receiver<(Duration, Vec<Duration>)> {
        let (told, answer) = mpsc::channel();
        let (node, spec) = (self.buyer.clone(), self.job(pace.prompt(n), tokens));
        self.runtime.spawn(Box::pin(async move {
            let (asked, mut stamps) = (now(), Stamps::default());
            let mut job = node.submit(spec).await.expect("it is taken");
            while let Some(event) = job.next().await {
                if let JobEvent::Tokens { text, .. } = event.expect("it is answered") {
                    stamps.read(text.as_bytes(), asked);
                }
            }
            stamps.tell(&told);
        }));
        answer
    }
}
