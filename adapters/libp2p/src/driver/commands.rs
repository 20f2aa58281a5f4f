//! What the handles of a node ask for.

use std::time::{Duration, Instant as Clock};

use futures::channel::oneshot;
use haggle_core::{Instant, Refusal};

use super::{
    Driver, Order,
    buyer::{Buyer, Own},
    desk::{Desk, Waits},
};
use crate::{Error, command::Command, feed::Note, id};

/// A node that is being stopped.
#[derive(Default)]
pub(super) struct Stop {
    pub(super) until: Option<Clock>,
    pub(super) replies: Vec<oneshot::Sender<()>>,
}

/// What a stopping node still has to say has so long to leave.
pub(crate) const GOODBYE: Duration = Duration::from_secs(2);

impl Desk {
    /// Has the requester do what a handle asks for. What is not for the requester comes back.
    pub(crate) fn on_command(&mut self, command: Command, buyer: &mut impl Buyer) -> Option<Command> {
        match command {
            Command::Submit(spec, reply) => {
                let feed = buyer.submit(spec).map(|job| self.open_job(job));
                drop(reply.send(feed.map_err(Error::from)));
            }
            Command::Quote(spec, reply) => match buyer.quote(spec) {
                Ok(job) => self.open(job, Waits::Quote(reply)),
                Err(refusal) => drop(reply.send(Err(refusal.into()))),
            },
            Command::Discover(criteria, deadline, reply) => match buyer.discover(criteria, deadline) {
                Ok(job) => self.open(job, Waits::Discovery(reply)),
                Err(refusal) => drop(reply.send(Err(refusal.into()))),
            },
            Command::Award(job, peer, reply) => {
                let peer = id::to_core(&peer).ok_or(Refusal::NoSuchOffer);
                let awarded = peer.and_then(|peer| buyer.award(job, peer));
                let _ = reply.send(awarded.map_err(Error::from));
            }
            Command::SetAccountBudget(budget) => buyer.set_account_budget(budget),
            Command::Reliability(peer, reply) => {
                let known = id::to_core(&peer).and_then(|peer| buyer.reliability(&peer));
                let _ = reply.send(Ok(known));
            }
            Command::Ban(peer, reply) => {
                let banned = id::to_core(&peer).map_or(Ok(()), |peer| buyer.ban(peer));
                let _ = reply.send(banned.map_err(Error::from));
            }
            Command::Allow(peer) => {
                if let Some(peer) = id::to_core(&peer) {
                    buyer.allow(&peer);
                }
            }
            command @ (Command::AddAddress(..) | Command::Drain(..) | Command::Stop(_)) => return Some(command),
        }
        None
    }

    /// Tells the requester what the handle of a job says.
    pub(crate) fn on_note(&mut self, note: Note, buyer: &mut impl Buyer) {
        match note {
            Note::Consumed(job) => buyer.consumed(job, self.take_consumed(job)),
            Note::Cancel(job) => buyer.cancel(job),
            Note::Concluded(job) => buyer.concluded(job),
            // Nobody will take what waits in the channel.
            Note::Detach(job) => buyer.consumed(job, self.detach(job)),
        }
    }
}

impl Driver {
    pub(super) fn on_note(&mut self, note: Note) {
        let is_concluded = matches!(note, Note::Concluded(_));
        let now = self.now();
        self.desk.on_note(note, &mut Own(&mut self.requester, now));
        if is_concluded {
            self.keep_later();
        }
    }

    /// `None`: every handle is gone.
    pub(super) fn on_command(&mut self, command: Option<Command>) {
        let now = self.now();
        let Some(command) = command else { return self.shut_down(now) };
        if self.stop.until.is_some() {
            if let Command::Stop(reply) = command {
                self.stop.replies.push(reply);
            }
            return;
        }
        if matches!(command, Command::Submit(..) | Command::Ban(..) | Command::Allow(_)) {
            self.keep_at_once();
        }
        match self.desk.on_command(command, &mut Own(&mut self.requester, now)) {
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
            _ => {}
        }
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
