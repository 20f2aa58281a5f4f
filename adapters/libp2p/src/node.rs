//! A node: the handle, and how it is started.

use std::{
    net::TcpListener,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use futures::{
    FutureExt, SinkExt, StreamExt,
    channel::{mpsc, oneshot},
    select,
};
use futures_timer::Delay;
use haggle_core::{
    Criteria, Instant as CoreInstant, JobId, JobSpec, Model, Policy,
    bootstrap::Bootstrap,
    money::{Amount, Price},
    peers::book::Reliability,
    provider::{Service, Serving},
    spec::QuoteSpec,
    time::Millis,
    wire::message::{Exactness, ExactnessKind, MAX_ALIASES, MAX_MODELS, ModelAdvert},
};
use haggle_engine::{Engine, ExactKind};
use haggle_flight::Tape;
use libp2p::{Multiaddr, PeerId, Swarm, connection_limits, identify, identity::Keypair, multiaddr::Protocol, swarm};

use crate::{
    Config, ConfigError, Error, Events, Found, Job, NodeEvent, Offer, Reachability, address,
    alarm::Alarm,
    config::{Settings, contact, millis},
    discovery,
    driver::{Command, Driver, Parts, seed},
    groups,
    network::{self, Behaviour, Network},
    runtime::{Mdns, Runtime, TransportLimits},
    sessions,
    shared::Shared,
    state::{State, StoredAnswer},
};

/// A model that a node sells.
#[derive(Clone)]
pub struct Sale {
    /// What computes it. Several sales may share one engine.
    pub engine: Arc<dyn Engine>,
    /// The name under which it is found; the engine's own if empty.
    pub name: String,
    /// Other names it answers to, at most 8.
    pub aliases: Vec<String>,
    /// Micro-units per 1,000,000 tokens read.
    pub price_in: Price,
    /// Micro-units per 1,000,000 tokens written.
    pub price_out: Price,
    /// Bytes of a prompt that are counted as one token read; a prompt is priced before it is seen.
    pub bytes_per_token: u32,
    /// Expected time to the first token.
    pub eta: Millis,
    /// The lowest bid taken, in thousandths of the posted price; 1000 does not haggle.
    pub floor_permille: u32,
}

impl Sale {
    /// An engine's model, free of charge; the rest by assignment.
    pub fn new(engine: Arc<dyn Engine>) -> Self {
        Sale {
            engine,
            name: String::new(),
            aliases: Vec::new(),
            price_in: 0,
            price_out: 0,
            bytes_per_token: 4,
            eta: Millis::from_secs(1),
            floor_permille: 1_000,
        }
    }

    fn name(&self) -> &str {
        if self.name.is_empty() { &self.engine.info().name } else { &self.name }
    }

    fn serving(&self) -> Result<Serving, ConfigError> {
        let info = self.engine.info();
        let model = |name: &str| {
            Model::new(name.as_bytes()).ok_or_else(|| ConfigError {
                path: "model".into(),
                problem: format!("{name:?} cannot be a model's name; it must have 1 to 128 bytes"),
            })
        };
        if self.aliases.len() > MAX_ALIASES {
            return Err(ConfigError { path: "aliases".into(), problem: format!("must be at most {MAX_ALIASES}") });
        }
        let kind = match info.exactness.kind {
            ExactKind::None => ExactnessKind::None,
            ExactKind::Greedy => ExactnessKind::Greedy,
            ExactKind::Seeded => ExactnessKind::Seeded,
        };
        Ok(Serving {
            advert: ModelAdvert {
                model: model(self.name())?,
                aliases: self.aliases.iter().map(|alias| model(alias)).collect::<Result<_, _>>()?,
                context: info.context,
                price_in: self.price_in,
                bytes_per_token: self.bytes_per_token,
                price_out: self.price_out,
                eta: self.eta,
                can_continue: info.can_continue,
                exactness: Exactness { kind, class: info.exactness.class },
            },
            floor_permille: self.floor_permille,
        })
    }
}

impl std::fmt::Debug for Sale {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sale").field("name", &self.name()).field("price_out", &self.price_out).finish_non_exhaustive()
    }
}

/// How a node is put together.
#[derive(Debug)]
pub struct Builder {
    config: Config,
    key: Option<Keypair>,
    policy: Policy,
    sales: Vec<Sale>,
    tape: Option<Tape>,
    state: Option<State>,
    stored: Vec<StoredAnswer>,
}

