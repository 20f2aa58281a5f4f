//! Faults, as they strike: clocks, links, nodes, the market.

mod clock;
mod link;
mod market;
mod node;

use std::collections::BTreeMap;

use super::World;
use crate::schedule::FaultKind;

/// What went wrong so far.
#[derive(Clone, Default)]
pub(super) struct FaultBook {
    /// How often, by name.
    pub(super) counts: BTreeMap<&'static str, u64>,
    pub(super) struck: Vec<FaultKind>,
    /// The first job that was submitted after everything was healed.
    pub(super) healed: Option<usize>,
    /// Why jobs after that were not served.
    pub(super) excuses: BTreeMap<&'static str, u64>,
}

impl World {
    pub(super) fn fault(&mut self, fault: FaultKind) {
        if self.is_healed() {
            return;
        }
        self.faults.struck.push(fault);
        *self.faults.counts.entry(fault.name()).or_default() += 1;
        self.trace.record(self.now, 0, 0, super::record::FAULT, fault.name().as_bytes());
        self.judge.cover_fault(fault);
        if let Some(log) = &mut self.log {
            log.fault(self.now, fault);
        }
        self.carry_out(fault);
    }

    fn carry_out(&mut self, fault: FaultKind) {
        match fault {
            FaultKind::Sleep(node, ms) => self.sleep(node.0, ms),
            FaultKind::ClockStep(node, ms) => self.step_clock(node.0, ms),
            FaultKind::ClockDrift(node, ppm) => self.drift_clock(node.0, ppm),

            FaultKind::Cut(a, b) => self.cut(a, b, [Some(1), Some(1)]),
            FaultKind::HalfCut(a, b) => self.cut(a, b, [Some(1), None]),
            FaultKind::CutAfter(from, to, bytes) => self.link(from.0, to.0).cut_in = Some(bytes),
            FaultKind::Stall(a, b, ms) => self.stall(a, b, ms),
            FaultKind::OneWay(from, to, ms) => self.stall_one_way(from, to, ms),
            FaultKind::Flap(a, b, ms, times) => self.flap(a, b, ms, times),
            FaultKind::Partition(side, ms) => self.net.partitions.add(self.now, self.now.saturating_add(ms), side),
            FaultKind::Dial(a, b, dial) => self.both(a, b, |link| link.config.dial = dial),
            FaultKind::Delay(a, b, delay, jitter) => self.delay(a, b, delay, jitter),
            FaultKind::Spread(a, b, spread) => self.both(a, b, |link| link.config.spread = spread),
            FaultKind::Bandwidth(a, b, rate) => self.both(a, b, |link| link.config.rate = rate),
            FaultKind::Split(a, b, mean) => self.both(a, b, |link| link.config.split = mean),

            FaultKind::Kill(node, seen_after) => self.kill(node.0, seen_after),
            FaultKind::Crash(node, away) => self.crash_for(node.0, away),
            FaultKind::Restart(node) => self.restart(node.0),
            FaultKind::Engine(node, trouble) => self.trouble(node.0, trouble),
            FaultKind::Slow(node, times) => self.nodes[node.0 as usize].slow = u64::from(times.max(1)),

            FaultKind::Lookup(lookup) => self.dht.lookup = lookup,
            FaultKind::Publish(node) => self.publish(node.0),
            FaultKind::Unpublish(node) => self.dht.unpublish(node.peer()),
            FaultKind::Price(node, price_in, price_out) => self.reprice(node.0, price_in, price_out),
            FaultKind::Features(node, features) => self.change_features(node.0, features),
            FaultKind::Drain(node, patience) => self.drain_provider(node.0, patience),
            FaultKind::ShutDown(node) => self.shut_down_provider(node.0),
            // Refused if the book is full: then nobody is banned.
            FaultKind::Ban(node, other) => drop(self.ban(node, other.peer())),
            FaultKind::Allow(node, other) => self.allow(node, other.peer()),
            FaultKind::Cancel(nth) => self.cancel_nth(nth),
        }
    }
}
