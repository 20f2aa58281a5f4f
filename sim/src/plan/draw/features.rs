//! What jobs need beyond text, and which engines can do it: in some worlds, drawn apart from everything else.

use haggle_core::wire::message::Features;

use super::{CALM_AT, Cast, Plan};
use crate::{
    Answer, Fault, FaultKind,
    dice::{Draws, Purpose, Stream},
    plan::{JobPlan, NodePlan},
};

/// What jobs may need.
const NEEDS: [Features; 4] = [Features::TOOLS, Features::JSON_SCHEMA, Features::IMAGES, Features::REASONING];

/// Makes some jobs requests, or has them need features, and some engines write in channels. Where not all is well, an engine
/// may come to do something else than its advert said, and a buyer may crash in the middle of an answer.
pub(super) fn features(plan: &mut Plan, cast: &Cast, may_change: bool) {
    let mut draws = Draws::new(plan.seed, Stream::new(0, 0, Purpose::Features));
    if !draws.chance(1, 4) {
        return;
    }
    for node in &mut plan.nodes {
        let NodePlan::Provider(provider) = node else { continue };
        provider.features = draws.chance(3, 4).then(|| some(&mut draws, 3));
        if draws.chance(1, 2) {
            provider.engine.class += Answer::IN_CHANNELS;
        }
    }
    for job in &mut plan.jobs {
        job.request = draws.chance(1, 2);
        job.require = (job.request || draws.chance(1, 4)).then(|| some(&mut draws, 2));
    }
    for _ in 0..if may_change { draws.below(5) } else { 0 } {
        let provider = cast.providers[draws.below(cast.providers.len() as u64) as usize];
        let features = draws.chance(3, 4).then(|| some(&mut draws, 2));
        let what = FaultKind::Features(provider, features);
        plan.faults.push(Fault { at: draws.below(CALM_AT), what });
    }
    if may_change && draws.chance(1, 3) {
        plan.faults.push(crash(&plan.jobs, &mut draws));
    }
}

/// A buyer crashes soon after it ordered: what comes back has to know in which channel it is.
fn crash(jobs: &[JobPlan], draws: &mut Draws) -> Fault {
    let job = &jobs[draws.below(jobs.len() as u64) as usize];
    let what = FaultKind::Crash(job.node, 1 + draws.below(1000));
    Fault { at: job.at + draws.below(4000), what }
}

/// Each of [`NEEDS`] `quarters` times in four.
fn some(draws: &mut Draws, quarters: u64) -> Features {
    NEEDS.into_iter().filter(|_| draws.chance(quarters, 4)).fold(Features::default(), Features::with)
}
