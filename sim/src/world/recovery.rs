//! Processes that die, and come back with what they had stored.

use std::collections::BTreeMap;

use haggle_core::{
    Event, Instant, JobId, Provider, Requester, SnapshotError,
    requester::{Piece, Stored},
    time::Millis,
};

use super::{Checkpoint, Happening, Lane, World, node::Side};
use crate::{
    dice::{Purpose, Stream, below},
    job::Job,
    net::Role,
    node::{NodeId, Pace},
    oracle::{Judge, Rule},
    points::{self, Group},
};

/// Whether what a requester tells has to be on the disk before anything else happens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Urgency {
    None,
    /// From time to time is enough.
    Calm,
    Urgent,
}

pub(super) const fn urgency(event: &Event<'_>) -> Urgency {
    match event {
        Event::Awarded { .. } | Event::Resumed { .. } | Event::TakenOver { .. } | Event::Ended { .. } => {
            Urgency::Urgent
        }
        Event::Tokens { .. } | Event::PassedOver { .. } | Event::Cut { .. } => Urgency::Calm,
        _ => Urgency::None,
    }
}

/// Of what can wait, one in so many is stored.
const CALM: u64 = 4;

/// Whether a job's ending is told to an application that has stored it already; it has to be the same.
pub(super) fn told_again(judge: &mut Judge, jobs: &BTreeMap<JobId, Job>, event: &Event<'_>) -> bool {
    let Event::Ended { job: id, ending } = event else { return false };
    let Some((_, known)) = jobs.get(id).filter(|job| job.recovered).and_then(|job| job.ending.as_ref()) else {
        return false;
    };
    judge.cover(Group::Recovery, points::TOLD_AGAIN);
    if known != ending {
        judge.subject = Some(*id);
        judge.fail(Rule::Ending, format_args!("{id:?} ended with {known:?}, and is told again as {ending:?}"));
        judge.subject = None;
    }
    true
}

impl World {
    /// What a node would store now.
    #[must_use]
    pub fn checkpoint(&self, node: NodeId) -> Checkpoint {
        let place = &self.nodes[node.0 as usize];
        let at = place.clock.latest(self.now);
        let now = Instant::from_millis(at);
        Checkpoint {
            at,
            requester: place.requester.as_ref().map(|side| side.machine.snapshot(now)),
            provider: place.provider.as_ref().map(|side| side.machine.snapshot(now)),
        }
    }

    /// From now on a node stores its state as it goes, so that [`FaultKind::Crash`](crate::FaultKind::Crash) costs nobody
    /// its jobs.
    pub fn keep_state(&mut self, node: NodeId) {
        self.nodes[node.0 as usize].disk.get_or_insert_default();
        self.begin_storing(node.0);
    }

    /// A new process: what is to be stored from its first job on.
    pub(super) fn begin_storing(&mut self, node: u32) {
        let place = &mut self.nodes[node as usize];
        if let Some(side) = place.requester.as_mut().filter(|_| place.disk.is_some()) {
            side.machine.keep_endings();
        }
        self.store(node);
    }

    /// Stores a node's state, if it does that at all.
    pub(super) fn store(&mut self, node: u32) {
        let place = &self.nodes[node as usize];
        if place.disk.is_none() || !place.alive {
            return;
        }
        let stored = self.checkpoint(NodeId(node));
        if let Some(disk) = &mut self.nodes[node as usize].disk {
            disk.stored = stored;
        }
        self.judge.stored(node);
    }

    /// Stores it if it must be, or if it is about time.
    pub(super) fn store_if(&mut self, node: u32, urgency: Urgency) {
        let Some(disk) = &mut self.nodes[node as usize].disk else { return };
        let is_due = match urgency {
            Urgency::None => false,
            Urgency::Calm => {
                disk.asked += 1;
                below(self.seed, Stream::new(node, node, Purpose::Disk), disk.asked, CALM) == 0
            }
            Urgency::Urgent => true,
        };
        if is_due {
            self.store(node);
        }
    }

    /// The application has stored how a job ended.
    pub(super) fn conclude(&mut self, node: u32, job: JobId) {
        let place = &mut self.nodes[node as usize];
        if let Some(side) = place.requester.as_mut().filter(|_| place.disk.is_some()) {
            side.machine.concluded(job);
            self.store_if(node, Urgency::Calm);
        }
    }

