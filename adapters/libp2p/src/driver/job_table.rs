//! The open jobs of this node and who waits for them.

use std::{collections::BTreeMap, sync::Arc};

use futures::channel::{mpsc, oneshot};
use haggle_core::{
    JobId,
    event::{Ending, Event, Finished, Outcome, Settlement},
    requester::Command,
};
use tracing::Span;

use crate::{
    Error, Found, JobError, JobEvent, NodeEvent, Offer, Receipt,
    feed::{Consumed, JobFeed, JobItem, JobSignal},
    id,
    shared::Shared,
};

pub(crate) struct JobTable {
    jobs: BTreeMap<JobId, Entry>,
    shared: Arc<Shared>,
    /// Tokens that one job may have waiting.
    window: usize,
    /// What handles of jobs say.
    note: mpsc::UnboundedSender<JobSignal>,
}

/// Events of a job that carry no tokens.
const OTHER_EVENTS: usize = 1_024;

struct Entry {
    waiter: Waiter,
    span: Span,
}

/// Who waits for what.
pub(super) enum Waiter {
    Job {
        items: mpsc::Sender<JobItem>,
        /// A sender of its own, whose one place in the channel is kept for the ending.
        ending: mpsc::Sender<JobItem>,
        consumed: Arc<Consumed>,
        /// Tokens that were sent and that the core was not told of as consumed.
        unread: u64,
        /// Nobody listens, and the job goes on.
        detached: bool,
    },
    Quote(oneshot::Sender<Result<Vec<Offer>, Error>>),
    Discovery(oneshot::Sender<Result<Found, Error>>),
}

impl JobTable {
    pub(crate) fn new(shared: Arc<Shared>, window: usize, note: mpsc::UnboundedSender<JobSignal>) -> Self {
        JobTable { jobs: BTreeMap::new(), shared, window, note }
    }

    /// The place where a job's events wait for its handle.
    pub(super) fn open_job(&mut self, job: JobId) -> JobFeed {
        let (items, events) = mpsc::channel(self.window + OTHER_EVENTS);
        let consumed = Arc::new(Consumed::default());
        let ending = items.clone();
        self.open(job, Waiter::Job { items, ending, consumed: consumed.clone(), unread: 0, detached: false });
        JobFeed::new(job, events, consumed, self.note.clone(), self.shared.time_source.clone())
    }

    pub(super) fn open(&mut self, job: JobId, waiter: Waiter) {
        let kind = match waiter {
            Waiter::Job { .. } => "job",
            Waiter::Quote(_) => "quote",
            Waiter::Discovery(_) => "discovery",
        };
        self.shared.metrics.count("haggle_jobs_submitted_total", kind, 1);
        let span = tracing::info_span!("job", id = %job, kind);
        self.jobs.insert(job, Entry { waiter, span });
    }

