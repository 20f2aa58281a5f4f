//! What applications ask of their nodes.

use haggle_core::{
    Criteria, Instant, JobId, JobSpec, PeerId, Refusal, Requester, money::Amount, spec::QuoteSpec, time::Millis,
};

use super::{Happening, Lane, World};
use crate::{
    job::{Ask, Job},
    net::Role,
    node::{NodeId, Pace},
};

impl World {
    /// Submits a job now.
    ///
    /// # Errors
    /// The core's refusal.
    pub fn submit(&mut self, node: NodeId, spec: JobSpec) -> Result<JobId, Refusal> {
        self.apps.submissions.push(None);
        self.submit_nth(self.apps.submissions.len() - 1, node.0, spec)
    }

    /// Submits a job at a later time; [`World::nth`] finds it by the number returned.
    pub fn submit_at(&mut self, at: u64, node: NodeId, spec: JobSpec) -> usize {
        self.apps.submissions.push(None);
        let nth = self.apps.submissions.len() - 1;
        let submit = Happening::Submit { nth, node: node.0, spec: Box::new(spec) };
        self.push(at, Lane::app(node.0), submit);
        nth
    }

    /// Asks for prices now.
    ///
    /// # Errors
    /// The core's refusal.
    pub fn quote(&mut self, node: NodeId, spec: QuoteSpec) -> Result<JobId, Refusal> {
        let (ask, deadline) = (Ask::Quote(spec.clone()), spec.deadline);
        self.ask(node.0, ask, deadline, None, |requester, now| requester.quote(now, spec))
    }

    /// Asks who serves a model, now.
    ///
    /// # Errors
    /// The core's refusal.
    pub fn discover(&mut self, node: NodeId, criteria: Criteria, deadline: Option<Millis>) -> Result<JobId, Refusal> {
        let ask = Ask::Discover(criteria.clone());
        self.ask(node.0, ask, deadline, None, |requester, now| requester.discover(now, criteria, deadline))
    }

    /// Chooses an offer, for a job whose application chooses.
    ///
    /// # Errors
    /// The core's refusal.
    pub fn award(&mut self, job: JobId, peer: PeerId) -> Result<(), Refusal> {
        let node = self.job(job).node.0;
        self.command(node, |requester, now| requester.award(now, job, peer))
    }

    /// Cancels a job now.
    ///
    /// # Errors
    /// The core's refusal.
    pub fn cancel(&mut self, job: JobId) -> Result<(), Refusal> {
        let node = self.job(job).node.0;
        self.command(node, |requester, now| requester.cancel(now, job))
    }

    /// A node bans a peer by hand.
    ///
    /// # Errors
    /// The core's refusal.
    pub fn ban(&mut self, node: NodeId, peer: PeerId) -> Result<(), Refusal> {
        self.command(node.0, |requester, _| requester.ban(peer))?;
        self.judge.banned(node.0, peer, true);
        self.store(node.0);
        Ok(())
    }

    /// Lifts every ban of a peer.
    pub fn allow(&mut self, node: NodeId, peer: PeerId) {
        self.judge.banned(node.0, peer, false);
        let _refusal = self.command(node.0, |requester, _| {
            requester.allow(&peer);
            Ok(())
        });
        self.store(node.0);
    }

    /// Bounds what all jobs of a node together may come to owe.
    pub fn set_account_budget(&mut self, node: NodeId, budget: Option<Amount>) {
        self.judge.account(node.0, budget);
        let _refusal = self.command(node.0, |requester, _| {
            requester.set_account_budget(budget);
            Ok(())
        });
    }

    /// How fast the application of a job takes its tokens from now on.
    pub fn set_pace(&mut self, id: JobId, pace: Pace) {
        if let Some(job) = self.apps.jobs.get_mut(&id) {
            job.pace = pace;
            if !job.app_due && pace != Pace::Never && job.consumed < job.delivered {
                job.app_due = true;
                let node = job.node.0;
                self.push(self.now + 1, Lane::told(node), Happening::App { job: id });
            }
        }
    }

    pub(super) fn submit_nth(&mut self, nth: usize, node: u32, mut spec: JobSpec) -> Result<JobId, Refusal> {
        spec.explain |= self.config.explain;
        if self.config.stores {
            self.command(node, |requester, _| {
                requester.keep_endings();
                Ok(())
            })?;
        }
        let (ask, deadline) = (Ask::Job(spec.clone()), spec.deadline);
        let job = self.ask(node, ask, deadline, Some(&spec.clone()), |requester, now| requester.submit(now, spec))?;
        self.apps.submissions[nth] = Some(job);
        Ok(job)
    }

    fn ask(
        &mut self,
        node: u32,
        ask: Ask,
        deadline: Option<Millis>,
        spec: Option<&JobSpec>,
        command: impl FnOnce(&mut Requester, Instant) -> Result<JobId, Refusal>,
    ) -> Result<JobId, Refusal> {
        let now = self.now;
        let place = &mut self.nodes[node as usize];
        let (Some(side), Some(config)) = (&mut place.requester, &place.requester_config) else {
            panic!("node {node} is no requester")
        };
        let limit = config.policy.job_deadline;
        let own = place.clock.read(now);
        let deadline = place.clock.after(now, deadline.unwrap_or(limit).min(limit).0).max(place.asleep_until);
        let (pace, retries) = (config.pace, config.policy.max_retries);
        let job = command(&mut side.machine, own)?;
        self.judge.submitted(job, node, deadline, retries, spec);
        if let Some(log) = &mut self.log {
            log.submitted(self.now, node, job, if spec.is_some() { "a job" } else { "a question" });
        }
        self.apps.jobs.insert(job, Job::new(NodeId(node), ask, now, pace));
        self.store(node);
        self.after(node, Role::Requester);
        Ok(job)
    }

    fn command(
        &mut self,
        node: u32,
        command: impl FnOnce(&mut Requester, Instant) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        // A dead node knows no job.
        let place = &mut self.nodes[node as usize];
        let Some(side) = &mut place.requester else { return Err(Refusal::UnknownJob) };
        let result = command(&mut side.machine, place.clock.read(self.now));
        self.after(node, Role::Requester);
        result
    }
}