impl Builder {
    /// The node's key, from [`key::load_or_create`](crate::key::load_or_create). Without one, the node has a new key.
    pub fn key(mut self, key: Keypair) -> Self {
        self.key = Some(key);
        self
    }

    /// Times and tries that the configuration does not name. Those that it names stand.
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// Keeps the node's state in a directory, and restores what is there: its key unless another is given, scores and bans,
    /// what is owed, and its jobs, which [`Node::restored`] hands out.
    ///
    /// What an application has not yet stored of an answer when the process dies is told again; see [`Self::stored`].
    pub fn state(mut self, state: State) -> Self {
        self.state = Some(state);
        self
    }

    /// What the application has itself stored of answers: it is not told again. Of jobs that are not named, everything is.
    pub fn stored(mut self, stored: Vec<StoredAnswer>) -> Self {
        self.stored = stored;
        self
    }

    /// Sells a model.
    pub fn sell(mut self, sale: Sale) -> Self {
        self.sales.push(sale);
        self
    }

    /// Records every step of the node's machines, to be run again by [`flight::replay`](crate::flight::replay). If the file
    /// can not be written any more, [`NodeEvent::Failed`] says so with the code `record`, and the node goes on.
    pub fn record(mut self, tape: Tape) -> Self {
        self.tape = Some(tape);
        self
    }

    /// Starts the node. It listens when this returns.
    ///
    /// # Errors
    /// A setting that cannot work, an address that cannot be listened on, or a runtime without a network.
    pub async fn start<R: Runtime>(self, runtime: R) -> Result<Node, Error> {
        let settings = self.config.read(self.policy.clone())?;
        let key = match (self.key, &self.state) {
            (Some(key), _) => key,
            (None, Some(state)) => state.key()?,
            (None, None) => Keypair::generate_ed25519(),
        };
        let service = service(&self.config, &self.sales)?;
        let names =
            |advert: &ModelAdvert| [advert.model.clone()].into_iter().chain(advert.aliases.clone()).collect::<Vec<_>>();
        let models = service.models.iter().flat_map(|serving| names(&serving.advert)).collect();
        let engines = service.models.iter().map(|serving| serving.advert.model.clone());
        let engines = engines.zip(self.sales.iter().map(|sale| sale.engine.clone())).collect();
        let spawner = runtime.clone();
        let (driver, node) = Driver::new(Parts {
            me: key.public().to_peer_id(),
            network: self.config.network.clone(),
            limits: self.config.limits.clone(),
            policy: settings.policy.clone(),
            service,
            engines,
            spawn: Arc::new(move |task| spawner.spawn(task)),
            tape: self.tape,
            state: self.state,
            stored: self.stored,
        })?;
        let (ready, started) = oneshot::channel();
        let (config, tasks) = (self.config, runtime.clone());
        // Sockets are opened inside the runtime, wherever this future runs.
        tasks.spawn(Box::pin(async move {
            match build(&runtime, &key, &config, &settings) {
                Ok(swarm) => run(swarm, driver, config, settings, models, ready).await,
                Err(error) => drop(ready.send(Err(error))),
            }
        }));
        started.await.map_err(|_| Error::Stopped)??;
        Ok(node)
    }
}

/// A node of the market: it buys, and sells what it was given to sell. Clones are the same node.
///
/// A node stops by [`stop`](Node::stop), or when its last handle and the last job of it are dropped.
#[derive(Clone, Debug)]
pub struct Node {
    commands: mpsc::Sender<Command>,
    shared: Arc<Shared>,
}

/// A node as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeInfo {
    /// Its id.
    pub peer_id: PeerId,
    /// The network it belongs to.
    pub network: String,
    /// Where it listens, each with its id at the end.
    pub listen_addresses: Vec<Multiaddr>,
    /// Who is connected.
    pub connected_peers: Vec<PeerId>,
}

/// What a node does for others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Jobs that are not over: they receive their body, wait or compute.
    pub jobs: usize,
    /// Tokens written since the start, those of jobs that run included.
    pub tokens: u64,
}

impl Node {
    pub(crate) fn new(commands: mpsc::Sender<Command>, shared: Arc<Shared>) -> Self {
        Node { commands, shared }
    }

