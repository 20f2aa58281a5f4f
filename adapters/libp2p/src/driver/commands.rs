//! What the handles of a node ask for.

use std::{
    sync::Arc,
    time::{Duration, Instant as Clock},
};

use futures::channel::{mpsc, oneshot};
use haggle_core::{
    Criteria, Instant, JobId, JobSpec, Millis, Refusal, money::Amount, peers::book::Reliability, spec::QuoteSpec,
};
use libp2p::{Multiaddr, PeerId};

use super::{Driver, Found, Order, desk::Waits};
use crate::{
    Error, Job, Node, Offer, id,
    job::{Consumed, Note, Unclaimed},
};

/// A request of a handle.
pub(crate) enum Command {
    Submit(JobSpec, Node, oneshot::Sender<Result<Job, Error>>),
    Quote(QuoteSpec, oneshot::Sender<Result<Vec<Offer>, Error>>),
    Discover(Criteria, Option<Millis>, oneshot::Sender<Result<Found, Error>>),
    Award(JobId, PeerId, oneshot::Sender<Result<(), Error>>),
    SetAccountBudget(Option<Amount>),
    Reliability(PeerId, oneshot::Sender<Result<Option<Reliability>, Error>>),
    Ban(PeerId, oneshot::Sender<Result<(), Error>>),
    Allow(PeerId),
    AddAddress(PeerId, Multiaddr),
    Drain(Millis, oneshot::Sender<()>),
    Stop(oneshot::Sender<()>),
}

/// A node that is being stopped.
#[derive(Default)]
pub(super) struct Stop {
    pub(super) until: Option<Clock>,
    pub(super) replies: Vec<oneshot::Sender<()>>,
}

/// Events of a job that carry no tokens.
const OTHER_EVENTS: usize = 1_024;
/// What a stopping node still has to say has so long to leave.
const GOODBYE: Duration = Duration::from_secs(2);

impl Driver {
    pub(super) fn on_note(&mut self, note: Note) {
        let now = self.now();
        match note {
            Note::Consumed(job) => self.requester.consumed(now, job, self.desk.take_consumed(job)),
            // A job that is over needs no cancel.
            Note::Cancel(job) => drop(self.requester.cancel(now, job)),
            Note::Concluded(job) => {
                self.requester.concluded(job);
                self.keep_later();
            }
            // Nobody will take what waits in the channel.
            Note::Detach(job) => self.requester.consumed(now, job, self.desk.detach(job)),
        }
    }

    /// `None`: every handle is gone.
    pub(super) fn on_command(&mut self, command: Option<Command>) {
        let now = self.now();
        match command {
            _ if self.stop.until.is_some() => {
                if let Some(Command::Stop(reply)) = command {
                    self.stop.replies.push(reply);
                }
            }
            Some(Command::Submit(spec, node, reply)) => drop(reply.send(self.submit(now, spec, node))),
            Some(Command::Quote(spec, reply)) => match self.requester.quote(now, spec) {
                Ok(job) => self.desk.open(job, Waits::Quote(reply)),
                Err(refusal) => drop(reply.send(Err(refusal.into()))),
            },
            Some(Command::Discover(criteria, deadline, reply)) => {
                match self.requester.discover(now, criteria, deadline) {
                    Ok(job) => self.desk.open(job, Waits::Discovery(reply)),
                    Err(refusal) => drop(reply.send(Err(refusal.into()))),
                }
            }
            Some(Command::Award(job, peer, reply)) => {
                let peer = id::to_core(&peer).ok_or(Refusal::NoSuchOffer);
                let awarded = peer.and_then(|peer| self.requester.award(now, job, peer));
                let _ = reply.send(awarded.map_err(Error::from));
            }
            Some(Command::SetAccountBudget(budget)) => self.requester.set_account_budget(budget),
            Some(Command::Reliability(peer, reply)) => {
                let known = id::to_core(&peer).and_then(|peer| self.requester.reliability(now, &peer));
                let _ = reply.send(Ok(known));
            }
            Some(Command::Ban(peer, reply)) => {
                let banned = id::to_core(&peer).map_or(Ok(()), |peer| self.requester.ban(peer));
                self.keep_at_once();
                let _ = reply.send(banned.map_err(Error::from));
            }
            Some(Command::Allow(peer)) => {
                if let Some(peer) = id::to_core(&peer) {
                    self.requester.allow(&peer);
                    self.keep_at_once();
                }
            }
            Some(Command::AddAddress(peer, address)) => self.orders.push_back(Order::AddAddress(peer, address)),
            Some(Command::Drain(patience, reply)) => {
                if let Some(provider) = &mut self.provider {
                    provider.drain(now, patience);
                }
                self.orders.push_back(Order::Withdraw);
                self.draining.push(reply);
            }
            Some(Command::Stop(reply)) => {
                self.stop.replies.push(reply);
                self.shut_down(now);
            }
            None => self.shut_down(now),
        }
    }

    pub(super) fn submit(&mut self, now: Instant, spec: JobSpec, node: Node) -> Result<Job, Error> {
        let job = self.requester.submit(now, spec)?;
        self.keep_at_once();
        Ok(self.open(job).handle(node))
    }

    /// The place where a job's events wait for its handle.
    pub(super) fn open(&mut self, job: JobId) -> Unclaimed {
        let (items, events) = mpsc::channel(self.window + OTHER_EVENTS);
        let consumed = Arc::new(Consumed::default());
        let ending = items.clone();
        self.desk.open(job, Waits::Job { items, ending, consumed: consumed.clone(), unread: 0, detached: false });
        Unclaimed { job, events, consumed, note: self.note.clone() }
    }

    /// Ends every job, typed, on both sides.
    pub(super) fn shut_down(&mut self, now: Instant) {
        self.stop.until = Some(Clock::now() + GOODBYE);
        for job in self.desk.open_jobs().collect::<Vec<_>>() {
            let _ = self.requester.cancel(now, job);
        }
        if let Some(provider) = &mut self.provider {
            provider.shut_down(now);
        }
    }
}
