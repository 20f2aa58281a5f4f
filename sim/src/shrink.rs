//! Makes a failing plan small: fewer faults, jobs and nodes, shorter times, fewer tokens, while the same rule is broken.

use std::time::{Duration, Instant};

use crate::{
    Broken, EngineScript, Fault, FaultKind, Pace, Plan, Rule,
    plan::{DrawnPrompt, JobPlan, NodePlan, PromptPlan, ProviderPlan, RequesterPlan},
};

/// What came of it.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// The smallest plan found that breaks the rule.
    pub plan: Plan,
    /// The rule.
    pub rule: Rule,
    /// How many worlds were run.
    pub runs: u32,
}

/// Makes a plan small for at most so long; `None` if it breaks no rule.
#[must_use]
pub fn shrink(plan: &Plan, time: Duration) -> Option<Shrunk> {
    let first = plan.run().broken.into_iter().next()?;
    let (rule, until) = (first.rule, Instant::now() + time);
    let mut search = Search { best: plan.clone(), first, until, runs: 1 };
    loop {
        let before = search.best.clone();
        search.drop_what_is_late();
        search.fewer_faults();
        search.fewer_jobs();
        search.fewer_nodes();
        search.plainer();
        search.shorter();
        if search.best == before || search.is_over() {
            break;
        }
    }
    search.renumber();
    Some(Shrunk { plan: search.best, rule, runs: search.runs })
}

struct Search {
    best: Plan,
    /// What was broken at first.
    first: Broken,
    until: Instant,
    runs: u32,
}

impl Search {
    fn is_over(&self) -> bool {
        Instant::now() >= self.until
    }

    /// Takes a plan if it breaks the same rule.
    fn try_out(&mut self, plan: Plan) -> bool {
        if plan == self.best || self.is_over() {
            return false;
        }
        self.runs += 1;
        let broken = breaks(&plan, &self.first);
        if broken {
            self.best = plan;
        }
        broken
    }

    fn edit(&mut self, change: impl FnOnce(&mut Plan)) -> bool {
        let mut plan = self.best.clone();
        change(&mut plan);
        self.try_out(plan)
    }

    /// Nothing that comes after the rule is broken matters.
    fn drop_what_is_late(&mut self) {
        let report = self.best.run();
        self.runs += 1;
        let Some(at) = report.broken.iter().find(|broken| is_alike(broken, &self.first)).map(|broken| broken.at) else {
            return;
        };
        self.edit(|plan| plan.faults.retain(|fault| fault.at <= at));
        self.edit(|plan| {
            if plan.calm_at.is_some_and(|calm| calm > at) {
                plan.calm_at = None;
            }
        });
    }

    /// Delta debugging: leaves out halves, quarters and so on, as long as that helps.
    fn fewer_faults(&mut self) {
        self.edit(|plan| plan.faults.clear());
        let mut size = self.best.faults.len().div_ceil(2);
        while size > 0 && !self.is_over() {
            let mut start = 0;
            while start < self.best.faults.len() && !self.is_over() {
                let end = (start + size).min(self.best.faults.len());
                if !self.edit(|plan| drop(plan.faults.drain(start..end))) {
                    start = end;
                }
            }
            size = if size == 1 { 0 } else { size.div_ceil(2) };
        }
    }

    fn fewer_jobs(&mut self) {
        let all = self.best.jobs.len();
        // Mostly one job is enough: first all others at once.
        for keep in 0..all {
            if all > 2
                && self.edit(|plan| (0..all).rev().filter(|nth| *nth != keep).for_each(|nth| drop_job(plan, nth)))
            {
                return;
            }
        }
        for nth in (0..all).rev() {
            self.edit(|plan| drop_job(plan, nth));
        }
    }

    fn fewer_nodes(&mut self) {
        for node in (0..self.best.nodes.len()).rev() {
            let is_needed = self.best.jobs.iter().any(|job| job.node.0 as usize == node);
            if !is_needed && self.best.nodes[node] != NodePlan::Absent {
                self.edit(|plan| drop_node(plan, node));
            }
        }
    }

    /// Defaults instead of what was drawn.
    fn plainer(&mut self) {
        self.edit(|plan| (plan.link.jitter, plan.link.split) = (0, 0));
        self.edit(|plan| plan.echo_close = false);
        self.edit(|plan| plan.calm_at = None);
        for node in 0..self.best.nodes.len() {
            self.edit(|plan| match &mut plan.nodes[node] {
                NodePlan::Provider(provider) => *provider = ProviderPlan::default(),
                NodePlan::Requester(requester) => *requester = RequesterPlan::default(),
                _ => {}
            });
            self.edit(|plan| {
                if let NodePlan::Provider(provider) = &mut plan.nodes[node] {
                    provider.engine = EngineScript::default();
                }
            });
            self.edit(|plan| {
                if let NodePlan::Requester(requester) = &mut plan.nodes[node] {
                    requester.pace = Pace::AtOnce;
                }
            });
        }
        for nth in 0..self.best.jobs.len() {
            self.edit(|plan| {
                let JobPlan { at, node, must_finish, .. } = plan.jobs[nth];
                plan.jobs[nth] = JobPlan { at, node, must_finish, budget: Some(1_000_000), ..JobPlan::default() };
            });
            self.edit(|plan| {
                if let PromptPlan::Drawn(DrawnPrompt { bytes, .. }) = &mut plan.jobs[nth].prompt {
                    *bytes = 20.min(*bytes);
                }
            });
        }
    }

