//! Nodes: who takes part in a world.

use std::{collections::BTreeMap, fmt};

use haggle_core::{
    AttemptId, Limits, Machine, Model, PeerId, Policy, Provider, Requester, StreamId,
    event::Work,
    money::{Amount, Price},
    provider::{Service, Serving},
    time::Millis,
    wire::message::{Exactness, ExactnessKind, ModelAdvert},
};

use crate::{
    clock::NodeClock,
    engine::{Answer, EngineScript},
    script::Script,
    world::Checkpoint,
    writer::{Words, Writer, Writing},
};

/// A node of a world.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct NodeId(pub u32);

impl NodeId {
    /// The peer id that the node is known by.
    #[must_use]
    pub fn peer(self) -> PeerId {
        peer_id(self.0)
    }

    /// The node that a peer id names.
    #[must_use]
    pub fn of(peer: PeerId) -> Option<Self> {
        node_of(peer).map(Self)
    }
}

const NODE: [u8; 5] = *b"node-";
const DIGITS: usize = 10;

/// `node-` and ten digits: cheaper than formatting, which every message would pay for.
pub(crate) fn peer_id(node: u32) -> PeerId {
    let mut name = [b'0'; NODE.len() + DIGITS];
    name[..NODE.len()].copy_from_slice(&NODE);
    let mut rest = node;
    for digit in name[NODE.len()..].iter_mut().rev() {
        *digit += (rest % 10) as u8;
        rest /= 10;
    }
    match PeerId::new(&name) {
        Some(peer) => peer,
        None => unreachable!("15 bytes are a peer id"),
    }
}

/// The node that a peer id names.
pub(crate) fn node_of(peer: PeerId) -> Option<u32> {
    let digits = peer.as_bytes().strip_prefix(&NODE).filter(|digits| digits.len() == DIGITS)?;
    let number = digits
        .iter()
        .try_fold(0_u64, |number, digit| digit.is_ascii_digit().then(|| number * 10 + u64::from(digit - b'0')))?;
    u32::try_from(number).ok()
}

/// A provider to be added: the core's settings and an engine's script.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProviderConfig {
    /// What it serves.
    pub service: Service,
    /// The core's limits.
    pub limits: Limits,
    /// How its engine behaves.
    pub engine: EngineScript,
    /// Whether queries find it.
    pub published: bool,
}

impl ProviderConfig {
    /// A provider of one model with one slot, at these prices per 1,000,000 tokens.
    ///
    /// # Panics
    /// If the model's name is empty or longer than 128 bytes.
    #[must_use]
    pub fn new(model: &str, price_in: Price, price_out: Price) -> Self {
        let advert = ModelAdvert {
            model: name(model),
            aliases: Vec::new(),
            context: 1 << 20,
            price_in,
            bytes_per_token: 4,
            price_out,
            eta: Millis(100),
            can_continue: true,
            exactness: exactness(0),
        };
        let models = vec![Serving { advert, floor_permille: 1000 }];
        Self {
            service: Service { models, ..Service::default() },
            limits: Limits::default(),
            engine: EngineScript::default(),
            published: true,
        }
    }

    /// With so many slots.
    #[must_use]
    pub const fn slots(mut self, slots: u32) -> Self {
        self.service.slots = slots;
        self
    }

    /// With another expected time to the first token, in ms, and an engine that takes as long.
    #[must_use]
    pub fn eta(mut self, eta: u64) -> Self {
        self.service.models[0].advert.eta = Millis(eta);
        self.engine.prefill = eta;
        self
    }

    /// With another engine; the advert says of which class it is.
    #[must_use]
    pub fn engine(mut self, engine: EngineScript) -> Self {
        self.service.models[0].advert.exactness = exactness(engine.class);
        self.engine = engine;
        self
    }
}

/// What an engine of a class promises: equal seeds, equal bytes.
const fn exactness(class: u8) -> Exactness {
    Exactness { kind: ExactnessKind::Seeded, class: [class; 32] }
}

/// A model of that name.
///
/// # Panics
/// If the name is empty or longer than 128 bytes.
#[must_use]
pub fn name(model: &str) -> Model {
    match Model::new(model.as_bytes()) {
        Some(model) => model,
        None => panic!("a model's name has 1 to 128 bytes"),
    }
}

/// A requester to be added.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RequesterConfig {
    /// The core's times and tries.
    pub policy: Policy,
    /// The core's limits.
    pub limits: Limits,
    /// What all its jobs together may come to owe.
    pub account_budget: Option<Amount>,
    /// How fast its application takes tokens.
    pub pace: Pace,
}

