//! Streams: dials, bytes on their way, ends.

use haggle_core::{
    Input, PeerId, StreamId,
    machine::StreamFailure,
    wire::{self, Deframer},
};

use super::{Happening, Lane, Told, World, kind, machines::input_kind};
use crate::{
    dice::{self, Purpose, Stream},
    net::{Conn, Cuts, DIAL_TIMEOUT, Dial, End, EndState, Item, Link, LinkConfig, Pipe, Role},
    node::{NodeId, node_of, peer_id},
    script::Heard,
};

/// The node of a peer that is not there.
const NOWHERE: u32 = u32::MAX;

impl World {
    pub(super) fn open(&mut self, node: u32, role: Role, id: StreamId, peer: PeerId) {
        self.dials += 1;
        self.trace.record(self.now, node, node, 35, peer.as_bytes());
        let dst = node_of(peer).filter(|dst| (*dst as usize) < self.nodes.len()).unwrap_or(NOWHERE);
        let links = [self.link_number(node, dst), self.link_number(dst, node)];
        let link = self.links.get_mut(links[0]);
        link.opened += 1;
        let (key, config) = (link.opened, link.config);
        let end = |node, role, id| End { node, role, id, state: EndState::Dialling, deframer: Deframer::default() };
        let ends = [end(node, role, id), end(dst, Role::Provider, StreamId(0))];
        let pipes = [Pipe::default(), Pipe::default()];
        let (waiting, closing, severed) = (Vec::new(), false, false);
        let conn = self.conns.insert(Conn { ends, pipes, links, key, waiting, closing, severed });
        for node in [node, dst] {
            if let Some(node) = self.nodes.get_mut(node as usize)
                && node.conns.last() != Some(&conn)
            {
                node.conns.push(conn);
            }
        }
        self.bind(node, role, id, conn);
        let travel = self.travel(&config, node, dst);
        let (after, happening) = match config.dial {
            _ if dst == NOWHERE => (1, Happening::Dialled { conn, result: Err(StreamFailure::Unreachable) }),
            Dial::Answers => (travel, Happening::Dial { conn }),
            Dial::Slow(late) => (travel + late, Happening::Dial { conn }),
            Dial::Refused(failure) => (2 * travel, Happening::Dialled { conn, result: Err(failure) }),
            Dial::Hangs => (DIAL_TIMEOUT, Happening::Dialled { conn, result: Err(StreamFailure::TimedOut) }),
        };
        let (to, from) = if matches!(happening, Happening::Dial { .. }) { (dst, node) } else { (node, dst) };
        self.push(self.now + after, to, kind::NET, from, happening);
    }

    /// How long things travel that are sent at this instant.
    fn travel(&self, link: &LinkConfig, src: u32, dst: u32) -> u64 {
        let delay = link.delay.max(1);
        if link.jitter == 0 {
            return delay;
        }
        let stream = Stream::new(src, dst, Purpose::Jitter);
        let draw = dice::rand(self.seed, stream, link.spread.key(self.now));
        delay.saturating_add(link.spread.stretch(link.jitter, draw))
    }

    /// Until when nothing travels over a link.
    fn blocked_until(&self, link: u32, src: u32, dst: u32) -> u64 {
        self.links.get(link).stalled_until.max(self.partitions.until(self.seed, src, dst))
    }

