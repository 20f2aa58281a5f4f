//! Hostile requesters: what they can cost a provider is bounded, and honest ones are served beside them.

use std::sync::{Arc, Mutex};

use haggle_core::{Limits, money::Price};
use haggle_sim::{
    ProviderConfig, RequesterConfig, World,
    adversary::{Milked, PESTS, Pest, milker, pest},
};

use crate::{MODEL, is_answered, spec};

#[test]
fn no_pest_costs_more_than_its_limits() {
    for how in PESTS {
        let mut world = World::new(1);
        let mut config = ProviderConfig::new(MODEL, 0, 0).slots(4);
        config.service.queue = 8;
        config.limits = Limits {
            streams_per_peer: 6,
            jobs_per_peer: 3,
            body_bytes: 1 << 20,
            node_bytes: 8 << 20,
            ..Limits::default()
        };
        let provider = world.add_provider(config.clone());
        let me = world.add_requester(RequesterConfig::default());
        world.add_script(&[], pest(provider, MODEL, 0, 0, 20, how));
        let honest: Vec<_> = (0..5).map(|nth| world.submit_at(500 + 7000 * nth, me, spec())).collect();
        let mut printed = 0;
        while world.step() {
            let machine = world.provider(provider);
            assert!(machine.held_bytes() <= config.limits.node_bytes, "{how:?}: {} bytes", machine.held_bytes());
            assert!(machine.open_streams() <= 6 + 5, "{how:?}: {} streams", machine.open_streams());
            assert!(machine.open_offers() <= 64 + 64, "{how:?}: {} offers", machine.open_offers());
            assert!(machine.open_jobs() <= 3 + 5, "{how:?}: {} jobs", machine.open_jobs());
            assert!(machine.taken_slots() <= 4);
            printed =
                printed.max(if world.report().events.is_multiple_of(64) { format!("{machine:?}").len() } else { 0 });
        }
        world.run_to_end();
        world.report().verdict().unwrap_or_else(|broken| panic!("{how:?}: {broken}"));
        for nth in honest {
            assert!(is_answered(world.nth(nth)), "{how:?}: {:?}", world.nth(nth).ending);
        }
        // Six streams with at most 32 KiB of body unasked each, and what else there is: a byte prints as up to five.
        assert!(printed < 6 * (32 << 10) * 5 + 300_000, "{how:?}: {printed}");
        assert_eq!(world.provider(provider).open_jobs(), 0, "{how:?}");
    }
}

#[test]
fn an_award_without_its_body_is_given_up() {
    let mut world = World::new(2);
    let provider = world.add_provider(ProviderConfig::new(MODEL, 0, 0));
    world.add_script(&[], pest(provider, MODEL, 0, 0, 1, Pest::AwardThenNothing));
    world.run_until(5000);
    assert_eq!(world.provider(provider).open_jobs(), 1);
    world.run_until(15_000);
    assert_eq!((world.provider(provider).advert().free, world.provider(provider).held_bytes()), (1, 0));
    // Its End waits to be acknowledged for as long as a cut job would.
    world.run_until(150_000);
    assert_eq!(world.provider(provider).open_jobs(), 0);
    world.run_to_end();
    world.report().verdict().unwrap();
}

#[test]
fn streams_beyond_the_limit_are_refused_and_silent_ones_closed() {
    let mut world = World::new(3);
    let provider = world.add_provider(ProviderConfig::new(MODEL, 0, 0));
    world.add_script(&[], pest(provider, MODEL, 0, 0, 100, Pest::Silent));
    world.run_until(5000);
    assert_eq!(world.provider(provider).open_streams(), 32);
    world.run_until(15_000);
    assert_eq!(world.provider(provider).open_streams(), 0);
    world.run_to_end();
    world.report().verdict().unwrap();
}

#[test]
fn bodies_that_nobody_asked_for_end_the_stream() {
    let mut world = World::new(4);
    let provider = world.add_provider(ProviderConfig::new(MODEL, 0, 0));
    world.add_script(&[], pest(provider, MODEL, 0, 0, 3, Pest::UnaskedBodies));
    world.run_until(1000);
    assert_eq!(world.provider(provider).open_streams(), 0);
    world.run_to_end();
    world.report().verdict().unwrap();
}

/// The lowest price of a provider that posts a million and has half of it for a floor.
fn milked(seed: u64, bids: &[Price], count: u32) -> Price {
    let mut world = World::new(seed);
    let mut config = ProviderConfig::new(MODEL, 0, 1_000_000);
    config.service.models[0].floor_permille = 500;
    let provider = world.add_provider(config);
    let milked = Arc::new(Mutex::new(Milked { bids: 0, lowest: Price::MAX }));
    world.add_script(&[], milker(provider, MODEL, bids, count, &milked));
    world.run_to_end();
    world.report().verdict().unwrap_or_else(|broken| panic!("{seed}: {broken}"));
    let milked = *milked.lock().unwrap();
    assert_eq!(milked.bids, count, "all bids were made");
    milked.lowest
}

/// A thousand bids, from the floor up and from the price down, get nobody below what two honest rounds do.
#[test]
fn a_thousand_bids_get_no_further_than_two_honest_ones() {
    let honest = milked(1, &[749_999, 625_000], 2);
    assert_eq!(honest, 625_000, "three quarters of the way to the floor");
    let climbs: Vec<Price> = (0..50).map(|step| 500_000 + 10_000 * step).collect();
    let falls: Vec<Price> = climbs.iter().rev().copied().collect();
    for (seed, bids) in [&[500_000][..], &[1], &[749_999, 624_999], &climbs, &falls].into_iter().enumerate() {
        let lowest = milked(seed as u64, bids, 1_000);
        assert!(lowest >= honest, "{bids:?}: {lowest} instead of {honest}");
    }
}
