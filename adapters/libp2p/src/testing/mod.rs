//! A market for tests of your own: the same handles over a simulated network with a virtual clock.
//!
//! What your program does with a [`Node`], a [`Job`](crate::Job) or [`Events`](crate::Events) it does here with the same
//! types. The core behind them is the one that decides in a real node; network, clock and chance are those of
//! [`haggle_sim`]. No socket, thread or timer takes part, and an hour of waiting costs nothing.
//!
//! ```
//! use haggle::testing::{Market, ProviderConfig};
//! use haggle::{Config, Error, JobEvent, JobSpec, Model, Node, Prompt};
//! use futures::StreamExt;
//!
//! // A function of yours, as you wrote it for real nodes.
//! async fn ask(node: &Node, mut on_text: impl FnMut(&str)) -> Result<u128, Error> {
//!     let model = Model::new(b"story").expect("a name");
//!     let spec = JobSpec::new(model, Prompt::Raw("Once upon a time".into()), 40);
//!     let mut job = node.submit(JobSpec { budget: Some(1_000), ..spec }).await?;
//!     while let Some(event) = job.next().await {
//!         match event? {
//!             JobEvent::Tokens { text, channel: None, .. } => on_text(&text),
//!             JobEvent::Finished(receipt) => return Ok(receipt.bill.owed),
//!             _ => {}
//!         }
//!     }
//!     Err(Error::Stopped)
//! }
//!
//! # fn main() -> Result<(), Error> {
//! let market = Market::new(7);
//! let cheap = market.provider(ProviderConfig::new("story", 100_000, 400_000))?;
//! let dear = market.provider(ProviderConfig::new("story", 200_000, 900_000))?;
//! let me = market.node(Config::default())?;
//!
//! // Its provider is killed in the middle of the answer, and the answer is whole.
//! let mut tokens = 0;
//! let owed = market.run(ask(&me, |_| {
//!     tokens += 1;
//!     if tokens == 10 {
//!         market.kill(&cheap);
//!     }
//! }))?;
//! assert_eq!(tokens, 40);
//! assert!(owed > 0);
//! # Ok(())
//! # }
//! ```
//!
//! # Nothing here is taken for real
//!
//! A node is simulated only where [`Market`] or [`Builder::start_in`](crate::Builder::start_in) was asked for it;
//! [`Builder::start`](crate::Builder::start) is always real, and nothing falls back from one to the other. What is simulated
//! says so: its peer ids are names, which no real peer can have ([`id::is_simulated`]), bills say
//! [`Settlement::Simulated`](haggle_core::event::Settlement::Simulated), every line of the metrics `simulated="true"`, and
//! [`NodeEvent`](crate::NodeEvent), [`Job`](crate::Job), [`Node`] and [`NodeInfo`](crate::NodeInfo) tell it.
//!
//! # Time, and what is deterministic
//!
//! Time passes while a task waits for a handle of the market, and only then: the wait runs the simulation on until somebody
//! was told something, then every task that was told goes on in that very moment. What a task does in between takes no time.
//! When nothing is left to happen, time stands still. [`Market::sleep`] waits, [`Market::advance`] moves it by hand.
//!
//! Equal seeds and equal calls in equal order make equal events at equal times. [`Market::run`] polls one future on the
//! calling thread and so is deterministic if the future is (`futures::join!` is, `select!` draws lots and `select_biased!`
//! does not). Under a runtime of your own everything works too, on one thread usually in the same order; with many threads,
//! tasks race for virtual time: a task that is slow by the real clock may find that its job's deadline has passed.
//!
//! # What differs from a real node
//!
//! - Every search finds every provider. Settings about addresses, discovery and connections mean nothing; limits, times,
//!   tries, slots and the queue do.
//! - [`Node::connect`](crate::Node::connect) takes the `/memory` addresses of this market's nodes.
//! - A key, a state directory and a recording are refused.
//! - An engine of your own computes when it is asked, in no time; then its tokens come 10 ms apart, the first after 40 ms.
//!   What it tells of outages is not heard. One that waits for something outside has only virtual time to do so.
//! - Counters of streams and searches stay at 0.

mod engine;
mod sim_network;
mod sim_node;
mod start;

