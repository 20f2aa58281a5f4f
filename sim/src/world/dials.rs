//! Dials, and who has a connection to whom.

use haggle_core::{Input, PeerId, StreamId, machine::StreamFailure, wire::Deframer};

use super::{Happening, Lane, NOWHERE, Told, World, record};
use crate::{
    net::{Conn, DIAL_TIMEOUT, Dial, End, EndState, Item, Pipe, Role},
    node::{NodeId, node_of, peer_id},
    script::Heard,
};

impl World {
    pub(super) fn open(&mut self, node: u32, role: Role, id: StreamId, peer: PeerId) {
        self.net.dials += 1;
        self.trace.record(self.now, node, node, record::OPEN, peer.as_bytes());
        let dst = node_of(peer).filter(|dst| (*dst as usize) < self.nodes.len()).unwrap_or(NOWHERE);
        let links = [self.link_number(node, dst), self.link_number(dst, node)];
        let link = self.net.links.get_mut(links[0]);
        link.opened += 1;
        let (key, config) = (link.opened, link.config);
        let end = |node, role, id| End { node, role, id, state: EndState::Dialling, deframer: Deframer::default() };
        let ends = [end(node, role, id), end(dst, Role::Provider, StreamId(0))];
        let pipes = [Pipe::default(), Pipe::default()];
        let (waiting, closing, severed) = (Vec::new(), false, false);
        let conn = self.net.conns.insert(Conn { ends, pipes, links, key, waiting, closing, severed });
        for node in [node, dst] {
            if let Some(node) = self.nodes.get_mut(node as usize)
                && node.conns.last() != Some(&conn)
            {
                node.conns.push(conn);
            }
        }
        self.bind(node, role, id, conn);
        let travel = self.net.travel(self.now, &config, node, dst);
        let (after, happening) = match config.dial {
            _ if dst == NOWHERE => (1, Happening::Dialled { conn, result: Err(StreamFailure::Unreachable) }),
            Dial::Answers => (travel, Happening::Dial { conn }),
            Dial::Slow(late) => (travel + late, Happening::Dial { conn }),
            Dial::Refused(failure) => (2 * travel, Happening::Dialled { conn, result: Err(failure) }),
            Dial::Hangs => (DIAL_TIMEOUT, Happening::Dialled { conn, result: Err(StreamFailure::TimedOut) }),
        };
        let (to, from) = if matches!(happening, Happening::Dial { .. }) { (dst, node) } else { (node, dst) };
        self.push(self.now + after, Lane::net(to, from), happening);
    }

    /// A dial is heard at its target.
    pub(super) fn dial_arrives(&mut self, lane: Lane, conn: u64) {
        let Some(record) = self.net.conns.get(conn) else { return };
        let ((src, dst), links) = ((record.ends[0].node, record.ends[1].node), record.links);
        let until = self.net.blocked_until(links[0], src, dst);
        if until > self.now {
            return self.push(until, lane, Happening::Dial { conn });
        }
        let Some(record) = self.net.conns.get(conn) else { return };
        if record.severed || (record.ends[0].state == EndState::Closed && !record.closing) {
            self.set_closed(conn, 1);
            return;
        }
        let back = self.net.links.get(links[1]).config.delay.max(1);
        let at = self.now + back;
        let result = self.admit(dst, src, conn);
        if let Some(record) = self.net.conns.get_mut(conn) {
            match result {
                Ok((role, id)) => {
                    record.ends[1].role = role;
                    record.ends[1].id = id;
                    record.ends[1].state = EndState::Open;
                    // Nothing that the target says is heard before its answer to the dial.
                    record.pipes[1].hold(at);
                }
                Err(_) => record.ends[1].state = EndState::Closed,
            }
        }
        self.push(at, Lane::net(src, dst), Happening::Dialled { conn, result: result.map(|_| ()) });
        if let Ok((role, id)) = result {
            self.bind(dst, role, id, conn);
            self.meet(dst, src);
            if role == Role::Script {
                self.hear(dst, conn, Heard::Opened);
            } else {
                self.after(dst, role);
            }
        }
    }

