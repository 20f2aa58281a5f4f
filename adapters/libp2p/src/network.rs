//! One node's swarm: what happens there becomes facts for the driver, what the driver cannot do with streams is done here.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    time::{Duration, Instant},
};

use haggle_core::{
    Instant as CoreInstant, Model, QueryId,
    bootstrap::{Bootstrap, BootstrapInput, BootstrapOutput},
    machine::QueryOutcome,
    wire::dht_key,
};
use libp2p::{
    Multiaddr, PeerId, Swarm, connection_limits,
    core::{Endpoint, transport::ListenerId},
    identify, kad,
    swarm::{
        ConnectionId, DialError, NetworkBehaviour, SwarmEvent,
        behaviour::toggle::Toggle,
        dial_opts::{DialOpts, PeerCondition},
    },
};

use crate::{
    NodeEvent, address,
    config::Contact,
    discovery::{
        KAD_PROTOCOL, ProviderStore,
        search::{Dht, Search, Searches},
    },
    driver::{Driver, Order},
    groups,
    runtime::{Local, Mdns},
    sessions,
};

/// All that a node speaks. Sessions come first: they dial with what the others know of a peer at that moment.
#[derive(NetworkBehaviour)]
#[behaviour(prelude = "libp2p::swarm::derive_prelude")]
pub(crate) struct Behaviour<M: Mdns> {
    pub(crate) limits: connection_limits::Behaviour,
    pub(crate) groups: groups::Behaviour,
    pub(crate) sessions: sessions::Behaviour,
    pub(crate) identify: identify::Behaviour,
    pub(crate) kad: Toggle<kad::Behaviour<ProviderStore>>,
    pub(crate) mdns: Toggle<M>,
}

/// Nodes on the local network answer a question within this time.
const MDNS_SETTLES: Duration = Duration::from_secs(2);
/// Nodes of the local network that are remembered.
const MAX_LOCAL: usize = 256;
/// Addresses that are believed of one peer.
const MAX_ADDRESSES: usize = 8;
/// In a DHT no larger than this, every new node may be among the closest to any key of ours.
const SMALL_DHT: usize = 20;
/// This node's models are announced to new nodes no more often than this.
const ANNOUNCE_PAUSE: Duration = Duration::from_secs(60);
/// The same in a small DHT.
const SHORT_PAUSE: Duration = Duration::from_secs(1);

/// What a network is made of.
pub(crate) struct Parts {
    pub(crate) network: String,
    pub(crate) bootstrap: Vec<Contact>,
    pub(crate) providers: Vec<Contact>,
    pub(crate) announced: bool,
    pub(crate) mdns: bool,
    pub(crate) models: Vec<Model>,
    pub(crate) schedule: Bootstrap,
}

