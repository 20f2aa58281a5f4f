//! One node's swarm: what happens there becomes facts for the driver, what the driver cannot do with streams is done here.

mod dht;
mod reach;

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    time::{Duration, Instant},
};

use haggle_core::{
    Instant as CoreInstant, Model,
    bootstrap::{Bootstrap, BootstrapInput, BootstrapOutput},
};
use libp2p::{
    Multiaddr, PeerId, Swarm, connection_limits,
    core::transport::ListenerId,
    identify, kad, ping,
    swarm::{
        ConnectionId, DialError, NetworkBehaviour, SwarmEvent,
        behaviour::toggle::Toggle,
        dial_opts::{DialOpts, PeerCondition},
    },
};

use self::reach::Sought;
use crate::{
    address::{self, Scope},
    config::Contact,
    dials::{self, Dials},
    discovery::{
        KAD_PROTOCOL, ProviderStore,
        search::{Dht, Search, Searches},
    },
    driver::{Driver, Order},
    groups,
    runtime::{Local, Mdns},
    sessions,
};

pub(crate) use self::reach::pings;

/// All that a node speaks. Sessions come first: they dial with what the others know of a peer at that moment.
#[derive(NetworkBehaviour)]
#[behaviour(prelude = "libp2p::swarm::derive_prelude")]
pub(crate) struct Behaviour<M: Mdns> {
    pub(crate) limits: connection_limits::Behaviour,
    pub(crate) groups: groups::Behaviour,
    pub(crate) sessions: sessions::Behaviour,
    pub(crate) identify: identify::Behaviour,
    pub(crate) ping: ping::Behaviour,
    pub(crate) kad: Toggle<kad::Behaviour<ProviderStore>>,
    pub(crate) mdns: Toggle<M>,
}

/// Nodes of the local network that are remembered.
const MAX_LOCAL: usize = 256;
/// Addresses that are believed of one peer.
const MAX_ADDRESSES: usize = 8;

/// What a network is made of.
pub(crate) struct Parts {
    pub(crate) network: String,
    pub(crate) bootstrap: Vec<Contact>,
    pub(crate) providers: Vec<Contact>,
    pub(crate) announced: bool,
    pub(crate) mdns: bool,
    pub(crate) models: Vec<Model>,
    pub(crate) schedule: Bootstrap,
    pub(crate) dials: Dials,
}

/// The state beside the swarm.
pub(crate) struct Network {
    network: String,
    started: Instant,
    bootstrap: Vec<(PeerId, Vec<Multiaddr>)>,
    schedule: Bootstrap,
    /// Dials of bootstrap nodes that are under way.
    entering: HashMap<ConnectionId, usize>,
    dials: Dials,
    /// Who answered last where a bootstrap node was to be, if that was another.
    others: HashMap<usize, PeerId>,
    remotes: HashMap<ConnectionId, Multiaddr>,
    providers: BTreeSet<PeerId>,
    local: BTreeSet<PeerId>,
    mdns: bool,
    searches: Searches,
    /// Keys under which this node is to be found.
    keys: Vec<kad::RecordKey>,
    announced: Option<Instant>,
    announce_at: Option<Instant>,
    announcing: HashSet<kad::QueryId>,
    /// One of the announcements under way has reached a node.
    heard: bool,
    /// What was announced is not true any more.
    has_moved: bool,
    sought: Sought,
    /// Others are told other addresses than those listened on.
    own_addresses: bool,
    listeners: HashMap<ListenerId, Listener>,
}

struct Listener {
    /// It was asked for every interface.
    wildcard: bool,
    ready: bool,
}

/// The contacts by peer, in the order in which the peers come first.
pub(crate) fn by_peer(contacts: Vec<Contact>) -> Vec<(PeerId, Vec<Multiaddr>)> {
    let mut peers: Vec<(PeerId, Vec<Multiaddr>)> = Vec::new();
    for (peer, address) in contacts {
        match peers.iter_mut().find(|(known, _)| *known == peer) {
            Some((_, addresses)) => addresses.push(address),
            None => peers.push((peer, vec![address])),
        }
    }
    peers
}