    fn admit(&mut self, dst: u32, src: u32, conn: u64) -> Result<(Role, StreamId), StreamFailure> {
        let node = &mut self.nodes[dst as usize];
        let now = node.clock.read(self.now);
        if !node.alive {
            return Err(StreamFailure::Unreachable);
        }
        if node.script.is_some() {
            return Ok((Role::Script, StreamId(conn)));
        }
        let provider = node.provider.as_mut().ok_or(StreamFailure::Unsupported)?;
        match provider.machine.accept_stream(now, peer_id(src)) {
            Ok(id) => Ok((Role::Provider, id)),
            Err(_) => Err(StreamFailure::Refused),
        }
    }

    /// The answer to a dial is heard.
    pub(super) fn dialled(&mut self, conn: u64, result: Result<(), StreamFailure>) {
        let Some(record) = self.net.conns.get(conn) else { return };
        if result.is_ok() && !record.severed {
            let (src, dst) = (record.ends[1].node, record.ends[0].node);
            let until = self.net.blocked_until(record.links[1], src, dst);
            if until > self.now {
                return self.push(until, Lane::net(dst, src), Happening::Dialled { conn, result });
            }
        }
        let Some(record) = self.net.conns.get_mut(conn) else { return };
        let (node, role, id, state) =
            (record.ends[0].node, record.ends[0].role, record.ends[0].id, record.ends[0].state);
        let dst = record.ends[1].node;
        let result = if record.severed { Err(StreamFailure::Unreachable) } else { result };
        match result {
            Ok(()) => {
                let (waiting, closing) = (std::mem::take(&mut record.waiting), record.closing);
                if state == EndState::Dialling {
                    record.ends[0].state = EndState::Open;
                }
                if !waiting.is_empty() {
                    self.put(conn, 0, Item::Bytes(waiting));
                }
                if closing {
                    self.put(conn, 0, Item::Closed);
                }
                if state != EndState::Dialling {
                    return;
                }
                self.meet(node, dst);
                if role == Role::Script {
                    self.hear(node, conn, Heard::Opened);
                } else {
                    self.input(node, role, Input::StreamOpened(id));
                }
            }
            Err(failure) => {
                // A target that answered already learns of a cut by itself.
                if record.ends[1].state != EndState::Open {
                    record.ends[1].state = EndState::Closed;
                }
                self.set_closed(conn, 0);
                if state == EndState::Dialling {
                    self.nodes[node as usize].unbind(role, id);
                    if role == Role::Script {
                        self.hear(node, conn, Heard::Failed);
                    } else {
                        self.input(node, role, Input::StreamFailed(id, failure));
                    }
                }
            }
        }
    }

    fn meet(&mut self, node: u32, other: u32) {
        if self.net.connected.insert((node, other)) {
            self.apps.hear(NodeId(node), || Some(Told::Connected(peer_id(other))));
            for role in [Role::Requester, Role::Provider] {
                self.input(node, role, Input::PeerConnected(peer_id(other)));
            }
        }
    }

    /// The network ended a stream: if it was the last between two nodes, one learns that the other is gone.
    pub(super) fn part(&mut self, node: u32, other: u32) {
        if !self.talks_to(node, other) && self.net.connected.remove(&(node, other)) {
            self.apps.hear(NodeId(node), || Some(Told::Gone(peer_id(other))));
            for role in [Role::Requester, Role::Provider] {
                self.input(node, role, Input::PeerGone(peer_id(other)));
            }
        }
    }

    /// Whether a node takes itself to have an open stream with another. A dial under way makes a connection of its own.
    fn talks_to(&self, node: u32, other: u32) -> bool {
        let talks = |ends: &[End; 2], own: usize| {
            ends[own].node == node && ends[1 - own].node == other && ends[own].state == EndState::Open
        };
        let conns = &self.nodes[node as usize].conns;
        let mut ends = conns.iter().filter_map(|conn| Some(&self.net.conns.get(*conn)?.ends));
        ends.any(|ends| talks(ends, 0) || talks(ends, 1))
    }

    /// A machine has a name for a stream.
    fn bind(&mut self, node: u32, role: Role, id: StreamId, conn: u64) {
        if let (Some(log), Some(record)) = (&mut self.log, self.net.conns.get(conn)) {
            let other = record.ends.iter().map(|end| end.node).find(|other| *other != node);
            log.bound(node, role, id, conn, other.unwrap_or(node));
        }
        self.nodes[node as usize].bind(role, id, conn);
    }
}
