//! Healed at any moment: whoever can pay is served in the end, whatever happened before.

use haggle_core::{
    Event, JobSpec, PeerId,
    event::{Failure, PassedOver},
    wire::{Prompt, message::DeclineReason},
};

use super::{World, node::Node};
use crate::{
    job::Job,
    node::{NodeId, name},
    oracle::Rule,
    schedule::FaultKind,
};

/// Everything that began before is over by then, in ms: jobs, cut streams, open breakers.
const AFTER: u64 = 900_000;
/// The healed provider is asked by several in turn, so far apart.
const APART: u64 = 60_000;

impl World {
    /// Ends every fault: links are whole, queries answer, no further fault strikes, one provider works. Other providers
    /// stay dead, draining or broken. Every requester whose time goes on submits one more job, a good while later.
    pub(crate) fn heal(&mut self, model: &str) {
        let struck = std::mem::take(&mut self.faults.struck);
        let is_awake = |node: &Node, now: u64| node.asleep_until <= now;
        let now = self.now;
        let core = self.nodes.iter().position(|node| node.provider_config.is_some() && is_awake(node, now));
        // Where a clock was set back, time stands still until it has caught up.
        let set_back = |fault: &FaultKind| match fault {
            FaultKind::ClockStep(node, by) if *by < 0 => Some(node.0 as usize),
            _ => None,
        };
        let set_back: Vec<usize> = struck.iter().filter_map(set_back).collect();
        for remedy in struck.into_iter().filter_map(FaultKind::remedy) {
            let is_of_node = matches!(remedy, FaultKind::Restart(_) | FaultKind::Engine(..) | FaultKind::Slow(..));
            if !is_of_node || remedy.nodes().iter().any(|node| Some(node.0 as usize) == core) {
                self.fault(remedy);
            }
        }
        for link in self.net.links.all_mut() {
            link.stalled_until = link.stalled_until.min(now);
            link.cut_in = None;
        }
        self.faults.healed = Some(self.apps.submissions.len());
        let Some(core) = core.map(|core| NodeId(core as u32)) else { return };
        self.restart(core.0);
        let number = |index: usize| NodeId(index as u32);
        let scripts = (0..self.nodes.len()).filter(|index| self.nodes[*index].script.is_some());
        let scripts: Vec<PeerId> = scripts.map(|index| number(index).peer()).collect();
        let buys = |index: &usize| {
            let node = &self.nodes[*index];
            node.requester.is_some() && is_awake(node, now) && !set_back.contains(index)
        };
        let requesters: Vec<NodeId> = (0..self.nodes.len()).filter(buys).map(number).collect();
        for (nth, node) in requesters.into_iter().enumerate() {
            let mut spec = JobSpec::new(name(model), Prompt::Raw("Is anybody still there after that?".into()), 8);
            spec.budget = Some(u64::MAX);
            spec.criteria.exclude.clone_from(&scripts);
            self.submit_at(now + AFTER + nth as u64 * APART, node, spec);
        }
    }

    /// Whether [`World::heal`] was called.
    pub(crate) const fn is_healed(&self) -> bool {
        self.faults.healed.is_some()
    }

    /// Judges the jobs that were submitted after the healing. Excuses are counted.
    pub(crate) fn judge_healed(&mut self) {
        let Some(first) = self.faults.healed else { return };
        for nth in first..self.apps.submissions.len() {
            let Some(job) = self.submitted(nth) else {
                self.excuse("refused");
                continue;
            };
            if job.finished().is_some() || job.orphaned {
                continue;
            }
            let account = self.nodes[job.node.0 as usize].requester_config.as_ref();
            let is_poor = account.is_some_and(|config| config.account_budget.is_some());
            match excuse(job, is_poor) {
                Some(excuse) => self.excuse(excuse),
                None => {
                    let what = format!("healed, job {nth} of node {} is not served: {:?}", job.node.0, job.failure());
                    self.fail(Rule::Liveness, &what);
                }
            }
        }
    }

    fn excuse(&mut self, why: &'static str) {
        *self.faults.excuses.entry(why).or_default() += 1;
    }
}

const BROKEN: &str = "broken providers used up its tries";

const fn is_break(event: &Event<'_>) -> bool {
    matches!(event, Event::PassedOver { why: PassedOver::Interrupted(_), .. })
}

/// Why a job need not have been served.
fn excuse(job: &Job, is_poor: bool) -> Option<&'static str> {
    match job.failure()? {
        Failure::OverBudget { .. } if is_poor => Some("the account is used up"),
        Failure::Declined(PassedOver::Declined(DeclineReason::Busy | DeclineReason::PeerLimit)) => Some("busy"),
        Failure::Interrupted(_) | Failure::Declined(PassedOver::Interrupted(_)) => Some(BROKEN),
        // Who was asked last only refused, but somebody broke before.
        Failure::Declined(_) if job.events.iter().any(|(_, event)| is_break(event)) => Some(BROKEN),
        Failure::Deadline if job.pace == crate::Pace::Never => Some("its application takes nothing"),
        _ => None,
    }
}
