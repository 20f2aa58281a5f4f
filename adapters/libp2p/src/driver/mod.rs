//! The driver translates: the core's orders into I/O, what the network brings into facts. It decides nothing.
//!
//! It knows no swarm, only the [`sessions::Behaviour`] inside of one, and is therefore at home in any. [`drive`] is its loop
//! where providers are known by their addresses; with searches of your own, or orders of your own to the swarm, it is:
//!
//! ```text
//! loop {
//!     while let Some(order) = driver.pump(&mut swarm.behaviour_mut().sessions) { /* answer queries, add addresses */ }
//!     select! {
//!         event = swarm.next() => /* driver.on_session(event), driver.on_connected(peer), driver.on_gone(peer) */,
//!         () = driver.next() => {}
//!     }
//! }
//! ```

pub(crate) mod commands;
pub(crate) mod engines;
mod host;
pub(crate) mod job_table;
mod machines;
mod parts;
mod persistence;
pub(crate) mod pieces;
pub(crate) mod requester_api;
pub(crate) mod serving;
mod streams;

use std::{
    collections::VecDeque,
    fmt,
    net::IpAddr,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant as Clock},
};

use futures::{
    FutureExt, StreamExt,
    channel::{mpsc, oneshot},
    select,
};
use haggle_core::{
    Input, Instant, Machine, Millis, Model, Output, Provider, QueryId, Requester, machine::QueryOutcome,
};
use haggle_flight::{Recorded, Recorder};
use libp2p::{Multiaddr, PeerId};

use self::{
    commands::Stop,
    engines::Engines,
    job_table::JobTable,
    machines::Machines,
    persistence::Persistence,
    streams::{Key, Streams},
};
use crate::{
    Error, Node, NodeEvent, Scope,
    command::Command,
    feed::JobSignal,
    handle::Handle,
    id,
    sessions::{self, FromStream},
    shared::Shared,
    time_source::TimeSource,
    timers::Alarm,
};

pub(crate) use self::host::hang_up;
pub use self::{host::drive, parts::Parts, streams::Spawn};

/// What the driver cannot do with streams alone.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Order {
    /// Find peers that serve a model; answer by [`Driver::peers_found`] and, once, [`Driver::query_done`].
    StartQuery {
        /// The search.
        query: QueryId,
        /// The model.
        model: Model,
    },
    /// Nobody waits for the search any more.
    CancelQuery(QueryId),
    /// Nothing is sold here any more: announce this node under no model.
    Withdraw,
    /// The application knows an address of a peer.
    AddAddress(PeerId, Multiaddr),
    /// Be found under these names from now on, and under no others: what is served has changed.
    Announce(Vec<Model>),
}

/// The machines of one node, their streams and their engines.
pub struct Driver {
    clock: Clock,
    /// What the core's clock showed when this one was read.
    started: Millis,
    /// Before the commands: fields are dropped in this order, and who waits for a reply hears of it when they are.
    persistence: Option<Persistence>,
    requester: Recorded<Requester>,
    provider: Option<Recorded<Provider>>,
    recorder: Option<Recorder>,
    engines: Engines,
    streams: Streams,
    job_table: JobTable,
    shared: Arc<Shared>,
    commands: mpsc::Receiver<Command>,
    notes: mpsc::UnboundedReceiver<JobSignal>,
    orders: VecDeque<Order>,
    alarm: Alarm,
    /// Who waits for the last job of others.
    draining: Vec<oneshot::Sender<()>>,
    stop: Stop,
}

