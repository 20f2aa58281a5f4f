//! Queries for peers, as a DHT would answer them.

use haggle_core::{Model, PeerId, QueryId, machine::QueryOutcome};

use super::{Happening, Lane, World, record};
use crate::{
    dice::{Purpose, Stream, rand},
    net::Lookup,
    node::peer_id,
};

impl World {
    pub(super) fn start_query(&mut self, node: u32, query: QueryId, model: &Model) {
        self.trace.record(self.now, node, node, record::ORDER, model.as_bytes());
        self.dht.queries += 1;
        self.dht.live.insert((node, query));
        let life = self.nodes[node as usize].life;
        let mut known = self.dht.records.get(model.as_bytes()).map(|record| record.peers.clone()).unwrap_or_default();
        let contacts = self.nodes[node as usize].contacts.iter().filter(|peer| !known.contains(peer)).copied();
        known.extend(contacts.collect::<Vec<_>>());
        let (half, whole) = ((self.dht.delay / 2).max(1), self.dht.delay.max(1));
        let (parts, end): (Vec<(u64, Vec<PeerId>)>, _) = match self.dht.lookup {
            Lookup::Answers => {
                let (first, second) = known.split_at(known.len().div_ceil(2));
                (vec![(half, first.to_vec()), (whole, second.to_vec())], Some((whole, QueryOutcome::Complete)))
            }
            Lookup::Partial(count) => {
                let first = known.into_iter().take(count as usize).collect();
                (vec![(half, first)], Some((whole * 10, QueryOutcome::TimedOut)))
            }
            Lookup::Poisoned(count) => {
                let parts = vec![(half, self.nobodies(query, count)), (whole, known)];
                (parts, Some((whole, QueryOutcome::Complete)))
            }
            Lookup::Eclipsed(count) => {
                (vec![(half, self.nobodies(query, count))], Some((whole, QueryOutcome::Complete)))
            }
            Lookup::Empty => (Vec::new(), Some((whole, QueryOutcome::Complete))),
            Lookup::TimesOut => (Vec::new(), Some((whole * 10, QueryOutcome::TimedOut))),
            Lookup::Silent => (Vec::new(), None),
            Lookup::NoSource => (Vec::new(), Some((1, QueryOutcome::NoSource))),
        };
        for (after, peers) in parts.into_iter().filter(|(_, peers)| !peers.is_empty()) {
            self.push(self.now + after, Lane::query(node), Happening::Found { node, life, query, peers });
        }
        if let Some((after, outcome)) = end {
            self.push(self.now + after, Lane::query(node), Happening::QueryDone { node, life, query, outcome });
        }
    }

    /// Peers that are not there, others for every query.
    fn nobodies(&self, query: QueryId, count: u32) -> Vec<PeerId> {
        let stream = Stream::new(0, 0, Purpose::Lookup);
        let node = |nth: u32| rand(self.seed, stream, (query.0 << 16) ^ u64::from(nth)) as u32 | (1 << 31);
        (0..count).map(|nth| peer_id(node(nth))).collect()
    }
}
