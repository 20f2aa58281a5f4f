//! All that lies between nodes.

use std::collections::BTreeSet;

use super::{Buffers, Conns, LinkConfig, Links, Partitions, Role};
use crate::dice::{self, Purpose, Stream};

/// Links, streams, and what is cut off from what.
#[derive(Clone, Debug, Default)]
pub(crate) struct Network {
    pub(crate) seed: u64,
    pub(crate) links: Links,
    pub(crate) partitions: Partitions,
    pub(crate) conns: Conns,
    /// Used before, and empty.
    pub(crate) spare: Buffers,
    /// Who has a connection to whom, as each end sees it.
    pub(crate) connected: BTreeSet<(u32, u32)>,
    /// Streams that were ordered.
    pub(crate) dials: u64,
    /// Most bytes that were ever on their way in one direction of a stream.
    pub(crate) peak_in_flight: usize,
}

impl Network {
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed, ..Self::default() }
    }

    /// How long things travel that are sent at this instant.
    pub(crate) fn travel(&self, now: u64, link: &LinkConfig, src: u32, dst: u32) -> u64 {
        let delay = link.delay.max(1);
        if link.jitter == 0 {
            return delay;
        }
        let stream = Stream::new(src, dst, Purpose::Jitter);
        let draw = dice::rand(self.seed, stream, link.spread.key(now));
        delay.saturating_add(link.spread.stretch(link.jitter, draw))
    }

    /// Until when nothing travels over a link.
    pub(crate) fn blocked_until(&self, link: u32, src: u32, dst: u32) -> u64 {
        self.links.get(link).stalled_until.max(self.partitions.until(self.seed, src, dst))
    }

    pub(crate) fn end_of(&self, node: u32, role: Role, conn: u64) -> Option<usize> {
        let record = self.conns.get(conn)?;
        record.ends.iter().position(|end| end.node == node && end.role == role)
    }
}
