//! How the program ends: the one place that knows the exit codes.

use std::{
    borrow::Cow,
    fmt,
    io::{self, Write},
};

use haggle::{
    Error, JobError,
    core::{
        event::{Failure, NoRetry, PassedOver},
        machine::{QueryOutcome, StreamFailure},
    },
};
use haggle_gateway::StartError;
use serde_json::json;

use crate::{
    ledger::LedgerError,
    money::decimal,
    screen::{Screen, print_json},
};

/// An exit code. The texts of `--help` say the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    Done = 0,
    /// What no other code names: the machine or the program is at fault.
    Other = 1,
    /// The request cannot work as it was given.
    Usage = 2,
    /// The configuration, an address of this node, or a file that it is to use.
    Config = 3,
    NobodyFound = 4,
    Budget = 5,
    Declined = 6,
    Interrupted = 7,
    /// The server whose idle time is to be sold is not there, or does not have the model: it may have it soon.
    Upstream = 8,
    Cancelled = 130,
}

impl Exit {
    /// The exit with that code.
    pub(crate) fn of(code: u8) -> Self {
        let all = [
            Self::Done,
            Self::Usage,
            Self::Config,
            Self::NobodyFound,
            Self::Budget,
            Self::Declined,
            Self::Interrupted,
            Self::Upstream,
        ];
        let found = all.into_iter().find(|exit| *exit as u8 == code);
        found.unwrap_or(if code == Self::Cancelled as u8 { Self::Cancelled } else { Self::Other })
    }
}

/// As printed below the help of every command.
pub(crate) const HELP: &str = "\
Exit codes:
  0    done
  1    the machine or the program failed, or a ledger that is open cannot be written or read
  2    usage: the request cannot work as it was given
  3    configuration: a setting, the key file, the state directory, a listen address, or a ledger or
       recording that cannot be opened
  4    nobody was found, or could be reached
  5    the budget does not cover the cheapest offer
  6    declined by all who were asked, or not answered in time
  7    interrupted after the first token; what came is on stdout, what is owed on stderr
  8    the upstream server cannot be reached, or does not have the model yet: try again
  130  ended by Ctrl-C, or because nobody reads the answer any more";

/// Why a command failed, and what to do about it.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) exit: Exit,
    /// A stable name for scripts.
    pub(crate) code: Cow<'static, str>,
    pub(crate) message: String,
    retry_safe: bool,
    billed: u128,
    tokens_delivered: u64,
    /// How the search ended, if nobody was found.
    outcome: Option<&'static str>,
}

impl Failed {
    pub(crate) fn new(exit: Exit, code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        let code = code.into();
        Failed { exit, code, message: message.into(), retry_safe: false, billed: 0, tokens_delivered: 0, outcome: None }
    }

    pub(crate) fn usage(code: &'static str, message: impl Into<String>) -> Self {
        Failed::new(Exit::Usage, code, message)
    }

    pub(crate) fn config(message: impl Into<String>) -> Self {
        Failed::new(Exit::Config, "config", message)
    }

    /// Says more about the failure.
    pub(crate) fn explained(mut self, more: impl fmt::Display) -> Self {
        self.message = format!("{}{more}", self.message);
        self
    }

    /// Says what is known better than by the failure alone.
    pub(crate) fn instead(mut self, message: String) -> Self {
        self.message = message;
        self
    }

    /// Tells it to people, and with `json` to programs, too.
    pub(crate) fn tell(&self, json: bool) {
        // Where nobody reads there is nobody to tell, either.
        if json {
            let _ = print_json(&self.to_json());
        }
        let _ = writeln!(Screen::Err, "haggle: {}", self.message);
    }

    /// For `--json`: the same fields for every failure.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        json!({"event": "error", "error": {
            "code": self.code,
            "message": self.message,
            "exit": self.exit as u8,
            "retry_safe": self.retry_safe,
            "billed": decimal(self.billed),
            "tokens_delivered": self.tokens_delivered,
            "outcome": self.outcome,
        }})
    }
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        let exit = match &error {
            Error::Config(_) | Error::Key(_) | Error::State(_) | Error::Listen { .. } | Error::Unsupported { .. } => {
                Exit::Config
            }
            Error::Refused(_) => Exit::Usage,
            Error::Job(job) => of_failure(&job.failure, job.tokens_delivered()),
            _ => Exit::Other,
        };
        let outcome = match &error {
            Error::Job(job) => outcome(&job.failure),
            _ => None,
        };
        let message = match &error {
            Error::Job(job) => explain(job),
            Error::Unsupported { what, runtime, available, .. } => format!(
                "there is no {what} on the {runtime} runtime: turn it off with --{} false, or take --runtime {}",
                what.to_lowercase(),
                available.join(" or ")
            ),
            error => error.to_string(),
        };
        Failed {
            exit,
            code: error.code().into(),
            message,
            retry_safe: error.retry_safe(),
            billed: error.billed(),
            tokens_delivered: error.tokens_delivered(),
            outcome,
        }
    }
}