/// The state beside the swarm.
pub(crate) struct Network {
    network: String,
    started: Instant,
    bootstrap: Vec<(PeerId, Vec<Multiaddr>)>,
    schedule: Bootstrap,
    dials: HashMap<ConnectionId, usize>,
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
        let key = |model| kad::RecordKey::new(&dht_key(&parts.network, model));
        let network = Network {
            started: Instant::now(),
            keys: parts.models.iter().map(key).collect(),
            network: parts.network,
            bootstrap: by_peer(parts.bootstrap),
            schedule: parts.schedule,
            dials: HashMap::new(),
            remotes: HashMap::new(),
            providers: parts.providers.iter().map(|(peer, _)| *peer).collect(),
            local: BTreeSet::new(),
            mdns: parts.mdns,
            searches: Searches::default(),
            announced: None,
            announce_at: None,
            announcing: HashSet::new(),
            heard: false,
            own_addresses: parts.announced,
            listeners: HashMap::new(),
        };
        let behaviour = swarm.behaviour_mut();
        for (peer, address) in parts.providers {
            behaviour.sessions.pin_address(peer, address);
        }
        for (peer, addresses) in &network.bootstrap {
            for address in addresses {
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
        schedule.into_iter().chain(self.searches.due()).chain(self.announce_at).min()
    }

    pub(crate) fn on_timeout<M: Mdns>(&mut self, swarm: &mut Swarm<Behaviour<M>>, driver: &mut Driver) {
        self.schedule.handle_input(self.now(), BootstrapInput::Timeout);
        if self.announce_at.is_some_and(|at| at <= Instant::now()) {
            self.announce(swarm, driver);
        }
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
            SwarmEvent::Behaviour(BehaviourEvent::Sessions(event)) => driver.on_session(event),
            SwarmEvent::Behaviour(BehaviourEvent::Identify(event)) => self.on_identify(event, swarm, driver),
            SwarmEvent::Behaviour(BehaviourEvent::Kad(event)) => self.on_kad(event, swarm, driver),
            SwarmEvent::Behaviour(BehaviourEvent::Mdns(event)) => self.on_local(event.into(), swarm, driver),
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                self.dials.remove(&connection_id);
                let remote = endpoint.get_remote_address();
                if let (true, Some(ip)) = (endpoint.is_listener(), address::ip(remote)) {
                    driver.on_dialled(address::scope_of(ip));
                }
                self.remotes.insert(connection_id, remote.clone());
                self.bootstrap_input(peer_id, BootstrapInput::Connected);
                driver.on_connected(peer_id);
                self.ask_dht(swarm);
            }
            SwarmEvent::ConnectionClosed { peer_id, connection_id, num_established, .. } => {
                self.remotes.remove(&connection_id);
                if num_established == 0 {
                    self.bootstrap_input(peer_id, BootstrapInput::Gone);
                    driver.on_gone(peer_id);
                }
            }
            SwarmEvent::OutgoingConnectionError { connection_id, error, .. } => self.dial_failed(connection_id, &error),
            SwarmEvent::NewListenAddr { listener_id, address } => self.listens(listener_id, address, swarm, driver),
            SwarmEvent::ExpiredListenAddr { address, .. } => {
                swarm.remove_external_address(&address);
                driver.on_not_listening(&address.with_p2p(*swarm.local_peer_id()).unwrap_or_else(|address| address));
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
        }
        driver.on_listening(address.with_p2p(*swarm.local_peer_id()).unwrap_or_else(|address| address));
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
                        .build();
                    let id = opts.connection_id();
                    match swarm.dial(opts) {
                        Ok(()) => drop(self.dials.insert(id, index)),
                        Err(_) if swarm.is_connected(&self.bootstrap[index].0) => {
                            self.schedule.handle_input(self.now(), BootstrapInput::Connected(index));
                        }
                        Err(_) => self.schedule.handle_input(self.now(), BootstrapInput::Failed(index)),
                    }
                }
                BootstrapOutput::Unreachable(index) => {
                    let (peer, addresses) = &self.bootstrap[index];
                    let at = addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                    let detail = format!("bootstrap node {peer} does not answer at {at}; dialled again for ever");
                    driver.on_failure("bootstrap_unreachable", detail);
                }
            }
        }
    }

    fn dial_failed(&mut self, id: ConnectionId, error: &DialError) {
        let Some(index) = self.dials.remove(&id) else { return };
        tracing::debug!(%error, "bootstrap node not reached");
        self.schedule.handle_input(self.now(), BootstrapInput::Failed(index));
    }

    // What peers say of themselves.

    fn on_identify<M: Mdns>(&mut self, event: identify::Event, swarm: &mut Swarm<Behaviour<M>>, driver: &mut Driver) {
        let identify::Event::Received { connection_id, peer_id, info } = event else { return };
        let Some(seen) = self.remotes.get(&connection_id) else { return };
        // Of the own network a node knows more than others can tell it.
        let outside = address::ip(&info.observed_addr).filter(|ip| address::scope_of(*ip) == address::Scope::Global);
        if let Some(ip) = outside.filter(|_| address::believable(&info.observed_addr, seen)) {
            driver.on_observed(ip);
        }
        let believed = info.listen_addrs.into_iter().filter(|claimed| address::believable(claimed, seen));
        let believed: Vec<_> = believed.take(MAX_ADDRESSES).collect();
        let in_dht = info.protocols.contains(&KAD_PROTOCOL);
        for address in believed {
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
                    if self.local.len() < MAX_LOCAL || self.local.contains(&peer) {
                        self.local.insert(peer);
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

    // The DHT.

    fn on_kad<M: Mdns>(&mut self, event: kad::Event, swarm: &mut Swarm<Behaviour<M>>, driver: &mut Driver) {
        match event {
            kad::Event::RoutingUpdated { is_new_peer, .. } => {
                if is_new_peer {
                    self.plan_announcement(swarm);
                }
                self.ask_dht(swarm);
            }
            kad::Event::OutboundQueryProgressed { id, result: kad::QueryResult::StartProviding(_), stats, .. } => {
                self.announcing.remove(&id);
                // Without a node that answered, nobody heard of it.
                self.heard |= stats.num_successes() > 0;
                if self.announcing.is_empty() && std::mem::take(&mut self.heard) {
                    driver.tell(NodeEvent::Announced { keys: self.keys.len() });
                }
            }
            kad::Event::OutboundQueryProgressed { id, result: kad::QueryResult::GetProviders(result), step, stats } => {
                if let Ok(kad::GetProvidersOk::FoundProviders { key, providers }) = &result {
                    self.found(id, key, providers, swarm, driver);
                }
                if step.last
                    && let Some((_, search)) = self.searches.by_dht(id)
                {
                    search.dht = match result {
                        Err(kad::GetProvidersError::Timeout { .. }) => Dht::TimedOut,
                        Ok(_) if stats.num_successes() > 0 || self.bootstrap.is_empty() => Dht::Done,
                        // Nobody was reached: asked again as soon as somebody is.
                        Ok(_) => Dht::Unreached,
                    };
                }
            }
            _ => {}
        }
    }

    /// Tells a search of providers, after their addresses have been told to the swarm: Kademlia knows them only as long as
    /// its query runs.
    fn found<M: Mdns>(
        &mut self,
        id: kad::QueryId,
        key: &kad::RecordKey,
        providers: &HashSet<PeerId>,
        swarm: &mut Swarm<Behaviour<M>>,
        driver: &mut Driver,
    ) {
        let Some((query, search)) = self.searches.by_dht(id) else { return };
        let fresh = search.fresh(providers.iter().copied());
        // Whoever told us can be no further outside than our furthest connection is; believe no more than that.
        let seen = self
            .remotes
            .values()
            .min_by_key(|remote| address::ip(remote).map_or(address::Scope::Global, address::scope_of));
        for peer in &fresh {
            let addresses = addresses_in_dht(swarm, key, peer);
            let believed = addresses.into_iter().filter(|claimed| {
                seen.is_some_and(|seen| address::believable(&address::split_peer(claimed.clone()).0, seen))
            });
            for address in believed.take(MAX_ADDRESSES) {
                swarm.add_peer_address(*peer, address);
            }
        }
        driver.peers_found(query, fresh);
    }

    /// A new node is in the DHT: it may be among the closest to a key of ours.
    fn plan_announcement<M: Mdns>(&mut self, swarm: &mut Swarm<Behaviour<M>>) {
        let Some(kad) = swarm.behaviour_mut().kad.as_mut().filter(|_| !self.keys.is_empty()) else { return };
        let known: usize = kad.kbuckets().map(|bucket| bucket.num_entries()).sum();
        let pause = if known > SMALL_DHT { ANNOUNCE_PAUSE } else { SHORT_PAUSE };
        let now = Instant::now();
        let earliest = self.announced.map_or(now, |last| now.max(last + pause));
        self.announce_at = Some(self.announce_at.map_or(earliest, |at| at.min(earliest)));
    }

    /// What is not served any more is withdrawn here; who was told before sees it in the advert.
    fn set_models<M: Mdns>(&mut self, models: &[Model], swarm: &mut Swarm<Behaviour<M>>) {
        let key = |model| kad::RecordKey::new(&dht_key(&self.network, model));
        let keys: Vec<_> = models.iter().map(key).collect();
        if let Some(kad) = swarm.behaviour_mut().kad.as_mut() {
            self.keys.iter().filter(|key| !keys.contains(key)).for_each(|key| kad.stop_providing(key));
        }
        self.keys = keys;
        self.plan_announcement(swarm);
    }

    fn announce<M: Mdns>(&mut self, swarm: &mut Swarm<Behaviour<M>>, driver: &mut Driver) {
        let Some(kad) = swarm.behaviour_mut().kad.as_mut() else { return };
        self.announced = Some(Instant::now());
        self.announce_at = None;
        for key in &self.keys {
            match kad.start_providing(key.clone()) {
                Ok(id) => drop(self.announcing.insert(id)),
                Err(error) => driver.on_failure("announce", error.to_string()),
            }
        }
    }

    /// Announces this node no more. What others hold of it runs out by itself: nobody can take it back from them.
    fn withdraw<M: Mdns>(&mut self, swarm: &mut Swarm<Behaviour<M>>) {
        self.announce_at = None;
        let keys = std::mem::take(&mut self.keys);
        if let Some(kad) = swarm.behaviour_mut().kad.as_mut() {
            keys.iter().for_each(|key| kad.stop_providing(key));
        }
    }

    fn search<M: Mdns>(&mut self, query: QueryId, model: &Model, swarm: &mut Swarm<Behaviour<M>>, driver: &mut Driver) {
        let entered = !self.bootstrap.is_empty();
        let kad = swarm.behaviour_mut().kad.as_mut();
        let dht =
            if kad.is_some_and(|kad| entered || kad.kbuckets().next().is_some()) { Dht::Unreached } else { Dht::Done };
        if dht == Dht::Done && !self.mdns && self.providers.is_empty() {
            return driver.query_done(query, QueryOutcome::NoSource);
        }
        let key = kad::RecordKey::new(&dht_key(&self.network, model));
        let mut search = Search::new(key, dht, self.mdns.then(|| self.started + MDNS_SETTLES));
        driver.peers_found(query, search.fresh(self.providers.iter().chain(&self.local).copied()));
        self.searches.start(query, search);
        self.ask_dht(swarm);
        self.end_searches(driver);
    }

    /// Asks the DHT for every search that could not yet, if there is somebody to be asked.
    fn ask_dht<M: Mdns>(&mut self, swarm: &mut Swarm<Behaviour<M>>) {
        let reached = !self.remotes.is_empty() || self.bootstrap.is_empty();
        let Some(kad) = swarm.behaviour_mut().kad.as_mut().filter(|_| reached) else { return };
        for (_, search) in self.searches.iter_mut().filter(|(_, search)| search.dht == Dht::Unreached) {
            search.dht = Dht::Asked(kad.get_providers(search.key.clone()));
        }
    }

    fn end_searches(&mut self, driver: &mut Driver) {
        for (query, outcome) in self.searches.ended(Instant::now()) {
            driver.query_done(query, outcome);
        }
    }
}

/// The addresses that running queries and this node's own store have for a provider.
fn addresses_in_dht<M: Mdns>(swarm: &mut Swarm<Behaviour<M>>, key: &kad::RecordKey, peer: &PeerId) -> Vec<Multiaddr> {
    use kad::store::RecordStore;
    let Some(kad) = swarm.behaviour_mut().kad.as_mut() else { return Vec::new() };
    // What Kademlia would offer if the peer were dialled now; no connection has this id.
    let id = ConnectionId::new_unchecked(usize::MAX);
    let offered = kad.handle_pending_outbound_connection(id, Some(*peer), &[], Endpoint::Dialer).unwrap_or_default();
    let held = kad.store_mut().providers(key).into_iter().filter(|record| record.provider == *peer);
    offered.into_iter().chain(held.flat_map(|record| record.addresses)).collect()
}
