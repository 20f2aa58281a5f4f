//! What a node's handles and its driver both see.

use std::{
    collections::BTreeSet,
    net::IpAddr,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use libp2p::{Multiaddr, PeerId};

use crate::{
    NodeEvent, Scope,
    event::Subscribers,
    feed::JobFeed,
    metrics::{Gauges, Metrics},
    time_source::TimeSource,
};

/// Addresses under which a node is seen that are remembered.
const MAX_OBSERVED: usize = 8;

/// What a node has learned of how others reach it. Nothing here is a proof that everybody can: there is no test dial.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reachability {
    /// Where other nodes say that they see this one, at most 8. Behind a router it is the router's address.
    pub observed: BTreeSet<IpAddr>,
    /// From how far away others have dialled this node; `None`: nobody has yet.
    pub dialled_from: Option<Scope>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) me: PeerId,
    pub(crate) network: String,
    pub(crate) time_source: TimeSource,
    pub(crate) metrics: Metrics,
    pub(crate) subscribers: Subscribers,
    pub(crate) jobs: AtomicUsize,
    pub(crate) streams_in: AtomicUsize,
    /// Jobs of others that are not over.
    pub(crate) serving: AtomicUsize,
    reachability: Mutex<Reachability>,
    connected: Mutex<BTreeSet<PeerId>>,
    listening: Mutex<BTreeSet<Multiaddr>>,
    restored: Mutex<Vec<JobFeed>>,
}

impl Shared {
    pub(crate) fn new(me: PeerId, network: String, time_source: TimeSource) -> Self {
        Shared {
            me,
            network,
            time_source,
            metrics: Metrics::default(),
            subscribers: Subscribers::default(),
            jobs: AtomicUsize::new(0),
            streams_in: AtomicUsize::new(0),
            serving: AtomicUsize::new(0),
            reachability: Mutex::default(),
            connected: Mutex::default(),
            listening: Mutex::default(),
            restored: Mutex::default(),
        }
    }

    /// Counts an event and tells all who listen.
    pub(crate) fn tell(&self, event: NodeEvent) {
        self.metrics.count("haggle_events_total", event.name(), 1);
        self.subscribers.tell(&event);
    }

    /// As [`tell`](Self::tell), for events that cost something to make.
    pub(crate) fn tell_with(&self, name: &'static str, event: impl FnOnce() -> NodeEvent) {
        self.metrics.count("haggle_events_total", name, 1);
        if !self.subscribers.is_empty() {
            self.subscribers.tell(&event());
        }
    }

    /// Jobs that were restored, until somebody takes them.
    pub(crate) fn restored(&self) -> MutexGuard<'_, Vec<JobFeed>> {
        self.restored.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn connected(&self) -> MutexGuard<'_, BTreeSet<PeerId>> {
        self.connected.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn listening(&self) -> MutexGuard<'_, BTreeSet<Multiaddr>> {
        self.listening.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn reachability(&self) -> Reachability {
        self.lock_reachability().clone()
    }

    /// A peer says where it sees this node.
    pub(crate) fn observed(&self, ip: IpAddr) {
        let mut known = self.lock_reachability();
        let fresh = known.observed.len() < MAX_OBSERVED && known.observed.insert(ip);
        drop(known);
        if fresh {
            self.tell(NodeEvent::Observed { ip });
        }
    }

    /// A peer has dialled this node.
    pub(crate) fn dialled(&self, from: Scope) {
        let before = self.lock_reachability().dialled_from;
        if before.is_none_or(|before| before < from) {
            self.lock_reachability().dialled_from = Some(from);
            self.tell(NodeEvent::Dialled { from });
        }
    }

    fn lock_reachability(&self) -> MutexGuard<'_, Reachability> {
        self.reachability.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn gauges(&self) -> Gauges {
        Gauges {
            peers: self.connected().len(),
            jobs: self.jobs.load(Ordering::Relaxed),
            streams_in: self.streams_in.load(Ordering::Relaxed),
            serving: self.serving.load(Ordering::Relaxed),
        }
    }
}
