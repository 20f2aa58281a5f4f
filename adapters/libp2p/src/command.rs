//! What the handles of a node ask for. What is for the requester is the core's command, carried through as it is.

use futures::channel::oneshot;
use haggle_core::{Millis, peers::Reliability, provider, requester};
use libp2p::{Multiaddr, PeerId};

use crate::{
    Error, Sale,
    feed::{Found, JobFeed, Offer},
};

/// A request of a handle.
pub(crate) enum Command {
    /// A command that starts a job, and who waits for what.
    Start(requester::Command, Start),
    /// A command that is done when it is answered.
    Do(requester::Command, oneshot::Sender<Result<(), Error>>),
    /// What is sold from now on.
    Sell(Vec<Sale>, oneshot::Sender<Result<(), Error>>),
    /// A command for the provider, done when it is answered.
    Serve(provider::Command<'static>, oneshot::Sender<Result<(), Error>>),
    Reliability(PeerId, oneshot::Sender<Option<Reliability>>),
    AddAddress(PeerId, Multiaddr),
    Drain(Millis, oneshot::Sender<()>),
    Stop(oneshot::Sender<()>),
}

/// Who waits for a job that is started.
pub(crate) enum Start {
    /// For the place where its events come out.
    Job(oneshot::Sender<Result<JobFeed, Error>>),
    /// For the offers that it ends with.
    Quote(oneshot::Sender<Result<Vec<Offer>, Error>>),
    /// For the providers that it ends with.
    Discovery(oneshot::Sender<Result<Found, Error>>),
}

impl Start {
    /// Says that there is no such job.
    pub(crate) fn refuse(self, error: Error) {
        match self {
            Start::Job(reply) => drop(reply.send(Err(error))),
            Start::Quote(reply) => drop(reply.send(Err(error))),
            Start::Discovery(reply) => drop(reply.send(Err(error))),
        }
    }
}
