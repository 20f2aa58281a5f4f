//! What jobs need beyond text, and which engines can do it: in some worlds, drawn apart from everything else.

use haggle_core::wire::message::Features;

use super::{CALM_AT, Cast, Plan};
use crate::{
    Answer, Fault, FaultKind,
    dice::{Draws, Purpose, Stream},
    plan::NodePlan,
};

/// What jobs may need.
const NEEDS: [Features; 4] = [Features::TOOLS, Features::JSON_SCHEMA, Features::IMAGES, Features::REASONING];

/// Makes some jobs requests, or has them need features, and some engines write in channels. An engine may come to do
/// something else than its advert said, where not all is well.
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
}

/// Each of [`NEEDS`] `quarters` times in four.
fn some(draws: &mut Draws, quarters: u64) -> Features {
    NEEDS.into_iter().filter(|_| draws.chance(quarters, 4)).fold(Features::default(), Features::with)
}
