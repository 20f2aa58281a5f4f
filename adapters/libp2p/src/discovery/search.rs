//! Searches for the peers that serve a model: static contacts, mDNS and the DHT as one source that tells what it has as
//! soon as it has it, and the truth about what it could not ask.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use haggle_core::{QueryId, limits::MAX_HINTS, machine::QueryOutcome};
use libp2p::{PeerId, kad};

/// What a search still waits for.
#[derive(Debug)]
pub(crate) struct Search {
    pub(crate) key: kad::RecordKey,
    pub(crate) dht: Dht,
    /// Nodes on the local network have answered by then.
    pub(crate) mdns_until: Option<Instant>,
    told: BTreeSet<PeerId>,
}

/// The DHT's part of a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dht {
    /// It is not a source, or has answered.
    Done,
    /// No node of it could be asked yet.
    Unreached,
    Asked(kad::QueryId),
    /// It did not answer in time.
    TimedOut,
}

impl Search {
    pub(crate) fn new(key: kad::RecordKey, dht: Dht, mdns_until: Option<Instant>) -> Self {
        Search { key, dht, mdns_until, told: BTreeSet::new() }
    }

    /// Those of `peers` that this search has not named yet.
    pub(crate) fn fresh(&mut self, peers: impl IntoIterator<Item = PeerId>) -> Vec<PeerId> {
        let mut fresh = Vec::new();
        for peer in peers {
            if self.told.len() < MAX_HINTS && self.told.insert(peer) {
                fresh.push(peer);
            }
        }
        fresh
    }

    /// How it ended, if it has.
    pub(crate) fn outcome(&self, now: Instant) -> Option<QueryOutcome> {
        if self.mdns_until.is_some_and(|until| now < until) {
            return None;
        }
        match self.dht {
            Dht::Done => Some(QueryOutcome::Complete),
            Dht::TimedOut => Some(QueryOutcome::TimedOut),
            Dht::Unreached | Dht::Asked(_) => None,
        }
    }
}

/// All searches under way. The core bounds them by its limit on lookups and ends each in time.
#[derive(Debug, Default)]
pub(crate) struct Searches(BTreeMap<QueryId, Search>);

impl Searches {
    pub(crate) fn start(&mut self, query: QueryId, search: Search) {
        self.0.insert(query, search);
    }

    pub(crate) fn cancel(&mut self, query: QueryId) -> Option<Search> {
        self.0.remove(&query)
    }

    pub(crate) fn by_dht(&mut self, id: kad::QueryId) -> Option<(QueryId, &mut Search)> {
        self.0.iter_mut().find(|(_, search)| search.dht == Dht::Asked(id)).map(|(query, search)| (*query, search))
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (QueryId, &mut Search)> {
        self.0.iter_mut().map(|(query, search)| (*query, search))
    }

    /// Takes out those that are over.
    pub(crate) fn ended(&mut self, now: Instant) -> Vec<(QueryId, QueryOutcome)> {
        let ended: Vec<_> = self.0.iter().filter_map(|(query, search)| Some((*query, search.outcome(now)?))).collect();
        for (query, _) in &ended {
            self.0.remove(query);
        }
        ended
    }

    /// When the next one ends by itself.
    pub(crate) fn due(&self) -> Option<Instant> {
        let decided = |search: &&Search| matches!(search.dht, Dht::Done | Dht::TimedOut);
        self.0.values().filter(decided).filter_map(|search| search.mdns_until).min()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_search_is_complete_only_when_every_source_answered() {
        let now = Instant::now();
        let later = now + Duration::from_secs(2);
        let key = kad::RecordKey::new(&[0; 32]);
        let mut search = Search::new(key, Dht::Unreached, Some(later));
        assert_eq!(search.outcome(later), None);
        search.dht = Dht::Done;
        assert_eq!(search.outcome(now), None, "mDNS had no time to answer");
        assert_eq!(search.outcome(later), Some(QueryOutcome::Complete));
        search.dht = Dht::TimedOut;
        assert_eq!(search.outcome(later), Some(QueryOutcome::TimedOut));
    }

    #[test]
    fn a_search_names_a_peer_once_and_not_too_many() {
        let mut search = Search::new(kad::RecordKey::new(&[0; 32]), Dht::Done, None);
        let peers: Vec<_> = (0..MAX_HINTS + 10).map(|_| PeerId::random()).collect();
        assert_eq!(search.fresh(peers.clone()).len(), MAX_HINTS);
        assert!(search.fresh(peers).is_empty());
    }
}
