//! Known traces. `cargo run -p haggle-sim -- bless` writes them anew.

use haggle_sim::golden;

const KNOWN: &str = include_str!("../../golden.txt");
const PROFILES: &str = include_str!("../../profiles.md");
const CHANGELOG: &str = include_str!("../../../CHANGELOG.md");

#[test]
fn known_seeds_run_as_they_did() {
    let lines = golden::lines(&golden::traces(&golden::seeds(), 2));
    let differ = KNOWN.lines().zip(lines.lines()).filter(|(known, now)| known != now).count();
    assert!(
        KNOWN == lines,
        "{differ} of {} traces changed. If they were meant to: cargo run -p haggle-sim -- bless, and say why in CHANGELOG.md",
        golden::COUNT
    );
}

#[test]
fn the_change_log_names_the_known_traces() {
    let mark = golden::mark(KNOWN);
    assert!(CHANGELOG.contains(&mark), "CHANGELOG.md has to say why they changed, and: {mark}");
}

#[test]
fn users_see_what_they_saw() {
    assert_eq!(
        golden::profiles(),
        PROFILES,
        "if it was meant to change: cargo run -p haggle-sim -- bless, and say why in CHANGELOG.md"
    );
}
