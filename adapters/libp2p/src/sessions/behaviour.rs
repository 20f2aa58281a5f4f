use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    num::{NonZeroU8, NonZeroUsize},
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Instant,
};

use futures::FutureExt;
use libp2p::{
    Multiaddr, PeerId, Stream,
    core::{Endpoint, transport::PortUse},
    swarm::{
        ConnectionDenied, ConnectionId, DialError, FromSwarm, NetworkBehaviour, NotifyHandler, PeerAddresses, THandler,
        THandlerInEvent, THandlerOutEvent, ToSwarm,
        behaviour::ConnectionEstablished,
        dial_opts::{DialOpts, PeerCondition},
    },
};

use super::{
    Config, Event, FromHandler, Handler, OpenError, OpenId, Refusal, SessionStream, ToHandler,
    gate::{Gate, OutboundSlot, Slot},
    handler::Negotiated,
    stream::{Gone, Life},
};
use crate::{bucket::Bucket, dials, timers::Delay};

/// Opens and accepts streams of `/haggle/2`. See the [module](super).
#[derive(Debug)]
pub struct Behaviour {
    config: Config,
    me: PeerId,
    addresses: PeerAddresses,
    pinned: BTreeMap<PeerId, BTreeSet<Multiaddr>>,
    peers: BTreeMap<PeerId, Peer>,
    /// Every open that was not answered yet.
    opens: BTreeMap<OpenId, PeerId>,
    /// The timeout is the same for all, so the first to come is the first to end.
    deadlines: VecDeque<(Instant, OpenId)>,
    timer: Option<(Instant, Delay)>,
    node: Arc<Gate>,
    out: VecDeque<ToSwarm<Event, ToHandler>>,
    last_id: u64,
    waker: Option<Waker>,
}

/// Pinned addresses of one peer.
const MAX_PINNED: usize = 16;
/// Addresses of one peer that are dialled at once because others told them.
const STRANGERS_AT_ONCE: NonZeroU8 = NonZeroU8::new(4).expect("some");

#[derive(Debug)]
struct Peer {
    connections: Vec<Connection>,
    waiting: VecDeque<OpenId>,
    dial: Dial,
    gate: Arc<Gate>,
    resets: Bucket,
}

#[derive(Debug)]
struct Connection {
    id: ConnectionId,
    negotiating: Vec<OpenId>,
    /// It did not answer in time, and may be dead. Nothing is opened on it until it answers something.
    doubted: bool,
    life: Life,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dial {
    None,
    Mine(ConnectionId),
    /// Somebody else in the swarm dials this peer; its end is ours.
    Others,
}

impl Peer {
    /// True if streams can be opened to it without a dial, as far as is known.
    fn is_connected(&self) -> bool {
        self.connections.iter().any(|connection| !connection.doubted)
    }
}

impl Behaviour {
    /// A behaviour for the node `me`.
    pub fn new(me: PeerId, config: Config) -> Self {
        let known = NonZeroUsize::new(config.max_known_peers).unwrap_or(NonZeroUsize::MIN);
        Behaviour {
            config,
            me,
            addresses: PeerAddresses::new(known),
            pinned: BTreeMap::new(),
            peers: BTreeMap::new(),
            opens: BTreeMap::new(),
            deadlines: VecDeque::new(),
            timer: None,
            node: Arc::default(),
            out: VecDeque::new(),
            last_id: 0,
            waker: None,
        }
    }

    /// Opens a stream to `peer`. The answer is an event with the same id.
    ///
    /// # Errors
    /// [`OpenError::Busy`] if too many opens wait, [`OpenError::Myself`] for the node's own id.
    pub fn open(&mut self, peer: PeerId) -> Result<OpenId, OpenError> {
        if peer == self.me {
            return Err(OpenError::Myself);
        }
        let waiting_here = self.peers.get(&peer).map_or(0, |p| p.waiting.len());
        if self.opens.len() >= self.config.max_waiting || waiting_here >= self.config.max_waiting_per_peer {
            return Err(OpenError::Busy);
        }
        if self.deadlines.len() >= 2 * self.config.max_waiting {
            self.deadlines.retain(|(_, id)| self.opens.contains_key(id));
        }
        self.last_id += 1;
        let id = OpenId(self.last_id);
        self.opens.insert(id, peer);
        self.deadlines.push_back((Instant::now() + self.config.open_timeout, id));
        self.peer(peer).waiting.push_back(id);
        self.advance(peer);
        self.wake();
        Ok(id)
    }

