//! `haggle`: the command line of a peer-to-peer market for language models.
//!
//! One process is one node, except for `demo`, which is five. A command reads its settings in layers ([`settings`]),
//! starts a node of the `haggle` crate and follows what happens there; every decision is the core's.
//!
//! - stdout carries data and nothing else: the answer of `ask`, the tables of `discover` and `quote`, and with `--json`
//!   JSON. What people want to know beside it (offers, choice, bill) goes to stderr, and so do logs.
//! - Every failure is one sentence that says what to do, a stable code, and an exit code ([`exit`]).
//! - Money is read and written as decimals of units and counted in integers ([`haggle::decimal`]).
//! - Text of strangers is made harmless before people see it: everything leaves through [`screen`].

mod advice;
mod args;
mod buyer;
mod clock;
mod commands;
mod counter;
mod entrance;
mod exit;
mod explain;
mod goods;
mod journal;
mod kit;
mod ledger;
mod names;
mod narrator;
mod node;
mod paced;
mod prompt;
mod runtime;
mod screen;
mod settings;
mod shop;
mod signals;
mod spans;
mod table;
mod tally;
mod upstream;
mod vitals;
mod watch;

use std::{fmt::Debug, io::Write, process::ExitCode};

use clap::{
    CommandFactory, FromArgMatches,
    error::{ContextKind, ContextValue, ErrorKind},
};
use haggle::decimal as money;
use tracing::field::Field;
use tracing_subscriber::{
    Layer,
    filter::Targets,
    fmt::{
        self,
        format::{Writer, debug_fn},
    },
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

use crate::{
    args::{Cli, Command},
    exit::{Exit, Failed},
    screen::{Log, Screen, print_json},
};

fn main() -> ExitCode {
    let cli = match command().try_get_matches().and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        Err(error) => {
            let error = advised(error);
            // The error is a usage error, or a help text that was asked for; a closed output changes neither.
            let _ = error.print();
            if error.use_stderr() && std::env::args_os().any(|arg| arg == "--json") {
                let _ = print_json(&Failed::usage("usage", in_words(&error.to_string())).to_json());
            }
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(Exit::Usage as u8));
        }
    };
    let json = cli.global.json;
    let exit = match run(cli) {
        Ok(exit) => exit,
        Err(failed) => {
            failed.tell(json);
            failed.exit
        }
    };
    ExitCode::from(exit as u8)
}

/// What somebody perhaps meant whose shell took his prompt for several arguments.
fn advised(mut error: clap::Error) -> clap::Error {
    let is_word =
        matches!(error.get(ContextKind::InvalidArg), Some(ContextValue::String(arg)) if !arg.starts_with('-'));
    let takes_prompt = std::env::args().any(|arg| matches!(arg.as_str(), "ask" | "quote" | "demo"));
    if error.kind() == ErrorKind::UnknownArgument && is_word && takes_prompt {
        let tip = "a prompt of several words is put in quotes: \"Once upon a time\"";
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    }
    error
}

/// What is wrong, and the tip, if there is one, without the usage.
fn in_words(error: &str) -> String {
    let parts = error.trim_start_matches("error: ").split("\n\n").map(str::trim);
    let is_usage = |part: &&str| part.starts_with("Usage:") || part.starts_with("For more information");
    parts.take_while(|part| !is_usage(part)).collect::<Vec<_>>().join("; ")
}

/// The command line, whose texts are as wide as the terminal, but no wider than is easily read.
fn command() -> clap::Command {
    Cli::command().term_width(Screen::Out.width().min(100))
}

fn run(cli: Cli) -> Result<Exit, Failed> {
    let Some(command) = cli.command else {
        write!(Screen::Out, "{}", command().render_help())?;
        return Ok(Exit::Done);
    };
    start_log(cli.global.verbose)?;
    let global = cli.global;
    runtime::run(global.runtime, async {
        match command {
            Command::Serve(args) => Box::pin(commands::serve::run(&global, &args)).await,
            Command::Bootstrap(args) => Box::pin(commands::bootstrap::run(&global, &args)).await,
            Command::Discover(args) => Box::pin(commands::discover::run(&global, &args)).await,
            Command::Quote(args) => Box::pin(commands::quote::run(&global, &args)).await,
            Command::Chat(args) => Box::pin(commands::chat::run(&global, &args)).await,
            Command::Models(args) => Box::pin(commands::models::run(&global, &args)).await,
            Command::Completions { shell } => commands::paper::completions(shell),
            Command::Man { folder } => commands::paper::man(&folder),
            Command::Ask(args) => Box::pin(commands::ask::run(&global, args)).await,
            Command::Conformance(args) => Box::pin(commands::conformance::run(&global, &args)).await,
            Command::Gateway(args) => Box::pin(commands::gateway::run(&global, &args)).await,
            Command::Demo(args) => Box::pin(commands::demo::run(&global, &args)).await,
            Command::Replay(args) => commands::replay::run(&global, &args),
            Command::Ledger(args) => commands::ledger::run(&global, &args),
            Command::Status => commands::status::run(&global),
            Command::Bans(args) => commands::trust::bans(&global, &args),
            Command::Ban(args) => commands::trust::ban(&global, &args),
            Command::Allow(args) => commands::trust::allow(&global, &args),
            Command::Reliability(args) => commands::trust::reliability(&global, &args),
            Command::Config(args) => commands::config::run(&global, &args),
        }
    })
}

/// Logs go to stderr. `RUST_LOG` holds `target=level` pairs, separated by commas. Who asks for none gets warnings, as plain
/// as anything else that is told.
fn start_log(verbose: u8) -> Result<(), Failed> {
    let wanted = std::env::var("RUST_LOG").ok().filter(|wanted| !wanted.is_empty());
    let is_plain = wanted.is_none() && verbose == 0;
    let targets = match wanted {
        Some(wanted) => wanted,
        None => match verbose {
            0 => "error,haggle=warn".into(),
            1 => "error,haggle=info".into(),
            _ => "info,haggle=trace".into(),
        },
    };
    let targets: Targets =
        targets.parse().map_err(|error| Failed::usage("usage", format!("RUST_LOG: {targets:?}: {error}")))?;
    let lines = fmt::layer().with_writer(move || Log { is_plain }).with_ansi(false);
    let lines = match is_plain {
        true => lines.with_target(false).with_level(false).without_time().fmt_fields(debug_fn(plain)).boxed(),
        false => lines.boxed(),
    };
    tracing_subscriber::registry().with(lines).with(targets).init();
    Ok(())
}

/// A field of a warning, as people read it. Its code is for programs.
fn plain(to: &mut Writer<'_>, field: &Field, value: &dyn Debug) -> std::fmt::Result {
    match field.name() {
        "message" => write!(to, "{value:?}"),
        "code" => Ok(()),
        name => write!(to, "; {name}: {value:?}"),
    }
}
