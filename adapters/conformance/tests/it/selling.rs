//! Scenarios for providers.

use haggle_conformance::{PROVIDER, Verdict};

use crate::{mistake::Mistake, seller::play};

#[test]
fn our_own_provider_keeps_all() {
    let wrong: Vec<String> = PROVIDER
        .iter()
        .map(|scenario| (scenario, play(scenario, Mistake::NONE)))
        .filter(|(_, verdict)| *verdict != Verdict::Kept)
        .map(|(scenario, verdict)| format!("{}: {verdict}", scenario.name))
        .collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}