    /// A node that stores its state crashes, and comes back.
    pub(super) fn crash_for(&mut self, node: u32, away: u64) {
        let place = &self.nodes[node as usize];
        if !place.alive || place.disk.is_none() {
            return;
        }
        let life = place.life;
        self.judge.crashed(node);
        self.judge.sleeps(node, self.now + away.max(1));
        self.crash(NodeId(node));
        self.nodes[node as usize].crashed = true;
        self.push(self.now + away.max(1), Lane::start(node), Happening::Return { node, life });
    }

    /// It comes back, unless something else became of it.
    pub(super) fn come_back(&mut self, node: u32, life: u32) {
        let place = &self.nodes[node as usize];
        let Some(disk) = place.disk.clone().filter(|_| place.crashed && place.life == life) else { return };
        if let Some(log) = &mut self.log {
            log.returned(self.now, node);
        }
        self.judge
            .cover(Group::Recovery, if disk.stored.provider.is_some() { points::PROVIDER } else { points::REQUESTER });
        if let Err(error) = self.recover(NodeId(node), &disk.stored) {
            self.judge
                .fail(Rule::Recovery, format_args!("node {node} can not come back with what it had stored: {error}"));
            // It begins anew, so that the run goes on.
            self.restart(node);
        }
    }

    /// A node dies with its memory; what its applications have taken they have stored. Others see it after 1 ms.
    /// Its jobs stay open: [`Self::recover`] is to follow.
    pub fn crash(&mut self, node: NodeId) {
        self.fall(node.0, Some(1));
        self.judge.slots_freed(node.0);
        for (id, job) in self.apps.jobs.iter_mut().filter(|(_, job)| job.node == node) {
            job.recovered = true;
            if job.ending.is_none() {
                self.judge.forgotten(*id, job.forget_untaken());
                self.judge.consumed(*id, job.consumed);
            }
        }
    }

    /// A node that crashed comes back with what it had stored.
    ///
    /// # Errors
    /// The core's. The node stays dead.
    pub fn recover(&mut self, node: NodeId, stored: &Checkpoint) -> Result<(), SnapshotError> {
        let life = self.nodes[node.0 as usize].life + 1;
        let seeds = [Role::Requester, Role::Provider].map(|role| self.machine_seed(node.0, role, life));
        let place = &mut self.nodes[node.0 as usize];
        // A process has a clock of its own; moments before the crash are to be on it.
        place.clock.begin_after(self.now, stored.at);
        let now = place.clock.read(self.now);
        let away = Millis(now.as_millis().saturating_sub(stored.at));
        let mut requester = None;
        if let (Some(bytes), Some(config)) = (&stored.requester, &place.requester_config) {
            let own = self.apps.jobs.iter().filter(|(_, job)| job.node == node);
            let pieces: Vec<Stored<'_>> = own.map(|(id, job)| Stored { job: *id, pieces: job.stored() }).collect();
            let (policy, limits) = (config.policy.clone(), config.limits.clone());
            let mut machine = Requester::restore((now, away), bytes, &pieces, policy, limits, seeds[0])?;
            machine.set_account_budget(config.account_budget);
            requester = Some(Box::new(Side::new(machine)));
        }
        let mut provider = None;
        if let (Some(bytes), Some(config)) = (&stored.provider, &place.provider_config) {
            let (service, limits) = (config.service.clone(), config.limits.clone());
            provider = Some(Box::new(Side::new(Provider::restore((now, away), bytes, service, limits, seeds[1])?)));
        }
        self.nodes[node.0 as usize].life = life;
        self.boot(node.0);
        let place = &mut self.nodes[node.0 as usize];
        place.requester = requester.or(place.requester.take());
        place.provider = provider.or(place.provider.take());
        // What was restored goes on under new names: that is stored before it is said.
        self.store(node.0);
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
            .map(|piece| {
                let text = &self.text[at..at + piece.len];
                at += piece.len;
                Piece { peer: piece.peer, n: piece.n, text, ids: piece.ids.as_deref(), channel: piece.channel }
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
            let Some(piece) = self.pieces.pop() else { break };
            left = left.saturating_sub(u64::from(piece.n));
            self.text.truncate(self.text.len() - piece.len);
        }
        self.tokens -= lost;
        self.delivered = self.consumed;
        lost
    }
}
