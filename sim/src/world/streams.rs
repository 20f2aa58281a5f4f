//! Streams: bytes on their way, ends.

use haggle_core::{Input, StreamId, machine::StreamFailure, wire};

use super::{Happening, Lane, NOWHERE, World, record};
use crate::{
    dice::{Purpose, Stream},
    net::{Cuts, End, EndState, Item, Pipe, Role},
    node::{NodeId, peer_id},
    script::Heard,
};

impl World {
    pub(super) fn transmit(&mut self, node: u32, role: Role, id: StreamId, bytes: Vec<u8>) {
        if let Some(conn) = self.nodes[node as usize].conn_of(role, id) {
            self.send(node, role, conn, bytes);
        }
    }

    pub(super) fn send(&mut self, node: u32, role: Role, conn: u64, bytes: Vec<u8>) {
        let Some(end) = self.net.end_of(node, role, conn) else { return };
        let Some(other) = self.net.conns.get(conn).map(|record| record.ends[1 - end].node) else { return };
        if self.nodes[node as usize].reads_bytes {
            // Its bytes are no words of the protocol.
        } else if end == 0 {
            let core = role == Role::Requester;
            let config = self.nodes[node as usize].requester_config.as_ref();
            let unasked = config.map_or(0, |config| config.limits.body_unasked);
            let to = if other == NOWHERE { peer_id(NOWHERE) } else { peer_id(other) };
            self.judge.requester_sent(node, conn, to, &bytes, core, unasked);
        } else {
            self.judge.provider_sent(conn, peer_id(node), &bytes, role == Role::Provider);
        }
        if let Some(log) = &mut self.log {
            log.sent(self.now, node, role, conn, other, &bytes);
        }
        let Some(record) = self.net.conns.get_mut(conn) else { return };
        match record.ends[end].state {
            EndState::Dialling => record.waiting.extend_from_slice(&bytes),
            EndState::Open => self.put(conn, end, Item::Bytes(bytes)),
            EndState::Closed => self.net.spare.give(bytes),
        }
    }

    /// Puts something on its way.
    pub(super) fn put(&mut self, conn: u64, end: usize, item: Item) {
        let Some(record) = self.net.conns.get_mut(conn).filter(|record| !record.severed) else { return };
        let (src, dst) = (record.ends[end].node, record.ends[1 - end].node);
        let (now, config) = (self.now, self.net.links.get(record.links[end]).config);
        let travel = self.net.travel(self.now, &config, src, dst);
        let Some(record) = self.net.conns.get_mut(conn) else { return };
        let pipe = &mut record.pipes[end];
        let due = match item {
            Item::Bytes(bytes) if config.rate == 0 => pipe.put(now + travel, bytes, &mut self.net.spare),
            Item::Bytes(bytes) => return self.trickle(conn, end, &bytes, (u64::from(config.rate), travel)),
            Item::Closed => pipe.close(now + travel),
        };
        self.net.peak_in_flight = self.net.peak_in_flight.max(pipe.len());
        if let Some(at) = due {
            self.push(at, Lane::net(dst, src), Happening::Pump { conn, from: end });
        }
    }

    /// Puts bytes on their way, so many each ms.
    fn trickle(&mut self, conn: u64, end: usize, mut bytes: &[u8], (rate, travel): (u64, u64)) {
        while let Some(record) = self.net.conns.get_mut(conn).filter(|_| !bytes.is_empty()) {
            let (src, dst) = (record.ends[end].node, record.ends[1 - end].node);
            let pipe = &mut record.pipes[end];
            let (at, count) = pipe.leave(self.now, rate, bytes.len());
            let (some, rest) = bytes.split_at(count);
            let due = pipe.put(at + travel, self.net.spare.copy(some), &mut self.net.spare);
            self.net.peak_in_flight = self.net.peak_in_flight.max(pipe.len());
            bytes = rest;
            if let Some(at) = due {
                self.push(at, Lane::net(dst, src), Happening::Pump { conn, from: end });
            }
        }
    }

    /// What is due on a stream arrives.
    pub(super) fn pump(&mut self, lane: Lane, conn: u64, from: usize) {
        while let Some(record) = self.net.conns.get_mut(conn) {
            let (src, dst) = (record.ends[from].node, record.ends[1 - from].node);
            let stalled = self.net.links.get(record.links[from]).stalled_until;
            let until = stalled.max(self.net.partitions.until(self.seed, src, dst));
            if until > self.now {
                return self.push(until, lane, Happening::Pump { conn, from });
            }
            let Some(item) = record.pipes[from].take(self.now) else { return };
            if record.ends[1 - from].state == EndState::Closed {
                // Nobody listens any more.
                return record.pipes[from].clear();
            }
            match item {
                Item::Closed => return self.end_closes(conn, 1 - from, false),
                Item::Bytes(mut bytes) => {
                    let whole = self.net.links.get_mut(record.links[from]).spend(&mut bytes);
                    self.arrive_in_pieces(conn, from, &bytes);
                    self.net.spare.give(bytes);
                    if !whole {
                        return self.cut(NodeId(src), NodeId(dst), [Some(1), Some(1)]);
                    }
                }
            }
        }
    }

    /// Bytes arrive, cut as the link cuts them.
    fn arrive_in_pieces(&mut self, conn: u64, from: usize, bytes: &[u8]) {
        let Some(record) = self.net.conns.get_mut(conn) else { return };
        let stream = Stream::new(record.ends[from].node, record.ends[1 - from].node, Purpose::Split);
        let mean = self.net.links.get(record.links[from]).config.split;
        let cuts = Cuts { seed: self.seed, stream, key: record.key, mean };
        let mut place = record.pipes[from].count(bytes.len());
        let mut rest = bytes;
        while let Some(cut) = cuts.after(place) {
            let Some((piece, behind)) = rest.split_at_checked((cut - place) as usize) else { break };
            if !self.arrive(conn, 1 - from, piece) {
                return;
            }
            (place, rest) = (cut, behind);
        }
        if !rest.is_empty() {
            self.arrive(conn, 1 - from, rest);
        }
    }