    /// Forgets an open. A stream that still comes is dropped, and no event follows.
    pub fn cancel(&mut self, id: OpenId) {
        let Some(peer) = self.opens.remove(&id) else { return };
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.waiting.retain(|waiting| *waiting != id);
        }
    }

    /// Keeps an address of a peer for good. Others are forgotten when they fail or when too many peers are known.
    /// False if as many peers as [`Config::max_known_peers`] have such addresses.
    pub fn pin_address(&mut self, peer: PeerId, address: Multiaddr) -> bool {
        let room = self.pinned.len() < self.config.max_known_peers || self.pinned.contains_key(&peer);
        if room {
            let addresses = self.pinned.entry(peer).or_default();
            if addresses.len() < MAX_PINNED {
                addresses.insert(address);
            }
        }
        room
    }

    /// How many inbound streams of this node live.
    pub fn inbound_streams(&self) -> u32 {
        self.node.live()
    }

    /// How many streams that this node opened to `peer` live.
    pub fn outbound_streams(&self, peer: &PeerId) -> u32 {
        self.peers.get(peer).map_or(0, |peer| peer.gate.outbound())
    }

    /// The addresses at which `peer` would be dialled, as far as this behaviour knows.
    pub fn addresses_of(&mut self, peer: &PeerId) -> Vec<Multiaddr> {
        let pinned = self.pinned.get(peer).into_iter().flatten().cloned();
        pinned.chain(self.addresses.get(peer)).collect()
    }

    fn peer(&mut self, id: PeerId) -> &mut Peer {
        let resets = self.config.max_resets_per_second;
        self.peers.entry(id).or_insert_with(|| Peer {
            connections: Vec::new(),
            waiting: VecDeque::new(),
            dial: Dial::None,
            gate: Arc::default(),
            resets: Bucket::new(resets, Instant::now()),
        })
    }

