//! What a node tells its application, with stable names.

use std::{
    net::IpAddr,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use futures::{Stream, channel::mpsc};
use haggle_core::{
    JobId, Model,
    event::{Bill, NoRetry, Outcome, ServedReason, Settlement},
    money::Tariff,
    wire::message::{Advert, Channel, DeclineReason, ReleaseReason},
};
use libp2p::{Multiaddr, PeerId};

use crate::{Scope, id, time_source::TimeSource};

/// Something that happened at a node.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum NodeEvent {
    /// The node runs.
    Started {
        /// Its id.
        peer: PeerId,
    },
    /// The node listens on a further address.
    Listening {
        /// Which, with the node's id.
        address: Multiaddr,
    },
    /// This node's models were announced in the DHT.
    Announced {
        /// Under how many keys: one a name, and one for all.
        keys: usize,
    },
    /// The first connection to a peer is there.
    PeerConnected {
        /// Whom.
        peer: PeerId,
    },
    /// The last connection to a peer is gone.
    PeerDisconnected {
        /// Whom.
        peer: PeerId,
    },
    /// A provider described itself.
    Discovered {
        /// Who.
        peer: PeerId,
        /// What it said.
        advert: Advert,
    },
    /// A provider accepted a job.
    Negotiated {
        /// Which job.
        job: JobId,
        /// Who.
        peer: PeerId,
        /// At what price.
        tariff: Tariff,
    },
    /// Tokens came.
    Token {
        /// Of which job.
        job: JobId,
        /// From whom.
        peer: PeerId,
        /// Index of the first.
        seq: u64,
        /// How many.
        n: u32,
        /// Their text.
        text: Arc<str>,
        /// What they are, if not the answer's text.
        channel: Option<Channel>,
    },
    /// A job, a quote or a discovery is over.
    JobEnded {
        /// Which.
        job: JobId,
        /// How.
        outcome: Outcome,
        /// Why nothing further was tried; `None` where the outcome says it itself.
        no_retry: Option<NoRetry>,
        /// What it came to.
        bill: Bill,
    },
    /// A requester asked for a price.
    Quoted {
        /// Who.
        peer: PeerId,
        /// For which model.
        model: Model,
        /// The price, or why there is none.
        answer: Result<Tariff, DeclineReason>,
    },
    /// An award, or a bid, of a requester was refused.
    Declined {
        /// Whose.
        peer: PeerId,
        /// Why.
        reason: DeclineReason,
    },
    /// An award of a requester was accepted.
    Accepted {
        /// Whose.
        peer: PeerId,
        /// Of which model, by name or alias.
        model: Model,
        /// The requester's job.
        job: JobId,
        /// Which attempt of it.
        attempt: u32,
        /// At what price.
        tariff: Tariff,
    },
    /// A requester that was made an offer chose another provider, or none.
    Released {
        /// Who.
        peer: PeerId,
        /// Why.
        reason: ReleaseReason,
    },
    /// An attempt was served for another node.
    Served {
        /// For whom.
        peer: PeerId,
        /// With which model, by name or alias.
        model: Model,
        /// The requester's job.
        job: JobId,
        /// Which attempt of it.
        attempt: u32,
        /// At what price.
        tariff: Tariff,
        /// How it ended.
        reason: ServedReason,
        /// Tokens written.
        tokens: u64,
        /// Of these, acknowledged as consumed.
        acked: u64,
        /// What is owed for those that were acknowledged.
        owed: u128,
    },
    /// A model of this node cannot be computed for now, or can again.
    Outage {
        /// Which.
        model: Model,
        /// What happened and what to do about it; `None`: it is over.
        detail: Option<String>,
    },
    /// Another node says under which address of the internet it sees this one, for the first time. A hint: it may lie.
    Observed {
        /// The address.
        ip: IpAddr,
    },
    /// Another node has dialled this one from further away than any before.
    Dialled {
        /// From where.
        from: Scope,
    },
    /// Something of the network failed. Jobs tell of their own failures.
    Failed {
        /// A stable name of the kind.
        code: &'static str,
        /// What happened.
        detail: String,
    },
    /// The node was stopped. Nothing follows.
    Stopped {
        /// Which.
        peer: PeerId,
    },
    /// The application was too slow: so many events were left out here.
    Missed(u64),
}

impl NodeEvent {
    /// The event's stable name, the seed's where it has one.
    pub fn name(&self) -> &'static str {
        match self {
            NodeEvent::Started { .. } => "p2p:started",
            NodeEvent::Listening { .. } => "p2p:listening",
            NodeEvent::Announced { .. } => "p2p:announced",
            NodeEvent::PeerConnected { .. } => "peer:connect",
            NodeEvent::PeerDisconnected { .. } => "peer:disconnect",
            NodeEvent::Discovered { .. } => "node:discovered",
            NodeEvent::Negotiated { .. } => "job:negotiated",
            NodeEvent::Token { .. } => "stream:token",
            NodeEvent::JobEnded { .. } => "job:ended",
            NodeEvent::Quoted { .. } => "job:quoted",
            NodeEvent::Declined { .. } => "job:declined",
            NodeEvent::Accepted { .. } => "job:accepted",
            NodeEvent::Released { .. } => "job:released",
            NodeEvent::Served { .. } => "job:served",
            NodeEvent::Outage { detail: Some(_), .. } => "model:out",
            NodeEvent::Outage { detail: None, .. } => "model:back",
            NodeEvent::Observed { .. } => "p2p:observed",
            NodeEvent::Dialled { .. } => "p2p:dialled",
            NodeEvent::Failed { .. } => "error:p2p",
            NodeEvent::Stopped { .. } => "p2p:stopped",
            NodeEvent::Missed(_) => "events:missed",
        }
    }
}

