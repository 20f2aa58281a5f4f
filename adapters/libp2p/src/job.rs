//! A job as the application holds it.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use futures::{Stream, StreamExt, stream::FusedStream};
use haggle_core::{JobId, Refusal, event::TakeOver, requester::Command as Ask, wire::message::Channel};
use libp2p::PeerId;

use crate::{
    Error, JobEvent, Receipt,
    command::Command,
    feed::{JobFeed, JobItem},
    handle::Handle,
    id,
};

/// A complete answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Its text.
    pub text: String,
    /// What came beside it, in order: thoughts, a refusal, calls of tools.
    pub beside: Vec<(Channel, String)>,
    /// What it came to.
    pub receipt: Receipt,
}

/// A job that was taken: a stream of what happens to it, which ends with [`JobEvent::Finished`] or an error.
///
/// What it hands out counts as taken when the next is asked for: an application that stores each event first loses none
/// when it dies. The provider writes no further ahead than one window of what was taken. Dropping the job cancels it;
/// [`detach`](Job::detach) lets it go on unheard.
pub struct Job {
    feed: JobFeed,
    handle: Handle,
}

impl Job {
    pub(crate) fn new(feed: JobFeed, handle: Handle) -> Self {
        Job { feed, handle }
    }

    /// The job's id.
    pub fn id(&self) -> JobId {
        self.feed.job()
    }

    /// Whether it is a job of a simulated node: nothing of it is real, and its bill says so.
    pub fn is_simulated(&self) -> bool {
        self.handle.shared.time_source.is_simulated()
    }

    /// Ends the job. Its stream still tells how it ended.
    pub fn cancel(&self) {
        self.feed.cancel();
    }

    /// Chooses an offer, after [`JobEvent::ChoiceDue`].
    ///
    /// # Errors
    /// When the job waits for no choice or the peer made no acceptable offer.
    pub async fn award(&self, peer: PeerId) -> Result<(), Error> {
        let peer = id::to_core(&peer).ok_or(Refusal::NoSuchOffer)?;
        let award = Ask::Award { job: self.id(), peer };
        self.handle.ask(|reply| Command::Do(award, reply)).await
    }

    /// Lets the job go on with nobody listening.
    pub fn detach(self) -> JobId {
        self.feed.detach()
    }

    /// Waits for the whole answer.
    ///
    /// # Errors
    /// When the job fails; the text delivered until then is lost with this method. Read the stream to keep it.
    pub async fn answer(mut self) -> Result<Answer, Error> {
        let (mut text, mut beside) = (String::new(), Vec::new());
        while let Some(item) = self.next().await {
            match item? {
                JobEvent::Tokens { text: more, channel: None, .. } => text.push_str(&more),
                JobEvent::Tokens { text, channel: Some(channel), .. } => beside.push((channel, text)),
                JobEvent::TakenOver { how: TakeOver::Restarted, .. } => {
                    text.clear();
                    beside.clear();
                }
                JobEvent::Finished(receipt) => return Ok(Answer { text, beside, receipt }),
                _ => {}
            }
        }
        Err(Error::Stopped)
    }
}

impl Stream for Job {
    type Item = JobItem;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<JobItem>> {
        self.feed.poll_next_unpin(cx)
    }
}

impl FusedStream for Job {
    fn is_terminated(&self) -> bool {
        self.feed.is_over()
    }
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job").field("id", &self.id()).field("over", &self.feed.is_over()).finish_non_exhaustive()
    }
}
