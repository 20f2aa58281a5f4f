//! A simulated node's side of its handles, as a driver is a real one's. It decides nothing.

use std::sync::{Arc, atomic::Ordering};

use futures::{
    FutureExt, StreamExt,
    channel::{mpsc, oneshot},
};
use haggle_core::{
    Event, PeerId, ProviderEvent, Refusal,
    peers::Reliability,
    requester::{Command as Ask, Reply},
};
use haggle_sim::{NodeId, Told, World};
use libp2p::multiaddr::{Multiaddr, Protocol};

use crate::{
    ConfigError, Node, NodeEvent,
    command::Command,
    driver::{commands::GOODBYE, job_table::JobTable, requester_api::RequesterApi, serving::tell_of_provider},
    feed::JobSignal,
    handle::Handle,
    id,
    shared::Shared,
    time_source::TimeSource,
};

/// What stays the same when a node's process dies and another begins.
#[derive(Clone)]
pub(super) struct NodeSpec {
    pub(super) node: NodeId,
    pub(super) network: String,
    /// Tokens that one job may have waiting.
    pub(super) window: usize,
}

pub(super) struct SimNode {
    pub(super) node: NodeId,
    pub(super) place: NodeSpec,
    commands: mpsc::Receiver<Command>,
    notes: mpsc::UnboundedReceiver<JobSignal>,
    job_table: JobTable,
    shared: Arc<Shared>,
    draining: Vec<oneshot::Sender<()>>,
    /// When it is gone, in virtual ms, and who waits for that.
    stopping: Option<(u64, Vec<oneshot::Sender<()>>)>,
    is_over: bool,
}

impl SimNode {
    /// A node that has just started, and its handle.
    pub(super) fn open(place: NodeSpec, time_source: TimeSource) -> (Self, Node) {
        let Some(me) = id::to_libp2p(&place.node.peer()) else { unreachable!("17 bytes are a peer id") };
        let shared = Arc::new(Shared::new(me, place.network.clone(), time_source));
        let address = Multiaddr::from(Protocol::Memory(u64::from(place.node.0) + 1)).with(Protocol::P2p(me));
        shared.listening().insert(address);
        let (handle, commands) = Handle::new(shared.clone());
        let (note, notes) = mpsc::unbounded();
        let job_table = JobTable::new(shared.clone(), place.window, note);
        let (draining, stopping) = (Vec::new(), None);
        let sim_node =
            SimNode { node: place.node, place, commands, notes, job_table, shared, draining, stopping, is_over: false };
        (sim_node, Node::new(handle))
    }

    /// When a node that was stopped is gone.
    pub(super) fn stops_at(&self) -> Option<u64> {
        self.stopping.as_ref().map(|(at, _)| *at)
    }

    /// Does what its handles have asked for; `true` if they had.
    pub(super) fn serve(&mut self, world: &mut World) -> bool {
        if self.is_over {
            return false;
        }
        let mut served = false;
        loop {
            if let Some(Some(note)) = self.notes.next().now_or_never() {
                self.job_table.on_note(note, &mut Simulated(world, self.node));
            } else if let Some(command) = self.commands.next().now_or_never() {
                match command {
                    Some(command) => self.obey(command, world),
                    None if self.stopping.is_none() => self.stop(world, None),
                    None => return served,
                }
            } else {
                return served;
            }
            served = true;
        }
    }

    fn obey(&mut self, command: Command, world: &mut World) {
        if let Some((_, replies)) = &mut self.stopping {
            if let Command::Stop(reply) = command {
                replies.push(reply);
            }
            return;
        }
        match self.job_table.on_command(command, &mut Simulated(world, self.node)) {
            Some(Command::AddAddress(peer, _)) => {
                if let Some(peer) = id::to_core(&peer) {
                    world.introduce(self.node, peer);
                }
            }
            Some(Command::Drain(patience, reply)) => {
                world.drain_node(self.node, patience);
                self.draining.push(reply);
            }
            Some(Command::Stop(reply)) => self.stop(world, Some(reply)),
            Some(Command::Sell(_, reply) | Command::Serve(_, reply)) => {
                let problem = "a simulated node sells what it was started with".into();
                let _ = reply.send(Err(ConfigError { path: "models".into(), problem }.into()));
            }
            _ => {}
        }
        self.count(world);
    }

