//! Figures, seed by seed.

use haggle_sim::figures::{
    choice::{self, Chooser},
    cuts,
    outage::{self, FAILINGS},
    profiles,
};

use super::{Failed, Words};

pub(crate) fn figures(mut words: Words) -> Result<(), Failed> {
    let name = words.word().ok_or_else(|| Failed::Usage("figures needs a name".into()))?;
    let print = figure(&name).ok_or_else(|| Failed::Usage(format!("there is no figure '{name}'")))?;
    let seeds = words.seeds()?;
    words.done()?;
    seeds.iter().for_each(print);
    Ok(())
}

pub(crate) fn profiles(words: Words) -> Result<(), Failed> {
    words.done()?;
    show!("{}", profiles::table());
    Ok(())
}

/// What prints a figure for a seed.
fn figure(name: &str) -> Option<fn(u64)> {
    Some(match name {
        "outage" => |seed| {
            for how in FAILINGS {
                say!("seed {seed}, {how:?}: {}", outage::total(seed, 100, 300, how));
            }
        },
        "transient" => |seed| say!("seed {seed}: {}", outage::transient(seed, 100, 300, 100)),
        "heal" => |seed| {
            for how in FAILINGS {
                say!("seed {seed}, {how:?}: {}", outage::heal(seed, 1000, 60, how));
            }
        },
        "cuts" => |seed| say!("offset {seed}: {}", cuts::every(2000, 31, seed)),
        "twice" => |seed| say!("seed {seed}: {}", cuts::twice(seed, 2000, 1000)),
        "choice" => |seed| {
            for chooser in [Chooser::Core, Chooser::LeastLoadedOfTwo] {
                say!("seed {seed}, {chooser:?}: {}", choice::run(seed, 300, chooser));
            }
        },
        _ => return None,
    })
}
