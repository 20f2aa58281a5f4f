//! What can be seen of a world, and what has to be true of it in the end.

use haggle_core::{Instant, JobId, Machine, Provider, Requester, event::Outcome};
use sha2::{Digest, Sha256};

use super::World;
use crate::{
    job::Job,
    log::Entry,
    net::Role,
    node::NodeId,
    oracle::{Broken, Rule},
    report::Report,
    trace::Trace,
};

impl World {
    /// The virtual time, in ms.
    #[must_use]
    pub const fn now(&self) -> u64 {
        self.now
    }

    /// Events so far.
    #[must_use]
    pub const fn events(&self) -> u64 {
        self.events
    }

    /// Facts and commands handed to machines so far.
    #[must_use]
    pub const fn inputs(&self) -> u64 {
        self.inputs
    }

    /// Frames that nodes of the core have sent.
    #[must_use]
    pub const fn frames(&self) -> u64 {
        self.frames
    }

    /// Tokens that engines have written.
    #[must_use]
    pub const fn computed(&self) -> u64 {
        self.computed
    }

    /// A job by its id.
    ///
    /// # Panics
    /// If there is no such job.
    #[must_use]
    pub fn job(&self, id: JobId) -> &Job {
        &self.jobs[&id]
    }

    /// A job by its number of submission, from 0.
    ///
    /// # Panics
    /// If it was refused, or is still to come.
    #[must_use]
    pub fn nth(&self, nth: usize) -> &Job {
        match self.submissions[nth] {
            Some(id) => &self.jobs[&id],
            None => panic!("job {nth} was not submitted"),
        }
    }

    /// A job by its number of submission, from 0; `None` if it was refused, or is still to come.
    #[must_use]
    pub fn submitted(&self, nth: usize) -> Option<&Job> {
        self.jobs.get(self.submissions.get(nth)?.as_ref()?)
    }

    /// The id of the job that was submitted as number so-and-so, from 0.
    #[must_use]
    pub fn submission(&self, nth: usize) -> Option<JobId> {
        self.submissions.get(nth).copied().flatten()
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
        self.jobs.iter().map(|(id, job)| (*id, job))
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
        self.links.find(from.0, to.0).map_or(0, |link| link.arrived)
    }

    /// Bytes that have arrived anywhere.
    #[must_use]
    pub fn arrived_in_all(&self) -> u64 {
        self.links.iter().map(|link| link.arrived).sum()
    }

    /// Streams that are not over at both ends.
    #[must_use]
    pub const fn open_streams(&self) -> usize {
        self.conns.len()
    }

    /// Most bytes that were ever on their way in one direction of a stream.
    #[must_use]
    pub const fn peak_in_flight(&self) -> usize {
        self.peak_in_flight
    }

