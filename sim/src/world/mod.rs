//! The world: nodes, network, clock, and the loop that runs them.

mod actors;
mod commands;
mod embed;
mod faults;
mod heal;
mod machines;
mod recovery;
mod streams;
mod view;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt,
};

use haggle_core::{
    AttemptId, JobId, JobSpec, PeerId, Provider, QueryId, Requester,
    machine::{QueryOutcome, StreamFailure},
};

use crate::{
    clock::NodeClock,
    dice::{self, Purpose, Stream},
    job::Job,
    log::Log,
    net::{Buffers, Conns, DISTANCE, Dht, Link, LinkConfig, Links, Partitions, Role, region},
    node::{Node, NodeId, ProviderConfig, RequesterConfig, Side},
    oracle::{Judge, Rule},
    points::Group,
    queue::{Lane, Queue},
    schedule::{FaultKind, Schedule},
    script::{Say, Script},
    trace::Trace,
};

pub use self::{embed::Told, recovery::Checkpoint};

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

/// A deterministic world. Clones are forks: each goes on by itself, and equal inputs keep them equal.
#[derive(Clone)]
pub struct World {
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
    /// Applications store what they take, so that a node can [recover](Self::recover).
    pub stores: bool,
    /// Every fact is told to a copy of the machine as well: it has to say and to become the same.
    pub doubles: bool,
    /// Events after which a run is taken to be endless.
    pub max_events: u64,
    /// Who serves what.
    pub dht: Dht,
    seed: u64,
    now: u64,
    events: u64,
    /// Facts and commands handed to machines.
    inputs: u64,
    queue: Queue<Happening>,
    nodes: Vec<Node>,
    links: Links,
    partitions: Partitions,
    conns: Conns,
    /// Used before, and empty.
    spare: Buffers,
    orders: Vec<Say>,
    /// Who has a connection to whom, as each end sees it.
    connected: BTreeSet<(u32, u32)>,
    jobs: BTreeMap<JobId, Job>,
    /// Ids in the order of submission; `None` where it was refused, or is still to come.
    submissions: Vec<Option<JobId>>,
    judge: Judge,
    trace: Trace,
    log: Option<Box<Log>>,
    /// What nodes told, if somebody listens.
    told: Option<VecDeque<(NodeId, Told)>>,
    dials: u64,
    faults: BTreeMap<&'static str, u64>,
    /// Frames sent, and tokens that engines wrote.
    frames: u64,
    computed: u64,
    /// The faults so far.
    struck: Vec<FaultKind>,
    /// The first job that was submitted after everything was healed.
    healed: Option<usize>,
    excuses: BTreeMap<&'static str, u64>,
    /// Most bytes that were ever on their way in one direction of a stream.
    peak_in_flight: usize,
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World")
            .field("seed", &self.seed)
            .field("now", &self.now)
            .field("events", &self.events)
            .finish_non_exhaustive()
    }
}

/// What is in the queue.
#[derive(Clone)]
enum Happening {
    Timer { node: u32, role: Role, generation: u64 },
    Drain { node: u32, role: Role },
    Dial { conn: u64 },
    Dialled { conn: u64, result: Result<(), StreamFailure> },
    Pump { conn: u64, from: usize },
    Severed { conn: u64, end: usize },
    Echo { node: u32, life: u32, role: Role, id: haggle_core::StreamId },
    Found { node: u32, life: u32, query: QueryId, peers: Vec<PeerId> },
    QueryDone { node: u32, life: u32, query: QueryId, outcome: QueryOutcome },
    Engine { node: u32, life: u32, attempt: AttemptId },
    App { job: JobId },
    Wake { node: u32, life: u32, conn: u64 },
    Start { node: u32, life: u32 },
    Return { node: u32, life: u32 },
    Fault(FaultKind),
    Submit { nth: usize, node: u32, spec: Box<JobSpec> },
}

/// The lanes of what comes last in an instant: late drains, then what applications do about what they were told.
const INSTANT_END: u32 = u32::MAX;

/// The order of lanes within an instant, for one node.
mod kind {
    pub(super) const WORLD: u8 = 0;
    pub(super) const TIMER: u8 = 1;
    pub(super) const NET: u8 = 2;
    pub(super) const QUERY: u8 = 3;
    pub(super) const ENGINE: u8 = 4;
    pub(super) const APP: u8 = 5;
}