/// How fast an application takes tokens.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pace {
    /// All there are, 1 ms after the first of them came.
    #[default]
    AtOnce,
    /// One every so many ms.
    Every(u64),
    /// None at all.
    Never,
}

/// A machine with its streams and its timer.
#[derive(Clone)]
pub(crate) struct Side<M> {
    pub(crate) machine: M,
    pub(crate) streams: BTreeMap<StreamId, u64>,
    /// When its one live timer goes off, and which of those in the queue it is.
    pub(crate) timer: Option<u64>,
    pub(crate) generation: u64,
    /// A late drain is in the queue.
    pub(crate) drain_due: bool,
}

impl<M: Machine> Side<M> {
    pub(crate) const fn new(machine: M) -> Self {
        Self { machine, streams: BTreeMap::new(), timer: None, generation: 0, drain_due: false }
    }
}

/// Where a node stores its state.
#[derive(Clone, Default)]
pub(crate) struct Disk {
    pub(crate) stored: Checkpoint,
    /// How often it was asked whether to store what need not be stored at once.
    pub(crate) asked: u64,
}

#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) alive: bool,
    pub(crate) clock: NodeClock,
    /// It stands still until then.
    pub(crate) asleep_until: u64,
    /// How many times as long its engine takes.
    pub(crate) slow: u64,
    /// What it has stored, if it does store its state.
    pub(crate) disk: Option<Box<Disk>>,
    /// Its process crashed, and will be back.
    pub(crate) crashed: bool,
    /// How often it was restarted: what belongs to an earlier life is stale.
    pub(crate) life: u32,
    pub(crate) requester: Option<Box<Side<Requester>>>,
    pub(crate) provider: Option<Box<Side<Provider>>>,
    pub(crate) script: Option<Box<dyn Script>>,
    /// Its script reads no messages.
    pub(crate) reads_bytes: bool,
    pub(crate) requester_config: Option<Box<RequesterConfig>>,
    pub(crate) provider_config: Option<Box<ProviderConfig>>,
    /// Its engine, if it is not the scripted one.
    pub(crate) writer: Option<Box<dyn Writer>>,
    /// Peers that its application told it of.
    pub(crate) contacts: Vec<PeerId>,
    pub(crate) runs: BTreeMap<AttemptId, Run>,
    /// Streams with an end here, the oldest first.
    pub(crate) conns: Vec<u64>,
}

impl Clone for Box<dyn Script> {
    fn clone(&self) -> Self {
        self.fork()
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("alive", &self.alive).field("life", &self.life).finish_non_exhaustive()
    }
}

/// An attempt in a scripted engine.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) answer: Answer,
    pub(crate) prompt_tokens: u64,
    pub(crate) end: u64,
    pub(crate) reason: haggle_core::wire::message::EndReason,
    pub(crate) next: u64,
    pub(crate) started: bool,
    /// Tokens in a piece, at most: less than the script's where the requester's window is narrow.
    pub(crate) limit: u32,
    /// The window is full: `Room` will say when it is not.
    pub(crate) blocked: bool,
    pub(crate) trouble: Option<(u64, crate::engine::Trouble)>,
    /// Where an engine of one's own writes it: the attempt, and what did not fit the window yet.
    pub(crate) own: Option<(Box<dyn Writing>, Option<Words>)>,
}

impl Run {
    pub(crate) fn new(work: &Work, engine: &EngineScript) -> Self {
        use haggle_core::wire::message::EndReason;
        let end = engine.length.max(1).min(work.prefix_tokens + work.max_tokens);
        Self {
            answer: Answer::new(work.model.as_bytes(), engine.class, &work.prompt, work.sampling.seed),
            prompt_tokens: prompt_tokens(&work.prompt),
            end,
            reason: if engine.length.max(1) > end { EndReason::Length } else { EndReason::Stop },
            next: work.prefix_tokens,
            started: false,
            limit: engine.piece.clamp(1, 1000).min(work.window_tokens.max(1)),
            blocked: false,
            trouble: engine.trouble,
            own: None,
        }
    }
}

pub(crate) fn prompt_tokens(prompt: &haggle_core::wire::Prompt) -> u64 {
    use haggle_core::wire::Prompt;
    let bytes = match prompt {
        Prompt::Raw(text) => text.len(),
        Prompt::Chat(messages) => messages.iter().map(|message| message.role.len() + message.content.len()).sum(),
        Prompt::Tokens(ids) => return ids.len() as u64,
    };
    (bytes as u64).div_ceil(4)
}
