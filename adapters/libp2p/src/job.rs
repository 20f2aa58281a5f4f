//! A job as the application holds it.

use std::{
    fmt,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
};

use futures::{Stream, StreamExt, channel::mpsc, stream::FusedStream};
use haggle_core::{
    JobId,
    event::{Bill, ChoiceReason, PassedOver, Quote, TakeOver, explain::Weighing},
    money::Tariff,
    time::Millis,
    wire::message::EndReason,
};
use libp2p::PeerId;

use crate::{Error, JobError, id, node::Node, shared::Clockwork};

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
    /// The offers are in and the application chooses, by [`Job::award`].
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
    /// Tokens delivered.
    pub tokens: u64,
    /// What is owed; nothing is paid in this version.
    pub bill: Bill,
}

/// A complete answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Its text.
    pub text: String,
    /// What it came to.
    pub receipt: Receipt,
}

/// What the handle of a job tells the node. Each job has at most one of each waiting.
#[derive(Debug)]
pub(crate) enum Note {
    /// Look at [`Consumed`].
    Consumed(JobId),
    Cancel(JobId),
    Detach(JobId),
    /// How it ended was taken, too.
    Concluded(JobId),
}

/// Tokens that the application has taken and the core was not told of.
#[derive(Debug, Default)]
pub(crate) struct Consumed(AtomicU64);

impl Consumed {
    /// True if the node is to be told: it was not, since it took the last.
    fn add(&self, n: u32) -> bool {
        n > 0 && self.0.fetch_add(u64::from(n), Ordering::Relaxed) == 0
    }

    pub(crate) fn take(&self) -> u64 {
        self.0.swap(0, Ordering::Relaxed)
    }
}

pub(crate) type JobItem = Result<JobEvent, JobError>;

/// A job that was taken: a stream of what happens to it, which ends with [`JobEvent::Finished`] or an error.
///
/// What it hands out counts as taken when the next is asked for: an application that stores each event first loses none
/// when it dies. The provider writes no further ahead than one window of what was taken. Dropping the job cancels it;
/// [`detach`](Job::detach) lets it go on unheard.
pub struct Job {
    id: JobId,
    node: Node,
    items: mpsc::Receiver<JobItem>,
    consumed: Arc<Consumed>,
    notes: mpsc::UnboundedSender<Note>,
    clockwork: Clockwork,
    /// Tokens that were handed out last: they count as taken when more is asked for.
    taken: u32,
    over: bool,
}

/// A job whose handle nobody has yet.
#[derive(Debug)]
pub(crate) struct Unclaimed {
    pub(crate) job: JobId,
    pub(crate) events: mpsc::Receiver<JobItem>,
    pub(crate) consumed: Arc<Consumed>,
    pub(crate) note: mpsc::UnboundedSender<Note>,
}

impl Unclaimed {
    pub(crate) fn handle(self, node: Node) -> Job {
        Job::new(self.job, node, self.events, self.consumed, self.note)
    }
}

impl Job {
    pub(crate) fn new(
        id: JobId,
        node: Node,
        items: mpsc::Receiver<JobItem>,
        consumed: Arc<Consumed>,
        notes: mpsc::UnboundedSender<Note>,
    ) -> Self {
        let clockwork = node.clockwork().clone();
        Job { id, node, items, consumed, notes, clockwork, taken: 0, over: false }
    }

    /// The job's id.
    pub fn id(&self) -> JobId {
        self.id
    }

    /// Whether it is a job of a simulated node: nothing of it is real, and its bill says so.
    pub fn is_simulated(&self) -> bool {
        self.node.is_simulated()
    }

    /// Ends the job. Its stream still tells how it ended.
    pub fn cancel(&self) {
        self.note(Note::Cancel(self.id));
    }

    /// Chooses an offer, after [`JobEvent::ChoiceDue`].
    ///
    /// # Errors
    /// When the job waits for no choice or the peer made no acceptable offer.
    pub async fn award(&self, peer: PeerId) -> Result<(), Error> {
        self.node.award(self.id, peer).await
    }

    /// Lets the job go on with nobody listening.
    pub fn detach(mut self) -> JobId {
        self.over = true;
        self.note(Note::Detach(self.id));
        self.id
    }

    /// Waits for the whole answer.
    ///
    /// # Errors
    /// When the job fails; the text delivered until then is lost with this method. Read the stream to keep it.
    pub async fn answer(mut self) -> Result<Answer, Error> {
        let mut text = String::new();
        while let Some(item) = self.next().await {
            match item? {
                JobEvent::Tokens { text: more, .. } => text.push_str(&more),
                JobEvent::TakenOver { how: TakeOver::Restarted, .. } => text.clear(),
                JobEvent::Finished(receipt) => return Ok(Answer { text, receipt }),
                _ => {}
            }
        }
        Err(Error::Stopped)
    }

    fn note(&self, note: Note) {
        // A node that is gone has ended its jobs.
        let _ = self.notes.unbounded_send(note);
        self.clockwork.stir();
    }
}

impl Stream for Job {
    type Item = JobItem;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<JobItem>> {
        if self.over {
            return Poll::Ready(None);
        }
        let taken = std::mem::take(&mut self.taken);
        if self.consumed.add(taken) {
            self.note(Note::Consumed(self.id));
        }
        let Job { items, clockwork, .. } = &mut *self;
        let item = ready!(clockwork.poll(cx, |cx| items.poll_next_unpin(cx)));
        match &item {
            Some(Ok(JobEvent::Tokens { n, .. })) => self.taken = *n,
            Some(Ok(JobEvent::Finished(_)) | Err(_)) | None => self.over = true,
            Some(Ok(_)) => {}
        }
        Poll::Ready(item)
    }
}

impl FusedStream for Job {
    fn is_terminated(&self) -> bool {
        self.over
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        if !self.over {
            self.cancel();
        }
        self.note(Note::Concluded(self.id));
    }
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job").field("id", &self.id).field("over", &self.over).finish_non_exhaustive()
    }
}