impl Network {
    pub(crate) fn new<M: Mdns>(parts: Parts, swarm: &mut Swarm<Behaviour<M>>) -> Self {
        let network = Network {
            started: Instant::now(),
            keys: dht::keys(&parts.network, &parts.models),
            network: parts.network,
            bootstrap: by_peer(parts.bootstrap),
            schedule: parts.schedule,
            entering: HashMap::new(),
            dials: parts.dials,
            others: HashMap::new(),
            remotes: HashMap::new(),
            providers: parts.providers.iter().map(|(peer, _)| *peer).collect(),
            local: BTreeSet::new(),
            mdns: parts.mdns,
            searches: Searches::default(),
            announced: None,
            announce_at: None,
            announcing: HashSet::new(),
            heard: false,
            has_moved: false,
            sought: Sought::default(),
            own_addresses: parts.announced,
            listeners: HashMap::new(),
        };
        let behaviour = swarm.behaviour_mut();
        for (peer, address) in parts.providers {
            network.dials.give(peer, &address);
            behaviour.sessions.pin_address(peer, address);
        }
        for (peer, addresses) in &network.bootstrap {
            for address in addresses {
                network.dials.give(*peer, address);
                behaviour.sessions.pin_address(*peer, address.clone());
                if let Some(kad) = behaviour.kad.as_mut() {
                    kad.add_address(peer, address.clone());
                }
            }
        }
        network
    }

    pub(crate) fn listening(&mut self, id: ListenerId, address: &Multiaddr) {
        let wildcard = address::ip(address).is_some_and(|ip| ip.is_unspecified());
        self.listeners.insert(id, Listener { wildcard, ready: false });
    }

    /// True once every listener has an address.
    pub(crate) fn is_ready(&self) -> bool {
        self.listeners.values().all(|listener| listener.ready)
    }

    /// When [`on_timeout`](Self::on_timeout) is due.
    pub(crate) fn due(&self) -> Option<Instant> {
        let schedule = self.schedule.poll_timeout().map(|timeout| Duration::from_millis(timeout.at.as_millis()));
        let schedule = schedule.and_then(|after| self.started.checked_add(after));
        schedule.into_iter().chain(self.searches.due()).chain(self.announce_at).chain(self.sought.due()).min()
    }

    pub(crate) fn on_timeout<M: Mdns>(&mut self, swarm: &mut Swarm<Behaviour<M>>, driver: &mut Driver) {
        self.schedule.handle_input(self.now(), BootstrapInput::Timeout);
        if self.announce_at.is_some_and(|at| at <= Instant::now()) {
            self.announce(swarm, driver);
        }
        self.look(swarm);
        self.dial_bootstrap(swarm, driver);
        self.end_searches(driver);
    }

    pub(crate) fn on_order<M: Mdns>(&mut self, order: Order, swarm: &mut Swarm<Behaviour<M>>, driver: &mut Driver) {
        match order {
            Order::StartQuery { query, model } => self.search(query, &model, swarm, driver),
            Order::CancelQuery(query) => {
                if let Some(Search { dht: Dht::Asked(id), .. }) = self.searches.cancel(query)
                    && let Some(kad) = swarm.behaviour_mut().kad.as_mut()
                    && let Some(mut asked) = kad.query_mut(&id)
                {
                    asked.finish();
                }
            }
            Order::Withdraw => self.withdraw(swarm),
            Order::AddAddress(peer, address) => {
                self.providers.insert(peer);
                self.dials.give(peer, &address);
                if !swarm.behaviour_mut().sessions.pin_address(peer, address) {
                    driver.on_failure("too_many_addresses", format!("no room for an address of {peer}"));
                }
            }
            Order::Announce(models) => self.set_models(&models, swarm),
        }
    }

