//! A node as the application holds it.

use std::{sync::atomic::Ordering, time::Duration};

use haggle_core::{
    Criteria, JobSpec, money::Amount, peers::Reliability, provider, requester::Command as Ask, spec::QuoteSpec,
    time::Millis,
};
use libp2p::{Multiaddr, PeerId};

use crate::{
    ConfigError, Error, Events, Found, Job, Offer, Reachability, Sale,
    command::{Command, Start},
    config::{contact, millis, simulated_contact},
    handle::Handle,
    id,
    shared::Shared,
};

/// A node of the market: it buys, and sells what it was given to sell. Clones are the same node.
///
/// A node stops by [`stop`](Node::stop), or when its last handle and the last job of it are dropped.
#[derive(Clone, Debug)]
pub struct Node {
    handle: Handle,
}

/// A node as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeInfo {
    /// Its id.
    pub peer_id: PeerId,
    /// Whether its network is simulated.
    pub simulated: bool,
    /// The network it belongs to.
    pub network: String,
    /// Where it listens, each with its id at the end.
    pub listen_addresses: Vec<Multiaddr>,
    /// Who is connected.
    pub connected_peers: Vec<PeerId>,
}

/// What a node does for others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Jobs that are not over: they receive their body, wait or compute.
    pub jobs: usize,
    /// Tokens written since the start, those of jobs that run included.
    pub tokens: u64,
}

impl Node {
    pub(crate) fn new(handle: Handle) -> Self {
        Node { handle }
    }

    /// Stops the node: every job ends, typed, on both sides, and the sockets are closed. Stopping twice is no error.
    pub async fn stop(&self) {
        // One that is gone has been stopped.
        let _ = self.handle.wait(Command::Stop).await;
    }

    /// Takes no further jobs of others from now on, announces its models no more, and waits until the jobs that run have
    /// ended. After `patience` those that are left are ended, typed. Said again, it can only shorten the time.
    ///
    /// # Errors
    /// The node was stopped.
    pub async fn drain(&self, patience: Duration) -> Result<(), Error> {
        self.handle.wait(|reply| Command::Drain(millis(patience), reply)).await
    }

    /// Sells these models from now on, at these prices, and no others: no job is lost. What was offered binds until it
    /// expires, unless its model is not sold any more; jobs that run go on; every later offer and advert says what is new.
    ///
    /// # Errors
    /// [`Error::Config`] for what cannot be sold, on a node that was started with nothing to sell, and on a simulated one;
    /// [`Error::Runtime`] if the system gives no thread for an engine. Nothing was changed.
    pub async fn sell(&self, sales: Vec<Sale>) -> Result<(), Error> {
        self.handle.ask(|reply| Command::Sell(sales, reply)).await
    }

    /// Computes so many jobs at once from now on, and lets so many wait; jobs that run or wait beyond that go on.
    ///
    /// # Errors
    /// What cannot work, and as [`sell`](Self::sell).
    pub async fn set_slots(&self, slots: u32, queue: u32) -> Result<(), Error> {
        self.handle.ask(|reply| Command::Serve(provider::Command::SetSlots { slots, queue }, reply)).await
    }

    /// Has a prompt answered by a provider that is found, asked and awarded.
    ///
    /// # Errors
    /// [`Error::Refused`] if the job cannot be taken as it is; what happens later comes with the [`Job`].
    pub async fn submit(&self, spec: JobSpec) -> Result<Job, Error> {
        let feed = self.handle.ask(|reply| Command::Start(Ask::Submit(spec), Start::Job(reply))).await?;
        Ok(Job::new(feed, self.handle.clone()))
    }

    /// The jobs that were restored from the state directory, once: they go on where the process before was. Dropping one
    /// cancels it.
    pub fn restored(&self) -> Vec<Job> {
        let feeds = std::mem::take(&mut *self.shared().restored());
        feeds.into_iter().map(|feed| Job::new(feed, self.handle.clone())).collect()
    }

    /// Asks for offers, the best first, and awards none.
    ///
    /// # Errors
    /// [`Error::Job`] if nobody made one.
    pub async fn quote(&self, spec: QuoteSpec) -> Result<Vec<Offer>, Error> {
        self.handle.ask(|reply| Command::Start(Ask::Quote(spec), Start::Quote(reply))).await
    }

