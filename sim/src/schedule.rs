//! Faults as plain data: a list that can be read, cut down and run again.

use haggle_core::{money::Price, wire::message::Features};
use serde::{Deserialize, Serialize};

use crate::{
    engine::Trouble,
    net::{Dial, Lookup, Side, Spread},
    node::NodeId,
    toml_forms::{features, maybe},
};

/// The faults of a run.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Schedule {
    /// In any order.
    pub faults: Vec<Fault>,
}

/// A fault and its time.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// When, in virtual ms.
    pub at: u64,
    /// What.
    pub what: FaultKind,
}

/// What goes wrong. Links are meant in both directions.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// Every stream between two nodes is lost, and both ends see it.
    Cut(NodeId, NodeId),
    /// Every stream between two nodes is lost, and only the first node sees it.
    HalfCut(NodeId, NodeId),
    /// As [`FaultKind::Cut`], as soon as so many further bytes have come from the first node to the second.
    CutAfter(NodeId, NodeId, u64),
    /// Nothing travels for so many ms; nothing is lost.
    Stall(NodeId, NodeId, u64),
    /// Nothing travels from the first node to the second for so many ms; the other way is as it was.
    OneWay(NodeId, NodeId, u64),
    /// Nothing travels for so many ms, then all does for as many, and so on, so many times.
    Flap(NodeId, NodeId, u64, u32),
    /// Nothing travels between one side and all others for so many ms.
    Partition(Side, u64),
    /// Dials meet this from now on.
    Dial(NodeId, NodeId, Dial),
    /// Another delay and jitter from now on, in ms.
    Delay(NodeId, NodeId, u64, u64),
    /// The jitter is spread like this from now on.
    Spread(NodeId, NodeId, Spread),
    /// Each stream gets so many bytes a ms from now on; 0 is any number.
    Bandwidth(NodeId, NodeId, u32),
    /// Bytes are cut into pieces of this mean length from now on.
    Split(NodeId, NodeId, u32),
    /// A node dies; others see their streams end after so many ms, or never.
    Kill(NodeId, #[serde(with = "maybe")] Option<u64>),
    /// A node's process dies with its memory, and is back so many ms later with what it had stored. Nodes that meet this
    /// store their state as they go: at once where it must not be lost, else from time to time.
    Crash(NodeId, u64),
    /// A node comes back without memory; if it lives, it dies first.
    Restart(NodeId),
    /// Engines of a node have this trouble in every attempt that starts from now on.
    Engine(NodeId, #[serde(with = "maybe")] Option<(u64, Trouble)>),
    /// A node stands still for so many ms, as a laptop that sleeps: what comes meanwhile is found when it wakes.
    Sleep(NodeId, u64),
    /// A node's clock is set forward by so many ms, or back.
    ClockStep(NodeId, i64),
    /// A node's clock runs fast by so many millionths from now on, or slow.
    ClockDrift(NodeId, i32),
    /// An engine takes so many times as long for everything from now on.
    Slow(NodeId, u32),
    /// A node's records expire: queries do not find it any more.
    Unpublish(NodeId),
    /// A provider says again what it serves.
    Publish(NodeId),
    /// Queries meet this from now on.
    Lookup(Lookup),
    /// A provider changes its prices for reading and writing.
    Price(NodeId, Price, Price),
    /// A provider's engine can do this beyond prompts of text from now on, and its advert says so; never: it takes no bodies
    /// of kind request.
    Features(NodeId, #[serde(with = "features")] Option<Features>),
    /// A provider takes no new jobs, and ends those that run after so many ms.
    Drain(NodeId, u64),
    /// A provider ends every job, typed.
    ShutDown(NodeId),
    /// The application cancels the job that was submitted as number so-and-so of all, counted from 0.
    Cancel(usize),
    /// The first node, a requester, bans the second by hand.
    Ban(NodeId, NodeId),
    /// The first node, a requester, allows the second again.
    Allow(NodeId, NodeId),
}

/// Every kind's name.
pub(crate) const NAMES: [&str; 30] = [
    "cut",
    "half-cut",
    "cut-after",
    "stall",
    "dial",
    "delay",
    "split",
    "kill",
    "restart",
    "engine",
    "lookup",
    "price",
    "drain",
    "shut-down",
    "cancel",
    "ban",
    "allow",
    "one-way",
    "flap",
    "partition",
    "spread",
    "bandwidth",
    "sleep",
    "clock-step",
    "clock-drift",
    "slow",
    "unpublish",
    "publish",
    "crash",
    "features",
];

impl FaultKind {
    /// A stable name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Cut(..) => "cut",
            Self::HalfCut(..) => "half-cut",
            Self::CutAfter(..) => "cut-after",
            Self::Stall(..) => "stall",
            Self::OneWay(..) => "one-way",
            Self::Flap(..) => "flap",
            Self::Partition(..) => "partition",
            Self::Dial(..) => "dial",
            Self::Delay(..) => "delay",
            Self::Spread(..) => "spread",
            Self::Bandwidth(..) => "bandwidth",
            Self::Split(..) => "split",
            Self::Kill(..) => "kill",
            Self::Crash(..) => "crash",
            Self::Restart(..) => "restart",
            Self::Engine(..) => "engine",
            Self::Sleep(..) => "sleep",
            Self::ClockStep(..) => "clock-step",
            Self::ClockDrift(..) => "clock-drift",
            Self::Slow(..) => "slow",
            Self::Unpublish(..) => "unpublish",
            Self::Publish(..) => "publish",
            Self::Lookup(..) => "lookup",
            Self::Price(..) => "price",
            Self::Features(..) => "features",
            Self::Drain(..) => "drain",
            Self::ShutDown(..) => "shut-down",
            Self::Cancel(..) => "cancel",
            Self::Ban(..) => "ban",
            Self::Allow(..) => "allow",
        }
    }
    /// What ends it, if it does not end by itself.
    #[must_use]
    pub const fn remedy(self) -> Option<Self> {
        match self {
            Self::Dial(a, b, _) => Some(Self::Dial(a, b, Dial::Answers)),
            Self::Delay(a, b, ..) => Some(Self::Delay(a, b, 5, 0)),
            Self::Spread(a, b, _) => Some(Self::Spread(a, b, Spread::Even)),
            Self::Bandwidth(a, b, _) => Some(Self::Bandwidth(a, b, 0)),
            Self::ClockDrift(node, _) => Some(Self::ClockDrift(node, 0)),
            Self::Slow(node, _) => Some(Self::Slow(node, 1)),
            Self::Unpublish(node) => Some(Self::Publish(node)),
            Self::Engine(node, _) => Some(Self::Engine(node, None)),
            Self::Kill(node, _) | Self::Drain(node, _) | Self::ShutDown(node) => Some(Self::Restart(node)),
            Self::Ban(a, b) => Some(Self::Allow(a, b)),
            Self::Lookup(_) => Some(Self::Lookup(Lookup::Answers)),
            Self::Cut(..)
            | Self::HalfCut(..)
            | Self::CutAfter(..)
            | Self::Stall(..)
            | Self::OneWay(..)
            | Self::Flap(..)
            | Self::Partition(..)
            | Self::Sleep(..)
            | Self::ClockStep(..)
            | Self::Publish(_)
            | Self::Split(..)
            | Self::Crash(..)
            | Self::Restart(_)
            | Self::Price(..)
            | Self::Features(..)
            | Self::Allow(..)
            | Self::Cancel(_) => None,
        }
    }

    /// The nodes that it names.
    #[must_use]
    pub fn nodes(mut self) -> Vec<NodeId> {
        let mut nodes = Vec::new();
        self.each_node(|node| nodes.push(*node));
        nodes
    }

    /// Visits the nodes that it names.
    pub(crate) fn each_node(&mut self, mut visit: impl FnMut(&mut NodeId)) {
        match self {
            Self::Cut(a, b)
            | Self::HalfCut(a, b)
            | Self::CutAfter(a, b, _)
            | Self::Stall(a, b, _)
            | Self::OneWay(a, b, _)
            | Self::Flap(a, b, ..)
            | Self::Spread(a, b, _)
            | Self::Bandwidth(a, b, _)
            | Self::Dial(a, b, _)
            | Self::Delay(a, b, ..)
            | Self::Split(a, b, _)
            | Self::Ban(a, b)
            | Self::Allow(a, b) => [a, b].into_iter().for_each(visit),
            Self::Kill(node, _)
            | Self::Crash(node, _)
            | Self::Restart(node)
            | Self::Engine(node, _)
            | Self::Price(node, ..)
            | Self::Features(node, _)
            | Self::Drain(node, _)
            | Self::ShutDown(node)
            | Self::Sleep(node, _)
            | Self::ClockStep(node, _)
            | Self::ClockDrift(node, _)
            | Self::Slow(node, _)
            | Self::Unpublish(node)
            | Self::Publish(node)
            | Self::Partition(Side::Node(node), _) => visit(node),
            Self::Lookup(_) | Self::Cancel(_) | Self::Partition(..) => {}
        }
    }
}
