//! Nodes on 127.0.0.1, a scripted engine, and a relay that listens in.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use haggle::{
    Builder, Config, JobSpec, Model, Node, Policy, Prompt, Sale, Tokio,
    core::time::Millis,
    engine::{
        Done, Engine, ExactKind, Exactness, Failure, Generation, ModelInfo, Piece, Request, Started, Step, Stop, Why,
    },
    libp2p::{Multiaddr, PeerId, multiaddr::Protocol},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::{AbortHandle, JoinHandle},
};

pub(crate) const MODEL: &str = "test-model";

/// What a scripted engine does besides writing `word 0 `, `word 1 `, ...
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Does {
    Writes,
    /// Fails after so many tokens.
    FailsAfter(u32),
    PanicsAfter(u32),
    /// Never starts to write.
    Hangs,
}

#[derive(Debug)]
pub(crate) struct Script {
    info: ModelInfo,
    does: Does,
    /// Nothing is written before it is opened.
    pub(crate) gate: Arc<AtomicBool>,
    /// Generations that live.
    pub(crate) live: Arc<AtomicUsize>,
    /// Tokens written in all.
    pub(crate) written: Arc<AtomicUsize>,
}

impl Script {
    pub(crate) fn new(does: Does) -> Arc<Self> {
        let info = ModelInfo {
            features: None,
            name: MODEL.into(),
            weights: [7; 32],
            context: 4 << 20,
            can_continue: false,
            exactness: Exactness { kind: ExactKind::None, class: [0; 32] },
        };
        let gate = Arc::new(AtomicBool::new(true));
        Arc::new(Script { info, does, gate, live: Arc::default(), written: Arc::default() })
    }

    /// Writes nothing for now.
    pub(crate) fn held_back() -> Arc<Self> {
        let script = Script::new(Does::Writes);
        script.gate.store(false, Ordering::SeqCst);
        script
    }
}

struct Writing {
    does: Does,
    gate: Arc<AtomicBool>,
    started: bool,
    next: u32,
    max: u32,
    live: Arc<AtomicUsize>,
    written: Arc<AtomicUsize>,
}