    fn stop(&mut self, world: &mut World, reply: Option<oneshot::Sender<()>>) {
        let goodbye = u64::try_from(GOODBYE.as_millis()).unwrap_or(u64::MAX);
        self.stopping = Some((world.now().saturating_add(goodbye), reply.into_iter().collect()));
        for job in self.job_table.open_jobs().collect::<Vec<_>>() {
            let _ = world.cancel(job);
        }
        world.shut_down(self.node);
    }

    /// Takes in what the node told.
    pub(super) fn hear(&mut self, world: &mut World, told: Told) {
        if self.is_over {
            return;
        }
        match told {
            Told::Connected(peer) => {
                if let Some(peer) = id::to_libp2p(&peer).filter(|peer| self.shared.connected().insert(*peer)) {
                    self.shared.tell(NodeEvent::PeerConnected { peer });
                }
            }
            Told::Gone(peer) => {
                if let Some(peer) = id::to_libp2p(&peer).filter(|peer| self.shared.connected().remove(peer)) {
                    self.shared.tell(NodeEvent::PeerDisconnected { peer });
                }
            }
            Told::Served(event) => {
                if let ProviderEvent::Served { tokens, .. } = &event {
                    self.shared.metrics.count("haggle_tokens_served_total", "", *tokens);
                }
                tell_of_provider(&self.shared, event);
            }
            Told::Event(event) => self.on_event(world, event),
            Told::Tokens { job, peer, seq, n, text, ids, channel } => {
                self.on_event(world, Event::Tokens { job, peer, seq, n, text: &text, ids: ids.as_deref(), channel });
            }
        }
        self.count(world);
    }

    fn on_event(&mut self, world: &mut World, event: Event<'_>) {
        if let Some(command) = self.job_table.on_event(event) {
            // A job that is over needs none.
            let _ = world.command(self.node, command);
        }
    }

    fn count(&self, world: &World) {
        self.shared.jobs.store(self.job_table.len(), Ordering::Relaxed);
        self.shared.serving.store(world.unended_jobs(self.node), Ordering::Relaxed);
    }

    /// Tells those who wait for the last job of others.
    pub(super) fn tell_drained(&mut self, world: &World) {
        if !self.draining.is_empty() && world.is_drained(self.node) {
            for reply in self.draining.drain(..) {
                let _ = reply.send(());
            }
        }
    }

    /// The process is gone: whoever waits for something of it is told so. `stopped`: in an orderly way.
    pub(super) fn close(&mut self, stopped: bool) {
        if std::mem::replace(&mut self.is_over, true) {
            return;
        }
        self.commands.close();
        while let Some(Some(_)) = self.commands.next().now_or_never() {}
        self.job_table.forget();
        self.draining.clear();
        self.shared.connected().clear();
        self.shared.listening().clear();
        if stopped {
            self.shared.tell(NodeEvent::Stopped { peer: self.shared.me });
        }
        self.shared.subscribers.close();
        for reply in self.stopping.take().into_iter().flat_map(|(_, replies)| replies) {
            let _ = reply.send(());
        }
    }
}

/// A node's requester in its world.
struct Simulated<'a>(&'a mut World, NodeId);

impl RequesterApi for Simulated<'_> {
    fn command(&mut self, command: Ask) -> Result<Reply, Refusal> {
        self.0.command(self.1, command)
    }

    fn reliability(&self, peer: &PeerId) -> Option<Reliability> {
        self.0.reliability(self.1, *peer)
    }
}