    /// Bytes arrive at an end. `false`: it is closed, and hears nothing more.
    fn arrive(&mut self, conn: u64, end: usize, bytes: &[u8]) -> bool {
        let Some(record) = self.net.conns.get_mut(conn) else { return false };
        let End { node, role, id, state, .. } = record.ends[end];
        if state == EndState::Closed {
            return false;
        }
        let kind = record::input(&Input::Received(id, &[]), role);
        self.trace.record(self.now, record.ends[1 - end].node, node, kind, bytes);
        if role != Role::Script {
            self.input(node, role, Input::Received(id, bytes));
        } else if self.nodes[node as usize].reads_bytes {
            self.hear(node, conn, Heard::Bytes(bytes));
        } else {
            self.arrive_at_script(node, conn, end, bytes);
        }
        true
    }

    fn arrive_at_script(&mut self, node: u32, conn: u64, end: usize, bytes: &[u8]) {
        let Some(record) = self.net.conns.get_mut(conn) else { return };
        let mut deframer = std::mem::take(&mut record.ends[end].deframer);
        let mut rest = bytes;
        loop {
            match deframer.next(&mut rest) {
                Ok(None) => break,
                Ok(Some(frame)) => match wire::decode(frame) {
                    Ok(message) => self.hear(node, conn, Heard::Message(message)),
                    Err(_) => self.hear(node, conn, Heard::Garbage),
                },
                Err(_) => {
                    self.hear(node, conn, Heard::Garbage);
                    break;
                }
            }
        }
        if let Some(record) = self.net.conns.get_mut(conn) {
            record.ends[end].deframer = deframer;
        }
    }

    pub(super) fn close(&mut self, node: u32, role: Role, id: StreamId, reset: bool) {
        if let Some(conn) = self.nodes[node as usize].conn_of(role, id) {
            self.close_conn(node, role, conn, reset);
        }
    }

    /// An end closes a stream by itself.
    pub(super) fn close_conn(&mut self, node: u32, role: Role, conn: u64, reset: bool) {
        let Some(end) = self.net.end_of(node, role, conn) else { return };
        let Some(record) = self.net.conns.get_mut(conn) else { return };
        let (id, state) = (record.ends[end].id, record.ends[end].state);
        if state == EndState::Closed {
            return;
        }
        if state == EndState::Dialling {
            record.closing = !reset;
            if reset {
                record.waiting.clear();
            }
        }
        if reset {
            record.pipes[end].clear();
        }
        if state == EndState::Open || (reset && record.ends[1 - end].state == EndState::Open) {
            self.put(conn, end, Item::Closed);
        }
        self.nodes[node as usize].unbind(role, id);
        self.set_closed(conn, end);
        if self.config.echo_close && role != Role::Script {
            let life = self.nodes[node as usize].life;
            self.push(self.now + 1, Lane::net(node, node), Happening::Echo { node, life, role, id });
        }
    }

    /// The other side, or the network, ended a stream: this end learns it.
    pub(super) fn end_closes(&mut self, conn: u64, end: usize, lost: bool) {
        let Some(record) = self.net.conns.get(conn) else { return };
        let (node, role, id, state) =
            (record.ends[end].node, record.ends[end].role, record.ends[end].id, record.ends[end].state);
        let other = record.ends[1 - end].node;
        if state == EndState::Closed {
            return;
        }
        if state == EndState::Dialling {
            // The dial fails instead.
            return self.dialled(conn, Err(StreamFailure::Unreachable));
        }
        self.nodes[node as usize].unbind(role, id);
        self.set_closed(conn, end);
        if role == Role::Script {
            self.hear(node, conn, Heard::Closed);
        } else {
            self.input(node, role, Input::StreamClosed(id));
        }
        if lost {
            self.part(node, other);
        }
    }

    /// Cuts a stream: what is on its way is lost. Each end learns it after its own time, or never.
    pub(super) fn sever(&mut self, conn: u64, seen_after: [Option<u64>; 2]) {
        let Some(record) = self.net.conns.get_mut(conn) else { return };
        record.severed = true;
        record.pipes.iter_mut().for_each(Pipe::clear);
        let nodes = [record.ends[0].node, record.ends[1].node];
        for end in [0, 1] {
            if let Some(after) = seen_after[end] {
                let severed = Happening::Severed { conn, end };
                self.push(self.now + after.max(1), Lane::net(nodes[end], nodes[1 - end]), severed);
            }
        }
    }

    pub(super) fn set_closed(&mut self, conn: u64, end: usize) {
        let Some(record) = self.net.conns.get_mut(conn) else { return };
        record.ends[end].state = EndState::Closed;
        let others = &record.ends[1 - end];
        let waits = record.closing && !record.severed && others.state == EndState::Dialling;
        if others.state == EndState::Closed || (others.node == NOWHERE && !waits) {
            self.forget_conn(conn);
        }
    }

    fn forget_conn(&mut self, conn: u64) {
        let Some(record) = self.net.conns.remove(conn) else { return };
        for end in record.ends {
            if let Some(node) = self.nodes.get_mut(end.node as usize)
                && let Ok(at) = node.conns.binary_search(&conn)
            {
                node.conns.remove(at);
            }
        }
        self.judge.stream_gone(conn);
    }
}
