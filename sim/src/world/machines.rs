//! What machines are told, when their timers go off, and what follows each call.

use haggle_core::{Input, Instant};

use super::{Drain, Happening, Lane, World, record};
use crate::{net::Role, oracle::Rule};

/// Every so many inputs, the state of the machine that took the last of them goes into the trace.
const LOOK_EVERY: u64 = 256;

/// Every so many inputs, the tables of the machine that took the last of them are compared with their limits.
const BOUNDS_EVERY: u64 = 8;

impl World {
    /// Hands a fact to a machine and carries out what follows.
    pub(super) fn input(&mut self, node: u32, role: Role, input: Input<'_>) {
        let place = &mut self.nodes[node as usize];
        if !place.alive {
            return;
        }
        if !matches!(input, Input::Received(..)) {
            // What arrives was recorded with its sender.
            self.trace.record(self.now, node, node, record::input(&input, role), &[]);
        }
        self.judge.cover_input(role == Role::Provider, record::input_kind(&input));
        if let Some(log) = &mut self.log {
            log.input(self.now, node, role, &input);
        }
        if role == Role::Script {
            return;
        }
        let now = place.clock.read(self.now);
        let alike = place.side_mut(role).is_none_or(|side| side.machine.tell(now, input, self.config.doubles));
        self.judge_double(node, role, alike);
        self.after(node, role);
    }

    /// A timer went off, and the deadline has come.
    pub(super) fn input_timeout(&mut self, node: u32, role: Role) {
        self.trace.record(self.now, node, node, role as u8, &[]);
        if let Some(due) = self.nodes[node as usize].side(role).and_then(|side| side.machine.due()) {
            self.judge.cover_deadline(role == Role::Provider, due.cause);
        }
        if let Some(log) = &mut self.log {
            log.input(self.now, node, role, &Input::Timeout);
        }
        let place = &mut self.nodes[node as usize];
        let now = place.clock.read(self.now);
        let Some(side) = place.side_mut(role) else { return };
        let alike = side.machine.tell(now, Input::Timeout, self.config.doubles);
        let next = side.machine.due();
        self.judge_double(node, role, alike);
        if let Some(next) = next.filter(|next| next.at <= now) {
            self.judge.fail(Rule::Timer, format_args!("{role:?} {node}: {next:?} after the timeout of {now:?}"));
            // Time goes on, or the run would hang here.
            self.drain_some(node, role, u32::MAX);
            return;
        }
        self.after(node, role);
    }

    fn judge_double(&mut self, node: u32, role: Role, alike: bool) {
        if !alike {
            let what = format_args!("{role:?} {node}: the same fact, told to a copy, led elsewhere");
            self.judge.fail(Rule::Determinism, what);
        }
    }

    /// What follows every call of a machine: its outputs, and its next deadline.
    pub(super) fn after(&mut self, node: u32, role: Role) {
        self.counts.inputs += 1;
        if self.counts.inputs.is_multiple_of(BOUNDS_EVERY) {
            self.check_bounds(node, role);
        }
        if self.counts.inputs.is_multiple_of(LOOK_EVERY) {
            self.record_state(node, role);
        }
        match self.config.drain {
            Drain::AtOnce => {
                self.drain_some(node, role, u32::MAX);
            }
            Drain::Late => self.drain_later(node, role),
            Drain::Batches(size) => {
                self.drain_some(node, role, size);
                self.drain_later(node, role);
            }
        }
        self.arm(node, role);
    }

    /// Takes the state of a machine into the trace: what it did not say yet counts too.
    fn record_state(&mut self, node: u32, role: Role) {
        let place = &self.nodes[node as usize];
        let now: Instant = place.shows(self.now);
        if let Some(side) = place.side(role) {
            self.trace.record(self.now, node, node, record::STATE, &side.machine.state(now));
        }
    }

    fn drain_later(&mut self, node: u32, role: Role) {
        let Some(side) = self.nodes[node as usize].side_mut(role) else { return };
        if !std::mem::replace(&mut side.drain_due, true) {
            self.push(self.now, Lane::late_drain(node, role), Happening::Drain { node, role });
        }
    }

    pub(super) fn late_drain(&mut self, node: u32, role: Role) {
        if let Some(side) = self.nodes[node as usize].side_mut(role) {
            side.drain_due = false;
        }
        let size = if let Drain::Batches(size) = self.config.drain { size.max(1) } else { u32::MAX };
        if self.drain_some(node, role, size) == size {
            self.drain_later(node, role);
        }
        self.arm(node, role);
    }

    /// Sees to it that a timer goes off no later than the machine's next deadline.
    fn arm(&mut self, node: u32, role: Role) {
        let place = &mut self.nodes[node as usize];
        let Some(due) = place.side(role).and_then(|side| side.machine.due()) else { return };
        let at = place.clock.when(due.at.as_millis()).max(self.now);
        let Some(side) = place.side_mut(role) else { return };
        // A timer that goes off too early looks again; only one that would come too late is replaced.
        if at < u64::MAX && side.timer.is_none_or(|armed| at < armed) {
            side.timer = Some(at);
            side.generation += 1;
            let generation = side.generation;
            self.push(at, Lane::timer(node, role), Happening::Timer { node, role, generation });
        }
    }

    /// Sets a machine's timer anew: its clock does not show what it did when the timer was set.
    pub(super) fn rearm(&mut self, node: u32, role: Role) {
        if let Some(side) = self.nodes[node as usize].side_mut(role) {
            side.timer = None;
        }
        self.arm(node, role);
    }

    /// Whether a timer that goes off is live, and the machine's deadline has come; if it comes later, a new one is set.
    pub(super) fn is_due(&mut self, node: u32, role: Role, generation: u64, at: u64) -> bool {
        let place = &mut self.nodes[node as usize];
        let (alive, shows) = (place.alive, place.clock.shows(at));
        let Some(side) = place.side_mut(role) else { return false };
        if !alive || side.generation != generation {
            return false;
        }
        side.timer = None;
        let is_due = side.machine.due().is_some_and(|due| due.at.as_millis() <= shows);
        if !is_due {
            self.arm(node, role);
        }
        is_due
    }
}
