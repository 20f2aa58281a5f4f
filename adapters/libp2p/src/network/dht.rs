//! The DHT as a directory of providers: this node's own models are announced, those of others are searched.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use haggle_core::{
    Model, QueryId,
    machine::QueryOutcome,
    wire::{ANY_MODEL, dht_key},
};
use libp2p::{
    Multiaddr, PeerId, Swarm,
    core::Endpoint,
    kad,
    swarm::{ConnectionId, NetworkBehaviour},
};

use super::{Behaviour, MAX_ADDRESSES, Network};
use crate::{
    NodeEvent, address,
    discovery::search::{Dht, Search},
    driver::Driver,
    runtime::Mdns,
};

/// Nodes on the local network answer a question within this time.
const MDNS_SETTLES: Duration = Duration::from_secs(2);
/// In a DHT no larger than this, every new node may be among the closest to any key of ours.
const SMALL_DHT: usize = 20;
/// This node's models are announced to new nodes no more often than this.
const ANNOUNCE_PAUSE: Duration = Duration::from_secs(60);
/// The same in a small DHT.
const SHORT_PAUSE: Duration = Duration::from_secs(1);

impl Network {
    pub(super) fn on_kad<M: Mdns>(&mut self, event: kad::Event, swarm: &mut Swarm<Behaviour<M>>, driver: &mut Driver) {
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
                    self.has_moved = false;
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
            kad::Event::OutboundQueryProgressed { id, result: kad::QueryResult::GetClosestPeers(_), step, .. }
                if step.last =>
            {
                self.sought.answered(id);
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
        for peer in &fresh {
            let told = addresses_in_dht(swarm, key, peer);
            for address in self.believed(*peer, told).take(MAX_ADDRESSES) {
                swarm.add_peer_address(*peer, address);
            }
        }
        driver.peers_found(query, fresh);
    }

    /// Those of the addresses that others told us which may be true, without the peer's id.
    pub(super) fn believed(&self, peer: PeerId, told: Vec<Multiaddr>) -> impl Iterator<Item = Multiaddr> {
        let told = told.into_iter().map(|address| address::split_peer(address).0);
        told.filter(move |claimed| self.dials.believes(peer, claimed))
    }

    /// A new node is in the DHT: it may be among the closest to a key of ours.
    pub(super) fn plan_announcement<M: Mdns>(&mut self, swarm: &mut Swarm<Behaviour<M>>) {
        let Some(kad) = swarm.behaviour_mut().kad.as_mut().filter(|_| !self.keys.is_empty()) else { return };
        let known: usize = kad.kbuckets().map(|bucket| bucket.num_entries()).sum();
        let pause = if known > SMALL_DHT { ANNOUNCE_PAUSE } else { SHORT_PAUSE };
        let now = Instant::now();
        let earliest = self.announced.map_or(now, |last| now.max(last + pause));
        self.announce_at = Some(self.announce_at.map_or(earliest, |at| at.min(earliest)));
    }

    /// What is not served any more is withdrawn here; who was told before sees it in the advert.
    pub(super) fn set_models<M: Mdns>(&mut self, models: &[Model], swarm: &mut Swarm<Behaviour<M>>) {
        let keys = keys(&self.network, models);
        if let Some(kad) = swarm.behaviour_mut().kad.as_mut() {
            self.keys.iter().filter(|key| !keys.contains(key)).for_each(|key| kad.stop_providing(key));
        }
        self.keys = keys;
        self.plan_announcement(swarm);
    }

    pub(super) fn announce<M: Mdns>(&mut self, swarm: &mut Swarm<Behaviour<M>>, driver: &mut Driver) {
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
    pub(super) fn withdraw<M: Mdns>(&mut self, swarm: &mut Swarm<Behaviour<M>>) {
        self.announce_at = None;
        let keys = std::mem::take(&mut self.keys);
        if let Some(kad) = swarm.behaviour_mut().kad.as_mut() {
            keys.iter().for_each(|key| kad.stop_providing(key));
        }
    }

    pub(super) fn search<M: Mdns>(
        &mut self,
        query: QueryId,
        model: &Model,
        swarm: &mut Swarm<Behaviour<M>>,
        driver: &mut Driver,
    ) {
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
    pub(super) fn ask_dht<M: Mdns>(&mut self, swarm: &mut Swarm<Behaviour<M>>) {
        let reached = !self.remotes.is_empty() || self.bootstrap.is_empty();
        let Some(kad) = swarm.behaviour_mut().kad.as_mut().filter(|_| reached) else { return };
        for (_, search) in self.searches.iter_mut().filter(|(_, search)| search.dht == Dht::Unreached) {
            search.dht = Dht::Asked(kad.get_providers(search.key.clone()));
        }
    }

    pub(super) fn end_searches(&mut self, driver: &mut Driver) {
        for (query, outcome) in self.searches.ended(Instant::now()) {
            driver.query_done(query, outcome);
        }
    }
}

/// The keys under which a node is found that serves these names.
pub(super) fn keys(network: &str, models: &[Model]) -> Vec<kad::RecordKey> {
    let any = Model::new(ANY_MODEL.as_bytes()).filter(|_| !models.is_empty());
    any.iter().chain(models).map(|model| kad::RecordKey::new(&dht_key(network, model))).collect()
}

/// The addresses that running queries and this node's own store have for a provider.
fn addresses_in_dht<M: Mdns>(swarm: &mut Swarm<Behaviour<M>>, key: &kad::RecordKey, peer: &PeerId) -> Vec<Multiaddr> {
    use kad::store::RecordStore;
    let mut addresses = addresses_in_queries(swarm, peer);
    if let Some(kad) = swarm.behaviour_mut().kad.as_mut() {
        let held = kad.store_mut().providers(key).into_iter().filter(|record| record.provider == *peer);
        addresses.extend(held.flat_map(|record| record.addresses));
    }
    addresses
}

/// What Kademlia would offer if the peer were dialled now: what it knows itself, and what running queries were told.
pub(super) fn addresses_in_queries<M: Mdns>(swarm: &mut Swarm<Behaviour<M>>, peer: &PeerId) -> Vec<Multiaddr> {
    let Some(kad) = swarm.behaviour_mut().kad.as_mut() else { return Vec::new() };
    // No connection has this id.
    let id = ConnectionId::new_unchecked(usize::MAX);
    kad.handle_pending_outbound_connection(id, Some(*peer), &[], Endpoint::Dialer).unwrap_or_default()
}
