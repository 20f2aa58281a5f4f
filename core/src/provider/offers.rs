//! Offers that were made and bind.

use alloc::collections::{BTreeMap, VecDeque};

use crate::{id::PeerId, limits::Limits, money::Tariff, time::Instant, wire::message::Rfq};

/// Offers that bind. They all bind equally long, so that the oldest expires first.
#[derive(Clone, Hash, Debug, Default)]
pub(super) struct OfferBook {
    offers: BTreeMap<u64, Open>,
    by_age: VecDeque<(Instant, u64)>,
    by_peer: BTreeMap<PeerId, VecDeque<u64>>,
}

#[derive(Clone, Hash, Debug)]
pub(super) struct Open {
    pub(super) peer: PeerId,
    pub(super) rfq: Rfq,
    pub(super) tariff: Tariff,
    /// Bids that were answered before.
    pub(super) round: u32,
}

impl OfferBook {
    pub(super) fn len(&self) -> usize {
        self.offers.len()
    }

    pub(super) fn get(&self, id: u64) -> Option<&Open> {
        self.offers.get(&id)
    }

    /// Keeps an offer; the oldest of the same peer makes room for it. `false`: there is none.
    pub(super) fn keep(&mut self, limits: &Limits, id: u64, expires: Instant, open: Open) -> bool {
        let own = self.by_peer.get(&open.peer).map_or(0, VecDeque::len);
        if own >= limits.offers_per_peer as usize {
            let oldest = self.by_peer.get(&open.peer).and_then(|offers| offers.front().copied());
            oldest.map(|oldest| self.take(oldest));
        } else if self.offers.len() >= limits.offers as usize {
            return false;
        }
        self.by_peer.entry(open.peer).or_default().push_back(id);
        self.by_age.push_back((expires, id));
        self.offers.insert(id, open);
        true
    }

    pub(super) fn take(&mut self, id: u64) -> Option<Open> {
        let open = self.offers.remove(&id)?;
        self.by_age.retain(|(_, other)| *other != id);
        if let Some(offers) = self.by_peer.get_mut(&open.peer) {
            offers.retain(|other| *other != id);
            if offers.is_empty() {
                self.by_peer.remove(&open.peer);
            }
        }
        Some(open)
    }

    /// Drops what binds no longer.
    pub(super) fn expire(&mut self, now: Instant) {
        while let Some((_, id)) = self.by_age.front().copied().filter(|(expires, _)| *expires <= now) {
            self.take(id);
        }
    }

    pub(super) fn next_expiry(&self) -> Option<Instant> {
        self.by_age.front().map(|(expires, _)| *expires)
    }
}
