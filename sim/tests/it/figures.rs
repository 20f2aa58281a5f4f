//! Figures under load, at a size that fits a test; `haggle-sim figures` has the full one.

use haggle_sim::figures::{
    choice::{self, Chooser},
    cuts,
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
    healed_calmly(Failing::Breaks);
    healed_calmly(Failing::Gone);
    healed_calmly(Failing::Hangs);
}

fn healed_calmly(how: Failing) {
    let healed = outage::heal(1, 1000, 20, how);
    assert!(healed.before > healed.steady && healed.after.answered > 0, "{how:?}: {healed}");
    assert!(healed.peak <= 2 * healed.steady, "{how:?}: {healed}");
}

#[test]
fn the_choice_halves_the_slowest_times() {
    let mut ratios = Vec::new();
    for seed in 0..3 {
        let [core, other] = [Chooser::Core, Chooser::LeastLoadedOfTwo].map(|chooser| choice::run(seed, 300, chooser));
        assert_eq!((core.answered, other.answered), (core.jobs, other.jobs));
        assert!(core.wasted * 100 <= core.attempts, "{core}");
        ratios.push(core.p99 * 1000 / other.p99);
    }
    ratios.sort_unstable();
    assert!(ratios[1] <= 500, "thousandths: {ratios:?}");
}

#[test]
fn two_cuts_at_random_bytes_are_not_felt() {
    let cuts = cuts::twice(1, 500, 200);
    assert!(cuts.cuts == 200 && cuts.resumed > 100, "{cuts}");
}

/// `HAGGLE_CUT_OFFSET` says at which of 31 bytes to begin: all of them together cut at every byte.
#[test]
fn a_cut_at_any_byte_of_a_long_answer_is_not_felt() {
    let offset = std::env::var("HAGGLE_CUT_OFFSET").ok().map_or(0, |offset| offset.parse().unwrap());
    let cuts = cuts::every(2000, 31, offset);
    assert!(cuts.cuts + 2 >= cuts.bytes.iter().sum::<u64>() / 31 && cuts.resumed * 10 > cuts.cuts * 9, "{cuts}");
}
