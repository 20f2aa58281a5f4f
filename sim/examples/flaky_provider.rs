//! A first simulation: a provider of one's own, which sells well and then falls silent, beside an honest one.

use haggle_core::wire::Message;
use haggle_sim::{
    Heard, ProviderConfig, RequesterConfig, Script, Talk, World,
    adversary::{Cheat, cheat},
    job,
};

fn main() -> Result<(), haggle_sim::Broken> {
    let mut world = World::new(7);
    // A provider is whatever reacts to messages: any closure, or an own `Script`. This one lets a ready-made one
    // speak, and swallows what comes after its second Award.
    let mut honest: Box<dyn Script> = Box::new(cheat("story", 1_000, 2_000, Cheat::Honest));
    let mut awards = 0;
    let flaky = world.add_script(&["story"], move |talk: &mut Talk<'_>, heard: Heard<'_>| {
        awards += u32::from(matches!(heard, Heard::Message(Message::Award(_))));
        if awards < 2 {
            honest.hear(talk, heard);
        }
    });
    let steady = world.add_provider(ProviderConfig::new("story", 100_000, 400_000));
    let me = world.add_requester(RequesterConfig::default());

    for nth in 0..3 {
        world.submit_at(nth * 120_000, me, job("story", "Once upon a time there was a market.", 12, 10_000));
    }
    world.run_to_end();

    for nth in 0..3 {
        println!("job {nth}: {}", world.nth(nth));
    }
    assert_eq!(world.nth(0).awarded(), [flaky.peer()]);
    assert_eq!(world.nth(1).awarded(), [flaky.peer(), steady.peer()]);
    world.report().verdict()
}
