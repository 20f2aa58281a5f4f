//! What a node's handles and its driver both see.

use std::{
    collections::BTreeSet,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use libp2p::{Multiaddr, PeerId};

use crate::{
    NodeEvent,
    event::Subscribers,
    metrics::{Gauges, Metrics},
};

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) me: PeerId,
    pub(crate) network: String,
    pub(crate) metrics: Metrics,
    pub(crate) subscribers: Subscribers,
    pub(crate) jobs: AtomicUsize,
    pub(crate) streams_in: AtomicUsize,
    connected: Mutex<BTreeSet<PeerId>>,
    listening: Mutex<BTreeSet<Multiaddr>>,
}

impl Shared {
    pub(crate) fn new(me: PeerId, network: String) -> Self {
        Shared {
            me,
            network,
            metrics: Metrics::default(),
            subscribers: Subscribers::default(),
            jobs: AtomicUsize::new(0),
            streams_in: AtomicUsize::new(0),
            connected: Mutex::default(),
            listening: Mutex::default(),
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

    pub(crate) fn connected(&self) -> MutexGuard<'_, BTreeSet<PeerId>> {
        self.connected.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn listening(&self) -> MutexGuard<'_, BTreeSet<Multiaddr>> {
        self.listening.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn gauges(&self) -> Gauges {
        Gauges {
            peers: self.connected().len(),
            jobs: self.jobs.load(Ordering::Relaxed),
            streams_in: self.streams_in.load(Ordering::Relaxed),
        }
    }
}