    /// Puts a node together step by step.
    pub fn builder(config: Config) -> Builder {
        Builder {
            config,
            key: None,
            policy: Policy::default(),
            sales: Vec::new(),
            tape: None,
            state: None,
            stored: Vec::new(),
        }
    }

    /// Starts a node that only buys.
    ///
    /// # Errors
    /// As [`Builder::start`].
    pub async fn start<R: Runtime>(config: Config, runtime: R) -> Result<Self, Error> {
        Node::builder(config).start(runtime).await
    }

    /// Stops the node: every job ends, typed, on both sides, and the sockets are closed. Stopping twice is no error.
    pub async fn stop(&self) {
        let (reply, stopped) = oneshot::channel();
        if self.send(Command::Stop(reply)).await.is_ok() {
            let _ = stopped.await;
        }
    }

    /// Takes no further jobs of others from now on, announces its models no more, and waits until the jobs that run have
    /// ended. After `patience` those that are left are ended, typed. Said again, it can only shorten the time.
    ///
    /// # Errors
    /// The node was stopped.
    pub async fn drain(&self, patience: Duration) -> Result<(), Error> {
        let (reply, drained) = oneshot::channel();
        self.send(Command::Drain(millis(patience), reply)).await?;
        drained.await.map_err(|_| Error::Stopped)
    }

    /// Has a prompt answered by a provider that is found, asked and awarded.
    ///
    /// # Errors
    /// [`Error::Refused`] if the job cannot be taken as it is; what happens later comes with the [`Job`].
    pub async fn submit(&self, spec: JobSpec) -> Result<Job, Error> {
        let node = self.clone();
        self.ask(|reply| Command::Submit(spec, node, reply)).await
    }

    /// The jobs that were restored from the state directory, once: they go on where the process before was. Dropping one
    /// cancels it.
    pub fn restored(&self) -> Vec<Job> {
        let unclaimed = std::mem::take(&mut *self.shared.restored());
        unclaimed.into_iter().map(|job| job.handle(self.clone())).collect()
    }

    /// Asks for offers, the best first, and awards none.
    ///
    /// # Errors
    /// [`Error::Job`] if nobody made one.
    pub async fn quote(&self, spec: QuoteSpec) -> Result<Vec<Offer>, Error> {
        self.ask(|reply| Command::Quote(spec, reply)).await
    }

    /// Finds who serves a model, the best posted price first. `deadline` is for the whole search; without one, the
    /// policy's.
    ///
    /// # Errors
    /// [`Error::Job`] if nobody was found; it says whether every source of peers answered.
    pub async fn discover(&self, criteria: Criteria, deadline: Option<Millis>) -> Result<Found, Error> {
        self.ask(|reply| Command::Discover(criteria, deadline, reply)).await
    }

    /// Makes a provider known, by an address that ends in `/p2p/` and its id. It is asked in every search from now on.
    ///
    /// # Errors
    /// [`Error::Config`] for what is no such address.
    pub async fn connect(&self, address: &str) -> Result<PeerId, Error> {
        let (peer, address) = contact(address)
            .map_err(|problem| ConfigError { path: "address".into(), problem: format!("{address:?} {problem}") })?;
        self.send(Command::AddAddress(peer, address)).await?;
        Ok(peer)
    }

    /// Bounds what all jobs of this node together may come to owe.
    ///
    /// # Errors
    /// The node was stopped.
    pub async fn set_account_budget(&self, budget: Option<Amount>) -> Result<(), Error> {
        self.send(Command::SetAccountBudget(budget)).await
    }

    /// How a provider has served this node so far; `None` if nothing is known of it.
    ///
    /// # Errors
    /// The node was stopped.
    pub async fn reliability(&self, peer: PeerId) -> Result<Option<Reliability>, Error> {
        self.ask(|reply| Command::Reliability(peer, reply)).await
    }

    /// Never asks a provider again, until it is allowed.
    ///
    /// # Errors
    /// [`Error::Refused`] if as many are banned as the limit allows.
    pub async fn ban(&self, peer: PeerId) -> Result<(), Error> {
        self.ask(|reply| Command::Ban(peer, reply)).await
    }

    /// Lifts every ban of a provider, and forgets what it was banned for.
    ///
    /// # Errors
    /// The node was stopped.
    pub async fn allow(&self, peer: PeerId) -> Result<(), Error> {
        self.send(Command::Allow(peer)).await
    }

