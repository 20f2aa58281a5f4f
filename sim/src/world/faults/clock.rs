//! Clocks that are set, run fast or slow, and stand still with their node.

use super::World;
use crate::net::Role;

/// No job of a random world takes longer, in ms.
const LONGEST_JOB: u64 = 3_600_000;

impl World {
    /// A node that sleeps hears nothing, and its deadlines wait; a job ends when it wakes.
    pub(super) fn sleep(&mut self, node: u32, ms: u64) {
        self.judge.is_skewed = true;
        let until = self.now.saturating_add(ms);
        let place = &mut self.nodes[node as usize];
        place.asleep_until = place.asleep_until.max(until);
        self.judge.sleeps(node, place.asleep_until);
    }

    pub(super) fn step_clock(&mut self, node: u32, ms: i64) {
        self.judge.clock_set(node);
        let late = self.nodes[node as usize].clock.step(self.now, ms);
        self.clock_changed(node, late);
    }

    pub(super) fn drift_clock(&mut self, node: u32, ppm: i32) {
        let late = self.nodes[node as usize].clock.drift(self.now, ppm, LONGEST_JOB);
        self.clock_changed(node, late);
    }

    /// Deadlines of a node come so much later at worst, or earlier: its timers are set anew.
    fn clock_changed(&mut self, node: u32, late: u64) {
        self.judge.is_skewed = true;
        self.judge.delayed(node, late);
        for role in [Role::Requester, Role::Provider] {
            self.rearm(node, role);
        }
    }
}