    /// Gives waiting opens to connections, or dials.
    fn advance(&mut self, id: PeerId) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let negotiating: usize = peer.connections.iter().map(|connection| connection.negotiating.len()).sum();
        let taken = peer.gate.outbound() as usize + negotiating;
        let mut room = (self.config.max_outbound_per_peer as usize).saturating_sub(taken);
        for connection in peer.connections.iter_mut().filter(|connection| !connection.doubted) {
            while room > 0 && connection.negotiating.len() < self.config.max_negotiating {
                let Some(open) = peer.waiting.pop_front() else { return };
                room -= 1;
                connection.negotiating.push(open);
                self.out.push_back(ToSwarm::NotifyHandler {
                    peer_id: id,
                    handler: NotifyHandler::One(connection.id),
                    event: ToHandler(open),
                });
            }
        }
        if !peer.is_connected() && !peer.waiting.is_empty() && peer.dial == Dial::None {
            // Beside a connection that may be dead another one is made.
            let condition = match peer.connections.is_empty() {
                true => PeerCondition::DisconnectedAndNotDialing,
                false => PeerCondition::NotDialing,
            };
            let given = self.pinned.get(&id).map_or(0, BTreeSet::len);
            let opts =
                DialOpts::peer_id(id).condition(condition).override_dial_concurrency_factor(at_once(given)).build();
            peer.dial = Dial::Mine(opts.connection_id());
            self.out.push_back(ToSwarm::Dial { opts });
        }
    }

    fn answer(&mut self, id: OpenId, result: Result<(Stream, Gone), OpenError>) {
        // An open that was cancelled or timed out is not there any more.
        let Some(peer) = self.opens.remove(&id) else { return };
        let event = match result {
            Ok((stream, gone)) => {
                let node = self.node.clone();
                let slot = OutboundSlot::take(&self.peer(peer).gate, &node);
                Event::Opened { id, peer, stream: SessionStream::outbound(stream, gone, slot) }
            }
            Err(error) => Event::OpenFailed { id, peer, error },
        };
        self.out.push_back(ToSwarm::GenerateEvent(event));
    }

    fn negotiated(&mut self, peer: PeerId, connection: ConnectionId, id: OpenId, result: Result<Stream, OpenError>) {
        let connections = self.peers.get_mut(&peer).map(|peer| &mut peer.connections);
        let mut gone = None;
        if let Some(connection) = connections.into_iter().flatten().find(|c| c.id == connection) {
            connection.negotiating.retain(|open| *open != id);
            connection.doubted = matches!(result, Err(OpenError::TimedOut));
            gone = Some(connection.life.gone());
        }
        let gone = gone.ok_or_else(|| OpenError::ConnectionLost("closed".into()));
        self.answer(id, result.and_then(|stream| Ok((stream, gone?))));
        self.advance(peer);
    }

    fn accept(&mut self, id: PeerId, connection: ConnectionId, stream: Stream) {
        let (max_peer, max_node) = (self.config.max_inbound_per_peer, self.config.max_inbound);
        let node = self.node.clone();
        let peer = self.peer(id);
        // Its connection may have closed on the way here, and the stream with it.
        let Some(connection) = peer.connections.iter_mut().find(|c| c.id == connection) else { return };
        connection.doubted = false;
        let gone = connection.life.gone();
        let fruitless = peer.gate.take_fruitless();
        // [T4] The stream is refused; its connection, and what runs on it, stays.
        let reason = if !peer.resets.take(fruitless, Instant::now()) {
            Some(Refusal::TooManyResets)
        } else if peer.gate.live() >= max_peer {
            Some(Refusal::PeerFull)
        } else if node.live() >= max_node {
            Some(Refusal::NodeFull)
        } else {
            None
        };
        let event = match reason {
            Some(reason) => Event::Refused { peer: id, reason },
            None => {
                let slot = Slot::take(&peer.gate, &node);
                Event::Inbound { peer: id, stream: SessionStream::inbound(stream, gone, slot) }
            }
        };
        self.out.push_back(ToSwarm::GenerateEvent(event));
    }

    fn connected(&mut self, event: ConnectionEstablished<'_>) {
        let peer = self.peer(event.peer_id);
        peer.connections.push(Connection {
            id: event.connection_id,
            negotiating: Vec::new(),
            doubted: false,
            life: Life::new(),
        });
        peer.dial = Dial::None;
        self.advance(event.peer_id);
    }

    fn disconnected(&mut self, id: PeerId, connection: ConnectionId, cause: String) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let Some(at) = peer.connections.iter().position(|c| c.id == connection) else { return };
        for open in peer.connections.remove(at).negotiating {
            self.answer(open, Err(OpenError::ConnectionLost(cause.clone())));
        }
        self.advance(id);
        // Peers that are gone stay only as long as their streams or opens do.
        self.peers.retain(|_, peer| {
            !peer.connections.is_empty() || !peer.waiting.is_empty() || Arc::strong_count(&peer.gate) > 1
        });
    }

    fn dial_failed(&mut self, id: PeerId, connection: ConnectionId, error: &DialError) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let mine = peer.dial == Dial::Mine(connection);
        if mine && matches!(error, DialError::DialPeerConditionFalse(_)) {
            peer.dial = Dial::Others;
        } else if mine {
            peer.dial = Dial::None;
            if !peer.is_connected() {
                let error = reason(error);
                for open in std::mem::take(&mut peer.waiting) {
                    self.answer(open, Err(error.clone()));
                }
                let unused = |peer: &Peer| peer.connections.is_empty() && Arc::strong_count(&peer.gate) == 1;
                self.peers.retain(|other, peer| *other != id || !unused(peer));
            }
        } else if peer.dial == Dial::Others {
            // It may have tried one bad address only; we try all that are known.
            peer.dial = Dial::None;
            self.advance(id);
        }
    }

    fn expire(&mut self, now: Instant) {
        while let Some((deadline, id)) = self.deadlines.front().copied() {
            let answered = !self.opens.contains_key(&id);
            if !answered && deadline > now {
                return;
            }
            self.deadlines.pop_front();
            let mut error = OpenError::TimedOut;
            if let Some(peer) = self.opens.get(&id).and_then(|peer| self.peers.get_mut(peer)) {
                if let Some(at) = peer.waiting.iter().position(|waiting| *waiting == id) {
                    peer.waiting.remove(at);
                    if peer.is_connected() {
                        error = OpenError::Busy;
                    }
                } else if let Some(silent) = peer.connections.iter_mut().find(|c| c.negotiating.contains(&id)) {
                    silent.doubted = true;
                }
            }
            self.answer(id, Err(error));
        }
    }

    /// Streams may have ended and made room for opens that wait.
    fn refill(&mut self) {
        let waiting = |(id, peer): (&PeerId, &Peer)| (!peer.waiting.is_empty()).then_some(*id);
        for id in self.peers.iter().filter_map(waiting).collect::<Vec<_>>() {
            self.advance(id);
        }
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// Addresses that are dialled at once of a peer of which the user gave so many: all of them, and some that others told.
pub(crate) fn at_once(given: usize) -> NonZeroU8 {
    u8::try_from(given).map_or(NonZeroU8::MAX, |given| STRANGERS_AT_ONCE.saturating_add(given))
}

/// A dial's failure as the opens that waited for it see it.
fn reason(error: &DialError) -> OpenError {
    if let Some(other) = dials::who_else(error) {
        return OpenError::WrongPeer(other);
    }
    match error {
        DialError::LocalPeerId { .. } => OpenError::Myself,
        DialError::NoAddresses => OpenError::NoAddress,
        DialError::Denied { cause } => OpenError::Denied(cause.to_string()),
        DialError::Transport(errors) => {
            let tried = errors.iter().take(4).map(|(address, error)| format!("{address}: {}", root(error)));
            OpenError::Unreachable(tried.collect::<Vec<_>>().join("; "))
        }
        DialError::WrongPeerId { .. } | DialError::DialPeerConditionFalse(_) | DialError::Aborted => {
            OpenError::Unreachable(error.to_string())
        }
    }
}

/// The innermost cause: the outer ones are the names of wrappers.
fn root(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = Event;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler::new(self.config.open_timeout))
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler::new(self.config.open_timeout))
    }

    fn handle_pending_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: Option<PeerId>,
        _: &[Multiaddr],
        _: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        Ok(peer.map_or_else(Vec::new, |peer| self.addresses_of(&peer)))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        self.addresses.on_swarm_event(&event);
        match event {
            FromSwarm::ConnectionEstablished(event) => self.connected(event),
            FromSwarm::ConnectionClosed(event) => {
                let cause = event.cause.map_or_else(|| "closed".into(), ToString::to_string);
                self.disconnected(event.peer_id, event.connection_id, cause);
            }
            FromSwarm::DialFailure(event) => {
                if let Some(peer) = event.peer_id {
                    self.dial_failed(peer, event.connection_id, event.error);
                }
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        FromHandler(event): THandlerOutEvent<Self>,
    ) {
        match event {
            Negotiated::Opened(id, stream) => self.negotiated(peer, connection, id, Ok(stream)),
            Negotiated::Failed(id, error) => self.negotiated(peer, connection, id, Err(error)),
            Negotiated::Inbound(stream) => self.accept(peer, connection, stream),
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        loop {
            if let Some(event) = self.out.pop_front() {
                return Poll::Ready(event);
            }
            if !self.opens.is_empty() {
                self.node.freed().register(cx.waker());
                self.refill();
                if !self.out.is_empty() {
                    continue;
                }
            }
            let now = Instant::now();
            self.expire(now);
            if !self.out.is_empty() {
                continue;
            }
            let Some((deadline, _)) = self.deadlines.front().copied() else {
                self.timer = None;
                break;
            };
            let mut timer = match self.timer.take() {
                Some((at, timer)) if at == deadline => timer,
                _ => Delay::new(deadline.saturating_duration_since(now)),
            };
            if timer.poll_unpin(cx).is_pending() {
                self.timer = Some((deadline, timer));
                break;
            }
        }
        self.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

#[cfg(test)]
mod tests;
