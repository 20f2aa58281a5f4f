//! Commands that are refused at once.

use core::fmt;

use crate::{limits::ConfigError, wire::PromptError};

/// Why a command of the application was refused. Nothing was started.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Refusal {
    /// `max_tokens` is 0.
    NoTokens,
    /// The prompt is none: empty, of too many messages, or with a role that no model knows.
    Prompt(PromptError),
    /// The prompt is longer than the limit.
    PromptTooLong {
        /// Its bytes.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// Too many stop strings, or one that is empty or too long.
    Stops,
    /// A bid outside 1 to 999 thousandths.
    Bid,
    /// A deadline of 0.
    NoTime,
    /// As many jobs as the limit allows are open.
    TooManyJobs {
        /// The limit.
        limit: u32,
    },
    /// All bodies and texts together reach the node's limit.
    NodeFull,
    /// The job is not known, or over.
    UnknownJob,
    /// The job does not wait for a choice, or the peer made no acceptable offer.
    NoSuchOffer,
    /// The attempt is not known, or over.
    UnknownAttempt,
    /// The piece does not fit: empty, too long, or miscounted.
    BadPiece,
    /// The window is full: wait for `Room`.
    NoRoom,
    /// The book of bans is full.
    BansFull,
    /// As many streams as allowed are open.
    TooManyStreams,
    /// A setting that can not work.
    Setting(ConfigError),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoTokens => f.write_str("max_tokens must be at least 1"),
            Self::Prompt(error) => error.fmt(f),
            Self::PromptTooLong { bytes, limit } => {
                write!(f, "the prompt has {bytes} bytes, the limit is {limit}: shorten it")
            }
            Self::Stops => f.write_str("at most 4 stop strings of 1 to 64 bytes are allowed"),
            Self::Bid => f.write_str("a bid must be 1 to 999 thousandths of the offer"),
            Self::NoTime => f.write_str("a deadline must be longer than 0"),
            Self::TooManyJobs { limit } => write!(f, "{limit} jobs are open, which is the limit: wait for one to end"),
            Self::NodeFull => f.write_str("the node holds as much text as it may: wait for a job to end"),
            Self::UnknownJob => f.write_str("the job is not known, or over"),
            Self::NoSuchOffer => {
                f.write_str("the job does not wait for a choice, or that peer made no acceptable offer")
            }
            Self::UnknownAttempt => f.write_str("the attempt is not known, or over"),
            Self::BadPiece => f.write_str(
                "a piece has 1 to 8192 bytes of text, no more tokens than bytes, and no more than the window",
            ),
            Self::NoRoom => f.write_str("the window is full: wait for room"),
            Self::BansFull => f.write_str("as many peers are banned by hand as the limit allows: allow one first"),
            Self::TooManyStreams => f.write_str("no more streams are accepted now"),
            Self::Setting(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for Refusal {}

impl Refusal {
    /// A stable code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NoTokens => "no_tokens",
            Self::Prompt(_) => "prompt",
            Self::PromptTooLong { .. } => "prompt_too_long",
            Self::Stops => "stops",
            Self::Bid => "bid",
            Self::NoTime => "no_time",
            Self::TooManyJobs { .. } => "too_many_jobs",
            Self::NodeFull => "node_full",
            Self::UnknownJob => "unknown_job",
            Self::NoSuchOffer => "no_such_offer",
            Self::UnknownAttempt => "unknown_attempt",
            Self::BadPiece => "bad_piece",
            Self::NoRoom => "no_room",
            Self::BansFull => "bans_full",
            Self::TooManyStreams => "too_many_streams",
            Self::Setting(_) => "setting",
        }
    }
}
