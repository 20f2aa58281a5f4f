//! Figures under load, at a size that fits a test; `haggle-sim figures` has the full one.

use haggle_sim::figures::{
    choice::{self, Chooser},
    outage::{self, FAILINGS, Failing},
};

#[test]
fn retries_add_little_to_the_load_of_a_total_outage() {
    for how in FAILINGS {
        let load = outage::total(1, 100, 300, how);
        assert_eq!((load.jobs, load.answered), (6000, 0), "{how:?}");
        assert!(load.awards * 10 <= load.jobs * 12, "{how:?}: {load}");
    }
}

#[test]
fn retries_hide_transient_faults() {
    let load = outage::transient(1, 100, 300, 100);
    assert!(load.awards * 100 > load.jobs * 105, "the faults are there: {load}");
    assert!(load.answered * 1000 >= load.jobs * 999, "{load}");
}

#[test]
fn after_an_outage_nobody_storms_who_comes_back() {
    for how in [Failing::Breaks, Failing::Gone] {
        let healed = outage::heal(1, 1000, 20, how);
        assert!(healed.before > healed.steady, "{healed}");
        assert!(healed.peak <= 2 * healed.steady, "{how:?}: {healed}");
        assert!(healed.after.answered > 0, "{how:?}: {healed}");
    }
}

#[test]
fn the_choice_wastes_little_on_who_is_broken() {
    let choice = choice::run(1, 120, Chooser::Core);
    assert_eq!(choice.answered, choice.jobs);
}