impl Driver {
    /// A driver and the handle to it.
    ///
    /// # Errors
    /// A limit, policy or service that cannot work, a state that cannot be restored, or no thread for an engine.
    pub fn new(mut parts: Parts) -> Result<(Self, Node), Error> {
        let Machines { started, requester, provider } = Machines::start(&mut parts)?;
        let window = parts.limits.window_tokens as usize;
        let shared = Arc::new(Shared::new(parts.me, parts.network, TimeSource::default()));
        let (handle, commands) = Handle::new(shared.clone());
        let (note, notes) = mpsc::unbounded();
        let mut driver = Driver {
            clock: Clock::now(),
            started,
            persistence: parts.state.map(Persistence::new),
            requester,
            provider,
            recorder: parts.recorder,
            engines: Engines::start(parts.engines).map_err(Error::Runtime)?,
            streams: Streams::new(parts.spawn),
            job_table: JobTable::new(shared.clone(), window, note),
            shared,
            commands,
            notes,
            orders: VecDeque::new(),
            alarm: Alarm::default(),
            draining: Vec::new(),
            stop: Stop::default(),
        };
        let restored: Vec<_> = driver.requester.jobs().collect();
        let restored: Vec<_> = restored.into_iter().map(|job| driver.job_table.open_job(job)).collect();
        driver.shared.restored().extend(restored);
        driver.keep(false);
        Ok((driver, Node::new(handle)))
    }

    /// Carries out what the machines have ordered. Call it until it has nothing more, after every other call.
    pub fn pump(&mut self, sessions: &mut sessions::Behaviour) -> Option<Order> {
        if let Some(order) = self.orders.pop_front() {
            return Some(order);
        }
        self.pump_requester(sessions);
        self.pump_provider(sessions);
        self.keep(false);
        if let Some(error) = self.recorder.as_ref().and_then(Recorder::take_error) {
            self.on_failure("record", format!("nothing is recorded any more: {error}"));
        }
        if self.provider.as_ref().is_none_or(|provider| provider.is_drained()) {
            for reply in self.draining.drain(..) {
                let _ = reply.send(());
            }
        }
        let serving = self.provider.as_ref().map_or(0, |provider| provider.open_jobs());
        if self.stop.until.is_some() && self.job_table.len() == 0 && serving == 0 {
            self.streams.close_all();
        }
        let unended = self.provider.as_ref().map_or(0, |provider| provider.unended_jobs());
        self.shared.serving.store(unended, Ordering::Relaxed);
        self.shared.jobs.store(self.job_table.len(), Ordering::Relaxed);
        self.shared.streams_in.store(sessions.inbound_streams() as usize, Ordering::Relaxed);
        self.orders.pop_front()
    }

    /// Waits until something happened inside the node and takes it in.
    pub async fn next(&mut self) {
        let requester = self.requester.poll_timeout();
        let provider = self.provider.as_ref().and_then(Machine::poll_timeout);
        let due = requester.into_iter().chain(provider).map(|timeout| timeout.at).chain(self.renewal()).min();
        let due = due.map(|at| at.since(Instant::from_millis(self.started.0)));
        let due = due.and_then(|after| self.clock.checked_add(Duration::from_millis(after.0)));
        let kept = self.persistence.as_ref().and_then(|persistence| persistence.due);
        let due = due.into_iter().chain(self.stop.until).chain(kept).min();
        select! {
            from = self.streams.received().next() => from.into_iter().for_each(|from| self.on_stream(from)),
            from = self.engines.reports().next() => from.into_iter().for_each(|from| self.on_engine(from)),
            note = self.notes.next() => note.into_iter().for_each(|note| self.on_note(note)),
            command = self.commands.next() => self.on_command(command),
            () = self.alarm.at(due).fuse() => self.on_timeout(),
        }
    }

    /// True once a stopped node has said its goodbyes: disconnect from all peers, so that they hear them, drop the swarm,
    /// then [`finish`](Self::finish).
    pub fn is_over(&self) -> bool {
        self.stop.until.is_some_and(|until| self.streams.tasks() == 0 || Clock::now() >= until)
    }

    /// Takes an event of the sessions behaviour.
    pub fn on_session(&mut self, event: sessions::Event) {
        let now = self.now();
        match event {
            sessions::Event::Opened { id, stream, .. } => {
                if let Some(key) = self.streams.opened(id, stream) {
                    self.input(now, key, Input::StreamOpened);
                }
            }
            sessions::Event::OpenFailed { id, peer, error } => {
                self.shared.metrics.count("haggle_streams_failed_total", error.code(), 1);
                tracing::debug!(%peer, %error, "no stream");
                if let Some(key) = self.streams.open_failed(id) {
                    let failure = streams::failure(&error);
                    self.input(now, key, |stream| Input::StreamFailed(stream, failure));
                }
            }
            sessions::Event::Inbound { peer, stream } => self.accept(now, peer, stream),
            sessions::Event::Refused { peer, reason } => self.refused(peer, reason.code()),
        }
    }

