//! The table in a snapshot.

use alloc::vec::Vec;

use minicbor::{Decode, Encode};

use super::{Known, Peers, Permit};
use crate::{
    id::PeerId,
    peers::{bans::BanRecord, breaker::Rules},
    snapshot::{SnapshotError, require},
    time::{Instant, Millis},
};

/// Everything that is known of peers.
#[derive(Encode, Decode)]
#[cbor(map, context_bound = "crate::snapshot::Clock")]
pub(crate) struct SavedPeers {
    #[n(0)]
    known: Vec<Saved>,
    #[n(1)]
    bans: Vec<BanRecord>,
}

#[derive(Encode, Decode)]
#[cbor(map, context_bound = "crate::snapshot::Clock")]
struct Saved {
    #[n(0)]
    peer: PeerId,
    #[n(1)]
    known: Known,
}

impl Peers {
    pub(crate) fn keep(&self, now: Instant) -> SavedPeers {
        let known = self.known.iter().map(|(peer, known)| Saved { peer: *peer, known: known.clone() });
        SavedPeers { known: known.collect(), bans: self.bans.export(now) }
    }

    /// The table that was kept `away` ago. Open attempts are taken up one by one, by [`Peers::readmit`].
    pub(crate) fn restore(
        (now, away): (Instant, Millis),
        (peers, bans): (u32, u32),
        kept: SavedPeers,
    ) -> Result<Self, SnapshotError> {
        let mut table = Self::new(Rules::default(), peers, bans);
        if kept.known.len() > table.limit {
            return Err(SnapshotError::TooLarge);
        }
        require(kept.known.is_sorted_by(|a, b| a.peer < b.peer))?;
        // Scores are kept as they are: importing bans sets those of banned peers to the same.
        table.bans.import(now, away, &kept.bans).map_err(|_| SnapshotError::TooLarge)?;
        for Saved { peer, known } in kept.known {
            require(known.latency.is_possible() && known.counts.is_possible())?;
            table.idle.insert((known.heard, peer));
            table.known.insert(peer, known);
        }
        Ok(table)
    }

    /// An attempt goes on under a permit that was given before.
    pub(crate) fn readmit(&mut self, permit: &Permit) -> Result<(), SnapshotError> {
        let known = self.known.get_mut(&permit.peer).ok_or(SnapshotError::Impossible)?;
        known.load = known.load.saturating_add(1);
        self.idle.remove(&(known.heard, permit.peer));
        Ok(())
    }
}