use std::{
    future::Future,
    pin::{Pin, pin},
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use haggle_core::{Instant, Model, Provider, Requester};
use haggle_engine::Engine;

pub use haggle_sim::{
    self as sim, EngineScript, FaultKind, NodeId, Pace, ProviderConfig, RequesterConfig, Trouble, World,
};

use self::{
    engine::Shop,
    sim_network::SimNetwork,
    sim_node::{NodeSpec, SimNode},
};
use crate::{
    Config, Error, Node,
    config::{field, millis},
    id,
    time_source::{Simulated as _, TimeSource},
};

/// A simulated network and its nodes. Clones are the same market. When the last is dropped, its nodes are stopped.
#[derive(Clone, Debug)]
pub struct Market {
    simulation: Arc<SimNetwork>,
}

impl Market {
    /// A market without nodes. The seed is all the chance there is.
    pub fn new(seed: u64) -> Self {
        Market { simulation: Arc::new(SimNetwork::new(seed)) }
    }

    /// Adds a node that buys.
    ///
    /// # Errors
    /// [`Error::Config`] for a setting that cannot work, as for a real node.
    pub fn node(&self, config: Config) -> Result<Node, Error> {
        Node::builder(config).start_in(self)
    }

    /// Adds a node that sells what a scripted engine writes. To sell with an engine of your own, use
    /// [`Builder::start_in`](crate::Builder::start_in). As a real node it stops when its last handle is dropped.
    ///
    /// # Errors
    /// [`Error::Config`] for a setting that cannot work.
    pub fn provider(&self, provider: ProviderConfig) -> Result<Node, Error> {
        let requester = RequesterConfig { limits: provider.limits.clone(), ..RequesterConfig::default() };
        self.add_node(Config::default().network, requester, Some(provider), Vec::new())
    }

    pub(crate) fn add_node(
        &self,
        network: String,
        requester: RequesterConfig,
        provider: Option<ProviderConfig>,
        engines: Vec<(Model, Arc<dyn Engine>)>,
    ) -> Result<Node, Error> {
        let requester = RequesterConfig { pace: Pace::Never, ..requester };
        let window = requester.limits.window_tokens as usize;
        // The world would panic.
        Requester::new(requester.policy.clone(), requester.limits.clone(), [0; 32]).map_err(field("limits."))?;
        if let Some(provider) = &provider {
            Provider::new(provider.service.clone(), provider.limits.clone(), [0; 32]).map_err(field(""))?;
        }
        let mut inner = self.simulation.lock();
        inner.serve();
        let node = inner.world.add_node(Some(requester), provider);
        if !engines.is_empty() {
            inner.world.set_writer(node, Shop(engines));
        }
        let (sim_node, handle) = SimNode::open(NodeSpec { node, network, window }, self.time_source());
        inner.sim_nodes.insert(node, sim_node);
        Ok(handle)
    }

    /// Runs a future to its end on this thread, and virtual time with it.
    ///
    /// # Panics
    /// If the future waits and nothing is left to happen that could wake it: a test would hang.
    pub fn run<F: Future>(&self, future: F) -> F::Output {
        let woken = Arc::new(Woken(AtomicBool::new(false)));
        let waker = Waker::from(woken.clone());
        let mut future = pin!(future);
        loop {
            if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                return output;
            }
            if !woken.0.swap(false, Ordering::SeqCst) {
                panic!("at {:?} everybody waits, and nothing is left to happen in the simulated market", self.now());
            }
        }
    }

    /// The virtual time since the market began.
    pub fn now(&self) -> Duration {
        Duration::from_millis(self.simulation.lock().world.now())
    }

    /// Lets virtual time pass, whoever waits. What is told meanwhile is there afterwards. Fractions of a millisecond are cut.
    pub fn advance(&self, time: Duration) {
        let mut inner = self.simulation.lock();
        let at = Instant::from_millis(inner.world.now()).after(millis(time)).as_millis();
        inner.run_until(at);
    }

    /// Waits in virtual time.
    pub fn sleep(&self, time: Duration) -> Sleep {
        let mut inner = self.simulation.lock();
        let at = Instant::from_millis(inner.world.now()).after(millis(time)).as_millis();
        inner.slept += 1;
        Sleep { simulation: Arc::downgrade(&self.simulation), time_source: self.time_source(), at, nth: inner.slept }
    }

    /// A node's process dies, now. Others see their connections to it end after 1 ms; its own handles are dead, and say
    /// [`Error::Stopped`].
    ///
    /// # Panics
    /// If the node is none of this market.
    pub fn kill(&self, node: &Node) {
        let id = self.id(node);
        let mut inner = self.simulation.lock();
        inner.serve();
        inner.world.strike(FaultKind::Kill(id, Some(1)));
        inner.sim_nodes.values_mut().filter(|sim_node| sim_node.node == id).for_each(|sim_node| sim_node.close(false));
        drop(inner);
        self.simulation.stir();
    }

    /// A node's process begins anew under its old id, without memory; if it lives, it dies first. The handle to the new one.
    ///
    /// # Panics
    /// If the node is none of this market.
    pub fn restart(&self, node: &Node) -> Node {
        self.kill(node);
        let id = self.id(node);
        let mut inner = self.simulation.lock();
        inner.world.strike(FaultKind::Restart(id));
        let Some(place) = inner.sim_nodes.get(&id).map(|sim_node| sim_node.place.clone()) else {
            unreachable!("it has a sim_node")
        };
        let (sim_node, handle) = SimNode::open(place, self.time_source());
        inner.sim_nodes.insert(id, sim_node);
        handle
    }

    /// Every connection between two nodes is cut, now. They can connect again.
    ///
    /// # Panics
    /// If a node is none of this market.
    pub fn cut(&self, a: &Node, b: &Node) {
        self.strike(FaultKind::Cut(self.id(a), self.id(b)));
    }

    /// What two nodes say to each other takes so long from now on, instead of 5 ms.
    ///
    /// # Panics
    /// If a node is none of this market.
    pub fn delay(&self, a: &Node, b: &Node, delay: Duration) {
        self.strike(FaultKind::Delay(self.id(a), self.id(b), millis(delay).0, 0));
    }

    /// Nothing travels between two nodes for so long, and nothing is lost.
    ///
    /// # Panics
    /// If a node is none of this market.
    pub fn stall(&self, a: &Node, b: &Node, time: Duration) {
        self.strike(FaultKind::Stall(self.id(a), self.id(b), millis(time).0));
    }

    /// Any other fault strikes, now. To kill a node, use [`kill`](Self::kill): handles have to know.
    pub fn strike(&self, fault: FaultKind) {
        self.world(|world| world.strike(fault));
    }

    /// Does something with the world itself: set its links, add scripted peers and adversaries, read its report.
    pub fn world<T>(&self, change: impl FnOnce(&mut World) -> T) -> T {
        let mut inner = self.simulation.lock();
        inner.serve();
        let result = change(&mut inner.world);
        inner.pump();
        drop(inner);
        self.simulation.stir();
        result
    }

    /// A node's number in the world.
    ///
    /// # Panics
    /// If the node is none of this market.
    pub fn id(&self, node: &Node) -> NodeId {
        let own = node.shared().time_source.is_of(&self.simulation);
        match id::to_core(&node.peer_id()).and_then(NodeId::of).filter(|_| own) {
            Some(id) => id,
            None => panic!("{} is no node of this market", node.peer_id()),
        }
    }

    fn time_source(&self) -> TimeSource {
        let simulation = Arc::downgrade(&self.simulation);
        TimeSource::simulated(simulation)
    }
}

/// Waits in virtual time: [`Market::sleep`].
#[derive(Debug)]
#[must_use = "nobody sleeps unless it is awaited"]
pub struct Sleep {
    simulation: Weak<SimNetwork>,
    time_source: TimeSource,
    at: u64,
    nth: u64,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(simulation) = self.simulation.upgrade() else { return Poll::Ready(()) };
        let Sleep { time_source, at, nth, .. } = &mut *self;
        time_source.poll(cx, |cx| {
            let mut inner = simulation.lock();
            if inner.world.now() >= *at {
                return Poll::Ready(());
            }
            inner.sleepers.insert((*at, *nth), cx.waker().clone());
            Poll::Pending
        })
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(simulation) = self.simulation.upgrade() {
            simulation.lock().sleepers.remove(&(self.at, self.nth));
        }
    }
}

/// Whether a future is to be polled again.
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}
