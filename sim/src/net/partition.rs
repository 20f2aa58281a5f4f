//! Who is cut off from whom.

use crate::{
    NodeId,
    dice::{Purpose, Stream, rand},
    net::REGIONS,
};

/// One side of a partition: nothing travels between it and the rest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// One node.
    Node(NodeId),
    /// All nodes of a region, by its number below 8.
    Region(u8),
    /// About half of all nodes, drawn by this key.
    Half(u8),
}

/// The region that a node is in.
pub(crate) const fn region(seed: u64, node: u32) -> u8 {
    (rand(seed, Stream::new(node, node, Purpose::Place), 0) % REGIONS as u64) as u8
}

/// Partitions that are not over.
#[derive(Clone, Debug, Default)]
pub(crate) struct Partitions(Vec<(u64, Side)>);

impl Partitions {
    pub(crate) fn add(&mut self, now: u64, until: u64, side: Side) {
        self.0.retain(|(until, _)| *until > now);
        self.0.push((until, side));
    }

    /// When the last partition between two nodes ends.
    pub(crate) fn until(&self, seed: u64, src: u32, dst: u32) -> u64 {
        let parts = |side: Side| side.has(seed, src) != side.has(seed, dst);
        self.0.iter().filter(|(_, side)| parts(*side)).map(|(until, _)| *until).max().unwrap_or(0)
    }
}

impl Side {
    const fn has(self, seed: u64, node: u32) -> bool {
        match self {
            Self::Node(only) => only.0 == node,
            Self::Region(number) => region(seed, node) == number,
            Self::Half(key) => rand(seed, Stream::new(node, node, Purpose::Place), 1 + key as u64).is_multiple_of(2),
        }
    }
}
