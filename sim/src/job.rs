//! What the application of a requester sees of its jobs.

use std::fmt;

use haggle_core::{
    Criteria, Event, JobSpec, PeerId,
    event::{Ending, Failure, Finished, Outcome},
    spec::QuoteSpec,
    wire::message::Channel,
};

use crate::node::{NodeId, Pace};

/// What a requester was asked for.
#[derive(Clone, PartialEq, Eq)]
pub enum Ask {
    /// A job.
    Job(JobSpec),
    /// Prices.
    Quote(QuoteSpec),
    /// Providers.
    Discover(Criteria),
}

/// A job, and everything its application was told about it.
#[derive(Clone)]
pub struct Job {
    /// Whose job it is.
    pub node: NodeId,
    /// What was asked for.
    pub ask: Ask,
    /// When, in ms.
    pub submitted: u64,
    /// Every event but `Tokens`, in order, with its time in ms.
    pub events: Vec<(u64, Event<'static>)>,
    /// The text so far, over all channels.
    pub text: String,
    /// Its tokens. Where another provider begins anew, text and tokens do too.
    pub tokens: u64,
    /// When the first token came.
    pub first_token: Option<u64>,
    /// When and how it ended.
    pub ending: Option<(u64, Ending)>,
    /// Its node died before it ended: nobody is left who could be told.
    pub orphaned: bool,
    pub(crate) pace: Pace,
    /// Tokens delivered in all, and of these, taken by the application.
    pub(crate) delivered: u64,
    pub(crate) consumed: u64,
    pub(crate) app_due: bool,
    /// Its node came back from a crash.
    pub(crate) recovered: bool,
    /// The run's pieces as they were told, if the application stores them.
    pub(crate) pieces: Vec<Stored>,
}

/// Tokens as an application stores them; their text is the job's.
#[derive(Clone)]
pub(crate) struct Stored {
    pub(crate) peer: PeerId,
    pub(crate) n: u32,
    /// Bytes of their text.
    pub(crate) len: usize,
    pub(crate) ids: Option<Vec<u8>>,
    pub(crate) channel: Option<Channel>,
}

impl Job {
    pub(crate) const fn new(node: NodeId, ask: Ask, submitted: u64, pace: Pace) -> Self {
        Self {
            node,
            ask,
            submitted,
            events: Vec::new(),
            text: String::new(),
            tokens: 0,
            first_token: None,
            ending: None,
            orphaned: false,
            pace,
            delivered: 0,
            consumed: 0,
            app_due: false,
            recovered: false,
            pieces: Vec::new(),
        }
    }

    /// Why it failed; `None` if it did not, or has not ended.
    #[must_use]
    pub fn failure(&self) -> Option<Failure> {
        match self.ending.as_ref()?.1.outcome {
            Outcome::Failed(failure) => Some(failure),
            Outcome::Finished(_) => None,
        }
    }

    /// What it finished with; `None` if it failed, or has not ended.
    #[must_use]
    pub fn finished(&self) -> Option<&Finished> {
        match &self.ending.as_ref()?.1.outcome {
            Outcome::Finished(finished) => Some(finished),
            Outcome::Failed(_) => None,
        }
    }

    /// What is owed for it in all, by its ending.
    #[must_use]
    pub fn owed(&self) -> u128 {
        self.ending.as_ref().map_or(0, |(_, ending)| ending.bill.owed)
    }

    /// Who was awarded, in order.
    #[must_use]
    pub fn awarded(&self) -> Vec<PeerId> {
        let awarded = |event: &(u64, Event<'_>)| match &event.1 {
            Event::Awarded { quote, .. } => Some(quote.peer),
            _ => None,
        };
        self.events.iter().filter_map(awarded).collect()
    }

    /// How often an event of that name came.
    #[must_use]
    pub fn count(&self, name: &str) -> usize {
        self.events.iter().filter(|(_, event)| event.name() == name).count()
    }

    /// How long it took, in ms.
    #[must_use]
    pub fn took(&self) -> Option<u64> {
        Some(self.ending.as_ref()?.0 - self.submitted)
    }
}

impl fmt::Display for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.ending {
            None => f.write_str("did not end")?,
            Some((at, ending)) => {
                match &ending.outcome {
                    Outcome::Finished(_) => write!(f, "finished")?,
                    Outcome::Failed(failure) => write!(f, "failed ({failure})")?,
                }
                write!(f, " after {} ms, owes {}", at - self.submitted, ending.bill.owed)?;
            }
        }
        let first =
            self.first_token.map_or_else(String::new, |at| format!(", the first after {} ms", at - self.submitted));
        write!(f, "; {} tokens{first}; {} awards", self.tokens, self.awarded().len())
    }
}

/// The event without its borrow; `None` for tokens.
pub(crate) fn keep(event: &Event<'_>) -> Option<Event<'static>> {
    Some(match event.clone() {
        Event::Tokens { .. } => return None,
        Event::Discovered { peer, advert } => Event::Discovered { peer, advert },
        Event::Weighed { job, weighing } => Event::Weighed { job, weighing },
        Event::Asked { job, peer } => Event::Asked { job, peer },
        Event::Offered { job, quote } => Event::Offered { job, quote },
        Event::PassedOver { job, peer, why } => Event::PassedOver { job, peer, why },
        Event::ChoiceDue { job, quotes } => Event::ChoiceDue { job, quotes },
        Event::Awarded { job, attempt, quote, reason } => Event::Awarded { job, attempt, quote, reason },
        Event::Negotiated { job, attempt, peer, tariff } => Event::Negotiated { job, attempt, peer, tariff },
        Event::Working { job, attempt, peer, phase } => Event::Working { job, attempt, peer, phase },
        Event::Cut { job, attempt, peer, patience } => Event::Cut { job, attempt, peer, patience },
        Event::Resumed { job, attempt, peer, seq } => Event::Resumed { job, attempt, peer, seq },
        Event::TakenOver { job, attempt, peer, seq, how } => Event::TakenOver { job, attempt, peer, seq, how },
        Event::Ended { job, ending } => Event::Ended { job, ending },
    })
}
