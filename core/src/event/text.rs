//! Names, codes and sentences of events and endings.

use core::fmt;

use super::{Event, Failure, Interrupted, NoRetry, PassedOver, Violation};
use crate::{
    id::JobId,
    machine::{QueryOutcome, StreamFailure},
    peers::score::Severity,
    wire::message::{DeclineReason, Phase},
};

impl Event<'_> {
    /// Whose event it is; `None` if no single job's.
    #[must_use]
    pub const fn job(&self) -> Option<JobId> {
        match self {
            Self::Discovered { .. } => None,
            Self::Weighed { job, .. }
            | Self::Asked { job, .. }
            | Self::Offered { job, .. }
            | Self::PassedOver { job, .. }
            | Self::ChoiceDue { job, .. }
            | Self::Awarded { job, .. }
            | Self::Negotiated { job, .. }
            | Self::Working { job, .. }
            | Self::Cut { job, .. }
            | Self::Resumed { job, .. }
            | Self::TakenOver { job, .. }
            | Self::Tokens { job, .. }
            | Self::Ended { job, .. } => Some(*job),
        }
    }

    /// The event's stable name; the seed's where it has one.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Discovered { .. } => "node:discovered",
            Self::Weighed { .. } => "job:weighed",
            Self::Asked { .. } => "job:asked",
            Self::Offered { .. } => "job:offered",
            Self::PassedOver { .. } => "job:passed-over",
            Self::ChoiceDue { .. } => "job:choice-due",
            Self::Awarded { .. } => "job:awarded",
            Self::Negotiated { .. } => "job:negotiated",
            Self::Working { .. } => "job:working",
            Self::Cut { .. } => "job:cut",
            Self::Resumed { .. } => "job:resumed",
            Self::TakenOver { .. } => "job:taken-over",
            Self::Tokens { .. } => "stream:token",
            Self::Ended { .. } => "job:ended",
        }
    }
}

impl Violation {
    /// What it costs: what no honest peer does, however broken its network, is fatal.
    #[must_use]
    pub const fn severity(&self) -> Severity {
        match self {
            Self::Seq | Self::Window | Self::TooMany | Self::Count | Self::Digest | Self::Terms => Severity::Fatal,
            Self::Frame | Self::Decode | Self::Unexpected | Self::Body | Self::Voucher => Severity::Grave,
            Self::Flood => Severity::Serious,
        }
    }
}

impl Failure {
    /// A stable code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Cancelled => "cancelled",
            Self::Deadline => "deadline",
            Self::NobodyFound { .. } => "nobody_found",
            Self::Declined(_) => "declined",
            Self::OverBudget { .. } => "over_budget",
            Self::Context => "context",
            Self::BadRequest => "bad_request",
            Self::Interrupted(_) => "interrupted",
        }
    }

    /// Whether the same request can be made again with hope.
    #[must_use]
    pub const fn retry_safe(&self) -> bool {
        match self {
            Self::NobodyFound { .. } | Self::Declined(_) | Self::Interrupted(_) | Self::Deadline => true,
            Self::Cancelled | Self::OverBudget { .. } | Self::Context | Self::BadRequest => false,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cancelled => f.write_str("the job was cancelled"),
            Self::Deadline => f.write_str("the job's deadline passed"),
            Self::NobodyFound { outcome: QueryOutcome::NoSource, .. } => f.write_str(
                "there is no source of peers: give a provider's or a bootstrap node's address, or enable mDNS",
            ),
            Self::NobodyFound { outcome, unfit: 0 } => match outcome {
                QueryOutcome::TimedOut => {
                    f.write_str("nobody who serves the model was found in time; the search is not complete")
                }
                _ => f.write_str("nobody serves the model"),
            },
            Self::NobodyFound { unfit, .. } => {
                write!(
                    f,
                    "none of those that serve the model fits ({unfit} do not): loosen price, context or exclusions (who failed lately is left out for a while)"
                )
            }
            Self::Declined(why) => write!(f, "no provider took the job; the last one: {why}"),
            Self::OverBudget { cheapest, budget } => {
                write!(f, "the cheapest offer costs {cheapest} micro-units at most, the budget has {budget}")
            }
            Self::Context => {
                f.write_str("prompt and answer do not fit the model's context: shorten the prompt or lower max_tokens")
            }
            Self::BadRequest => f.write_str("the provider's engine can not make sense of the request"),
            Self::Interrupted(why) => write!(f, "the answer was interrupted: {why}"),
        }
    }
}

