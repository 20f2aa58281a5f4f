//! What a program of one's own needs that plays the applications of a world: it hears what nodes tell, and takes the
//! tokens itself.

use haggle_core::{
    Event, Instant, JobId, PeerId, ProviderEvent, peers::Reliability, time::Millis, wire::message::Channel,
};

use super::World;
use crate::{job::keep, net::Role, node::NodeId, schedule::FaultKind, writer::Writer};

/// Something that a node tells its application.
#[derive(Clone, PartialEq, Debug)]
pub enum Told {
    /// The first connection to a peer is there.
    Connected(PeerId),
    /// The last connection to a peer is gone.
    Gone(PeerId),
    /// An event of the node's requester, other than tokens.
    Event(Event<'static>),
    /// Tokens of one of its jobs.
    Tokens {
        /// Of which job.
        job: JobId,
        /// From whom.
        peer: PeerId,
        /// Index of the first.
        seq: u64,
        /// How many.
        n: u32,
        /// Their text.
        text: String,
        /// Their ids, 4 bytes each.
        ids: Option<Vec<u8>>,
        /// What they are, if not the answer's text.
        channel: Option<Channel>,
    },
    /// An event of the node's provider, other than orders to its engine.
    Served(ProviderEvent),
}

impl Told {
    /// An event that is to be told; `None` for orders to an engine.
    pub(super) fn served(event: &ProviderEvent) -> Option<Self> {
        let order =
            matches!(event, ProviderEvent::Start { .. } | ProviderEvent::Room { .. } | ProviderEvent::Stop { .. });
        (!order).then(|| Self::Served(event.clone()))
    }

    pub(super) fn event(event: &Event<'_>) -> Option<Self> {
        match event {
            Event::Tokens { job, peer, seq, n, text, ids, channel } => Some(Self::Tokens {
                job: *job,
                peer: *peer,
                seq: *seq,
                n: *n,
                text: (*text).to_owned(),
                ids: ids.map(<[u8]>::to_vec),
                channel: *channel,
            }),
            event => keep(event).map(Self::Event),
        }
    }
}

impl World {
    /// Keeps what nodes tell from now on, until [`World::told`] takes it.
    pub fn listen(&mut self) {
        self.apps.told.get_or_insert_default();
    }

    /// The next thing that a node told, in order.
    pub fn told(&mut self) -> Option<(NodeId, Told)> {
        self.apps.told.as_mut()?.pop_front()
    }

    /// When the next event is, in ms; `None`: there is none left.
    #[must_use]
    pub fn next_at(&mut self) -> Option<u64> {
        self.queue.next_at()
    }

    /// A fault strikes now.
    pub fn strike(&mut self, fault: FaultKind) {
        self.fault(fault);
    }

    /// Whether a node's process runs.
    #[must_use]
    pub fn is_alive(&self, node: NodeId) -> bool {
        self.nodes.get(node.0 as usize).is_some_and(|node| node.alive)
    }

    /// The application has taken so many further tokens. For jobs whose pace is [`crate::Pace::Never`].
    pub fn consume(&mut self, id: JobId, n: u64) {
        let Some(job) = self.apps.jobs.get_mut(&id) else { return };
        let n = n.min(job.delivered - job.consumed);
        job.consumed += n;
        let (node, consumed, orphaned) = (job.node.0, job.consumed, job.orphaned);
        if orphaned {
            return;
        }
        self.judge.consumed(id, consumed);
        let place = &mut self.nodes[node as usize];
        if let Some(side) = &mut place.requester {
            side.machine.consumed(place.clock.read(self.now), id, n);
        }
        self.after(node, Role::Requester);
    }

    /// How a provider has served a node so far; `None` if nothing is known of it.
    #[must_use]
    pub fn reliability(&self, node: NodeId, peer: PeerId) -> Option<Reliability> {
        let place = self.nodes.get(node.0 as usize)?;
        let now = Instant::from_millis(place.clock.shows(self.now));
        place.requester.as_ref()?.machine.reliability(now, &peer)
    }

    /// A node is told of a peer: every query of it finds that peer from now on.
    pub fn introduce(&mut self, node: NodeId, peer: PeerId) {
        if let Some(place) = self.nodes.get_mut(node.0 as usize)
            && !place.contacts.contains(&peer)
        {
            place.contacts.push(peer);
        }
    }

    /// A provider takes no new jobs, is found no more, and ends what runs after `patience`.
    pub fn drain_node(&mut self, node: NodeId, patience: Millis) {
        self.dht.unpublish(node.peer());
        self.serve(node.0, |provider, now| provider.drain(now, patience));
    }

    /// A provider ends every job, typed.
    pub fn shut_down(&mut self, node: NodeId) {
        self.dht.unpublish(node.peer());
        self.serve(node.0, |provider, now| provider.shut_down(now));
    }

    /// A provider that is about to go tells of the attempts whose end nobody acknowledged.
    pub fn close_books(&mut self, node: NodeId) {
        self.serve(node.0, |provider, now| provider.close(now));
    }

    fn serve(&mut self, node: u32, order: impl FnOnce(&mut haggle_core::Provider, Instant)) {
        let Some(place) = self.nodes.get_mut(node as usize) else { return };
        if let Some(side) = &mut place.provider {
            order(&mut side.machine, place.clock.read(self.now));
            self.after(node, Role::Provider);
        }
    }

    /// Jobs of others at a node that have not ended.
    #[must_use]
    pub fn unended_jobs(&self, node: NodeId) -> usize {
        let place = self.nodes.get(node.0 as usize);
        place.and_then(|place| place.provider.as_ref()).map_or(0, |side| side.machine.unended_jobs())
    }

    /// Whether a node has no job of others any more and takes none.
    #[must_use]
    pub fn is_drained(&self, node: NodeId) -> bool {
        let place = self.nodes.get(node.0 as usize);
        place.and_then(|place| place.provider.as_ref()).is_none_or(|side| side.machine.is_drained())
    }

    /// Gives a provider an engine of one's own instead of the script, which still says how long everything takes, and what
    /// goes wrong. Its texts are unknown to the oracles.
    pub fn set_writer(&mut self, node: NodeId, writer: impl Writer + 'static) {
        let Some(place) = self.nodes.get_mut(node.0 as usize) else { return };
        place.writer = Some(Box::new(writer));
        let slots = place.provider_config.as_ref().map_or(0, |config| config.service.slots);
        self.judge.provider(node.0, node.peer(), Vec::new(), slots);
    }
}
