//! Scenarios for providers.

use haggle_conformance::{PROVIDER, Verdict};

use haggle_core::{StreamId, wire::Message};

use crate::{
    mistake::{Mistake, Notes, edit},
    seller::play,
};

#[test]
fn our_own_provider_keeps_all() {
    all_is_kept(Mistake::NONE);
}

/// [`PROVIDER`] must not blame who is better than its word.
#[test]
fn a_provider_that_computes_more_at_once_than_it_says_keeps_all() {
    let says: fn(&mut Notes, StreamId, &[u8]) -> Vec<Vec<u8>> = |_, _, payload| {
        edit(payload, |message| {
            if let Message::Advert(advert) = message {
                advert.slots = 1;
            }
        })
    };
    all_is_kept(Mistake { slots: 4, says, ..Mistake::NONE });
}

fn all_is_kept(provider: Mistake) {
    let wrong: Vec<String> = PROVIDER
        .iter()
        .map(|scenario| (scenario, play(scenario, provider)))
        .filter(|(_, verdict)| *verdict != Verdict::Kept)
        .map(|(scenario, verdict)| format!("{}: {verdict}", scenario.name))
        .collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}
