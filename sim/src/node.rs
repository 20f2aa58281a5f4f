//! Who takes part in a world: how nodes are named, and what they are set to.

use haggle_core::{
    Limits, Model, PeerId, Policy,
    money::{Amount, Price},
    provider::{Service, Serving},
    time::Millis,
    wire::message::{Exactness, ExactnessKind, ModelAdvert},
};

use crate::engine::EngineScript;

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
            features: None,
            longest: None,
            price_part: None,
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
