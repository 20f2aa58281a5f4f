//! `haggle-sim`: runs random worlds and reports broken rules.

use std::process::ExitCode;

use haggle_sim::{
    figures::{
        choice::{self, Chooser},
        cuts,
        outage::{self, FAILINGS},
    },
    swarm,
};

const HELP: &str = "\
run: random worlds over the shipped core, one per seed, with every rule checked.
figures: what the core comes to under load, seed by seed; use an optimised build.

usage: haggle-sim run --seeds N [--from S]
       haggle-sim figures NAME --seeds N [--from S]

  --seeds N   how many seeds; at least 1
  --from S    the first seed (default 0)
  NAME        outage     awards per job while no provider works, 100 clients for 300 s
              transient  answers while 10 % of attempts break, 100 clients for 300 s
              heal       awards a second after an outage of 60 s, 1,000 clients
              cuts       2,000 tokens, cut at every 31st byte from byte S on; all bytes take 31 seeds
              choice     job times against least-loaded-of-two, 20 providers for 300 s

Exits with 0 if every rule was kept, 1 if one was broken, 2 on wrong usage.";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match parse(&args) {
        Ok(Some(Order { what: None, from, seeds })) => run(from, seeds),
        Ok(Some(Order { what: Some(figure), from, seeds })) => {
            (from..from + seeds).for_each(figure);
            ExitCode::SUCCESS
        }
        Ok(None) => {
            println!("{HELP}");
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("haggle-sim: {message}\n\n{HELP}");
            ExitCode::from(2)
        }
    }
}

/// What was asked for.
struct Order {
    /// The figure to print for a seed; `None` runs random worlds.
    what: Option<fn(u64)>,
    from: u64,
    seeds: u64,
}

/// `None` asks for help.
fn parse(args: &[String]) -> Result<Option<Order>, String> {
    let mut words = args.iter().map(String::as_str);
    let what = match words.next() {
        None | Some("help" | "--help" | "-h") => return Ok(None),
        Some("run") => None,
        Some("figures") => Some(figure(words.next())?),
        Some(other) => return Err(format!("there is no command '{other}'")),
    };
    let (mut from, mut seeds) = (0, None);
    while let Some(flag) = words.next() {
        let mut number = || {
            let value = words.next().ok_or_else(|| format!("{flag} needs a number"))?;
            value.parse::<u64>().map_err(|_| format!("{flag} needs a number, not '{value}'"))
        };
        match flag {
            "--seeds" => seeds = Some(number()?),
            "--from" => from = number()?,
            "--help" | "-h" => return Ok(None),
            other => return Err(format!("there is no option '{other}'")),
        }
    }
    match seeds {
        None => Err("--seeds says how many seeds to run".into()),
        Some(0) => Err("--seeds 0 would check nothing: ask for at least 1".into()),
        Some(seeds) if from.checked_add(seeds).is_none() => Err("--from and --seeds together are too large".into()),
        Some(seeds) => Ok(Some(Order { what, from, seeds })),
    }
}

/// What prints a figure for a seed.
fn figure(name: Option<&str>) -> Result<fn(u64), String> {
    match name {
        Some("outage") => Ok(|seed| {
            for how in FAILINGS {
                println!("seed {seed}, {how:?}: {}", outage::total(seed, 100, 300, how));
            }
        }),
        Some("transient") => Ok(|seed| println!("seed {seed}: {}", outage::transient(seed, 100, 300, 100))),
        Some("heal") => Ok(|seed| {
            for how in FAILINGS {
                println!("seed {seed}, {how:?}: {}", outage::heal(seed, 1000, 60, how));
            }
        }),
        Some("cuts") => Ok(|seed| println!("offset {seed}: {}", cuts::every(2000, 31, seed))),
        Some("choice") => Ok(|seed| {
            for chooser in [Chooser::Core, Chooser::LeastLoadedOfTwo] {
                println!("seed {seed}, {chooser:?}: {}", choice::run(seed, 300, chooser));
            }
        }),
        Some(other) => Err(format!("there is no figure '{other}'")),
        None => Err("figures needs a name".into()),
    }
}

fn run(from: u64, seeds: u64) -> ExitCode {
    let (mut jobs, mut finished, mut events, mut faults, mut bad) = (0, 0, 0, 0, 0_u64);
    for seed in from..from + seeds {
        let report = swarm::run(seed);
        jobs += report.jobs;
        finished += report.finished;
        events += report.events;
        faults += report.faults.values().sum::<u64>();
        if let Err(broken) = report.verdict() {
            bad += 1;
            println!("BROKEN {broken}\n  again: cargo run -p haggle-sim -- run --seeds 1 --from {seed}");
        }
        let done = seed - from + 1;
        if done.is_multiple_of(1000) {
            eprintln!("{done} of {seeds} seeds, {bad} broken");
        }
    }
    println!("{seeds} seeds: {events} events, {jobs} jobs, {finished} finished, {faults} faults, {bad} seeds broken");
    if bad == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