    /// A digest over the states of all machines.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        for node in &self.nodes {
            let now = Instant::from_millis(node.clock.shows(self.now));
            hash.update([u8::from(node.alive)]);
            if let Some(side) = &node.requester {
                hash.update(side.machine.digest(now));
            }
            if let Some(side) = &node.provider {
                hash.update(side.machine.digest(now));
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
            events: self.events,
            inputs: self.inputs,
            jobs: self.jobs.len(),
            queries: self.dht.queries,
            dials: self.dials,
            faults: self.faults.clone(),
            trace: self.trace.hash(),
            excuses: self.excuses.clone(),
            points: self.judge.points,
            broken: self.judge.broken.clone(),
            ..Report::default()
        };
        for job in self.jobs.values() {
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

    /// Judges how many awards each provider got of all that were made.
    pub(crate) fn judge_shares(&mut self) {
        let sells = |index: &usize| self.nodes[*index].provider.is_some();
        let peers: Vec<_> = (0..self.nodes.len()).filter(sells).map(|index| NodeId(index as u32).peer()).collect();
        let awards: Vec<_> = self.jobs.values().flat_map(Job::awarded).collect();
        for peer in &peers {
            let own = awards.iter().filter(|awarded| *awarded == peer).count();
            if own * 2 * peers.len() < awards.len() {
                let what = format_args!("{peer:?} got {own} of {} awards among {} equals", awards.len(), peers.len());
                self.judge.fail(Rule::Fairness, what);
            }
        }
    }

    /// Judges how many streams were ordered.
    pub(crate) fn judge_dials(&mut self, most: u64) {
        if self.dials > most {
            self.judge.fail(Rule::Livelock, format_args!("{} streams were ordered, {most} would do", self.dials));
        }
    }

    /// Checks that a machine's tables are within its limits.
    pub(super) fn check_bounds(&mut self, node: u32, role: Role) {
        let place = &self.nodes[node as usize];
        let mut check = |what: &str, is: u64, limit: u64| {
            if is > limit {
                self.judge.fail(Rule::Bounds, format_args!("{role:?} {node}: {is} {what}, the limit is {limit}"));
            }
        };
        if let (Role::Requester, Some(side), Some(config)) = (role, &place.requester, &place.requester_config) {
            check("jobs", side.machine.open_jobs() as u64, u64::from(config.limits.jobs));
        }
        if let (Role::Provider, Some(side), Some(config)) = (role, &place.provider, &place.provider_config) {
            let (machine, limits) = (&side.machine, &config.limits);
            check("jobs", machine.open_jobs() as u64, u64::from(limits.jobs));
            check("streams", machine.open_streams() as u64, u64::from(limits.streams));
            check("offers", machine.open_offers() as u64, u64::from(limits.offers));
            check("bytes", machine.held_bytes(), limits.node_bytes);
            check("slots", u64::from(machine.taken_slots()), u64::from(config.service.slots));
            check("jobs in the queue", u64::from(machine.advert().queued), u64::from(config.service.queue));
        }
    }

    /// Checks that nothing is left over when nothing is left to happen.
    pub(super) fn check_rest(&mut self) {
        if self.judge.is_away() {
            return;
        }
        let unended: Vec<JobId> = self.judge.unended().collect();
        for job in unended {
            self.judge.subject = Some(job);
            self.judge.fail(Rule::Ending, format_args!("{job:?} never ended"));
            self.judge.subject = None;
        }
        self.judge.check_fences();
        for (index, node) in self.nodes.iter().enumerate().filter(|(_, node)| node.alive) {
            if let Some(side) = &node.requester {
                let (jobs, streams) = (side.machine.open_jobs(), side.streams.len() + side.machine.open_streams());
                if jobs + streams > 0 || side.machine.account().reserved() > 0 {
                    self.judge
                        .fail(Rule::Tables, format_args!("requester {index}: {jobs} jobs, {streams} streams left"));
                }
                if side.machine.jobs().next().is_none() && side.machine.held_bytes() > 0 {
                    self.judge.fail(Rule::Tables, format_args!("requester {index} holds bytes of no job"));
                }
                let (counted, own) = (side.machine.account().owed(), self.judge.closed(index as u32));
                if counted != own {
                    self.judge.fail(Rule::Account, format_args!("requester {index} owes {own}, and counts {counted}"));
                }
                if let Some(due) = side.machine.poll_timeout() {
                    self.judge.fail(Rule::Rest, format_args!("requester {index} waits for {due:?}"));
                }
            }
            let Some(side) = &node.provider else { continue };
            let (jobs, streams, runs) = (side.machine.open_jobs(), side.streams.len(), node.runs.len());
            if jobs + streams + runs > 0 {
                let what = format_args!("provider {index}: {jobs} jobs, {streams} streams, {runs} computations left");
                self.judge.fail(Rule::Tables, what);
            }
            if let Some(due) = side.machine.poll_timeout() {
                self.judge.fail(Rule::Rest, format_args!("provider {index} waits for {due:?}"));
            }
            let taken = side.machine.taken_slots();
            if taken > 0 {
                self.judge.fail(Rule::Slots, format_args!("provider {index}: {taken} slots taken"));
            }
            if side.machine.held_bytes() > 0 || side.machine.open_offers() > 0 || side.machine.open_streams() > 0 {
                self.judge.fail(Rule::Tables, format_args!("provider {index} holds bytes, offers or streams"));
            }
        }
    }
}