impl core::error::Error for Failure {}

impl NoRetry {
    /// A stable code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Attempts => "attempts",
            Self::Deadline => "deadline",
            Self::Quota => "quota",
            Self::Failover => "failover",
            Self::Forgotten => "forgotten",
            Self::Budget => "budget",
            Self::Nobody => "nobody",
            Self::Complete => "complete",
        }
    }
}

impl fmt::Display for NoRetry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Attempts => "it had all its attempts",
            Self::Deadline => "another one would begin after the deadline",
            Self::Quota => "too many jobs of this node fail lately, and more attempts would add to that",
            Self::Failover => "its failover lets nobody else go on",
            Self::Forgotten => "the text so far is held no more, so that nobody can continue it",
            Self::Budget => "who could go on is beyond the budget",
            Self::Nobody => "nobody is left who could be asked",
            Self::Complete => "all tokens were delivered",
        })
    }
}

impl fmt::Display for PassedOver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stream(failure) => failure.fmt(f),
            Self::Lost => f.write_str("the connection was lost"),
            Self::Declined(reason) => reason.fmt(f),
            Self::Late => f.write_str("no answer in time"),
            Self::Violation(violation) => violation.fmt(f),
            Self::Interrupted(why) => why.fmt(f),
            Self::OverBudget => f.write_str("beyond the budget"),
            Self::TooSlow => f.write_str("beyond the deadline"),
            Self::Excluded => f.write_str("it failed lately and is left out for a while"),
        }
    }
}

impl fmt::Display for StreamFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unreachable => "it can not be reached",
            Self::TimedOut => "it did not answer in time",
            Self::WrongPeer => "another peer answers at its address",
            Self::Unsupported => "it does not speak this version of the protocol",
            Self::Refused => "no more streams are allowed now",
        })
    }
}

impl fmt::Display for DeclineReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Busy => "it is busy",
            Self::Stale => "its price changed",
            Self::UnknownModel => "it does not serve the model",
            Self::Context => "prompt and answer do not fit the model's context",
            Self::TooCheap => "the bid is too low",
            Self::PeerLimit => "one peer may not have more there",
            Self::Draining => "it takes no new jobs",
            Self::Conflict => "it knows the same attempt with another body",
            Self::Unsupported => "it can not do what is asked",
            Self::BodyMismatch => "the body is not the awarded one",
            Self::Settlement => "it is not paid like that",
        })
    }
}

/// What a provider does, as it goes on from its name.
impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Queued => "has other jobs before this one",
            Self::Loading => "loads the model",
            Self::Reading => "reads the prompt",
            Self::Thinking => "thinks",
        })
    }
}

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost => f.write_str("the connection was lost"),
            Self::Gone => f.write_str("the connection was lost, and the provider does not have the job any more"),
            Self::Request => f.write_str("it did not accept the job in time"),
            Self::FirstToken => f.write_str("the first token did not come in time"),
            Self::TokenGap => f.write_str("tokens came too slowly, or none for too long"),
            Self::Differs => f.write_str("it promised equal bytes and wrote others"),
            Self::Engine => f.write_str("the provider's engine broke"),
            Self::Shutdown => f.write_str("the provider stopped serving"),
            Self::TooSlow => f.write_str("the provider found this side too slow"),
            Self::Violation(violation) => violation.fmt(f),
            Self::Accused => f.write_str("the provider says that this side broke the protocol"),
            Self::Settlement => f.write_str("the provider says that it was not paid"),
            Self::BadRequest => f.write_str("the provider says that its engine can not make sense of the request"),
            Self::Context => f.write_str("the provider says that prompt and answer do not fit its context"),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Frame => "it sent a frame of impossible length",
            Self::Decode => "it sent bytes that are no message",
            Self::Unexpected => "it sent a message that does not belong there",
            Self::Seq => "it sent tokens out of order",
            Self::Window => "it sent more than the window allows",
            Self::TooMany => "it sent more tokens than were ordered",
            Self::Count => "it counted more tokens than the text can hold",
            Self::Digest => "its count or digest is not that of the text it sent",
            Self::Terms => "it accepted other terms than were awarded",
            Self::Flood => "it sent too many frames without progress",
            Self::Body => "it sent another body than was awarded",
            Self::Voucher => "it sent a voucher where none belongs, or a wrong one",
        })
    }
}