    /// Smaller numbers: round times, short durations, few tokens.
    fn shorter(&mut self) {
        for nth in 0..self.best.jobs.len() {
            for at in [0, 1000, 10_000] {
                if at < self.best.jobs[nth].at && self.edit(|plan| plan.jobs[nth].at = at) {
                    break;
                }
            }
            for tokens in [1, 2, 5, 10, 20] {
                if tokens < self.best.jobs[nth].max_tokens && self.edit(|plan| plan.jobs[nth].max_tokens = tokens) {
                    break;
                }
            }
        }
        for index in 0..self.best.faults.len() {
            let Fault { at, what } = self.best.faults[index];
            for unit in [10_000, 1000, 100, 10] {
                let snapped = at / unit * unit;
                if snapped < at && self.edit(|plan| plan.faults[index].at = snapped) {
                    break;
                }
            }
            for shorter in shorter(what) {
                if self.edit(|plan| plan.faults[index].what = shorter) {
                    break;
                }
            }
        }
    }

    /// Takes out the numbers that are not used, if that changes nothing.
    fn renumber(&mut self) {
        self.until = Instant::now() + Duration::from_millis(500);
        for node in (0..self.best.nodes.len()).rev() {
            if self.best.nodes[node] == NodePlan::Absent {
                self.edit(|plan| take_out_node(plan, node as u32));
            }
        }
    }
}

/// Whether a run breaks the rule alike; it is left as soon as it does.
fn breaks(plan: &Plan, first: &Broken) -> bool {
    if plan.check().is_err() {
        return false;
    }
    let mut world = plan.world();
    plan.finish_or_stop(&mut world, |broken| is_alike(broken, first));
    world.broken().iter().any(|broken| is_alike(broken, first))
}

/// Whether the same rule is broken. A job that nobody serves has to fail for the same reason: where nobody is left,
/// nobody can serve.
fn is_alike(broken: &Broken, first: &Broken) -> bool {
    let reason = |broken: &Broken| broken.what.split_once(": ").map(|(_, reason)| reason.to_owned());
    broken.rule == first.rule && (first.rule != Rule::Liveness || reason(broken) == reason(first))
}

fn drop_job(plan: &mut Plan, nth: usize) {
    plan.jobs.remove(nth);
    plan.faults.retain_mut(|fault| match &mut fault.what {
        FaultKind::Cancel(other) if *other == nth => false,
        FaultKind::Cancel(other) if *other > nth => {
            *other -= 1;
            true
        }
        _ => true,
    });
}

/// Nobody takes its place, so that the others keep their numbers and with them their draws.
fn drop_node(plan: &mut Plan, node: usize) {
    plan.nodes[node] = NodePlan::Absent;
    plan.faults.retain(|fault| fault.what.nodes().iter().all(|other| other.0 as usize != node));
    let gone = |target: u32| target as usize == node;
    for other in &mut plan.nodes {
        if matches!(other, NodePlan::Pest(pest) if gone(pest.target.0)) {
            *other = NodePlan::Absent;
        }
    }
}

fn take_out_node(plan: &mut Plan, node: u32) {
    let moved = |other: &mut crate::NodeId| {
        if other.0 > node {
            other.0 -= 1;
        }
    };
    plan.nodes.remove(node as usize);
    for other in &mut plan.nodes {
        if let NodePlan::Pest(pest) = other {
            moved(&mut pest.target);
        }
    }
    plan.links.retain(|link| link.between.0.0 != node && link.between.1.0 != node);
    for link in &mut plan.links {
        moved(&mut link.between.0);
        moved(&mut link.between.1);
    }
    for job in &mut plan.jobs {
        moved(&mut job.node);
        job.exclude.retain(|other| other.0 != node);
        job.exclude.iter_mut().for_each(moved);
    }
    for fault in &mut plan.faults {
        fault.what.each_node(moved);
    }
}

/// The same fault, shorter or plainer, best first.
fn shorter(what: FaultKind) -> Vec<FaultKind> {
    let durations = |ms: u64| [0, 10, 100, 1000, 5000, 10_000, 30_000].into_iter().filter(move |shorter| *shorter < ms);
    match what {
        FaultKind::Stall(a, b, ms) => durations(ms).map(|ms| FaultKind::Stall(a, b, ms)).collect(),
        FaultKind::OneWay(a, b, ms) => durations(ms).map(|ms| FaultKind::OneWay(a, b, ms)).collect(),
        FaultKind::Partition(side, ms) => durations(ms).map(|ms| FaultKind::Partition(side, ms)).collect(),
        FaultKind::Sleep(node, ms) => durations(ms).map(|ms| FaultKind::Sleep(node, ms)).collect(),
        FaultKind::Flap(a, b, ms, _) => vec![FaultKind::Stall(a, b, ms)],
        FaultKind::Delay(a, b, delay, jitter) if jitter > 0 => vec![FaultKind::Delay(a, b, delay, 0)],
        FaultKind::Delay(a, b, delay, _) => durations(delay).map(|ms| FaultKind::Delay(a, b, ms.max(1), 0)).collect(),
        FaultKind::Kill(node, Some(ms)) => durations(ms).map(|ms| FaultKind::Kill(node, Some(ms))).collect(),
        FaultKind::Crash(node, ms) => durations(ms).map(|ms| FaultKind::Crash(node, ms)).collect(),
        FaultKind::HalfCut(a, b) => vec![FaultKind::Cut(a, b)],
        _ => Vec::new(),
    }
}
