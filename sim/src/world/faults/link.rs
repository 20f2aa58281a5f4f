//! Links that are cut, stall, and change.

use super::World;
use crate::{net::Link, node::NodeId, queue::Lane, schedule::FaultKind, world::happen::Happening};

impl World {
    pub(super) fn stall(&mut self, a: NodeId, b: NodeId, ms: u64) {
        let until = self.now.saturating_add(ms);
        self.both(a, b, |link| link.stalled_until = link.stalled_until.max(until));
    }

    pub(super) fn stall_one_way(&mut self, from: NodeId, to: NodeId, ms: u64) {
        let until = self.now.saturating_add(ms);
        let link = self.link(from.0, to.0);
        link.stalled_until = link.stalled_until.max(until);
    }

    pub(super) fn flap(&mut self, a: NodeId, b: NodeId, ms: u64, times: u32) {
        self.stall(a, b, ms);
        if times > 1 {
            let again = Happening::Fault(FaultKind::Flap(a, b, ms, times - 1));
            self.push(self.now.saturating_add(ms).saturating_add(ms.max(1)), Lane::fault(), again);
        }
    }

    pub(super) fn delay(&mut self, a: NodeId, b: NodeId, delay: u64, jitter: u64) {
        self.both(a, b, |link| {
            link.config.delay = delay;
            link.config.jitter = jitter;
        });
    }

    pub(super) fn both(&mut self, a: NodeId, b: NodeId, change: impl Fn(&mut Link)) {
        change(self.link(a.0, b.0));
        change(self.link(b.0, a.0));
    }

    /// Cuts all streams between two nodes; `seen_after` is for `a` and `b`.
    pub(in crate::world) fn cut(&mut self, a: NodeId, b: NodeId, seen_after: [Option<u64>; 2]) {
        for (conn, swapped) in self.between(a.0, b.0) {
            self.sever(conn, if swapped { [seen_after[1], seen_after[0]] } else { seen_after });
        }
    }

    /// Streams between two nodes, and whether `b` dialled.
    fn between(&self, a: u32, b: u32) -> Vec<(u64, bool)> {
        let side = |ends: [u32; 2]| (ends == [a, b]).then_some(false).or((ends == [b, a]).then_some(true));
        let of = |conn: &u64| {
            let ends = &self.net.conns.get(*conn)?.ends;
            Some((*conn, side([ends[0].node, ends[1].node])?))
        };
        self.nodes.get(a as usize).map_or_else(Vec::new, |node| node.conns.iter().filter_map(of).collect())
    }
}
