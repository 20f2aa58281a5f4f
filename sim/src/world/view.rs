//! What can be seen of a world.

use haggle_core::{JobId, Provider, Requester, event::Outcome};
use sha2::{Digest, Sha256};

use super::World;
use crate::{job::Job, log::Entry, net::Role, node::NodeId, oracle::Broken, report::Report, trace::Trace};

impl World {
    /// The virtual time, in ms.
    #[must_use]
    pub const fn now(&self) -> u64 {
        self.now
    }

    /// Events so far.
    #[must_use]
    pub const fn events(&self) -> u64 {
        self.counts.events
    }

    /// Facts and commands handed to machines so far.
    #[must_use]
    pub const fn inputs(&self) -> u64 {
        self.counts.inputs
    }

    /// Frames that nodes of the core have sent.
    #[must_use]
    pub const fn frames(&self) -> u64 {
        self.counts.frames
    }

    /// Tokens that engines have written.
    #[must_use]
    pub const fn computed(&self) -> u64 {
        self.counts.computed
    }

    /// A job by its id.
    ///
    /// # Panics
    /// If there is no such job.
    #[must_use]
    pub fn job(&self, id: JobId) -> &Job {
        &self.apps.jobs[&id]
    }

    /// A job by its number of submission, from 0.
    ///
    /// # Panics
    /// If it was refused, or is still to come.
    #[must_use]
    pub fn nth(&self, nth: usize) -> &Job {
        match self.apps.submissions[nth] {
            Some(id) => &self.apps.jobs[&id],
            None => panic!("job {nth} was not submitted"),
        }
    }

    /// A job by its number of submission, from 0; `None` if it was refused, or is still to come.
    #[must_use]
    pub fn submitted(&self, nth: usize) -> Option<&Job> {
        self.apps.jobs.get(self.apps.submissions.get(nth)?.as_ref()?)
    }

    /// The id of the job that was submitted as number so-and-so, from 0.
    #[must_use]
    pub fn submission(&self, nth: usize) -> Option<JobId> {
        self.apps.submissions.get(nth).copied().flatten()
    }

    /// Rules that were broken so far, the first 100.
    #[must_use]
    pub fn broken(&self) -> &[Broken] {
        &self.judge.broken
    }

    /// Writes down what happens from now on; [`World::log`] has it.
    pub fn keep_log(&mut self) {
        self.log.get_or_insert_default();
    }

    /// What happened since it was to be written down, oldest first.
    #[must_use]
    pub fn log(&self) -> Vec<Entry> {
        self.log.as_ref().map_or_else(Vec::new, |log| log.entries())
    }

    /// All jobs, quotes and discoveries.
    pub fn jobs(&self) -> impl Iterator<Item = (JobId, &Job)> {
        self.apps.jobs.iter().map(|(id, job)| (*id, job))
    }

    /// A node's requester.
    ///
    /// # Panics
    /// If it has none.
    #[must_use]
    pub fn requester(&self, node: NodeId) -> &Requester {
        match &self.nodes[node.0 as usize].requester {
            Some(side) => &side.machine,
            None => panic!("{node:?} is no requester"),
        }
    }

    /// A node's provider.
    ///
    /// # Panics
    /// If it has none.
    #[must_use]
    pub fn provider(&self, node: NodeId) -> &Provider {
        match &self.nodes[node.0 as usize].provider {
            Some(side) => &side.machine,
            None => panic!("{node:?} is no provider"),
        }
    }

    /// Tokens that a node's engine handed over in attempts that still run.
    #[must_use]
    pub fn engine_progress(&self, node: NodeId) -> Vec<u64> {
        self.nodes[node.0 as usize].runs.values().map(|run| run.next).collect()
    }

    /// Bytes that have arrived at `to` from `from`, on all streams.
    #[must_use]
    pub fn arrived(&self, from: NodeId, to: NodeId) -> u64 {
        self.net.links.find(from.0, to.0).map_or(0, |link| link.arrived)
    }

    /// Bytes that have arrived anywhere.
    #[must_use]
    pub fn arrived_in_all(&self) -> u64 {
        self.net.links.iter().map(|link| link.arrived).sum()
    }

    /// Streams that are not over at both ends.
    #[must_use]
    pub const fn open_streams(&self) -> usize {
        self.net.conns.len()
    }

    /// Most bytes that were ever on their way in one direction of a stream.
    #[must_use]
    pub const fn peak_in_flight(&self) -> usize {
        self.net.peak_in_flight
    }

    /// A digest over the states of all machines.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        for node in &self.nodes {
            let now = node.shows(self.now);
            hash.update([u8::from(node.alive)]);
            for side in [Role::Requester, Role::Provider].into_iter().filter_map(|role| node.side(role)) {
                hash.update(side.machine.state(now));
            }
        }
        hash.finalize().into()
    }

    /// The hash over everything that happened.
    #[must_use]
    pub const fn trace(&self) -> &Trace {
        &self.trace
    }

    /// What the run came to so far.
    #[must_use]
    pub fn report(&self) -> Report {
        let mut report = Report {
            now: self.now,
            events: self.counts.events,
            inputs: self.counts.inputs,
            jobs: self.apps.jobs.len(),
            queries: self.dht.queries,
            dials: self.net.dials,
            faults: self.faults.counts.clone(),
            trace: self.trace.hash(),
            excuses: self.faults.excuses.clone(),
            points: self.judge.points,
            broken: self.judge.broken.clone(),
            ..Report::default()
        };
        for job in self.apps.jobs.values() {
            report.tokens += job.tokens;
            report.owed += job.owed();
            report.orphaned += usize::from(job.orphaned);
            match job.ending.as_ref().map(|(_, ending)| &ending.outcome) {
                Some(Outcome::Finished(_)) => report.finished += 1,
                Some(Outcome::Failed(failure)) => *report.failed.entry(failure.code()).or_default() += 1,
                None => {}
            }
        }
        report
    }
}