    /// The first connection to a peer is there.
    pub fn on_connected(&mut self, peer: PeerId) {
        if self.shared.connected().insert(peer) {
            self.shared.tell(NodeEvent::PeerConnected { peer });
            self.both(&peer, Input::PeerConnected);
        }
    }

    /// The last connection to a peer is gone.
    pub fn on_gone(&mut self, peer: PeerId) {
        if self.shared.connected().remove(&peer) {
            // The machines are not told: each stream tells its own end, after the bytes that came before it. A fact about
            // the peer would overtake them, and a last End or Cancel would be lost.
            self.shared.tell(NodeEvent::PeerDisconnected { peer });
        }
    }

    /// The node listens on an address.
    pub fn on_listening(&mut self, address: Multiaddr) {
        let address = self.mine(address);
        if self.shared.listening().insert(address.clone()) {
            self.shared.tell(NodeEvent::Listening { address });
        }
    }

    /// The node listens on an address no more.
    pub fn on_not_listening(&mut self, address: Multiaddr) {
        self.shared.listening().remove(&self.mine(address));
    }

    /// A peer says under which address of the internet it sees this node.
    pub fn on_observed(&mut self, ip: IpAddr) {
        self.shared.observed(ip);
    }

    /// A peer has dialled this node, from so far away.
    pub fn on_dialled(&mut self, from: Scope) {
        self.shared.dialled(from);
    }

    /// Something of the network failed that no job tells of.
    pub fn on_failure(&mut self, code: &'static str, detail: String) {
        tracing::warn!(code, "{detail}");
        self.shared.tell(NodeEvent::Failed { code, detail });
    }

    /// A search has found peers. Their addresses are to be known to the swarm before.
    pub fn peers_found(&mut self, query: QueryId, peers: impl IntoIterator<Item = PeerId>) {
        let me = self.shared.me;
        let peers: Vec<_> =
            peers.into_iter().filter(|peer| *peer != me).filter_map(|peer| id::to_core(&peer)).collect();
        if !peers.is_empty() {
            self.requester.handle_input(self.now(), Input::PeersFound(query, &peers));
        }
    }

    /// A search is over.
    pub fn query_done(&mut self, query: QueryId, outcome: QueryOutcome) {
        let name = match outcome {
            QueryOutcome::Complete => "complete",
            QueryOutcome::TimedOut => "timed_out",
            QueryOutcome::NoSource => "no_source",
        };
        self.shared.metrics.count("haggle_queries_total", name, 1);
        self.requester.handle_input(self.now(), Input::QueryDone(query, outcome));
    }

    /// The core's clock.
    pub(crate) fn now(&self) -> Instant {
        let elapsed = u64::try_from(self.clock.elapsed().as_millis()).unwrap_or(u64::MAX);
        Instant::from_millis(elapsed).after(self.started)
    }

    pub(crate) fn tell(&self, event: NodeEvent) {
        self.shared.tell(event);
    }

    /// Tells those who wait that the node is no more. Call it after the swarm was dropped.
    pub fn finish(mut self) {
        self.keep(true);
        self.close_books();
        let (shared, replies) = (self.shared.clone(), std::mem::take(&mut self.stop.replies));
        // Whoever is told finds the state directory free.
        drop(self);
        shared.connected().clear();
        shared.listening().clear();
        shared.tell(NodeEvent::Stopped { peer: shared.me });
        shared.subscribers.close();
        for reply in replies {
            let _ = reply.send(());
        }
    }

    /// An address that names this node at its end.
    fn mine(&self, address: Multiaddr) -> Multiaddr {
        address.with_p2p(self.shared.me).unwrap_or_else(|address| address)
    }

