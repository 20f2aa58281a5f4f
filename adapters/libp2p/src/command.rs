//! What the handles of a node ask for.

use futures::channel::oneshot;
use haggle_core::{Criteria, JobId, JobSpec, Millis, money::Amount, peers::book::Reliability, spec::QuoteSpec};
use libp2p::{Multiaddr, PeerId};

use crate::{
    Error,
    feed::{Found, JobFeed, Offer},
};

/// A request of a handle.
pub(crate) enum Command {
    Submit(JobSpec, oneshot::Sender<Result<JobFeed, Error>>),
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
