//! Faults as plain data: a list that can be read, cut down and run again.

use haggle_core::money::Price;

use crate::{
    engine::Trouble,
    net::{Dial, Lookup},
    node::NodeId,
};

/// The faults of a run.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Schedule {
    /// In any order.
    pub faults: Vec<Fault>,
}

/// A fault and its time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fault {
    /// When, in virtual ms.
    pub at: u64,
    /// What.
    pub what: FaultKind,
}

/// What goes wrong. Links are meant in both directions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FaultKind {
    /// Every stream between two nodes is lost, and both ends see it.
    Cut(NodeId, NodeId),
    /// Every stream between two nodes is lost, and only the first node sees it.
    HalfCut(NodeId, NodeId),
    /// As [`FaultKind::Cut`], as soon as so many further bytes have come from the first node to the second.
    CutAfter(NodeId, NodeId, u64),
    /// Nothing travels for so many ms; nothing is lost.
    Stall(NodeId, NodeId, u64),
    /// Dials meet this from now on.
    Dial(NodeId, NodeId, Dial),
    /// Another delay and jitter from now on, in ms.
    Delay(NodeId, NodeId, u64, u64),
    /// Bytes are cut into pieces of this mean length from now on.
    Split(NodeId, NodeId, u32),
    /// A node dies; others see their streams end after so many ms, or never.
    Kill(NodeId, Option<u64>),
    /// A node comes back without memory; if it lives, it dies first.
    Restart(NodeId),
    /// Engines of a node have this trouble in every attempt that starts from now on.
    Engine(NodeId, Option<(u64, Trouble)>),
    /// Queries meet this from now on.
    Lookup(Lookup),
    /// A provider changes its prices for reading and writing.
    Price(NodeId, Price, Price),
    /// A provider takes no new jobs.
    Drain(NodeId),
    /// A provider ends every job, typed.
    ShutDown(NodeId),
    /// The application cancels the job that was submitted as number so-and-so of all, counted from 0.
    Cancel(usize),
}

impl FaultKind {
    /// A stable name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Cut(..) => "cut",
            Self::HalfCut(..) => "half-cut",
            Self::CutAfter(..) => "cut-after",
            Self::Stall(..) => "stall",
            Self::Dial(..) => "dial",
            Self::Delay(..) => "delay",
            Self::Split(..) => "split",
            Self::Kill(..) => "kill",
            Self::Restart(..) => "restart",
            Self::Engine(..) => "engine",
            Self::Lookup(..) => "lookup",
            Self::Price(..) => "price",
            Self::Drain(..) => "drain",
            Self::ShutDown(..) => "shut-down",
            Self::Cancel(..) => "cancel",
        }
    }
}