    pub(crate) fn on_event<M: Mdns>(
        &mut self,
        event: SwarmEvent<BehaviourEvent<M>>,
        swarm: &mut Swarm<Behaviour<M>>,
        driver: &mut Driver,
    ) {
        match event {
            SwarmEvent::Behaviour(BehaviourEvent::Sessions(event)) => {
                self.on_open_failed(&event, swarm);
                driver.on_session(event);
            }
            SwarmEvent::Behaviour(BehaviourEvent::Ping(event)) => self.on_ping(&event, swarm),
            SwarmEvent::Behaviour(BehaviourEvent::Identify(event)) => self.on_identify(event, swarm, driver),
            SwarmEvent::Behaviour(BehaviourEvent::Kad(event)) => self.on_kad(event, swarm, driver),
            SwarmEvent::Behaviour(BehaviourEvent::Mdns(event)) => self.on_local(event.into(), swarm, driver),
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                self.entering.remove(&connection_id);
                let remote = endpoint.get_remote_address();
                if let (true, Some(ip)) = (endpoint.is_listener(), address::ip(remote)) {
                    driver.on_dialled(address::scope_of(ip));
                }
                self.remotes.insert(connection_id, remote.clone());
                self.set_outside();
                self.bootstrap_input(peer_id, BootstrapInput::Connected);
                driver.on_connected(peer_id);
                self.ask_dht(swarm);
                if self.has_moved {
                    self.plan_announcement(swarm);
                }
            }
            SwarmEvent::ConnectionClosed { peer_id, connection_id, num_established, .. } => {
                self.remotes.remove(&connection_id);
                self.set_outside();
                if num_established == 0 {
                    self.bootstrap_input(peer_id, BootstrapInput::Gone);
                    driver.on_gone(peer_id);
                }
            }
            SwarmEvent::OutgoingConnectionError { connection_id, error, .. } => self.dial_failed(connection_id, &error),
            SwarmEvent::NewListenAddr { listener_id, address } => self.listens(listener_id, address, swarm, driver),
            SwarmEvent::ExpiredListenAddr { address, .. } => {
                swarm.remove_external_address(&address);
                self.moved(swarm);
                driver.on_not_listening(address);
            }
            SwarmEvent::ListenerClosed { listener_id, reason, .. } => {
                self.listeners.remove(&listener_id);
                if let Err(error) = reason {
                    driver.on_failure("listener_closed", error.to_string());
                }
            }
            SwarmEvent::ListenerError { error, .. } => driver.on_failure("listener", error.to_string()),
            _ => {}
        }
        self.dial_bootstrap(swarm, driver);
        self.end_searches(driver);
    }

    /// Whoever tells of others may live as far outside as the furthest of those that this node is connected to.
    fn set_outside(&self) {
        let scope = |remote| address::ip(remote).map_or(Scope::Global, address::scope_of);
        self.dials.set_outside(self.remotes.values().map(scope).max());
    }

    fn now(&self) -> CoreInstant {
        CoreInstant::from_millis(u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    fn listens<M: Mdns>(
        &mut self,
        id: ListenerId,
        address: Multiaddr,
        swarm: &mut Swarm<Behaviour<M>>,
        driver: &mut Driver,
    ) {
        let listener = self.listeners.get_mut(&id);
        let wildcard = listener.as_ref().is_some_and(|listener| listener.wildcard);
        if let Some(listener) = listener {
            listener.ready = true;
        }
        let loopback = address::ip(&address).is_some_and(|ip| ip.is_loopback());
        // Who listens everywhere does not mean that others should dial their own machine.
        let for_others = !(wildcard && loopback);
        if for_others && !self.own_addresses {
            swarm.add_external_address(address.clone());
            self.moved(swarm);
        }
        driver.on_listening(address);
    }

    // Bootstrap.

    fn bootstrap_input(&mut self, peer: PeerId, input: impl FnOnce(usize) -> BootstrapInput) {
        if let Some(index) = self.bootstrap.iter().position(|(node, _)| *node == peer) {
            self.schedule.handle_input(self.now(), input(index));
        }
    }

    fn dial_bootstrap<M: Mdns>(&mut self, swarm: &mut Swarm<Behaviour<M>>, driver: &mut Driver) {
        while let Some(output) = self.schedule.poll_output() {
            match output {
                BootstrapOutput::Dial(index) => {
                    let (peer, addresses) = &self.bootstrap[index];
                    let opts = DialOpts::peer_id(*peer)
                        .condition(PeerCondition::Disconnected)
                        .addresses(addresses.clone())
                        .override_dial_concurrency_factor(sessions::at_once(addresses.len()))
                        .build();
                    let id = opts.connection_id();
                    match swarm.dial(opts) {
                        Ok(()) => drop(self.entering.insert(id, index)),
                        Err(_) if swarm.is_connected(&self.bootstrap[index].0) => {
                            self.schedule.handle_input(self.now(), BootstrapInput::Connected(index));
                        }
                        Err(_) => self.schedule.handle_input(self.now(), BootstrapInput::Failed(index)),
                    }
                }
                BootstrapOutput::Unreachable(index) => {
                    let (peer, addresses) = &self.bootstrap[index];
                    let at = addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                    let detail = match self.others.get(&index) {
                        _ if peer == swarm.local_peer_id() => format!(
                            "bootstrap node {peer} is this node itself: nobody enters the network by itself; give another's address"
                        ),
                        Some(other) => format!(
                            "{other} answers at {at}, not bootstrap node {peer}: correct the id at the end of its address"
                        ),
                        None => format!("bootstrap node {peer} does not answer at {at}: check that it runs there"),
                    };
                    driver.on_failure("bootstrap_unreachable", detail);
                }
            }
        }
    }

    fn dial_failed(&mut self, id: ConnectionId, error: &DialError) {
        let Some(index) = self.entering.remove(&id) else { return };
        tracing::debug!(%error, "bootstrap node not reached");
        match dials::who_else(error) {
            Some(other) => drop(self.others.insert(index, other)),
            None => drop(self.others.remove(&index)),
        }
        self.schedule.handle_input(self.now(), BootstrapInput::Failed(index));
    }

    // What peers say of themselves.

    fn on_identify<M: Mdns>(&mut self, event: identify::Event, swarm: &mut Swarm<Behaviour<M>>, driver: &mut Driver) {
        let identify::Event::Received { connection_id, peer_id, info } = event else { return };
        let Some(seen) = self.remotes.get(&connection_id) else { return };
        // Of the own network a node knows more than others can tell it.
        let outside = address::ip(&info.observed_addr).filter(|ip| address::scope_of(*ip) == Scope::Global);
        if let Some(ip) = outside.filter(|_| address::believable(&info.observed_addr, seen)) {
            driver.on_observed(ip);
        }
        let believed = info.listen_addrs.into_iter().filter(|claimed| address::believable(claimed, seen));
        let believed: Vec<_> = believed.take(MAX_ADDRESSES).collect();
        let in_dht = info.protocols.contains(&KAD_PROTOCOL);
        for address in believed {
            self.dials.tell(peer_id, &address);
            if let Some(kad) = swarm.behaviour_mut().kad.as_mut().filter(|_| in_dht) {
                kad.add_address(&peer_id, address.clone());
            }
            swarm.add_peer_address(peer_id, address);
        }
    }

    fn on_local<M: Mdns>(&mut self, event: Local, swarm: &mut Swarm<Behaviour<M>>, driver: &mut Driver) {
        match event {
            Local::Found(found) => {
                for (peer, address) in found {
                    // Nobody on the local network can make this node dial its own machine.
                    let inside = address::ip(&address).is_some_and(|ip| address::scope_of(ip) == Scope::Loopback);
                    if !inside && (self.local.len() < MAX_LOCAL || self.local.contains(&peer)) {
                        self.local.insert(peer);
                        self.dials.tell(peer, &address);
                        swarm.add_peer_address(peer, address);
                    }
                }
                for (query, search) in self.searches.iter_mut() {
                    driver.peers_found(query, search.fresh(self.local.iter().copied()));
                }
            }
            Local::Gone(peers) => self.local.retain(|peer| !peers.contains(peer)),
        }
    }
}