    pub(crate) async fn award(&self, job: JobId, peer: PeerId) -> Result<(), Error> {
        self.ask(|reply| Command::Award(job, peer, reply)).await
    }

    /// What happens at the node from now on.
    pub fn events(&self) -> Events {
        self.shared.subscribers.subscribe()
    }

    /// The node's id.
    pub fn peer_id(&self) -> PeerId {
        self.shared.me
    }

    /// Who is connected.
    pub fn connected_peers(&self) -> Vec<PeerId> {
        self.shared.connected().iter().copied().collect()
    }

    /// Where the node listens, each address with the node's id at its end.
    pub fn listen_addresses(&self) -> Vec<Multiaddr> {
        self.shared.listening().iter().cloned().collect()
    }

    /// The node as it is now.
    pub fn node_info(&self) -> NodeInfo {
        NodeInfo {
            peer_id: self.peer_id(),
            network: self.shared.network.clone(),
            listen_addresses: self.listen_addresses(),
            connected_peers: self.connected_peers(),
        }
    }

    /// What it does for others at this moment.
    pub fn load(&self) -> Load {
        Load {
            jobs: self.shared.serving.load(Ordering::Relaxed),
            tokens: self.shared.metrics.value("haggle_tokens_served_total", ""),
        }
    }

    /// What it has learned of how others reach it.
    pub fn reachability(&self) -> Reachability {
        self.shared.reachability()
    }

    /// Counters and gauges in Prometheus' text format.
    pub fn metrics(&self) -> String {
        self.shared.metrics.text(self.shared.gauges())
    }

    async fn send(&self, command: Command) -> Result<(), Error> {
        self.commands.clone().send(command).await.map_err(|_| Error::Stopped)
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<Result<T, Error>>) -> Command) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        self.send(command(reply)).await?;
        answer.await.map_err(|_| Error::Stopped)?
    }
}

pub(crate) fn service(config: &Config, sales: &[Sale]) -> Result<Service, ConfigError> {
    if sales.len() > MAX_MODELS {
        return Err(ConfigError { path: "models".into(), problem: format!("must be at most {MAX_MODELS}") });
    }
    let models = sales.iter().map(Sale::serving).collect::<Result<Vec<_>, _>>()?;
    Ok(Service {
        models,
        slots: config.slots,
        queue: config.queue,
        detached_ttl: millis(config.job_ttl),
        stall: millis(config.stall_timeout),
        ..Service::default()
    })
}

fn build<R: Runtime>(
    runtime: &R,
    key: &Keypair,
    config: &Config,
    settings: &Settings,
) -> Result<Swarm<Behaviour<R::Mdns>>, Error> {
    let me = key.public().to_peer_id();
    let transport_limits = TransportLimits { dial_timeout: config.dial_timeout, ..TransportLimits::default() };
    let transport = runtime.transport(key, &transport_limits).map_err(Error::Runtime)?;
    let connections = connection_limits::ConnectionLimits::default()
        .with_max_pending_incoming(Some(128))
        .with_max_pending_outgoing(Some(128))
        .with_max_established(Some(config.max_connections))
        .with_max_established_per_peer(Some(config.max_connections_per_peer));
    let identity = identify::Config::new(sessions::PROTOCOL.to_string(), key.public())
        .with_agent_version(concat!("haggle/", env!("CARGO_PKG_VERSION")).into())
        // What peers say of themselves is remembered by the sessions, after it was checked.
        .with_cache_size(0);
    let query_timeout = Duration::from_millis(settings.policy.query_timeout.0);
    let kad = || discovery::kademlia(me, !settings.listen.is_empty(), query_timeout, settings.store);
    let mdns = config.enable_mdns.then(|| runtime.mdns(me)).transpose()?;
    let behaviour = Behaviour {
        limits: connection_limits::Behaviour::new(connections),
        groups: groups::Behaviour::new(settings.groups),
        sessions: sessions::Behaviour::new(
            me,
            sessions::Config {
                open_timeout: config.dial_timeout,
                max_inbound_per_peer: config.limits.streams_per_peer,
                max_inbound: config.limits.streams,
                ..sessions::Config::default()
            },
        ),
        identify: identify::Behaviour::new(identity),
        kad: config.enable_dht.then(kad).into(),
        mdns: mdns.into(),
    };
    let tasks = runtime.clone();
    let swarm_config = swarm::Config::with_executor(move |task| tasks.spawn(task))
        .with_idle_connection_timeout(config.idle_connection_timeout);
    Ok(Swarm::new(transport, behaviour, me, swarm_config))
}

