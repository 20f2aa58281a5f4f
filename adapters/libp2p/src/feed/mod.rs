//! Between a node and the handle of a job: what happens to the job comes out of here, what the handle wants goes in.

mod event;

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
};

use futures::{Stream, StreamExt, channel::mpsc};
use haggle_core::JobId;

use crate::time_source::TimeSource;

pub(crate) use self::event::JobItem;
pub use self::event::{Found, JobEvent, Offer, Receipt};

/// What the handle of a job tells the node. Each job has at most one of each waiting.
#[derive(Debug)]
pub(crate) enum JobSignal {
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

/// What happens to a job that was taken. Dropping it cancels the job, wherever it is on its way.
#[derive(Debug)]
pub(crate) struct JobFeed {
    job: JobId,
    items: mpsc::Receiver<JobItem>,
    consumed: Arc<Consumed>,
    notes: mpsc::UnboundedSender<JobSignal>,
    time_source: TimeSource,
    /// Tokens that were handed out last: they count as taken when more is asked for.
    taken: u32,
    over: bool,
}

impl JobFeed {
    pub(crate) fn new(
        job: JobId,
        items: mpsc::Receiver<JobItem>,
        consumed: Arc<Consumed>,
        notes: mpsc::UnboundedSender<JobSignal>,
        time_source: TimeSource,
    ) -> Self {
        JobFeed { job, items, consumed, notes, time_source, taken: 0, over: false }
    }

    pub(crate) fn job(&self) -> JobId {
        self.job
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over
    }

    pub(crate) fn cancel(&self) {
        self.note(JobSignal::Cancel(self.job));
    }

    /// Lets the job go on with nobody listening.
    pub(crate) fn detach(mut self) -> JobId {
        self.over = true;
        self.note(JobSignal::Detach(self.job));
        self.job
    }

    fn note(&self, note: JobSignal) {
        // A node that is gone has ended its jobs.
        let _ = self.notes.unbounded_send(note);
        self.time_source.stir();
    }
}

impl Stream for JobFeed {
    type Item = JobItem;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<JobItem>> {
        if self.over {
            return Poll::Ready(None);
        }
        let taken = std::mem::take(&mut self.taken);
        if self.consumed.add(taken) {
            self.note(JobSignal::Consumed(self.job));
        }
        let JobFeed { items, time_source, .. } = &mut *self;
        let item = ready!(time_source.poll(cx, |cx| items.poll_next_unpin(cx)));
        match &item {
            Some(Ok(JobEvent::Tokens { n, .. })) => self.taken = *n,
            Some(Ok(JobEvent::Finished(_)) | Err(_)) | None => self.over = true,
            Some(Ok(_)) => {}
        }
        Poll::Ready(item)
    }
}

impl Drop for JobFeed {
    fn drop(&mut self) {
        if !self.over {
            self.cancel();
        }
        self.note(JobSignal::Concluded(self.job));
    }
}
