//! How fast it is.

use haggle_sim::{
    World,
    bench::{Clock, Took, churn, market, messages, resident_bytes},
};

use super::{Failed, Words};

pub(crate) fn bench(mut words: Words) -> Result<(), Failed> {
    let name = words.word();
    words.done()?;
    let all: [(&str, fn()); 4] =
        [("messages", of_messages), ("market", of_market), ("idle", of_idle), ("churn", of_churn)];
    let chosen: Vec<fn()> = all
        .into_iter()
        .filter(|(each, _)| name.as_deref().is_none_or(|name| name == *each))
        .map(|(_, run)| run)
        .collect();
    if chosen.is_empty() {
        return Err(Failed::Usage("bench knows messages, market, idle and churn".into()));
    }
    chosen.into_iter().for_each(|run| run());
    Ok(())
}

fn of_messages() {
    say!("{} bytes over links of 1 to 10 ms, one message on its way for each node:", messages::BYTES);
    for nodes in [100, 1000, 10_000, 100_000] {
        let count = 3_000_000;
        let bare = Took::measure(|| messages::bare(nodes, count, 1));
        let mut world = messages::world(nodes, 1);
        let ours = Took::measure(|| messages::pass(&mut world, count));
        say!(
            "  {nodes} nodes: bare event loop {}/s, world {}/s, {} ‰ of it",
            bare.per_second(),
            ours.per_second(),
            ours.permille_of(bare)
        );
    }
}

fn of_market() {
    say!("the real core, inputs of machines a second:");
    for (nodes, from, until, judged) in [(1000, 16, 80, true), (1000, 16, 80, false), (100_000, 9, 12, false)] {
        let clock = Clock::start();
        let empty = World::new(1);
        let mut world = market::world(if judged { empty } else { empty.without_oracles() }, nodes, until);
        let built = clock.nanos() / 1_000_000;
        market::run(&mut world, from * 1000);
        let took = Took::measure(|| market::run(&mut world, until * 1000));
        let how = if judged { "judged" } else { "without oracles" };
        say!("  {nodes} nodes, {how}: {}/s of {}, built in {built} ms", took.per_second(), took.count);
    }
}

fn of_idle() {
    let nodes = 100_000;
    let (before, clock) = (resident_bytes(), Clock::start());
    let world = market::idle(nodes, 1);
    let (millis, bytes) = (clock.nanos() / 1_000_000, resident_bytes().saturating_sub(before));
    say!("{nodes} idle cores: {} bytes each, built in {millis} ms", bytes / u64::from(nodes));
    drop(world);
}

fn of_churn() {
    let clock = Clock::start();
    let mut world = churn::world(1);
    world.run_to_end();
    let millis = clock.nanos() / 1_000_000;
    let report = world.report();
    say!(
        "{} nodes, {} jobs, {} virtual s, jitter and churn: {millis} ms, {} inputs of machines",
        churn::NODES,
        churn::JOBS,
        churn::SPAN / 1000,
        report.inputs
    );
    show!("{report}");
}
