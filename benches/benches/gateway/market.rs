//! A provider whose tokens are the times at which they were written, and a gateway in front of a node that knows it.

use std::{net::TcpListener, sync::Arc, time::Duration};

use haggle::{
    Config as NodeConfig, JobSpec, Model, Node, Prompt, Sale, Tokio,
    core::{Limits, wire::ChatMessage},
    engine::{
        Done, Engine, ExactKind, Exactness, Failure, Generation, ModelInfo, Piece, PrefixUse, Prompt as Asked, Request,
        Started, Step, Stop,
    },
    runtime::Runtime,
};
use haggle_gateway::{Config, Gateway};

use crate::{now, stamp};

pub(crate) const MODEL: &str = "stamps";

/// How fast tokens are written.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Pace {
    /// 50 a second in each answer, and no two at once.
    Slow,
    Fast,
}

impl Pace {
    const PAUSE: Duration = Duration::from_millis(20);

    /// What the nth client asks for this pace.
    pub(crate) fn prompt(self, n: usize) -> String {
        format!("{} {n}", if self == Pace::Slow { "slow" } else { "fast" })
    }

    /// When the first token of such a prompt is written, at the earliest, and how long each further one takes.
    pub(crate) fn of(prompt: &str) -> (Duration, Duration) {
        let n = prompt.rsplit(' ').next().and_then(|n| n.parse::<u32>().ok()).unwrap_or(0);
        if prompt.contains("slow") { (now() + Self::PAUSE / 32 * n, Self::PAUSE) } else { (now(), Duration::ZERO) }
    }
}

pub(crate) struct Market {
    pub(crate) runtime: Tokio,
    pub(crate) buyer: Node,
    pub(crate) gateway: Gateway,
    _seller: Node,
}

impl Market {
    pub(crate) fn start(streams: usize) -> Self {
        let runtime = Tokio::start().unwrap();
        let slots = u32::try_from(streams).unwrap();
        // As many as there are, and those that end while the next ones begin.
        let limits = Limits { jobs_per_peer: 2 * slots, ..Limits::default() };
        let (enable_mdns, enable_dht, max_streams_to_peer) = (false, false, 2 * slots);
        let local = NodeConfig { enable_mdns, enable_dht, slots, max_streams_to_peer, limits, ..NodeConfig::default() };
        let listening = NodeConfig { listen_addresses: vec!["/ip4/127.0.0.1/tcp/0".into()], ..local.clone() };
        let (seller, buyer) = runtime.block_on(async {
            let sale = Sale::new(Arc::new(Stamps::new()));
            let seller = Node::builder(listening).sell(sale).start(runtime.clone()).await.unwrap();
            let known = NodeConfig { providers: vec![seller.listen_addresses()[0].to_string()], ..local };
            let buyer = Node::builder(known).start(runtime.clone()).await.unwrap();
            (seller, buyer)
        });
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let gateway = Gateway::start(runtime.clone(), buyer.clone(), Config::default(), socket).unwrap();
        Market { runtime, buyer, gateway, _seller: seller }
    }

    pub(crate) fn job(&self, prompt: String, tokens: u32) -> JobSpec {
        let said = vec![ChatMessage { role: "user".into(), content: prompt }];
        JobSpec::new(Model::new(MODEL.as_bytes()).unwrap(), Prompt::Chat(said), tokens.into())
    }
}

struct Stamps(ModelInfo);

impl Stamps {
    fn new() -> Self {
        Stamps(ModelInfo {
            features: None,
            name: MODEL.into(),
            weights: [7; 32],
            context: 1 << 20,
            can_continue: false,
            exactness: Exactness { kind: ExactKind::None, class: [0; 32] },
        })
    }
}

impl Engine for Stamps {
    fn info(&self) -> &ModelInfo {
        &self.0
    }

    fn start(&self, request: Request) -> Result<Box<dyn Generation>, Failure> {
        let prompt = match &request.prompt {
            Asked::Chat(said) => said.last().map(|message| message.content.clone()).unwrap_or_default(),
            _ => String::new(),
        };
        let (due, pause) = Pace::of(&prompt);
        Ok(Box::new(Writing { due, pause, is_started: false, written: 0, max: request.max_tokens }))
    }
}

struct Writing {
    due: Duration,
    pause: Duration,
    is_started: bool,
    written: u32,
    max: u32,
}

impl Generation for Writing {
    fn step(&mut self, _: u32) -> Step {
        if !std::mem::replace(&mut self.is_started, true) {
            return Step::Started(Started { prompt_tokens: 5, cached: None, prefix: PrefixUse::None });
        }
        if self.written == self.max {
            return Step::Done(Done { stop: Stop::MaxTokens, prompt_tokens: 5, new_tokens: self.max, cached: None });
        }
        if self.due > now() {
            return Step::Waiting;
        }
        self.due += self.pause;
        self.written += 1;
        Step::Piece(Piece { n: 1, text: stamp(), ids: None, channel: None })
    }
}