impl From<LedgerError> for Failed {
    fn from(error: LedgerError) -> Self {
        let exit = match error {
            LedgerError::Open { .. } => Exit::Config,
            LedgerError::Write { .. } | LedgerError::Read { .. } | LedgerError::Line { .. } => Exit::Other,
        };
        Failed::new(exit, error.code(), error.to_string())
    }
}

impl From<StartError> for Failed {
    fn from(error: StartError) -> Self {
        Failed::new(Exit::Config, error.code(), error.to_string())
    }
}

/// Output that nobody reads any more ends the program like Ctrl-C does.
impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failed::new(Exit::Cancelled, "output_closed", "nobody reads the output"),
            _ => Failed::new(Exit::Other, "output", format!("cannot write the output: {error}")),
        }
    }
}

fn of_failure(failure: &Failure, tokens: u64) -> Exit {
    match failure {
        Failure::Cancelled => Exit::Cancelled,
        _ if tokens > 0 => Exit::Interrupted,
        Failure::NobodyFound { .. } | Failure::Declined(PassedOver::Stream(_)) => Exit::NobodyFound,
        Failure::OverBudget { .. } => Exit::Budget,
        Failure::Context | Failure::BadRequest => Exit::Usage,
        _ => Exit::Declined,
    }
}

fn advice(why: StreamFailure) -> &'static str {
    match why {
        StreamFailure::WrongPeer => "correct the id at the end of the address",
        StreamFailure::Unsupported => "one of the two needs another version of haggle",
        StreamFailure::Refused => "try again later",
        StreamFailure::Unreachable | StreamFailure::TimedOut => "check the address, and that the provider runs",
    }
}

/// How a search without success ended.
fn outcome(failure: &Failure) -> Option<&'static str> {
    match failure {
        Failure::NobodyFound { outcome: QueryOutcome::Complete, .. } => Some("empty"),
        Failure::NobodyFound { outcome: QueryOutcome::TimedOut, .. } => Some("timed_out"),
        Failure::NobodyFound { outcome: QueryOutcome::NoSource, .. } => Some("no_source"),
        _ => None,
    }
}

/// The core counts micro-units; people are told units.
fn explain(job: &JobError) -> String {
    let mut text = match &job.failure {
        Failure::OverBudget { cheapest, budget: 0 } => format!(
            "without a budget, or with one of 0, only free providers are taken, and the cheapest offer costs at most {0} units: \
             allow it with --budget {0}",
            decimal(*cheapest)
        ),
        Failure::OverBudget { cheapest, budget } => format!(
            "the cheapest offer costs at most {} units, the budget is {}: raise --budget or lower --max-tokens",
            decimal(*cheapest),
            decimal(*budget)
        ),
        Failure::Declined(PassedOver::Stream(why)) => {
            format!("no provider was reached; the last one: {why}: {}", advice(*why))
        }
        Failure::NobodyFound { outcome: QueryOutcome::TimedOut, unfit: 0 } => {
            format!("{}: check that the bootstrap node runs, and try again", job.failure)
        }
        Failure::Deadline => "the deadline passed: allow more time with --deadline".into(),
        Failure::NobodyFound { outcome: QueryOutcome::Complete, unfit } if *unfit > 0 => {
            format!(
                "none of the {unfit} that serve the model fits, or all have failed lately and are left out for a while"
            )
        }
        failure => failure.to_string(),
    };
    if let Some(why) = given_up(job) {
        text.push_str(&format!("; no further attempt: {why}"));
    }
    let tokens = job.tokens_delivered();
    if tokens > 0 {
        text.push_str(&format!("; {tokens} tokens were delivered, {} units are owed", decimal(job.billed())));
    }
    text
}

/// Why nothing further was tried, and which flag would have it tried.
fn given_up(job: &JobError) -> Option<String> {
    let why = job.no_retry?;
    let flag = match why {
        // Who says what the last of them said has said that there are no others.
        NoRetry::Nobody if matches!(job.failure, Failure::Declined(_)) => return None,
        NoRetry::Attempts => ": allow more with max_retries in the settings",
        NoRetry::Deadline => ": allow more time with --deadline",
        NoRetry::Budget => ": raise --budget",
        NoRetry::Failover => ": --failover continue, or restart, would have one",
        _ => "",
    };
    Some(format!("{why}{flag}"))
}
