//! Random worlds, one for each seed: run, run again, healed in the middle, and looked at for laws.

use haggle_core::{
    Event, JobId,
    event::{Failure, PassedOver},
};

use crate::{
    Broken, Job, Plan, Report, Rule,
    dice::{Draws, Purpose, Stream},
    laws, repro,
};

/// Every so many seeds are run twice, to see that they run alike, and healed in the middle.
const OFTEN: u64 = 8;
/// Every so many seeds, each fact is told to a copy as well.
const DOUBLED: u64 = 64;
/// Every so many seeds, what travels one way only is looked at.
const ONE_WAY: u64 = 16;
/// Every so many seeds, the shares of equals are looked at: that takes many jobs.
const FAIR: u64 = 128;
/// How often such a seed is healed.
const HEALED: u64 = 3;

/// Runs a seed's world with its faults, to the end; some seeds again, and healed at moments of chance.
#[must_use]
pub fn run(seed: u64) -> Report {
    let plan = Plan::draw(seed);
    let mut report = plan.run();
    if !seed.is_multiple_of(OFTEN) {
        return report;
    }
    if again(&plan, &mut report) != report.trace {
        let what = "a second run of the same seed went another way".into();
        report.broken.push(Broken { rule: Rule::Determinism, at: report.now, job: None, what, line: None });
    }
    if seed.is_multiple_of(ONE_WAY) {
        look_at(&mut report, &laws::one_way(seed), &format!("{}:one-way", repro::line(seed)));
    }
    if seed.is_multiple_of(FAIR) {
        look_at(&mut report, &laws::fair(seed), &format!("{}:fair", repro::line(seed)));
    }
    let mut moments = Draws::new(seed, Stream::new(0, 0, Purpose::Heal));
    for _ in 0..HEALED {
        let events = moments.below(report.events);
        let healed = Plan { heal_after: Some(events), ..plan.clone() };
        look_at(&mut report, &healed, &format!("{}:{events}", repro::line(seed)));
    }
    report
}

/// Runs a seed's world once more, of some seeds with every fact told to a copy of its machine as well; gives its trace.
fn again(plan: &Plan, report: &mut Report) -> u128 {
    let mut world = plan.world();
    world.config.doubles = plan.seed.is_multiple_of(DOUBLED);
    plan.finish(&mut world);
    let again = world.report();
    let only_here = |broken: &Broken| broken.rule == Rule::Determinism;
    report.broken.extend(again.broken.into_iter().filter(only_here));
    again.trace
}

/// Runs another world of the same seed, and adds what it breaks.
fn look_at(report: &mut Report, plan: &Plan, line: &str) {
    let other = plan.run();
    report.broken.extend(other.broken.into_iter().map(|broken| Broken { line: Some(line.to_owned()), ..broken }));
    other.excuses.into_iter().for_each(|(why, count)| *report.excuses.entry(why).or_default() += count);
}

/// Runs a seed's world without faults and hostile peers. What nothing went wrong with wastes nothing: no provider is
/// passed over but for its price, its speed or its own word, and no job is cut short.
#[must_use]
pub fn run_calm(seed: u64) -> Report {
    let plan = Plan::draw_calm(seed);
    let mut world = plan.world();
    plan.finish(&mut world);
    let wasted: Vec<String> = world.jobs().filter_map(|(id, job)| waste(id, job)).collect();
    for what in wasted {
        world.fail(Rule::Calm, &what);
    }
    world.report()
}

/// What a job wasted, if anything.
fn waste(id: JobId, job: &Job) -> Option<String> {
    if let Some(Failure::Interrupted(why)) = job.failure() {
        return Some(format!("{id}: {why:?}"));
    }
    job.events.iter().find_map(|(at, event)| match event {
        Event::PassedOver { why: PassedOver::Declined(_) | PassedOver::OverBudget | PassedOver::TooSlow, .. } => None,
        Event::PassedOver { why, .. } => Some(format!("{id}: {why:?} at {at} ms")),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Fault, FaultKind, NodeId, engine::Trouble};

    #[test]
    fn what_another_world_of_the_seed_breaks_is_replayed_by_its_own_line() {
        let misspelt = |seed| {
            let mut plan = Plan::draw_calm(seed);
            let plant = FaultKind::Engine(NodeId(0), Some((0, Trouble::Misspell)));
            plan.faults.push(Fault { at: 0, what: plant });
            let mut report = Plan::draw_calm(seed).run();
            look_at(&mut report, &plan, "v1:its:own");
            report.broken.into_iter().next()
        };
        let broken = (0..100).find_map(misspelt).expect("one of them answers a job");
        assert_eq!((broken.rule, broken.line.as_deref()), (Rule::Text, Some("v1:its:own")));
    }
}
