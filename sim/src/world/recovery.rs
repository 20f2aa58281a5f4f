//! Processes that die, and come back with what they had stored.

use haggle_core::{
    Instant, Provider, Requester, SnapshotError,
    requester::{Piece, Stored},
    time::Millis,
};

use super::World;
use crate::{
    job::Job,
    net::Role,
    node::{NodeId, Pace, Side},
};

/// What a node had on its disk at a time.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Checkpoint {
    /// When, in virtual ms.
    pub at: u64,
    /// Its requester's snapshot, if it buys.
    pub requester: Option<Vec<u8>>,
    /// Its provider's snapshot, if it sells.
    pub provider: Option<Vec<u8>>,
}

impl World {
    /// What a node would store now.
    #[must_use]
    pub fn checkpoint(&self, node: NodeId) -> Checkpoint {
        let now = Instant::from_millis(self.now);
        let place = &self.nodes[node.0 as usize];
        Checkpoint {
            at: self.now,
            requester: place.requester.as_ref().map(|side| side.machine.snapshot(now)),
            provider: place.provider.as_ref().map(|side| side.machine.snapshot(now)),
        }
    }

    /// A node dies with its memory; what its applications have taken they have stored. Others see it after 1 ms.
    /// Its jobs stay open: [`Self::recover`] is to follow.
    pub fn crash(&mut self, node: NodeId) {
        self.fall(node.0, Some(1));
        self.judge.slots_freed(node.0);
        for (id, job) in self.jobs.iter_mut().filter(|(_, job)| job.node == node && job.ending.is_none()) {
            self.judge.forgotten(*id, job.forget_untaken());
        }
    }

    /// A node that crashed comes back with what it had stored.
    ///
    /// # Errors
    /// The core's. The node stays dead.
    pub fn recover(&mut self, node: NodeId, stored: &Checkpoint) -> Result<(), SnapshotError> {
        let (now, away) = (Instant::from_millis(self.now), Millis(self.now - stored.at));
        let life = self.nodes[node.0 as usize].life + 1;
        let mut seed = [0; 32];
        seed[..4].copy_from_slice(&life.to_le_bytes());
        seed[4..8].copy_from_slice(&node.0.to_le_bytes());
        let place = &self.nodes[node.0 as usize];
        let mut requester = None;
        if let (Some(bytes), Some(config)) = (&stored.requester, &place.requester_config) {
            let own = self.jobs.iter().filter(|(_, job)| job.node == node && job.ending.is_none());
            let pieces: Vec<Stored<'_>> = own.map(|(id, job)| Stored { job: *id, pieces: job.stored() }).collect();
            let (policy, limits) = (config.policy.clone(), config.limits.clone());
            let mut machine = Requester::restore((now, away), bytes, &pieces, policy, limits, seed)?;
            machine.set_account_budget(config.account_budget);
            requester = Some(Box::new(Side::new(machine)));
        }
        let mut provider = None;
        if let (Some(bytes), Some(config)) = (&stored.provider, &place.provider_config) {
            let (service, limits) = (config.service.clone(), config.limits.clone());
            seed[8] = 1;
            provider = Some(Box::new(Side::new(Provider::restore((now, away), bytes, service, limits, seed)?)));
        }
        self.nodes[node.0 as usize].life = life;
        self.boot(node.0);
        let place = &mut self.nodes[node.0 as usize];
        place.requester = requester.or(place.requester.take());
        place.provider = provider.or(place.provider.take());
        self.after(node.0, Role::Requester);
        self.after(node.0, Role::Provider);
        Ok(())
    }
}

impl Job {
    /// What its application has stored: whole pieces, as they were told.
    fn stored(&self) -> Vec<Piece<'_>> {
        let mut at = 0;
        self.pieces
            .iter()
            .map(|(peer, n, len, ids)| {
                let text = &self.text[at..at + len];
                at += len;
                Piece { peer: *peer, n: *n, text, ids: ids.as_deref() }
            })
            .collect()
    }

    /// Its application dies: what it was told and had not taken is gone. Says how many tokens of the run.
    fn forget_untaken(&mut self) -> u64 {
        if !matches!(self.pace, Pace::AtOnce) {
            self.consumed = self.delivered;
            return 0;
        }
        let lost = (self.delivered - self.consumed).min(self.tokens);
        let mut left = lost;
        while left > 0 {
            let Some((_, n, len, _)) = self.pieces.pop() else { break };
            left = left.saturating_sub(u64::from(n));
            self.text.truncate(self.text.len() - len);
        }
        self.tokens -= lost;
        self.delivered = self.consumed;
        lost
    }
}
