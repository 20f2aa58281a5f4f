//! `haggle-sim`: runs random worlds and reports broken rules.

#[macro_use]
mod commands;

use std::process::ExitCode;

use self::commands::{Failed, Words, bench, determinism, figures, mutants, repro, run};

const HELP: &str = "\
Random worlds over the shipped core, with every rule checked. Use an optimised build for large numbers.

usage: haggle-sim run --seeds N [--from S | --from-commit HASH] [--threads T] [--keep FOLDER] [--points list|required]
       haggle-sim replay WHAT
       haggle-sim shrink WHAT [--time SECONDS] [--out FILE.toml]
       haggle-sim trace WHAT [--form jsonl|text|chart] [--job N]
       haggle-sim diff WHAT WHAT
       haggle-sim scenario FILE.toml
       haggle-sim mutants [NAME …] [--seeds N] [--in FOLDER]
       haggle-sim same --seeds N [--from S] [--threads T] [--as PROGRAM]
       haggle-sim traces --seeds N [--from S] [--threads T]
       haggle-sim bless
       haggle-sim figures NAME --seeds N [--from S]
       haggle-sim profiles
       haggle-sim bench [NAME]

run      one world per seed; exits with 1 if any broke a rule
replay   a world again; if it breaks a rule: which, when, for which job, and the events before
shrink   a world that breaks a rule, cut down to what the rule's breaking needs, also as a test
trace    everything that happens in a world, or everything about one of its jobs, numbered from 0
diff     where two worlds part, or two files that trace wrote, for instance from two builds
scenario a world that a person wrote down, and what becomes of each job; sim/README.md describes the file
mutants  planted mistakes of the core, each built in a copy (target/mutants) and hunted: how many seeds find it
same     the same seeds in this process and in another one, which has one thread: every trace is equal, or exits with 1
traces   the hash of everything that happened, seed by seed
bless    writes the traces and the table of profiles that tests compare with; say in CHANGELOG.md why they changed
figures  what the core comes to under load, seed by seed
profiles what users see on seven kinds of network, as a table
bench    how fast all of it is, in time on a core: messages, market, idle or churn; all of them if no NAME is given

  WHAT                 a seed, a line v1:SEED:MARK as run prints it, or a file
  --seeds N            how many seeds; at least 1
  --from S             the first seed (default 0)
  --from-commit HASH   a quarter of the seeds are the first, the rest follow from the commit
  --threads T          how many run at once (default: one for each core)
  --keep FOLDER        writes the worlds that broke a rule there, as files for replay and shrink
  --points WHICH       list names what was covered; required fails if anything of sim/points.txt was not
  --as PROGRAM         the other process, for instance a build without optimisation (default: this one)
  NAME                 outage     awards per job while no provider works, 100 clients for 300 s
                       transient  answers while 10 % of attempts break, 100 clients for 300 s
                       heal       awards a second after an outage of 60 s, 1,000 clients
                       cuts       2,000 tokens, cut at every 31st byte from byte S on; all bytes take 31 seeds
                       twice      2,000 tokens, cut at two random bytes, 1,000 times a seed
                       choice     job times against least-loaded-of-two, 20 providers for 300 s

Exits with 0 if every rule was kept, 1 if one was broken, 2 on wrong usage.";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let result = match args.first().map(String::as_str) {
        None | Some("help" | "--help" | "-h") => {
            say!("{HELP}");
            return ExitCode::SUCCESS;
        }
        _ if args.iter().any(|arg| arg == "--help" || arg == "-h") => {
            say!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Some("run") => Words::new(&args[1..]).and_then(run::run),
        Some("replay") => Words::new(&args[1..]).and_then(repro::replay),
        Some("shrink") => Words::new(&args[1..]).and_then(repro::shrink),
        Some("trace") => Words::new(&args[1..]).and_then(repro::trace),
        Some("diff") => Words::new(&args[1..]).and_then(repro::diff),
        Some("scenario") => Words::new(&args[1..]).and_then(repro::scenario),
        Some("mutants") => Words::new(&args[1..]).and_then(mutants::mutants),
        Some("hunt") => Words::new(&args[1..]).and_then(mutants::hunt),
        Some("same") => Words::new(&args[1..]).and_then(determinism::same),
        Some("traces") => Words::new(&args[1..]).and_then(determinism::traces),
        Some("bless") => Words::new(&args[1..]).and_then(determinism::bless),
        Some("profiles") => Words::new(&args[1..]).and_then(figures::profiles),
        Some("bench") => Words::new(&args[1..]).and_then(bench::bench),
        Some("figures") => Words::new(&args[1..]).and_then(figures::figures),
        Some(other) => Err(Failed::Usage(format!("there is no command '{other}'"))),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failed::Broken(message)) => {
            eprintln!("haggle-sim: {message}");
            ExitCode::FAILURE
        }
        Err(Failed::Usage(message)) => {
            eprintln!("haggle-sim: {message}; 'haggle-sim help' tells what there is");
            ExitCode::from(2)
        }
    }
}