impl Drop for Writing {
    fn drop(&mut self) {
        self.live.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Engine for Script {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn start(&self, request: Request) -> Result<Box<dyn Generation>, Failure> {
        self.live.fetch_add(1, Ordering::SeqCst);
        Ok(Box::new(Writing {
            does: self.does,
            gate: self.gate.clone(),
            started: false,
            next: 0,
            max: request.max_tokens,
            live: self.live.clone(),
            written: self.written.clone(),
        }))
    }
}

impl Generation for Writing {
    fn step(&mut self, _: u32) -> Step {
        match self.does {
            Does::Hangs => return Step::Waiting,
            Does::Writes if !self.gate.load(Ordering::SeqCst) => return Step::Waiting,
            Does::FailsAfter(n) if self.next == n => return Step::Failed(Failure::new(Why::Engine, "as scripted")),
            Does::PanicsAfter(n) if self.next == n => panic!("as scripted"),
            _ => {}
        }
        if !self.started {
            self.started = true;
            return Step::Started(Started { prompt_tokens: 5, cached: None, prefix: haggle::engine::PrefixUse::None });
        }
        if self.next == self.max {
            return Step::Done(Done { stop: Stop::MaxTokens, prompt_tokens: 5, new_tokens: self.next, cached: None });
        }
        let text = format!("word {} ", self.next);
        self.next += 1;
        self.written.fetch_add(1, Ordering::SeqCst);
        Step::Piece(Piece { n: 1, text, ids: None, channel: None })
    }
}

/// What a scripted engine writes.
pub(crate) fn words(n: u64) -> String {
    (0..n).map(|n| format!("word {n} ")).collect()
}

pub(crate) fn runtime() -> Tokio {
    Tokio::current().expect("inside of tokio")
}

/// Times that fit a test which waits for failures.
pub(crate) fn hasty() -> Policy {
    Policy { retry_delay: Millis(100), ..Policy::default() }
}

/// A configuration for 127.0.0.1 without mDNS.
pub(crate) fn local() -> Config {
    Config { enable_mdns: false, dial_timeout: Duration::from_secs(5), ..Config::default() }
}

pub(crate) fn listening() -> Config {
    Config { listen_addresses: vec!["/ip4/127.0.0.1/tcp/0".into()], ..local() }
}

pub(crate) fn builder(config: Config) -> Builder {
    Node::builder(config).policy(hasty())
}

pub(crate) async fn start(builder: Builder) -> Node {
    builder.start(runtime()).await.expect("a node")
}

pub(crate) fn address(node: &Node) -> String {
    node.listen_addresses()[0].to_string()
}

pub(crate) fn sale(engine: Arc<Script>) -> Sale {
    Sale { price_in: 1_000_000, price_out: 2_000_000, ..Sale::new(engine) }
}

/// A provider that is known by its address only.
pub(crate) async fn provider(engine: Arc<Script>) -> Node {
    let config = Config { enable_dht: false, slots: 16, queue: 64, ..listening() };
    start(builder(config).sell(sale(engine))).await
}

/// A requester that knows one provider by its address.
pub(crate) async fn requester(provider: &Node) -> Node {
    let config = Config { enable_dht: false, providers: vec![address(provider)], ..local() };
    start(builder(config)).await
}

pub(crate) fn model() -> Model {
    Model::new(MODEL.as_bytes()).expect("a name")
}

pub(crate) fn spec(prompt: &str, max_tokens: u64) -> JobSpec {
    JobSpec { budget: Some(1_000_000_000), ..JobSpec::new(model(), Prompt::Raw(prompt.into()), max_tokens) }
}

/// Waits for something that will become true, without asking how long that takes.
pub(crate) async fn until(what: impl Fn() -> bool) {
    while !what() {
        tokio::task::yield_now().await;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// A counter of a node's metrics, summed over its labels.
pub(crate) fn metric(node: &Node, name: &str) -> u64 {
    let of = |line: &&str| line.split(['{', ' ']).next() == Some(name);
    let value = |line: &str| line.rsplit(' ').next().and_then(|value| value.parse::<u64>().ok());
    node.metrics().lines().filter(of).filter_map(value).sum()
}

/// Passes connections on and keeps every byte.
pub(crate) struct Relay {
    pub(crate) port: u16,
    pub(crate) connections: Arc<AtomicUsize>,
    pub(crate) captured: Arc<Mutex<Vec<u8>>>,
    passing: Arc<Mutex<Vec<AbortHandle>>>,
    task: JoinHandle<()>,
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Relay {
    /// `target` is asked at each connection: the relay can be there before what it leads to.
    pub(crate) async fn start(target: Arc<Mutex<u16>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("a port").port();
        let (connections, captured) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
        let passing = Arc::new(Mutex::new(Vec::new()));
        let (count, bytes, tasks) = (connections.clone(), captured.clone(), passing.clone());
        let task = tokio::spawn(async move {
            while let Ok((from, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let port = *target.lock().expect("not poisoned");
                let Ok(to) = TcpStream::connect(("127.0.0.1", port)).await else { continue };
                let ((from_read, from_write), (to_read, to_write)) = (from.into_split(), to.into_split());
                let there = tokio::spawn(pass(from_read, to_write, bytes.clone()));
                let back = tokio::spawn(pass(to_read, from_write, bytes.clone()));
                tasks.lock().expect("not poisoned").extend([there.abort_handle(), back.abort_handle()]);
            }
        });
        Relay { port, connections, captured, passing, task }
    }

    /// Cuts every connection, as a failing network would.
    pub(crate) fn cut(&self) {
        self.passing.lock().expect("not poisoned").drain(..).for_each(|task| task.abort());
    }

    pub(crate) fn saw(&self, text: &str) -> bool {
        let captured = self.captured.lock().expect("not poisoned");
        captured.windows(text.len()).any(|window| window == text.as_bytes())
    }

    pub(crate) fn bytes(&self) -> usize {
        self.captured.lock().expect("not poisoned").len()
    }
}

async fn pass(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    captured: Arc<Mutex<Vec<u8>>>,
) {
    let mut buffer = vec![0; 16 << 10];
    while let Ok(n @ 1..) = from.read(&mut buffer).await {
        captured.lock().expect("not poisoned").extend_from_slice(&buffer[..n]);
        if to.write_all(&buffer[..n]).await.is_err() {
            break;
        }
    }
}

pub(crate) fn port(node: &Node) -> u16 {
    let port = |part| if let Protocol::Tcp(port) = part { Some(port) } else { None };
    node.listen_addresses()[0].iter().find_map(port).expect("a port")
}

pub(crate) fn via(relay: &Relay, peer: PeerId) -> String {
    let address: Multiaddr = format!("/ip4/127.0.0.1/tcp/{}", relay.port).parse().expect("an address");
    address.with(Protocol::P2p(peer)).to_string()
}
