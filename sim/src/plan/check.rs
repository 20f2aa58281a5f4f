//! Whether a plan can be run: files are written by people.

use haggle_core::{Model, Provider, Requester};

use super::{NodePlan, Plan, PlanError, PromptPlan};
use crate::{FaultKind, NodeId};

impl Plan {
    /// Checks that it can be run.
    ///
    /// # Errors
    /// The first thing that can not, with its place.
    pub fn check(&self) -> Result<(), PlanError> {
        self.model_name("model", Some(&self.model))?;
        for (index, node) in self.nodes.iter().enumerate() {
            let place = format!("nodes[{index}]");
            match node {
                NodePlan::Provider(plan) => {
                    self.model_name(&place, plan.model.as_ref())?;
                    let config = plan.config(&self.model);
                    Provider::new(config.service, config.limits, [0; 32])
                        .map_err(|error| PlanError(format!("{place}: {error}")))?;
                }
                NodePlan::Requester(plan) => {
                    Requester::new(plan.policy.clone(), plan.limits.clone(), [0; 32])
                        .map_err(|error| PlanError(format!("{place}: {error}")))?;
                }
                NodePlan::Pest(plan) => self.node(&place, plan.target)?,
                NodePlan::Cheat(_) | NodePlan::Absent => {}
            }
        }
        for (index, link) in self.links.iter().enumerate() {
            self.node(&format!("links[{index}]"), link.between.0)?;
            self.node(&format!("links[{index}]"), link.between.1)?;
        }
        for (index, job) in self.jobs.iter().enumerate() {
            let place = format!("jobs[{index}]");
            self.model_name(&place, job.model.as_ref())?;
            self.node(&place, job.node)?;
            if !matches!(self.nodes[job.node.0 as usize], NodePlan::Requester(_)) {
                return Err(PlanError(format!("{place}: node {} is no requester", job.node.0)));
            }
            if matches!(&job.prompt, PromptPlan::Drawn(drawn) if !(1..=4 << 20).contains(&drawn.bytes)) {
                return Err(PlanError(format!("{place}: a prompt has 1 to 4194304 bytes")));
            }
        }
        for (index, fault) in self.faults.iter().enumerate() {
            let place = format!("faults[{index}]");
            fault.what.nodes().into_iter().try_for_each(|node| self.node(&place, node))?;
            if let FaultKind::Cancel(nth) = fault.what
                && nth >= self.jobs.len()
            {
                return Err(PlanError(format!("{place}: there is no job {nth}")));
            }
        }
        Ok(())
    }

    fn node(&self, place: &str, node: NodeId) -> Result<(), PlanError> {
        if (node.0 as usize) < self.nodes.len() {
            return Ok(());
        }
        Err(PlanError(format!("{place}: there is no node {}, they are numbered from 0", node.0)))
    }

    fn model_name(&self, place: &str, model: Option<&String>) -> Result<(), PlanError> {
        if model.is_none_or(|model| Model::new(model.as_bytes()).is_some()) {
            return Ok(());
        }
        Err(PlanError(format!("{place}: a model's name has 1 to 128 bytes")))
    }
}