    /// Finds who serves a model, the best posted price first. `deadline` is for the whole search; without one, the
    /// policy's.
    ///
    /// # Errors
    /// [`Error::Job`] if nobody was found; it says whether every source of peers answered.
    pub async fn discover(&self, criteria: Criteria, deadline: Option<Millis>) -> Result<Found, Error> {
        let ask = Ask::Discover { criteria, deadline };
        self.handle.ask(|reply| Command::Start(ask, Start::Discovery(reply))).await
    }

    /// Makes a provider known, by an address that ends in `/p2p/` and its id. It is asked in every search from now on.
    ///
    /// # Errors
    /// [`Error::Config`] for what is no such address.
    pub async fn connect(&self, address: &str) -> Result<PeerId, Error> {
        let contact = if self.is_simulated() { simulated_contact } else { contact };
        let (peer, address) = contact(address)
            .map_err(|problem| ConfigError { path: "address".into(), problem: format!("{address:?} {problem}") })?;
        self.handle.send(Command::AddAddress(peer, address)).await?;
        Ok(peer)
    }

    /// Bounds what all jobs of this node together may come to owe, from now on; [`Builder::account_budget`](crate::Builder::account_budget) bounds restored
    /// jobs too, which go on as soon as the node starts.
    ///
    /// # Errors
    /// The node was stopped.
    pub async fn set_account_budget(&self, budget: Option<Amount>) -> Result<(), Error> {
        self.handle.ask(|reply| Command::Do(Ask::SetAccountBudget(budget), reply)).await
    }

    /// How a provider has served this node so far; `None` if nothing is known of it.
    ///
    /// # Errors
    /// The node was stopped.
    pub async fn reliability(&self, peer: PeerId) -> Result<Option<Reliability>, Error> {
        self.handle.wait(|reply| Command::Reliability(peer, reply)).await
    }

    /// Never asks a provider again, until it is allowed.
    ///
    /// # Errors
    /// [`Error::Refused`] if as many are banned as the limit allows.
    pub async fn ban(&self, peer: PeerId) -> Result<(), Error> {
        let Some(peer) = id::to_core(&peer) else { return Ok(()) };
        self.handle.ask(|reply| Command::Do(Ask::Ban(peer), reply)).await
    }

    /// Lifts every ban of a provider, and forgets what it was banned for.
    ///
    /// # Errors
    /// The node was stopped.
    pub async fn allow(&self, peer: PeerId) -> Result<(), Error> {
        let Some(peer) = id::to_core(&peer) else { return Ok(()) };
        self.handle.ask(|reply| Command::Do(Ask::Allow(peer), reply)).await
    }

    /// What happens at the node from now on.
    pub fn events(&self) -> Events {
        self.shared().subscribers.subscribe(self.shared().time_source.clone())
    }

    /// Whether the node's network is simulated, which is so only for nodes that a `testing::Market` gave.
    pub fn is_simulated(&self) -> bool {
        self.shared().time_source.is_simulated()
    }

    /// The node's id.
    pub fn peer_id(&self) -> PeerId {
        self.shared().me
    }

    /// Who is connected.
    pub fn connected_peers(&self) -> Vec<PeerId> {
        self.shared().connected().iter().copied().collect()
    }

    /// Where the node listens, each address with the node's id at its end.
    pub fn listen_addresses(&self) -> Vec<Multiaddr> {
        self.shared().listening().iter().cloned().collect()
    }

    /// The node as it is now.
    pub fn node_info(&self) -> NodeInfo {
        NodeInfo {
            peer_id: self.peer_id(),
            simulated: self.is_simulated(),
            network: self.shared().network.clone(),
            listen_addresses: self.listen_addresses(),
            connected_peers: self.connected_peers(),
        }
    }

    /// What it does for others at this moment.
    pub fn load(&self) -> Load {
        Load {
            jobs: self.shared().serving.load(Ordering::Relaxed),
            tokens: self.shared().metrics.value("haggle_tokens_served_total", ""),
        }
    }

    /// What it has learned of how others reach it.
    pub fn reachability(&self) -> Reachability {
        self.shared().reachability()
    }

    /// Counters and gauges in Prometheus' text format.
    pub fn metrics(&self) -> String {
        self.shared().metrics.text(self.shared().gauges(), self.is_simulated())
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.handle.shared
    }
}