/// Listens, tells that the node is ready, and runs it.
async fn run<M: Mdns>(
    mut swarm: Swarm<Behaviour<M>>,
    driver: Driver,
    config: Config,
    settings: Settings,
    models: Vec<Model>,
    ready: oneshot::Sender<Result<(), Error>>,
) {
    let prepared = seed().and_then(|seed| {
        let nodes = network::by_peer(settings.bootstrap.clone()).len();
        let schedule = Bootstrap::new(CoreInstant::ZERO, nodes, millis(config.dial_timeout), &settings.policy, seed);
        let parts = network::Parts {
            network: config.network,
            bootstrap: settings.bootstrap,
            providers: settings.providers,
            announced: !settings.announce.is_empty(),
            mdns: config.enable_mdns,
            models,
            schedule,
        };
        let mut network = Network::new(parts, &mut swarm);
        listen(&settings.listen, &mut swarm, &mut network)?;
        settings.announce.iter().for_each(|address| swarm.add_external_address(address.clone()));
        Ok(network)
    });
    match prepared {
        Ok(network) => {
            driver.tell(NodeEvent::Started { peer: *swarm.local_peer_id() });
            drive(swarm, driver, network, ready).await;
        }
        Err(error) => drop(ready.send(Err(error))),
    }
}

fn listen<M: Mdns>(
    addresses: &[Multiaddr],
    swarm: &mut Swarm<Behaviour<M>>,
    network: &mut Network,
) -> Result<(), Error> {
    for wanted in addresses {
        let failed = |source| Error::Listen { address: wanted.to_string(), source };
        free(wanted).map_err(failed)?;
        let id = swarm.listen_on(wanted.clone()).map_err(|error| match error {
            libp2p::TransportError::Other(source) => failed(source),
            error => failed(std::io::Error::other(error.to_string())),
        })?;
        network.listening(id, wanted);
    }
    Ok(())
}

/// libp2p shares its ports (SO_REUSEPORT): two nodes on one port would both start, and each get half of the connections.
fn free(address: &Multiaddr) -> std::io::Result<()> {
    let port = address.iter().find_map(|part| if let Protocol::Tcp(port) = part { Some(port) } else { None });
    match (address::ip(address), port) {
        (Some(ip), Some(port)) if port != 0 => TcpListener::bind((ip, port)).map(drop),
        _ => Ok(()),
    }
}

/// A peer that does not take our last words has so long to change its mind.
const HANG_UP: Duration = Duration::from_secs(1);

/// The one loop of a node.
async fn drive<M: Mdns>(
    mut swarm: Swarm<Behaviour<M>>,
    mut driver: Driver,
    mut network: Network,
    ready: oneshot::Sender<Result<(), Error>>,
) {
    let mut alarm = Alarm::default();
    let mut ready = Some(ready);
    loop {
        while let Some(order) = driver.pump(&mut swarm.behaviour_mut().sessions) {
            network.on_order(order, &mut swarm, &mut driver);
        }
        if network.is_ready()
            && let Some(ready) = ready.take()
        {
            let _ = ready.send(Ok(()));
        }
        if driver.is_over() {
            break;
        }
        let due: Option<Instant> = network.due();
        select! {
            event = swarm.select_next_some() => network.on_event(event, &mut swarm, &mut driver),
            () = driver.next().fuse() => {}
            () = alarm.at(due).fuse() => network.on_timeout(&mut swarm, &mut driver),
        }
    }
    hang_up(&mut swarm).await;
    drop(swarm);
    driver.finish();
}

/// Closes every connection: only then has all that was said left the machine.
async fn hang_up<M: Mdns>(swarm: &mut Swarm<Behaviour<M>>) {
    for peer in swarm.connected_peers().copied().collect::<Vec<_>>() {
        let _ = swarm.disconnect_peer_id(peer);
    }
    let mut patience = Delay::new(HANG_UP).fuse();
    while swarm.connected_peers().next().is_some() {
        select! {
            _ = swarm.select_next_some() => {}
            () = patience => return,
        }
    }
}