impl NodeEvent {
    /// Whether it comes from a simulated network: it names a simulated peer, or a bill that says so.
    /// [`NodeEvent::Missed`] comes from no network, and what only a real one tells never is.
    pub fn is_simulated(&self) -> bool {
        match self {
            NodeEvent::Started { peer }
            | NodeEvent::PeerConnected { peer }
            | NodeEvent::PeerDisconnected { peer }
            | NodeEvent::Discovered { peer, .. }
            | NodeEvent::Negotiated { peer, .. }
            | NodeEvent::Token { peer, .. }
            | NodeEvent::Quoted { peer, .. }
            | NodeEvent::Declined { peer, .. }
            | NodeEvent::Accepted { peer, .. }
            | NodeEvent::Released { peer, .. }
            | NodeEvent::Served { peer, .. }
            | NodeEvent::Stopped { peer } => id::is_simulated(peer),
            NodeEvent::JobEnded { bill, .. } => bill.settlement == Settlement::Simulated,
            NodeEvent::Listening { address } => address
                .iter()
                .any(|part| matches!(part, libp2p::multiaddr::Protocol::P2p(peer) if id::is_simulated(&peer))),
            NodeEvent::Announced { .. }
            | NodeEvent::Outage { .. }
            | NodeEvent::Observed { .. }
            | NodeEvent::Dialled { .. }
            | NodeEvent::Failed { .. }
            | NodeEvent::Missed(_) => false,
        }
    }
}

/// Events that may wait for one subscriber.
const QUEUE: usize = 4_096;

/// Events from the moment of subscription on. A subscriber that falls behind by more than 4,096 events misses some, and
/// [`NodeEvent::Missed`] says how many.
#[derive(Debug)]
pub struct Events {
    events: mpsc::Receiver<NodeEvent>,
    missed: Arc<AtomicU64>,
    time_source: TimeSource,
}

impl Stream for Events {
    type Item = NodeEvent;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<NodeEvent>> {
        let Events { events, time_source, .. } = &mut *self;
        let next = time_source.poll(cx, |cx| Pin::new(&mut *events).poll_next(cx));
        // Nothing waits, so what was missed is next.
        if !matches!(next, Poll::Ready(Some(_))) {
            let missed = self.missed.swap(0, Ordering::Relaxed);
            if missed > 0 {
                return Poll::Ready(Some(NodeEvent::Missed(missed)));
            }
        }
        next
    }
}

/// All subscribers of a node.
#[derive(Debug, Default)]
pub(crate) struct Subscribers(Mutex<Vec<Subscriber>>);

#[derive(Debug)]
struct Subscriber {
    events: mpsc::Sender<NodeEvent>,
    missed: Arc<AtomicU64>,
}

impl Subscribers {
    pub(crate) fn subscribe(&self, time_source: TimeSource) -> Events {
        let (sender, events) = mpsc::channel(QUEUE);
        let missed = Arc::new(AtomicU64::new(0));
        self.lock().push(Subscriber { events: sender, missed: missed.clone() });
        Events { events, missed, time_source }
    }

    pub(crate) fn tell(&self, event: &NodeEvent) {
        self.lock().retain_mut(|subscriber| {
            // The gap is told where it is: before the first event that has room again.
            let missed = subscriber.missed.swap(0, Ordering::Relaxed);
            if missed > 0 && subscriber.events.try_send(NodeEvent::Missed(missed)).is_err() {
                subscriber.missed.fetch_add(missed + 1, Ordering::Relaxed);
                return !subscriber.events.is_closed();
            }
            match subscriber.events.try_send(event.clone()) {
                Err(error) if error.is_full() => drop(subscriber.missed.fetch_add(1, Ordering::Relaxed)),
                _ => {}
            }
            !subscriber.events.is_closed()
        });
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    pub(crate) fn close(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Subscriber>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt, StreamExt};

    use super::*;

    #[test]
    fn a_slow_subscriber_is_told_what_it_missed_and_where() {
        let subscribers = Subscribers::default();
        let mut events = subscribers.subscribe(TimeSource::default());
        let listening = |n: u64| NodeEvent::Missed(1_000_000 + n);
        let total = QUEUE as u64 + 100;
        (0..total).for_each(|n| subscribers.tell(&listening(n)));
        assert_eq!(events.next().now_or_never(), Some(Some(listening(0))));
        assert_eq!(events.next().now_or_never(), Some(Some(listening(1))));
        subscribers.tell(&listening(total));
        subscribers.close();
        let rest: Vec<_> = events.collect::<Vec<_>>().now_or_never().expect("closed");
        let missed = rest.iter().position(|event| matches!(event, NodeEvent::Missed(n) if *n < 1_000_000));
        let held = rest.len() - 2;
        assert_eq!(missed, Some(held), "the gap comes before the event after it");
        assert_eq!(rest[held], NodeEvent::Missed(total - held as u64 - 2));
        assert_eq!(rest[held + 1], listening(total));
    }
}
