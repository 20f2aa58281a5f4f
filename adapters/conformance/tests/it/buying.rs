//! Scenarios for requesters.

use haggle_conformance::{REQUESTER, Verdict};

use crate::{buyer::play, mistake::Mistake};

#[test]
fn our_own_requester_keeps_all() {
    let wrong: Vec<String> = REQUESTER
        .iter()
        .map(|scenario| (scenario, play(scenario, Mistake::NONE)))
        .filter(|(_, verdict)| *verdict != Verdict::Kept)
        .map(|(scenario, verdict)| format!("{}: {verdict}", scenario.name))
        .collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}
