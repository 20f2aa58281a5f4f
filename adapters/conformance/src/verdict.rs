//! What is found about a peer.

use std::fmt;

/// How a scenario ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The peer did as the protocol says.
    Kept,
    /// It did not.
    Broken(Broken),
    /// It could not be asked, for a reason that is no mistake (it is busy, its answer was too short, ...): what would help.
    Unplayed(String),
}

/// A rule that was broken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Broken {
    /// Its label in `core/PROTOCOL.md`.
    pub rule: &'static str,
    /// What was seen, and what was to be seen.
    pub told: String,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kept => f.write_str("kept"),
            Self::Broken(broken) => broken.fmt(f),
            Self::Unplayed(why) => write!(f, "not played: {why}"),
        }
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}] {}", self.rule, self.told)
    }
}

/// Why a scenario does not go on.
#[derive(Debug)]
pub(crate) enum Fault {
    Broken(Broken),
    Unplayed(String),
}

/// What every step of a scenario gives.
pub(crate) type Step<T = ()> = Result<T, Fault>;

/// What is told of one mistake, at most, in characters: a message may be as large as a frame.
const TOLD: usize = 240;

/// The peer broke a rule.
pub(crate) fn broken(rule: &'static str, told: impl Into<String>) -> Fault {
    let told: String = told.into();
    let shown: String = told.chars().take(TOLD).collect();
    let told = if shown.len() < told.len() { format!("{shown}…") } else { told };
    Fault::Broken(Broken { rule, told })
}

/// The peer cannot be asked this.
pub(crate) fn unplayed(why: impl Into<String>) -> Fault {
    Fault::Unplayed(why.into())
}

/// Demands what a rule demands.
pub(crate) fn demand(rule: &'static str, kept: bool, told: impl FnOnce() -> String) -> Step {
    if kept { Ok(()) } else { Err(broken(rule, told())) }
}

impl From<Step> for Verdict {
    fn from(step: Step) -> Self {
        match step {
            Ok(()) => Self::Kept,
            Err(Fault::Broken(broken)) => Self::Broken(broken),
            Err(Fault::Unplayed(why)) => Self::Unplayed(why),
        }
    }
}