    /// A dial is heard at its target.
    pub(super) fn dial_arrives(&mut self, lane: Lane, conn: u64) {
        let Some(record) = self.conns.get(conn) else { return };
        let ((src, dst), links) = ((record.ends[0].node, record.ends[1].node), record.links);
        let until = self.blocked_until(links[0], src, dst);
        if until > self.now {
            return self.push(until, lane.dst, lane.kind, lane.src, Happening::Dial { conn });
        }
        let Some(record) = self.conns.get(conn) else { return };
        if record.severed || (record.ends[0].state == EndState::Closed && !record.closing) {
            self.set_closed(conn, 1);
            return;
        }
        let back = self.links.get(links[1]).config.delay.max(1);
        let at = self.now + back;
        let result = self.admit(dst, src, conn);
        if let Some(record) = self.conns.get_mut(conn) {
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
        self.push(at, src, kind::NET, dst, Happening::Dialled { conn, result: result.map(|_| ()) });
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
        let Some(record) = self.conns.get(conn) else { return };
        if result.is_ok() && !record.severed {
            let (src, dst) = (record.ends[1].node, record.ends[0].node);
            let until = self.blocked_until(record.links[1], src, dst);
            if until > self.now {
                return self.push(until, dst, kind::NET, src, Happening::Dialled { conn, result });
            }
        }
        let Some(record) = self.conns.get_mut(conn) else { return };
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
                    self.unbind(node, role, id);
                    if role == Role::Script {
                        self.hear(node, conn, Heard::Failed);
                    } else {
                        self.input(node, role, Input::StreamFailed(id, failure));
                    }
                }
            }
        }
    }

    pub(super) fn transmit(&mut self, node: u32, role: Role, id: StreamId, bytes: Vec<u8>) {
        if let Some(conn) = self.conn_of(node, role, id) {
            self.send(node, role, conn, bytes);
        }
    }

    pub(super) fn send(&mut self, node: u32, role: Role, conn: u64, bytes: Vec<u8>) {
        let Some(end) = self.end_of(node, role, conn) else { return };
        let Some(other) = self.conns.get(conn).map(|record| record.ends[1 - end].node) else { return };
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
        let Some(record) = self.conns.get_mut(conn) else { return };
        match record.ends[end].state {
            EndState::Dialling => record.waiting.extend_from_slice(&bytes),
            EndState::Open => self.put(conn, end, Item::Bytes(bytes)),
            EndState::Closed => self.spare.give(bytes),
        }
    }

    /// Puts something on its way.
    fn put(&mut self, conn: u64, end: usize, item: Item) {
        let Some(record) = self.conns.get_mut(conn).filter(|record| !record.severed) else { return };
        let (src, dst) = (record.ends[end].node, record.ends[1 - end].node);
        let (now, config) = (self.now, self.links.get(record.links[end]).config);
        let travel = self.travel(&config, src, dst);
        let Some(record) = self.conns.get_mut(conn) else { return };
        let pipe = &mut record.pipes[end];
        let due = match item {
            Item::Bytes(bytes) if config.rate == 0 => pipe.put(now + travel, bytes, &mut self.spare),
            Item::Bytes(bytes) => return self.trickle(conn, end, &bytes, (u64::from(config.rate), travel)),
            Item::Closed => pipe.close(now + travel),
        };
        self.peak_in_flight = self.peak_in_flight.max(pipe.len());
        if let Some(at) = due {
            self.push(at, dst, kind::NET, src, Happening::Pump { conn, from: end });
        }
    }

    /// Puts bytes on their way, so many each ms.
    fn trickle(&mut self, conn: u64, end: usize, mut bytes: &[u8], (rate, travel): (u64, u64)) {
        while let Some(record) = self.conns.get_mut(conn).filter(|_| !bytes.is_empty()) {
            let (src, dst) = (record.ends[end].node, record.ends[1 - end].node);
            let pipe = &mut record.pipes[end];
            let (at, count) = pipe.leave(self.now, rate, bytes.len());
            let (some, rest) = bytes.split_at(count);
            let due = pipe.put(at + travel, self.spare.copy(some), &mut self.spare);
            self.peak_in_flight = self.peak_in_flight.max(pipe.len());
            bytes = rest;
            if let Some(at) = due {
                self.push(at, dst, kind::NET, src, Happening::Pump { conn, from: end });
            }
        }
    }

    /// What is due on a stream arrives.
    pub(super) fn pump(&mut self, lane: Lane, conn: u64, from: usize) {
        while let Some(record) = self.conns.get_mut(conn) {
            let (src, dst) = (record.ends[from].node, record.ends[1 - from].node);
            let stalled = self.links.get(record.links[from]).stalled_until;
            let until = stalled.max(self.partitions.until(self.seed, src, dst));
            if until > self.now {
                return self.push(until, lane.dst, lane.kind, lane.src, Happening::Pump { conn, from });
            }
            let Some(item) = record.pipes[from].take(self.now) else { return };
            if record.ends[1 - from].state == EndState::Closed {
                // Nobody listens any more.
                return record.pipes[from].clear();
            }
            match item {
                Item::Closed => return self.end_closes(conn, 1 - from, false),
                Item::Bytes(mut bytes) => {
                    let whole = spend(self.links.get_mut(record.links[from]), &mut bytes);
                    self.arrive_in_pieces(conn, from, &bytes);
                    self.spare.give(bytes);
                    if !whole {
                        return self.cut(NodeId(src), NodeId(dst), [Some(1), Some(1)]);
                    }
                }
            }
        }
    }

    /// Bytes arrive, cut as the link cuts them.
    fn arrive_in_pieces(&mut self, conn: u64, from: usize, bytes: &[u8]) {
        let Some(record) = self.conns.get_mut(conn) else { return };
        let stream = Stream::new(record.ends[from].node, record.ends[1 - from].node, Purpose::Split);
        let mean = self.links.get(record.links[from]).config.split;
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
        let Some(record) = self.conns.get_mut(conn) else { return false };
        let End { node, role, id, state, .. } = record.ends[end];
        if state == EndState::Closed {
            return false;
        }
        let kind = input_kind(&Input::Received(id, &[])) | ((role as u8) << 4);
        self.trace.record(self.now, record.ends[1 - end].node, node, kind, bytes);
        match role {
            Role::Script if self.nodes[node as usize].reads_bytes => self.hear(node, conn, Heard::Bytes(bytes)),
            Role::Script => self.arrive_at_script(node, conn, end, bytes),
            _ => self.input(node, role, Input::Received(id, bytes)),
        }
        true
    }

    fn arrive_at_script(&mut self, node: u32, conn: u64, end: usize, bytes: &[u8]) {
        let Some(record) = self.conns.get_mut(conn) else { return };
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
        if let Some(record) = self.conns.get_mut(conn) {
            record.ends[end].deframer = deframer;
        }
    }

    pub(super) fn close(&mut self, node: u32, role: Role, id: StreamId, reset: bool) {
        if let Some(conn) = self.conn_of(node, role, id) {
            self.close_conn(node, role, conn, reset);
        }
    }

    /// An end closes a stream by itself.
    pub(super) fn close_conn(&mut self, node: u32, role: Role, conn: u64, reset: bool) {
        let Some(end) = self.end_of(node, role, conn) else { return };
        let Some(record) = self.conns.get_mut(conn) else { return };
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
        self.unbind(node, role, id);
        self.set_closed(conn, end);
        if self.echo_close && role != Role::Script {
            let life = self.nodes[node as usize].life;
            self.push(self.now + 1, node, kind::NET, node, Happening::Echo { node, life, role, id });
        }
    }

    /// The other side, or the network, ended a stream: this end learns it.
    pub(super) fn end_closes(&mut self, conn: u64, end: usize, lost: bool) {
        let Some(record) = self.conns.get(conn) else { return };
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
        self.unbind(node, role, id);
        self.set_closed(conn, end);
        if role == Role::Script {
            self.hear(node, conn, Heard::Closed);
        } else {
            self.input(node, role, Input::StreamClosed(id));
        }
        if lost && !self.talks_to(node, other) && self.connected.remove(&(node, other)) {
            self.tell(node, Told::Gone(peer_id(other)));
            for role in [Role::Requester, Role::Provider] {
                self.input(node, role, Input::PeerGone(peer_id(other)));
            }
        }
    }

    /// Cuts a stream: what is on its way is lost. Each end learns it after its own time, or never.
    pub(super) fn sever(&mut self, conn: u64, seen_after: [Option<u64>; 2]) {
        let Some(record) = self.conns.get_mut(conn) else { return };
        record.severed = true;
        record.pipes.iter_mut().for_each(Pipe::clear);
        let nodes = [record.ends[0].node, record.ends[1].node];
        for end in [0, 1] {
            if let Some(after) = seen_after[end] {
                let severed = Happening::Severed { conn, end };
                self.push(self.now + after.max(1), nodes[end], kind::NET, nodes[1 - end], severed);
            }
        }
    }

    pub(super) fn set_closed(&mut self, conn: u64, end: usize) {
        let Some(record) = self.conns.get_mut(conn) else { return };
        record.ends[end].state = EndState::Closed;
        let others = &record.ends[1 - end];
        let waits = record.closing && !record.severed && others.state == EndState::Dialling;
        if others.state == EndState::Closed || (others.node == NOWHERE && !waits) {
            self.forget_conn(conn);
        }
    }

    fn forget_conn(&mut self, conn: u64) {
        let Some(record) = self.conns.remove(conn) else { return };
        for end in record.ends {
            if let Some(node) = self.nodes.get_mut(end.node as usize)
                && let Ok(at) = node.conns.binary_search(&conn)
            {
                node.conns.remove(at);
            }
        }
        self.judge.stream_gone(conn);
    }

    fn meet(&mut self, node: u32, other: u32) {
        if self.connected.insert((node, other)) {
            self.tell(node, Told::Connected(peer_id(other)));
            for role in [Role::Requester, Role::Provider] {
                self.input(node, role, Input::PeerConnected(peer_id(other)));
            }
        }
    }

    /// Whether a node takes itself to have an open stream with another. A dial under way makes a connection of its own.
    fn talks_to(&self, node: u32, other: u32) -> bool {
        let talks = |ends: &[End; 2], own: usize| {
            ends[own].node == node && ends[1 - own].node == other && ends[own].state == EndState::Open
        };
        let conns = &self.nodes[node as usize].conns;
        let mut ends = conns.iter().filter_map(|conn| Some(&self.conns.get(*conn)?.ends));
        ends.any(|ends| talks(ends, 0) || talks(ends, 1))
    }

    fn end_of(&self, node: u32, role: Role, conn: u64) -> Option<usize> {
        let record = self.conns.get(conn)?;
        record.ends.iter().position(|end| end.node == node && end.role == role)
    }

    pub(super) fn conn_of(&self, node: u32, role: Role, id: StreamId) -> Option<u64> {
        let node = &self.nodes[node as usize];
        match role {
            Role::Requester => node.requester.as_ref()?.streams.get(&id).copied(),
            Role::Provider => node.provider.as_ref()?.streams.get(&id).copied(),
            Role::Script => Some(id.0),
        }
    }

    fn bind(&mut self, node: u32, role: Role, id: StreamId, conn: u64) {
        if let (Some(log), Some(record)) = (&mut self.log, self.conns.get(conn)) {
            let other = record.ends.iter().map(|end| end.node).find(|other| *other != node);
            log.bound(node, role, id, conn, other.unwrap_or(node));
        }
        let node = &mut self.nodes[node as usize];
        match role {
            Role::Requester => node.requester.as_mut().and_then(|side| side.streams.insert(id, conn)),
            Role::Provider => node.provider.as_mut().and_then(|side| side.streams.insert(id, conn)),
            Role::Script => None,
        };
    }

    fn unbind(&mut self, node: u32, role: Role, id: StreamId) {
        let node = &mut self.nodes[node as usize];
        match role {
            Role::Requester => node.requester.as_mut().and_then(|side| side.streams.remove(&id)),
            Role::Provider => node.provider.as_mut().and_then(|side| side.streams.remove(&id)),
            Role::Script => None,
        };
    }
}

/// Counts bytes that arrive against a link's cut that is due; `false`: it comes behind those that are left.
fn spend(link: &mut Link, bytes: &mut Vec<u8>) -> bool {
    let Some(left) = link.cut_in else {
        link.arrived += bytes.len() as u64;
        return true;
    };
    link.cut_in = left.checked_sub(bytes.len() as u64);
    bytes.truncate(usize::try_from(left).unwrap_or(usize::MAX));
    link.arrived += bytes.len() as u64;
    link.cut_in.is_some()
}