    pub(crate) fn open_jobs(&self) -> impl Iterator<Item = JobId> + '_ {
        self.jobs.keys().copied()
    }

    pub(crate) fn len(&self) -> usize {
        self.jobs.len()
    }

    /// Nobody will tell of its jobs any more.
    #[cfg(feature = "testing")]
    pub(crate) fn forget(&mut self) {
        self.jobs.clear();
    }

    /// Tokens that the application has taken since the last look.
    pub(super) fn take_consumed(&mut self, job: JobId) -> u64 {
        match self.jobs.get_mut(&job) {
            Some(Entry { waiter: Waiter::Job { consumed, unread, .. }, .. }) => {
                let taken = consumed.take();
                *unread = unread.saturating_sub(taken);
                taken
            }
            _ => 0,
        }
    }

    /// Nobody will read a job any more. Returns the tokens that wait for a reader.
    pub(super) fn detach(&mut self, job: JobId) -> u64 {
        match self.jobs.get_mut(&job) {
            Some(Entry { waiter: Waiter::Job { detached, unread, .. }, .. }) => {
                *detached = true;
                std::mem::take(unread)
            }
            _ => 0,
        }
    }

    /// Tells the application, and those who listen to the node, of an event of the core. What the core is to be told then.
    pub(crate) fn on_event(&mut self, event: Event<'_>) -> Option<Command> {
        if let Event::Ended { job, ending } = event {
            // Nobody waits for the ending.
            return self.on_end(job, ending).then_some(Command::Concluded(job));
        }
        if let Event::Discovered { peer, advert } = &event {
            let peer = id::to_libp2p(peer)?;
            self.shared.tell(NodeEvent::Discovered { peer, advert: advert.clone() });
            return None;
        }
        let (job, item) = translate(&event)?;
        self.tell_of(job, &item);
        let entry = self.jobs.get_mut(&job)?;
        let Waiter::Job { items, detached, unread, .. } = &mut entry.waiter else { return None };
        if let JobEvent::Tokens { n, .. } = item {
            if *detached {
                return Some(Command::Consumed { job, tokens: n.into() });
            }
            *unread += u64::from(n);
        }
        match items.try_send(Ok(item)) {
            // The application is behind by more than a window: the core's credit did not hold.
            Err(error) if error.is_full() => {
                entry.span.in_scope(|| tracing::error!("more came than the window allows"));
                Some(Command::Cancel(job))
            }
            // A job that was dropped is cancelled by its note.
            _ => None,
        }
    }

    fn tell_of(&self, job: JobId, item: &JobEvent) {
        match item {
            JobEvent::Negotiated { peer, tariff, attempt } => {
                if let Some(entry) = self.jobs.get(&job) {
                    entry.span.in_scope(|| tracing::info!(%peer, attempt, ?tariff, "negotiated"));
                }
                self.shared.tell(NodeEvent::Negotiated { job, peer: *peer, tariff: *tariff });
            }
            JobEvent::Tokens { peer, seq, n, text, channel, .. } => {
                self.shared.metrics.count("haggle_tokens_received_total", "", u64::from(*n));
                self.shared.tell_with("stream:token", || NodeEvent::Token {
                    job,
                    peer: *peer,
                    seq: *seq,
                    n: *n,
                    text: text.as_str().into(),
                    channel: *channel,
                });
            }
            _ => {}
        }
    }

    /// Tells how a job ended; `true` if nobody will ever say that it was taken in.
    fn on_end(&mut self, job: JobId, Ending { outcome, no_retry, mut bill }: Ending) -> bool {
        if self.shared.time_source.is_simulated() {
            bill.settlement = Settlement::Simulated;
        }
        let code = match &outcome {
            Outcome::Finished(_) => "finished",
            Outcome::Failed(failure) => failure.code(),
        };
        self.shared.metrics.count("haggle_jobs_ended_total", code, 1);
        self.shared.tell(NodeEvent::JobEnded { job, outcome: outcome.clone(), no_retry, bill: bill.clone() });
        let Some(Entry { waiter, span }) = self.jobs.remove(&job) else { return true };
        span.in_scope(|| tracing::info!(outcome = code, tokens = bill.tokens, owed = bill.owed as u64, "ended"));
        let failed = |failure| JobError { failure, no_retry, bill: Box::new(bill.clone()) };
        match (waiter, outcome) {
            (Waiter::Job { mut ending, detached, .. }, outcome) => {
                let item = match outcome {
                    Outcome::Finished(Finished::Answer { reason, prompt_tokens, tokens, thought, cached }) => {
                        Ok(JobEvent::Finished(Receipt { reason, prompt_tokens, tokens, thought, cached, bill }))
                    }
                    Outcome::Finished(_) => return true,
                    Outcome::Failed(failure) => Err(failed(failure)),
                };
                // It fails only if nobody listens any more.
                return ending.try_send(item).is_err() || detached;
            }
            (Waiter::Quote(reply), Outcome::Finished(Finished::Quotes(quotes))) => {
                let _ = reply.send(Ok(quotes.iter().filter_map(Offer::from_core).collect()));
            }
            (Waiter::Discovery(reply), Outcome::Finished(Finished::Providers { found, outcome })) => {
                let named = |(peer, advert)| Some((id::to_libp2p(&peer)?, advert));
                let providers = found.into_iter().filter_map(named).collect();
                let _ = reply.send(Ok(Found { providers, outcome }));
            }
            (Waiter::Quote(reply), Outcome::Failed(failure)) => drop(reply.send(Err(failed(failure).into()))),
            (Waiter::Discovery(reply), Outcome::Failed(failure)) => drop(reply.send(Err(failed(failure).into()))),
            // The core ends a request in its own kind; a dropped reply says `Stopped`.
            (Waiter::Quote(_) | Waiter::Discovery(_), Outcome::Finished(_)) => {}
        }
        true
    }
}

/// An event of a job, as the application gets it.
fn translate(event: &Event<'_>) -> Option<(JobId, JobEvent)> {
    let peer = id::to_libp2p;
    Some(match event {
        Event::Weighed { job, weighing } => (*job, JobEvent::Weighed(weighing.clone())),
        Event::Asked { job, peer: who } => (*job, JobEvent::Asked { peer: peer(who)? }),
        Event::Offered { job, quote } => (*job, JobEvent::Offered(Offer::from_core(quote)?)),
        Event::PassedOver { job, peer: who, why } => (*job, JobEvent::PassedOver { peer: peer(who)?, why: *why }),
        Event::ChoiceDue { job, quotes } => {
            (*job, JobEvent::ChoiceDue(quotes.iter().filter_map(Offer::from_core).collect()))
        }
        Event::Awarded { job, attempt, quote, reason } => {
            (*job, JobEvent::Awarded { attempt: *attempt, offer: Offer::from_core(quote)?, reason: *reason })
        }
        Event::Negotiated { job, attempt, peer: who, tariff } => {
            (*job, JobEvent::Negotiated { attempt: *attempt, peer: peer(who)?, tariff: *tariff })
        }
        Event::Working { job, attempt, peer: who, phase } => {
            (*job, JobEvent::Working { attempt: *attempt, peer: peer(who)?, phase: *phase })
        }
        Event::Cut { job, attempt, peer: who, patience } => {
            (*job, JobEvent::Cut { attempt: *attempt, peer: peer(who)?, patience: *patience })
        }
        Event::Resumed { job, attempt, peer: who, seq } => {
            (*job, JobEvent::Resumed { attempt: *attempt, peer: peer(who)?, seq: *seq })
        }
        Event::TakenOver { job, attempt, peer: who, seq, how } => {
            (*job, JobEvent::TakenOver { attempt: *attempt, peer: peer(who)?, seq: *seq, how: *how })
        }
        Event::Tokens { job, peer: who, seq, n, text, ids, channel } => {
            let id = |bytes: &[u8]| bytes.try_into().map(u32::from_le_bytes).unwrap_or_default();
            let ids = ids.map(|ids| ids.chunks_exact(4).map(id).collect());
            let (text, channel) = ((*text).to_owned(), *channel);
            (*job, JobEvent::Tokens { peer: peer(who)?, seq: *seq, n: *n, text, ids, channel })
        }
        Event::Discovered { .. } | Event::Ended { .. } => return None,
    })
}
