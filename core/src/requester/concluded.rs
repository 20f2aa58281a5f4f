//! How answers ended, kept until the application has stored that.

use alloc::vec::Vec;

use minicbor::{Decode, Encode};

use crate::{
    event::{BillLine, Ending, Failure, Finished, NoRetry, Outcome},
    wire::message::EndReason,
};

use super::transcript::Transcript;

/// An answer that ended, until its application has stored that.
#[derive(Clone, Hash, Debug)]
pub(super) struct Concluded {
    pub(super) transcript: Transcript,
    pub(super) how: How,
    pub(super) lines: Vec<BillLine>,
    pub(super) before: u32,
}

/// How an answer ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Encode, Decode)]
#[cbor(map)]
pub(super) enum How {
    #[n(0)]
    Finished {
        #[n(0)]
        reason: EndReason,
        #[n(1)]
        prompt_tokens: u64,
        #[n(2)]
        thought: Option<u64>,
        #[n(3)]
        cached: Option<u64>,
    },
    #[n(1)]
    Failed(#[n(0)] Failure, #[n(1)] Option<NoRetry>),
}

impl How {
    /// `None` for what is no answer. A failure is kept whatever it is: there may have been awards before it.
    pub(super) const fn of(ending: &Ending) -> Option<Self> {
        match &ending.outcome {
            &Outcome::Finished(Finished::Answer { reason, prompt_tokens, tokens: _, thought, cached }) => {
                Some(Self::Finished { reason, prompt_tokens, thought, cached })
            }
            Outcome::Finished(_) => None,
            Outcome::Failed(failure) => Some(Self::Failed(*failure, ending.no_retry)),
        }
    }

    pub(super) const fn outcome(self, tokens: u64) -> (Outcome, Option<NoRetry>) {
        match self {
            Self::Finished { reason, prompt_tokens, thought, cached } => {
                (Outcome::Finished(Finished::Answer { reason, prompt_tokens, tokens, thought, cached }), None)
            }
            Self::Failed(failure, no_retry) => (Outcome::Failed(failure), no_retry),
        }
    }
}
