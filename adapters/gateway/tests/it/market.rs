//! A provider with a scripted engine, and a gateway in front of a node that knows it.

use std::{
    net::{SocketAddr, TcpListener},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use haggle::{
    Config as NodeConfig, Node, Policy, Sale, Tokio,
    core::time::Millis,
    engine::{
        Channel, Done, Engine, ExactKind, Exactness, Failure, Generation, ModelInfo, Piece, PrefixUse, Request,
        Started, Step, Stop, Why,
    },
};
use haggle_gateway::{Config, Gateway, runtime::Sockets};

pub(crate) const MODEL: &str = "test/model:1";
pub(crate) const CONTEXT: u32 = 2_000;

/// Writes `word 0 `, `word 1 `, ...
#[derive(Debug)]
pub(crate) struct Script {
    info: ModelInfo,
    /// Nothing is written before it is opened.
    pub(crate) gate: AtomicBool,
    /// After so many tokens it waits for the gate; 0 is at once.
    pub(crate) pause_at: AtomicUsize,
    /// After so many tokens it fails.
    pub(crate) fail_at: AtomicUsize,
    /// What is written instead of words, if it is anything.
    pub(crate) said: Mutex<Vec<(Option<Channel>, String)>>,
    /// Generations that live.
    pub(crate) live: AtomicUsize,
    /// Those that were ever begun.
    pub(crate) begun: AtomicUsize,
    pub(crate) last: Mutex<Option<Request>>,
}

impl Script {
    /// One that offers what is more than text, as bits of `Features`.
    pub(crate) fn new(features: Option<u32>) -> Arc<Self> {
        let info = ModelInfo {
            features,
            name: MODEL.into(),
            weights: [7; 32],
            context: CONTEXT,
            can_continue: false,
            exactness: Exactness { kind: ExactKind::None, class: [0; 32] },
        };
        Arc::new(Script {
            info,
            gate: AtomicBool::new(true),
            pause_at: AtomicUsize::new(0),
            fail_at: AtomicUsize::new(usize::MAX),
            said: Mutex::default(),
            live: AtomicUsize::new(0),
            begun: AtomicUsize::new(0),
            last: Mutex::new(None),
        })
    }

    pub(crate) fn shut_after(&self, tokens: usize) {
        self.pause_at.store(tokens, Ordering::SeqCst);
        self.gate.store(false, Ordering::SeqCst);
    }

    pub(crate) fn open(&self) {
        self.gate.store(true, Ordering::SeqCst);
    }

    pub(crate) fn begun(&self) -> usize {
        self.begun.load(Ordering::SeqCst)
    }
}

struct Shared(Arc<Script>);

struct Writing {
    script: Arc<Script>,
    started: bool,
    next: u32,
    max: u32,
}

impl Drop for Writing {
    fn drop(&mut self) {
        self.script.live.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Engine for Shared {
    fn info(&self) -> &ModelInfo {
        &self.0.info
    }

    fn start(&self, request: Request) -> Result<Box<dyn Generation>, Failure> {
        self.0.live.fetch_add(1, Ordering::SeqCst);
        self.0.begun.fetch_add(1, Ordering::SeqCst);
        let max = request.max_tokens;
        *self.0.last.lock().expect("not poisoned") = Some(request);
        Ok(Box::new(Writing { script: self.0.clone(), started: false, next: 0, max }))
    }
}

impl Generation for Writing {
    fn step(&mut self, _: u32) -> Step {
        let (at, script) = (self.next as usize, &self.script);
        if at >= script.pause_at.load(Ordering::SeqCst) && !script.gate.load(Ordering::SeqCst) {
            return Step::Waiting;
        }
        if at >= script.fail_at.load(Ordering::SeqCst) {
            return Step::Failed(Failure::new(Why::Engine, "as scripted"));
        }
        if !self.started {
            self.started = true;
            return Step::Started(Started { prompt_tokens: 5, cached: None, prefix: PrefixUse::None });
        }
        if self.next == self.max {
            return Step::Done(Done { stop: Stop::MaxTokens, prompt_tokens: 5, new_tokens: self.next, cached: None });
        }
        let said = script.said.lock().expect("not poisoned");
        if !said.is_empty() && at == said.len() {
            let calls = said.iter().any(|(channel, _)| *channel == Some(Channel::ToolCall));
            let stop = if calls { Stop::ToolCalls } else { Stop::End };
            return Step::Done(Done { stop, prompt_tokens: 5, new_tokens: self.next, cached: Some(2) });
        }
        let (channel, text) = said.get(at).cloned().unwrap_or_else(|| (None, format!("word {at} ")));
        drop(said);
        self.next += 1;
        Step::Piece(Piece { n: 1, text, ids: None, channel })
    }
}

/// What is written.
pub(crate) fn words(n: u64) -> String {
    (0..n).map(|n| format!("word {n} ")).collect()
}

/// A market of one provider, with a gateway.
pub(crate) struct Market<R: Sockets> {
    runtime: R,
    pub(crate) script: Arc<Script>,
    seller: Node,
    buyer: Node,
    gateway: Option<Gateway>,
    pub(crate) at: SocketAddr,
}

pub(crate) fn market(config: Config) -> Market<Tokio> {
    Market::start(Tokio::start().expect("threads"), config)
}

/// A budget that is enough for all, in micro-units.
pub(crate) fn rich() -> Config {
    Config { budget: Some(1_000_000_000), ..Config::default() }
}

impl<R: Sockets> Market<R> {
    pub(crate) fn start(runtime: R, config: Config) -> Self {
        Self::offering(runtime, config, None)
    }

    pub(crate) fn offering(runtime: R, config: Config, features: Option<u32>) -> Self {
        let script = Script::new(features);
        let local = NodeConfig { enable_mdns: false, enable_dht: false, slots: 1, queue: 8, ..NodeConfig::default() };
        let policy = Policy { retry_delay: Millis(50), ..Policy::default() };
        let started = runtime.block_on(async {
            let listening = NodeConfig { listen_addresses: vec!["/ip4/127.0.0.1/tcp/0".into()], ..local.clone() };
            let engine = Arc::new(Shared(script.clone()));
            let sale = Sale { price_in: 1_000_000, price_out: 2_000_000, ..Sale::new(engine) };
            let seller = Node::builder(listening).policy(policy.clone()).sell(sale).start(runtime.clone()).await;
            let seller = seller.expect("a node");
            let known =
                NodeConfig { providers: vec![seller.listen_addresses()[0].to_string()], max_retries: 1, ..local };
            let buyer = Node::builder(known).policy(policy).start(runtime.clone()).await.expect("a node");
            (seller, buyer)
        });
        let (seller, buyer) = started;
        let socket = TcpListener::bind("127.0.0.1:0").expect("a port");
        let gateway = Gateway::start(runtime.clone(), buyer.clone(), config, socket).expect("a gateway");
        let at = gateway.address();
        Market { runtime, script, seller, buyer, gateway: Some(gateway), at }
    }

    /// The provider's id.
    pub(crate) fn provider(&self) -> String {
        self.seller.peer_id().to_string()
    }

    /// The provider takes no job any more.
    pub(crate) fn stop_seller(&self) {
        self.runtime.block_on(self.seller.stop());
    }

    pub(crate) fn stop_gateway(&mut self) {
        let gateway = self.gateway.take().expect("it runs");
        self.runtime.block_on(gateway.stop(Duration::from_secs(60)));
    }

    /// Waits until something is so, without asking how long that takes.
    pub(crate) fn until(&self, what: impl Fn(&Script) -> bool) {
        while !what(&self.script) {
            std::thread::yield_now();
        }
    }
}

impl<R: Sockets> Drop for Market<R> {
    fn drop(&mut self) {
        self.runtime.block_on(async {
            self.buyer.stop().await;
            self.seller.stop().await;
        });
    }
}
