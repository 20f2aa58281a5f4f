//! Figures: what the shipped core comes to under load, counted in worlds that keep every rule.

pub mod choice;
pub mod cuts;
pub mod outage;
pub mod profiles;

use crate::World;

/// A model's name in all of these worlds.
const MODEL: &str = "story";

/// Runs a world to its end.
///
/// # Panics
/// If a rule was broken: then its figures say nothing.
fn settle(world: &mut World) {
    world.config.max_events = u64::MAX;
    world.run_to_end();
    if let Err(broken) = world.report().verdict() {
        panic!("{broken}");
    }
}

/// How many thousandths `part` is of `whole`; 0 of nothing.
#[must_use]
pub fn permille(part: usize, whole: usize) -> u64 {
    (part as u64 * 1000).checked_div(whole as u64).unwrap_or(0)
}
