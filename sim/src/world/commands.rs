//! What applications ask of their nodes.

use haggle_core::{
    Criteria, JobId, JobSpec, PeerId, Refusal,
    money::Amount,
    requester::{Command, Reply},
    spec::QuoteSpec,
    time::Millis,
};

use super::{Happening, Lane, World};
use crate::{
    job::{Ask, Job},
    net::Role,
    node::{NodeId, Pace},
};

impl World {
    /// Carries a command to a node's requester, now. Those that the oracles or the applications' records have to know of
    /// go the way of their own method here; any other is carried through.
    ///
    /// # Errors
    /// The core's refusal.
    pub fn command(&mut self, node: NodeId, command: Command) -> Result<Reply, Refusal> {
        match command {
            Command::Submit(spec) => return self.submit(node, spec).map(Reply::Job),
            Command::Quote(spec) => return self.quote(node, spec).map(Reply::Job),
            Command::Discover { criteria, deadline } => {
                return self.discover(node, criteria, deadline).map(Reply::Job);
            }
            Command::Consumed { job, tokens } => self.consume(job, tokens),
            Command::SetAccountBudget(budget) => self.set_account_budget(node, budget),
            Command::Ban(peer) => self.ban(node, peer)?,
            Command::Allow(peer) => self.allow(node, peer),
            other => return self.carry(node.0, other),
        }
        Ok(Reply::Done)
    }

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
        self.ask(node.0, ask, deadline, None, Command::Quote(spec))
    }

    /// Asks who serves a model, now.
    ///
    /// # Errors
    /// The core's refusal.
    pub fn discover(&mut self, node: NodeId, criteria: Criteria, deadline: Option<Millis>) -> Result<JobId, Refusal> {
        let ask = Ask::Discover(criteria.clone());
        self.ask(node.0, ask, deadline, None, Command::Discover { criteria, deadline })
    }

    /// Chooses an offer, for a job whose application chooses.
    ///
    /// # Errors
    /// The core's refusal.
    pub fn award(&mut self, job: JobId, peer: PeerId) -> Result<(), Refusal> {
        let node = self.job(job).node.0;
        self.carry(node, Command::Award { job, peer }).map(drop)
    }

    /// Cancels a job now.
    ///
    /// # Errors
    /// The core's refusal.
    pub fn cancel(&mut self, job: JobId) -> Result<(), Refusal> {
        let node = self.job(job).node.0;
        self.carry(node, Command::Cancel(job)).map(drop)
    }

    /// A node bans a peer by hand.
    ///
    /// # Errors
    /// The core's refusal.
    pub fn ban(&mut self, node: NodeId, peer: PeerId) -> Result<(), Refusal> {
        self.carry(node.0, Command::Ban(peer))?;
        self.judge.banned(node.0, peer, true);
        self.store(node.0);
        Ok(())
    }

    /// Lifts every ban of a peer.
    pub fn allow(&mut self, node: NodeId, peer: PeerId) {
        self.judge.banned(node.0, peer, false);
        let _refusal = self.carry(node.0, Command::Allow(peer));
        self.store(node.0);
    }

    /// Bounds what all jobs of a node together may come to owe.
    pub fn set_account_budget(&mut self, node: NodeId, budget: Option<Amount>) {
        self.judge.account(node.0, budget);
        let _refusal = self.carry(node.0, Command::SetAccountBudget(budget));
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
            self.carry(node, Command::KeepEndings)?;
        }
        let (ask, deadline) = (Ask::Job(spec.clone()), spec.deadline);
        let job = self.ask(node, ask, deadline, Some(&spec.clone()), Command::Submit(spec))?;
        self.apps.submissions[nth] = Some(job);
        Ok(job)
    }

    fn ask(
        &mut self,
        node: u32,
        ask: Ask,
        deadline: Option<Millis>,
        spec: Option<&JobSpec>,
        command: Command,
    ) -> Result<JobId, Refusal> {
        let now = self.now;
        let place = &mut self.nodes[node as usize];
        let (Some(side), Some(config)) = (&mut place.requester, &place.requester_config) else {
            panic!("node {node} is no requester")
        };
        let limit = config.policy.job_deadline;
        let own = place.clock.read(now);
        let deadline = place.clock.after(now, deadline.unwrap_or(limit).min(limit).0).max(place.asleep_until);
        let (pace, policy) = (config.pace, &config.policy);
        let Reply::Job(job) = side.machine.command(own, command)? else {
            unreachable!("what begins a job is answered with its name")
        };
        self.judge.submitted(job, node, deadline, policy, spec);
        if let Some(log) = &mut self.log {
            log.submitted(self.now, node, job, if spec.is_some() { "a job" } else { "a question" });
        }
        self.apps.jobs.insert(job, Job::new(NodeId(node), ask, now, pace));
        self.store(node);
        self.after(node, Role::Requester);
        Ok(job)
    }

    fn carry(&mut self, node: u32, command: Command) -> Result<Reply, Refusal> {
        // A dead node knows no job.
        let place = &mut self.nodes[node as usize];
        let Some(side) = &mut place.requester else { return Err(Refusal::UnknownJob) };
        let result = side.machine.command(place.clock.read(self.now), command);
        self.after(node, Role::Requester);
        result
    }
}
