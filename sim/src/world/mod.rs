//! The world: nodes, network, clock, and the loop that runs them.

mod apps;
mod boot;
mod check;
mod commands;
mod dials;
mod embed;
mod engines;
mod faults;
mod happen;
mod heal;
mod machines;
mod node;
mod outputs;
mod queries;
mod record;
mod recovery;
mod scripts;
mod streams;
mod view;

use std::fmt;

use crate::{
    log::Log,
    net::{DISTANCE, Dht, Link, LinkConfig, Network, region},
    node::{NodeId, ProviderConfig, RequesterConfig},
    oracle::{Judge, Rule},
    points::Group,
    queue::{Lane, Queue},
    schedule::Schedule,
    script::{Say, Script},
    trace::Trace,
};

pub use self::{embed::Told, node::Checkpoint};

use self::{apps::Apps, faults::FaultBook, happen::Happening, node::Node};

/// When a machine's outputs are drained. No outcome depends on it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Drain {
    /// After every input, all of them.
    #[default]
    AtOnce,
    /// All of them, at the end of the instant.
    Late,
    /// So many after every input, and so many at a time at the end of the instant until none is left.
    Batches(u32),
}

/// How a world behaves.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WorldConfig {
    /// How links behave that were not set apart.
    pub default_link: LinkConfig,
    /// When outputs are drained.
    pub drain: Drain,
    /// Whether nodes lie in regions of the earth, with the ways between these.
    pub regions: bool,
    /// Whether a machine is told of the end of streams that it closed itself; adapters differ.
    pub echo_close: bool,
    /// Whether every job's choices are explained.
    pub explain: bool,
    /// Applications store what they take, so that a node can [recover](World::recover).
    pub stores: bool,
    /// Every fact is told to a copy of the machine as well: it has to say and to become the same.
    pub doubles: bool,
    /// Events after which a run is taken to be endless.
    pub max_events: u64,
}

impl Default for WorldConfig {
    fn default() -> Self {
        Self {
            default_link: LinkConfig::default(),
            drain: Drain::default(),
            regions: false,
            echo_close: false,
            explain: false,
            stores: false,
            doubles: false,
            max_events: 20_000_000,
        }
    }
}

/// A deterministic world. Clones are forks: each goes on by itself, and equal inputs keep them equal.
#[derive(Clone)]
pub struct World {
    /// How it behaves.
    pub config: WorldConfig,
    /// Who serves what.
    pub dht: Dht,
    seed: u64,
    now: u64,
    queue: Queue<Happening>,
    nodes: Vec<Node>,
    net: Network,
    apps: Apps,
    /// What a script says, between hearing and doing it.
    orders: Vec<Say>,
    faults: FaultBook,
    counts: Counts,
    judge: Judge,
    trace: Trace,
    log: Option<Box<Log>>,
}

/// What went by.
#[derive(Clone, Default)]
struct Counts {
    events: u64,
    /// Facts and commands handed to machines.
    inputs: u64,
    /// Frames that nodes of the core have sent.
    frames: u64,
    /// Tokens that engines wrote.
    computed: u64,
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World")
            .field("seed", &self.seed)
            .field("now", &self.now)
            .field("events", &self.counts.events)
            .finish_non_exhaustive()
    }
}

/// The node of a peer that is not there.
const NOWHERE: u32 = u32::MAX;

