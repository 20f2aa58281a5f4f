//! Random worlds.

use std::time::Instant;

use haggle_sim::{repro, swarm, volume};

use super::{Failed, Words};

pub(crate) fn run(mut words: Words) -> Result<(), Failed> {
    let (seeds, threads, keep) = (words.seeds()?, words.threads()?, words.option("keep"));
    let points = words.option("points");
    words.done()?;
    let (count, begun) = (seeds.count(), Instant::now());
    let summary = volume::run(&seeds, threads, swarm::run, |done, broken| {
        if done.is_multiple_of(10_000) {
            eprintln!("{done} of {count} seeds, {broken} broke a rule, {} s", begun.elapsed().as_secs());
        }
    });
    for (seed, broken) in &summary.broken {
        let line = broken.line.clone().unwrap_or_else(|| repro::line(*seed));
        say!("BROKEN {broken}\n  again: {}", repro::command(&line));
        if let Some(folder) = &keep {
            super::repro::keep(folder, &line)?;
        }
    }
    say!("{summary}");
    match points.as_deref() {
        None => {}
        Some("list") => summary.points.covered().iter().for_each(|name| say!("  {name}")),
        Some("required") if summary.points.missed().is_empty() => {}
        Some("required") => {
            return Err(Failed::Broken(format!("never covered:\n  {}", summary.points.missed().join("\n  "))));
        }
        Some(other) => return Err(Failed::Usage(format!("--points is list or required, not '{other}'"))),
    }
    let took = begun.elapsed();
    let rate = |count: u64| count * 1000 / (took.as_millis() as u64).max(1);
    eprintln!("{} ms on {threads} threads, {} inputs a second", took.as_millis(), rate(summary.inputs));
    match summary.broken.len() {
        0 if summary.seeds == count => Ok(()),
        0 => Err(Failed::Broken(format!("only {} of {count} seeds were run", summary.seeds))),
        broken => Err(Failed::Broken(format!("{broken} seeds broke a rule"))),
    }
}
