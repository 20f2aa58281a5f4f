//! The order of what happens within one millisecond: all of it is decided here.
//!
//! First what concerns nodes, one after the other by their numbers: of one node by [`Kind`], of one kind by who it comes
//! from. Then, behind all nodes, the drains that were put off to the end of the instant, requesters' before providers', and
//! last what applications do about what they were told. Within a lane, first in is first out.
//!
//! So the order does not depend on when within the instant each event was put in: two worlds that differ only in when a
//! machine's outputs are drained run alike.

use crate::net::Role;

/// Where an event belongs among those of its instant, in 64 bits that sort: destination, kind, source.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Lane(u64);

/// What comes first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Kind {
    /// Faults, and processes that start.
    World,
    Timer,
    /// Whatever a stream brings.
    Net,
    Query,
    Engine,
    RequesterDrain,
    ProviderDrain,
    App,
}

const KIND_BITS: u32 = 4;
const SRC_BITS: u32 = 32;
/// The destination behind all nodes, which are below 2²⁸ - 1.
const END: u32 = (1 << (32 - KIND_BITS)) - 1;

impl Lane {
    const fn new(dst: u32, kind: Kind, src: u32) -> Self {
        let dst = if dst >= END { END } else { dst };
        Self((((dst as u64) << KIND_BITS) | kind as u64) << SRC_BITS | src as u64)
    }

    /// A fault.
    pub(crate) const fn fault() -> Self {
        Self::start(0)
    }

    /// A node starts, or comes back.
    pub(crate) const fn start(node: u32) -> Self {
        Self::new(node, Kind::World, node)
    }

    pub(crate) const fn timer(node: u32, role: Role) -> Self {
        Self::new(node, Kind::Timer, role as u32)
    }

    /// Something arrives at a node from another.
    pub(crate) const fn net(dst: u32, src: u32) -> Self {
        Self::new(dst, Kind::Net, src)
    }

    pub(crate) const fn query(node: u32) -> Self {
        Self::new(node, Kind::Query, node)
    }

    pub(crate) const fn engine(node: u32) -> Self {
        Self::new(node, Kind::Engine, node)
    }

    /// A script wakes, or an application submits a job.
    pub(crate) const fn app(node: u32) -> Self {
        Self::new(node, Kind::App, node)
    }

    /// A machine is drained at the end of the instant.
    pub(crate) const fn late_drain(node: u32, role: Role) -> Self {
        let is_provider = matches!(role, Role::Provider);
        Self::new(END, if is_provider { Kind::ProviderDrain } else { Kind::RequesterDrain }, node)
    }

    /// A node's application does something about what it was told.
    pub(crate) const fn told(node: u32) -> Self {
        Self::new(END, Kind::App, node)
    }

    /// The node that has to be awake for it, and how many ms after its waking it happens: its timers first, then what its
    /// peers said, one after the other. All in one instant, what a machine orders about one thing would race with the next.
    pub(crate) fn sleeper(self) -> Option<(u32, u64)> {
        let kind = (self.0 >> SRC_BITS) & ((1 << KIND_BITS) - 1);
        let dst = (self.0 >> (SRC_BITS + KIND_BITS)) as u32;
        if kind == Kind::World as u64 || dst == END {
            return None;
        }
        let src = self.0 as u32;
        Some((dst, if kind == Kind::Timer as u64 { 0 } else { 1 + u64::from(src % 64) }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_then_late_drains_then_applications() {
        let order = [
            Lane::start(0),
            Lane::timer(0, Role::Requester),
            Lane::timer(0, Role::Provider),
            Lane::net(0, 0),
            Lane::net(0, u32::MAX),
            Lane::query(0),
            Lane::engine(0),
            Lane::app(0),
            Lane::start(1),
            Lane::app(END - 1),
            Lane::late_drain(0, Role::Requester),
            Lane::late_drain(7, Role::Requester),
            Lane::late_drain(0, Role::Provider),
            Lane::told(0),
            Lane::told(u32::MAX),
        ];
        assert!(order.is_sorted_by(|a, b| a < b), "{order:?}");
        assert_eq!(Lane::fault(), Lane::start(0));
    }

    #[test]
    fn a_sleeper_hears_its_timers_first() {
        assert_eq!(Lane::timer(3, Role::Provider).sleeper(), Some((3, 0)));
        assert_eq!(Lane::net(3, 65).sleeper(), Some((3, 2)));
        for lane in [Lane::start(3), Lane::late_drain(3, Role::Requester), Lane::told(3)] {
            assert_eq!(lane.sleeper(), None);
        }
    }
}