impl World {
    /// An empty world. Equal seeds, nodes and schedules run alike.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            config: WorldConfig::default(),
            dht: Dht::new(),
            seed,
            now: 0,
            queue: Queue::new(),
            nodes: Vec::new(),
            net: Network::new(seed),
            apps: Apps::default(),
            orders: Vec::new(),
            faults: FaultBook::default(),
            counts: Counts::default(),
            judge: Judge::default(),
            trace: Trace::new(),
            log: None,
        }
    }

    /// Without oracles, which take some two fifths of the time: to study a market whose like was judged before. Its verdict is
    /// that nothing was judged. Call it first.
    #[must_use]
    pub fn without_oracles(mut self) -> Self {
        self.judge.look_away();
        self
    }

    /// Adds a node that sells.
    ///
    /// # Panics
    /// If the core refuses the settings.
    pub fn add_provider(&mut self, config: ProviderConfig) -> NodeId {
        self.add_node(None, Some(config))
    }

    /// Adds a node that buys.
    ///
    /// # Panics
    /// If the core refuses the settings.
    pub fn add_requester(&mut self, config: RequesterConfig) -> NodeId {
        self.add_node(Some(config), None)
    }

    /// Adds a node that does both, or either.
    ///
    /// # Panics
    /// If the core refuses the settings.
    pub fn add_node(&mut self, requester: Option<RequesterConfig>, provider: Option<ProviderConfig>) -> NodeId {
        let id = NodeId(self.nodes.len() as u32);
        self.nodes.push(Node::new(requester, provider));
        self.boot(id.0);
        id
    }

    /// Adds a peer that is scripted; it is found as a provider of these models.
    pub fn add_script(&mut self, models: &[&str], script: impl Script + 'static) -> NodeId {
        let id = self.add_node(None, None);
        let place = &mut self.nodes[id.0 as usize];
        place.reads_bytes = script.reads_bytes();
        place.script = Some(Box::new(script));
        for model in models {
            self.dht.publish(model.as_bytes(), id.peer());
        }
        self.push(self.now, Lane::start(id.0), Happening::Start { node: id.0, life: 0 });
        id
    }

    /// Says which of the known adversaries a scripted node is, so that it is seen whether they get to act.
    pub(crate) fn set_actor(&mut self, node: NodeId, group: Group, kind: usize) {
        self.judge.actor(node.peer(), group, kind);
    }

    /// Sets how the links between two nodes behave, in both directions.
    pub fn set_link(&mut self, a: NodeId, b: NodeId, config: LinkConfig) {
        self.link(a.0, b.0).config = config;
        self.link(b.0, a.0).config = config;
    }

    /// Puts faults in.
    pub fn apply(&mut self, schedule: &Schedule) {
        for fault in &schedule.faults {
            self.push(fault.at, Lane::fault(), Happening::Fault(fault.what));
        }
    }

    /// Runs one event. `false`: there is none left.
    pub fn step(&mut self) -> bool {
        let Some((at, lane, happening)) = self.queue.pop() else { return false };
        if let Some(until) = self.sleeps(at, lane) {
            self.queue.push(until, lane, happening);
            return true;
        }
        if let Happening::Timer { node, role, generation } = happening
            && !self.is_due(node, role, generation, at)
        {
            // Nothing happens: the world's time stays.
            return true;
        }
        self.now = at.max(self.now);
        self.judge.now = self.now;
        self.counts.events += 1;
        self.happen(lane, happening);
        true
    }

    /// When something happens that has to wait for a node which stands still.
    fn sleeps(&self, at: u64, lane: Lane) -> Option<u64> {
        let (node, later) = lane.sleeper()?;
        let until = self.nodes.get(node as usize).map(|node| node.asleep_until).filter(|until| *until > at)?;
        Some(until.saturating_add(later))
    }

    /// Whether there is an event left, and the run is not taken to be endless.
    #[must_use]
    pub fn has_more(&self) -> bool {
        self.queue.len() > 0 && self.counts.events < self.config.max_events
    }

    /// Runs until a virtual time, in ms, that time's events included.
    pub fn run_until(&mut self, at: u64) {
        while self.queue.next_at().is_some_and(|next| next <= at) && self.counts.events < self.config.max_events {
            self.step();
        }
        self.now = self.now.max(at);
        self.judge.now = self.now;
    }

    /// Runs until nothing is left to happen, then checks that nothing is left over.
    pub fn run_to_end(&mut self) {
        while self.counts.events < self.config.max_events && self.step() {}
        if self.queue.len() > 0 {
            return self.judge.fail(Rule::Rest, format_args!("no rest after {} events", self.counts.events));
        }
        self.check_rest();
    }

    /// Notes a broken rule that an embedder's own oracle found.
    pub fn fail(&mut self, rule: Rule, what: &str) {
        self.judge.fail(rule, what);
    }

    fn push(&mut self, at: u64, lane: Lane, happening: Happening) {
        self.queue.push(at.max(self.now), lane, happening);
    }

    fn link_number(&mut self, src: u32, dst: u32) -> u32 {
        let (mut config, regions, seed) = (self.config.default_link, self.config.regions, self.seed);
        self.net.links.between(src, dst, || {
            if regions {
                let [from, to] = [src, dst].map(|node| usize::from(region(seed, node)));
                config.delay += DISTANCE[from][to];
            }
            config
        })
    }

    fn link(&mut self, src: u32, dst: u32) -> &mut Link {
        let link = self.link_number(src, dst);
        self.net.links.get_mut(link)
    }
}
