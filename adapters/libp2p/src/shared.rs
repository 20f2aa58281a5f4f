//! What a node's handles and its driver both see.

use std::{
    collections::BTreeSet,
    future::poll_fn,
    net::IpAddr,
    pin::pin,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use libp2p::{Multiaddr, PeerId};

use crate::{
    NodeEvent, Scope,
    event::Subscribers,
    job::Unclaimed,
    metrics::{Gauges, Metrics},
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

/// What makes time pass for one who waits. The real one does by itself; that of a simulated network passes while somebody
/// waits.
#[derive(Clone, Debug, Default)]
pub(crate) struct Clockwork {
    #[cfg(feature = "testing")]
    pub(crate) stage: Option<std::sync::Weak<crate::testing::Stage>>,
    /// What this one has seen of it: see [`crate::testing::Stage::poll`].
    #[cfg(feature = "testing")]
    pub(crate) seen: Option<u64>,
}

impl Clockwork {
    pub(crate) fn is_simulated(&self) -> bool {
        #[cfg(feature = "testing")]
        return self.stage.is_some();
        #[cfg(not(feature = "testing"))]
        false
    }

    /// Polls, and lets a simulated network go on if there is nothing yet.
    pub(crate) fn poll<T>(
        &mut self,
        cx: &mut Context<'_>,
        mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        let polled = poll(cx);
        #[cfg(feature = "testing")]
        let polled = match self.stage.as_ref().and_then(std::sync::Weak::upgrade) {
            Some(stage) if polled.is_pending() => stage.poll(&mut self.seen, cx, poll),
            _ => {
                self.seen = None;
                polled
            }
        };
        polled
    }

    /// Waits, and lets a simulated network go on meanwhile.
    pub(crate) async fn wait<F: Future>(&self, future: F) -> F::Output {
        let mut future = pin!(future);
        let mut clockwork = self.clone();
        poll_fn(|cx| clockwork.poll(cx, |cx| future.as_mut().poll(cx))).await
    }

    /// There is something to do for a simulated network at rest.
    pub(crate) fn stir(&self) {
        #[cfg(feature = "testing")]
        if let Some(stage) = self.stage.as_ref().and_then(std::sync::Weak::upgrade) {
            stage.stir();
        }
    }
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) me: PeerId,
    pub(crate) network: String,
    pub(crate) clockwork: Clockwork,
    pub(crate) metrics: Metrics,
    pub(crate) subscribers: Subscribers,
    pub(crate) jobs: AtomicUsize,
    pub(crate) streams_in: AtomicUsize,
    /// Jobs of others that are not over.
    pub(crate) serving: AtomicUsize,
    reachability: Mutex<Reachability>,
    connected: Mutex<BTreeSet<PeerId>>,
    listening: Mutex<BTreeSet<Multiaddr>>,
    restored: Mutex<Vec<Unclaimed>>,
}

impl Shared {
    pub(crate) fn new(me: PeerId, network: String, clockwork: Clockwork) -> Self {
        Shared {
            me,
            network,
            clockwork,
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
    pub(crate) fn restored(&self) -> MutexGuard<'_, Vec<Unclaimed>> {
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