impl World {
    /// An empty world. Equal seeds, nodes and schedules run alike.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            default_link: LinkConfig::default(),
            drain: Drain::default(),
            regions: false,
            echo_close: false,
            explain: false,
            stores: false,
            doubles: false,
            max_events: 20_000_000,
            dht: Dht::new(),
            seed,
            now: 0,
            events: 0,
            inputs: 0,
            queue: Queue::new(),
            nodes: Vec::new(),
            links: Links::default(),
            partitions: Partitions::default(),
            conns: Conns::default(),
            spare: Buffers::default(),
            orders: Vec::new(),
            connected: BTreeSet::new(),
            jobs: BTreeMap::new(),
            submissions: Vec::new(),
            judge: Judge::default(),
            trace: Trace::new(),
            log: None,
            told: None,
            dials: 0,
            faults: BTreeMap::new(),
            frames: 0,
            computed: 0,
            struck: Vec::new(),
            healed: None,
            excuses: BTreeMap::new(),
            peak_in_flight: 0,
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
        self.nodes.push(Node {
            alive: true,
            clock: NodeClock::default(),
            asleep_until: 0,
            slow: 1,
            disk: None,
            crashed: false,
            life: 0,
            requester: None,
            provider: None,
            script: None,
            reads_bytes: false,
            requester_config: requester.map(Box::new),
            provider_config: provider.map(Box::new),
            writer: None,
            contacts: Vec::new(),
            runs: BTreeMap::new(),
            conns: Vec::new(),
        });
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
        self.push(self.now, id.0, kind::WORLD, id.0, Happening::Start { node: id.0, life: 0 });
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
            self.push(fault.at, 0, kind::WORLD, 0, Happening::Fault(fault.what));
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
        self.events += 1;
        self.happen(lane, happening);
        true
    }

    /// When a node wakes that stands still and that an event is for: its timers first, then what its peers said, one after
    /// the other. All in one instant, what a machine orders about one thing would race with the next.
    fn sleeps(&self, at: u64, lane: Lane) -> Option<u64> {
        if lane.kind == kind::WORLD || lane.dst == INSTANT_END {
            return None;
        }
        let until = self.nodes.get(lane.dst as usize).map(|node| node.asleep_until).filter(|until| *until > at)?;
        let later = if lane.kind == kind::TIMER { 0 } else { 1 + u64::from(lane.src % 64) };
        Some(until.saturating_add(later))
    }

    /// Whether there is an event left, and the run is not taken to be endless.
    #[must_use]
    pub fn has_more(&self) -> bool {
        self.queue.len() > 0 && self.events < self.max_events
    }

    /// Runs until a virtual time, in ms, that time's events included.
    pub fn run_until(&mut self, at: u64) {
        while self.queue.next_at().is_some_and(|next| next <= at) && self.events < self.max_events {
            self.step();
        }
        self.now = self.now.max(at);
        self.judge.now = self.now;
    }

    /// Runs until nothing is left to happen, then checks that nothing is left over.
    pub fn run_to_end(&mut self) {
        while self.events < self.max_events && self.step() {}
        if self.queue.len() > 0 {
            return self.judge.fail(Rule::Rest, format_args!("no rest after {} events", self.events));
        }
        self.check_rest();
    }

    /// Notes a broken rule that an embedder's own oracle found.
    pub fn fail(&mut self, rule: Rule, what: &str) {
        self.judge.fail(rule, what);
    }

    fn push(&mut self, at: u64, dst: u32, kind: u8, src: u32, happening: Happening) {
        self.queue.push(at.max(self.now), Lane { dst, kind, src }, happening);
    }

    fn link_number(&mut self, src: u32, dst: u32) -> u32 {
        let (mut config, regions, seed) = (self.default_link, self.regions, self.seed);
        self.links.between(src, dst, || {
            if regions {
                let [from, to] = [src, dst].map(|node| usize::from(region(seed, node)));
                config.delay += DISTANCE[from][to];
            }
            config
        })
    }

    fn link(&mut self, src: u32, dst: u32) -> &mut Link {
        let link = self.link_number(src, dst);
        self.links.get_mut(link)
    }

    /// Gives a node fresh machines, as its process does when it starts.
    fn boot(&mut self, node: u32) {
        let id = NodeId(node);
        let life = self.nodes[node as usize].life;
        let seeds = [Role::Requester, Role::Provider].map(|role| self.machine_seed(node, role, life));
        let place = &mut self.nodes[node as usize];
        place.alive = true;
        place.crashed = false;
        place.runs.clear();
        place.requester = place.requester_config.as_ref().map(|config| {
            match Requester::new(config.policy.clone(), config.limits.clone(), seeds[0]) {
                Ok(mut requester) => {
                    requester.set_account_budget(config.account_budget);
                    self.judge.account(node, config.account_budget);
                    Box::new(Side::new(requester))
                }
                Err(error) => panic!("a requester with {error}"),
            }
        });
        place.provider = place.provider_config.as_ref().map(|config| {
            match Provider::new(config.service.clone(), config.limits.clone(), seeds[1]) {
                Ok(provider) => Box::new(Side::new(provider)),
                Err(error) => panic!("a provider with {error}"),
            }
        });
        if let Some(config) = &place.provider_config {
            let models: Vec<Vec<Vec<u8>>> = config
                .service
                .models
                .iter()
                .map(|serving| {
                    let names = std::iter::once(&serving.advert.model).chain(&serving.advert.aliases);
                    names.map(|name| name.as_bytes().to_vec()).collect()
                })
                .collect();
            // What an engine of one's own writes is known to nobody.
            let models = models.into_iter().filter(|_| place.writer.is_none());
            let models = models.map(|names| (names, config.engine.length, config.engine.class)).collect();
            self.judge.provider(node, id.peer(), models, config.service.slots);
        }
        self.publish(node);
        self.begin_storing(node);
    }

    /// Keys the draws of a machine, others in each life.
    fn machine_seed(&self, node: u32, role: Role, life: u32) -> [u8; 32] {
        let mut seed = [0; 32];
        for (index, word) in seed.chunks_mut(8).enumerate() {
            let counter = (u64::from(life) << 8) | ((role as u64 + 1) << 4) | index as u64;
            let draw = dice::rand(self.seed, Stream::new(node, node, Purpose::Machine), counter);
            word.copy_from_slice(&draw.to_le_bytes());
        }
        seed
    }

    /// Lets queries find a provider.
    fn publish(&mut self, node: u32) {
        let Some(config) = &self.nodes[node as usize].provider_config else { return };
        let models = config.service.models.iter().filter(|_| config.published);
        for name in models.flat_map(|serving| std::iter::once(&serving.advert.model).chain(&serving.advert.aliases)) {
            self.dht.publish(name.as_bytes(), NodeId(node).peer());
        }
    }
}
