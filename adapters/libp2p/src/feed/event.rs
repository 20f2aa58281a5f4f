//! What is told of a job.

use haggle_core::{
    event::{Bill, ChoiceReason, PassedOver, Quote, TakeOver, explain::Weighing},
    machine::QueryOutcome,
    money::Tariff,
    time::Millis,
    wire::message::{Advert, Channel, EndReason, Phase},
};
use libp2p::PeerId;

use crate::{JobError, id};

pub(crate) type JobItem = Result<JobEvent, JobError>;

/// Something that happened to a job.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum JobEvent {
    /// A step of the choice, and what it saw: for jobs with `explain`.
    Weighed(Weighing),
    /// A provider was asked for an offer.
    Asked {
        /// Who.
        peer: PeerId,
    },
    /// A provider made an offer.
    Offered(Offer),
    /// A provider did not make, or did not keep, an offer.
    PassedOver {
        /// Who.
        peer: PeerId,
        /// Why.
        why: PassedOver,
    },
    /// The offers are in and the application chooses, by [`Job::award`](crate::Job::award).
    ChoiceDue(Vec<Offer>),
    /// A provider was chosen.
    Awarded {
        /// Which attempt, from 1.
        attempt: u32,
        /// Under which terms.
        offer: Offer,
        /// Why this one.
        reason: ChoiceReason,
    },
    /// The chosen provider accepted.
    Negotiated {
        /// Which attempt.
        attempt: u32,
        /// Who.
        peer: PeerId,
        /// At what price.
        tariff: Tariff,
    },
    /// The provider works on the first token: it does something else than it said before.
    Working {
        /// Which attempt.
        attempt: u32,
        /// Who.
        peer: PeerId,
        /// What it says that it does.
        phase: Phase,
    },
    /// The connection to the provider was lost; its job goes on there, and is resumed.
    Cut {
        /// Which attempt.
        attempt: u32,
        /// Who.
        peer: PeerId,
        /// How long it is tried before the provider is given up.
        patience: Millis,
    },
    /// The provider goes on at the exact token.
    Resumed {
        /// Which attempt.
        attempt: u32,
        /// Who.
        peer: PeerId,
        /// Index of the token that comes next.
        seq: u64,
    },
    /// The tokens that follow come from another provider than those before.
    TakenOver {
        /// Which attempt goes on.
        attempt: u32,
        /// Who.
        peer: PeerId,
        /// Index of the first token that follows.
        seq: u64,
        /// Whether the text is the one that the first provider would have written.
        how: TakeOver,
    },
    /// Tokens, once and in order.
    Tokens {
        /// From whom.
        peer: PeerId,
        /// Index of the first, dense from 0.
        seq: u64,
        /// How many.
        n: u32,
        /// Their text.
        text: String,
        /// Their ids, if the provider knows them.
        ids: Option<Vec<u32>>,
        /// What they are, if not the answer's text: thoughts, a refusal, a call of tools. They are owed like text.
        channel: Option<Channel>,
    },
    /// The answer is complete. Nothing follows.
    Finished(Receipt),
}

/// An offer of a provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// From whom.
    pub peer: PeerId,
    /// Whether it is a posted price, taken without asking.
    pub posted: bool,
    /// The price.
    pub tariff: Tariff,
    /// What the job costs at most under it, in micro-units.
    pub cost: u128,
    /// Expected time to the first token.
    pub eta: Millis,
}

impl Offer {
    pub(crate) fn from_core(quote: &Quote) -> Option<Self> {
        Some(Offer {
            peer: id::to_libp2p(&quote.peer)?,
            posted: quote.offer.is_none(),
            tariff: quote.tariff,
            cost: quote.cost,
            eta: quote.eta,
        })
    }
}

/// What a complete answer came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Why the answer ended.
    pub reason: EndReason,
    /// Tokens read, as the provider counted them.
    pub prompt_tokens: u64,
    /// Tokens delivered, over all channels.
    pub tokens: u64,
    /// Of these, those that were thought, as the provider says; `None` if it does not. Chunks of
    /// [`Channel::Thought`] are what was seen of it.
    pub thought: Option<u64>,
    /// Of the tokens read, those that the provider's engine had already, as it says; `None` if it does not.
    pub cached: Option<u64>,
    /// What is owed; nothing is paid in this version.
    pub bill: Bill,
}

/// Who serves a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// Who, and what they say of themselves, the best posted price first. Never empty.
    pub providers: Vec<(PeerId, Advert)>,
    /// Whether every source of peers answered.
    pub outcome: QueryOutcome,
}