    fn pump_requester(&mut self, sessions: &mut sessions::Behaviour) {
        let now = self.now();
        loop {
            let mut after = None;
            let mut failed = None;
            let Some(output) = self.requester.poll_output() else { return };
            match output {
                Output::Open { stream, peer } => {
                    let opened = id::to_libp2p(&peer).ok_or(sessions::OpenError::NoAddress);
                    let opened = opened.and_then(|peer| self.streams.open(Key::Requester(stream), peer, sessions));
                    failed = opened.err().map(|error| Input::StreamFailed(stream, streams::failure(&error)));
                }
                Output::Transmit { stream, bytes } => {
                    if !self.streams.transmit(Key::Requester(stream), bytes) {
                        failed = Some(Input::StreamClosed(stream));
                    }
                }
                Output::Close(stream) => self.streams.close(Key::Requester(stream)),
                Output::Reset(stream) => self.streams.reset(Key::Requester(stream), sessions),
                Output::StartQuery { query, model } => {
                    self.orders.push_back(Order::StartQuery { query, model: model.clone() });
                }
                Output::CancelQuery(query) => self.orders.push_back(Order::CancelQuery(query)),
                Output::Event(event) => {
                    if let Some(persistence) = &mut self.persistence {
                        persistence.heard(&event);
                    }
                    after = self.job_table.on_event(event);
                }
            }
            if let Some(input) = failed {
                self.requester.handle_input(now, input);
            }
            if let Some(command) = after {
                // A job that is over needs none.
                let _ = self.requester.command(now, command);
            }
        }
    }

    fn pump_provider(&mut self, sessions: &mut sessions::Behaviour) {
        let now = self.now();
        loop {
            let Some(output) = self.provider.as_mut().and_then(Machine::poll_output) else { return };
            match output {
                Output::Transmit { stream, bytes } => {
                    if !self.streams.transmit(Key::Provider(stream), bytes) {
                        self.input(now, Key::Provider(stream), Input::StreamClosed);
                    }
                }
                Output::Close(stream) => self.streams.close(Key::Provider(stream)),
                Output::Reset(stream) => self.streams.reset(Key::Provider(stream), sessions),
                Output::Event(event) => self.on_provider(now, event),
                // A provider opens no streams and asks nobody.
                Output::Open { .. } | Output::StartQuery { .. } | Output::CancelQuery(_) => {}
            }
        }
    }

    fn on_stream(&mut self, from: FromStream<Key>) {
        let now = self.now();
        match from {
            FromStream::Received(key, bytes) if self.streams.is_live(key) => {
                self.input(now, key, |stream| Input::Received(stream, &bytes));
            }
            FromStream::Closed(key) if self.streams.is_live(key) => {
                self.streams.closed(key);
                self.input(now, key, Input::StreamClosed);
            }
            FromStream::Received(..) | FromStream::Closed(_) => {}
        }
    }

    fn on_timeout(&mut self) {
        let now = self.now();
        self.requester.handle_input(now, Input::Timeout);
        if let Some(provider) = &mut self.provider {
            provider.handle_input(now, Input::Timeout);
        }
    }

    /// Hands a fact about a stream to the machine whose it is.
    fn input<'a>(&mut self, now: Instant, key: Key, fact: impl FnOnce(haggle_core::StreamId) -> Input<'a>) {
        match key {
            Key::Requester(stream) => self.requester.handle_input(now, fact(stream)),
            Key::Provider(stream) => {
                if let Some(provider) = &mut self.provider {
                    provider.handle_input(now, fact(stream));
                }
            }
        }
    }

    fn both(&mut self, peer: &PeerId, fact: impl Fn(haggle_core::PeerId) -> Input<'static>) {
        let now = self.now();
        let Some(peer) = id::to_core(peer) else { return };
        self.requester.handle_input(now, fact(peer));
        if let Some(provider) = &mut self.provider {
            provider.handle_input(now, fact(peer));
        }
    }
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver")
            .field("me", &self.shared.me)
            .field("jobs", &self.job_table.len())
            .finish_non_exhaustive()
    }
}
