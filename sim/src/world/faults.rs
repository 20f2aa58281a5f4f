//! Faults, as they strike.

use haggle_core::{Millis, money::Price};

use super::{Happening, World, kind};
use crate::{
    net::{EndState, Link, Role},
    node::NodeId,
    schedule::FaultKind,
};

/// No job of a random world takes longer, in ms.
const LONGEST_JOB: u64 = 3_600_000;

impl World {
    pub(super) fn fault(&mut self, fault: FaultKind) {
        if self.is_healed() {
            return;
        }
        self.struck.push(fault);
        if matches!(fault, FaultKind::ClockStep(..) | FaultKind::ClockDrift(..) | FaultKind::Sleep(..)) {
            self.judge.is_skewed = true;
        }
        *self.faults.entry(fault.name()).or_default() += 1;
        self.trace.record(self.now, 0, 0, 40, fault.name().as_bytes());
        self.judge.reach_fault(fault);
        if let Some(log) = &mut self.log {
            log.fault(self.now, fault);
        }
        match fault {
            FaultKind::Cut(a, b) => self.cut(a, b, [Some(1), Some(1)]),
            FaultKind::HalfCut(a, b) => self.cut(a, b, [Some(1), None]),
            FaultKind::CutAfter(from, to, bytes) => self.link(from.0, to.0).cut_in = Some(bytes),
            FaultKind::Stall(a, b, ms) => {
                let until = self.now + ms;
                self.both(a, b, |link| link.stalled_until = link.stalled_until.max(until));
            }
            FaultKind::OneWay(from, to, ms) => {
                let until = self.now.saturating_add(ms);
                let link = self.link(from.0, to.0);
                link.stalled_until = link.stalled_until.max(until);
            }
            FaultKind::Flap(a, b, ms, times) => {
                let until = self.now.saturating_add(ms);
                self.both(a, b, |link| link.stalled_until = link.stalled_until.max(until));
                if times > 1 {
                    let again = Happening::Fault(FaultKind::Flap(a, b, ms, times - 1));
                    self.push(until.saturating_add(ms.max(1)), 0, kind::WORLD, 0, again);
                }
            }
            FaultKind::Partition(side, ms) => self.partitions.add(self.now, self.now.saturating_add(ms), side),
            FaultKind::Spread(a, b, spread) => self.both(a, b, |link| link.config.spread = spread),
            FaultKind::Bandwidth(a, b, rate) => self.both(a, b, |link| link.config.rate = rate),
            FaultKind::Sleep(node, ms) => self.sleep(node.0, ms),
            FaultKind::ClockStep(node, ms) => {
                self.judge.clock_set(node.0);
                let late = self.nodes[node.0 as usize].clock.step(self.now, ms);
                self.clock_changed(node.0, late);
            }
            FaultKind::ClockDrift(node, ppm) => {
                let late = self.nodes[node.0 as usize].clock.drift(self.now, ppm, LONGEST_JOB);
                self.clock_changed(node.0, late);
            }
            FaultKind::Slow(node, times) => self.nodes[node.0 as usize].slow = u64::from(times.max(1)),
            FaultKind::Unpublish(node) => self.dht.unpublish(node.peer()),
            FaultKind::Publish(node) => self.publish(node.0),
            FaultKind::Dial(a, b, dial) => self.both(a, b, |link| link.config.dial = dial),
            FaultKind::Delay(a, b, delay, jitter) => self.both(a, b, |link| {
                link.config.delay = delay;
                link.config.jitter = jitter;
            }),
            FaultKind::Split(a, b, mean) => self.both(a, b, |link| link.config.split = mean),
            FaultKind::Kill(node, seen_after) => self.kill(node.0, seen_after),
            FaultKind::Crash(node, away) => self.crash_for(node.0, away),
            FaultKind::Restart(node) => self.restart(node.0),
            FaultKind::Engine(node, trouble) => {
                if let Some(config) = &mut self.nodes[node.0 as usize].provider_config {
                    config.engine.trouble = trouble;
                }
            }
            FaultKind::Lookup(lookup) => self.dht.lookup = lookup,
            FaultKind::Price(node, price_in, price_out) => self.reprice(node.0, price_in, price_out),
            FaultKind::Drain(node, patience) => {
                let place = &mut self.nodes[node.0 as usize];
                if let Some(side) = &mut place.provider {
                    side.machine.drain(place.clock.read(self.now), Millis(patience));
                }
                self.after(node.0, Role::Provider);
            }
            FaultKind::ShutDown(node) => {
                let place = &mut self.nodes[node.0 as usize];
                if let Some(side) = &mut place.provider {
                    side.machine.shut_down(place.clock.read(self.now));
                }
                self.after(node.0, Role::Provider);
            }
            // Refused if the book is full: then nobody is banned.
            FaultKind::Ban(node, other) => drop(self.ban(node, other.peer())),
            FaultKind::Allow(node, other) => self.allow(node, other.peer()),
            FaultKind::Cancel(nth) => {
                if let Some(job) = self.submissions.get(nth).copied().flatten()
                    && !self.job(job).orphaned
                {
                    // Refused if it has ended.
                    let _refusal = self.cancel(job);
                }
            }
        }
    }

    /// A node that sleeps hears nothing, and its deadlines wait; a job ends when it wakes.
    fn sleep(&mut self, node: u32, ms: u64) {
        let until = self.now.saturating_add(ms);
        let place = &mut self.nodes[node as usize];
        place.asleep_until = place.asleep_until.max(until);
        self.judge.sleeps(node, place.asleep_until);
    }

    /// Deadlines of a node come so much later at worst, or earlier: its timers are set anew.
    fn clock_changed(&mut self, node: u32, late: u64) {
        self.judge.delayed(node, late);
        for role in [Role::Requester, Role::Provider] {
            self.rearm(node, role);
        }
    }

    fn both(&mut self, a: NodeId, b: NodeId, change: impl Fn(&mut Link)) {
        change(self.link(a.0, b.0));
        change(self.link(b.0, a.0));
    }

    /// Cuts all streams between two nodes; `seen_after` is for `a` and `b`.
    pub(super) fn cut(&mut self, a: NodeId, b: NodeId, seen_after: [Option<u64>; 2]) {
        for (conn, swapped) in self.between(a.0, b.0) {
            self.sever(conn, if swapped { [seen_after[1], seen_after[0]] } else { seen_after });
        }
    }

    /// Streams between two nodes, and whether `b` dialled.
    fn between(&self, a: u32, b: u32) -> Vec<(u64, bool)> {
        let side = |ends: [u32; 2]| (ends == [a, b]).then_some(false).or((ends == [b, a]).then_some(true));
        let of = |conn: &u64| {
            let ends = &self.conns.get(*conn)?.ends;
            Some((*conn, side([ends[0].node, ends[1].node])?))
        };
        self.nodes.get(a as usize).map_or_else(Vec::new, |node| node.conns.iter().filter_map(of).collect())
    }

    fn kill(&mut self, node: u32, seen_after: Option<u64>) {
        let place = &mut self.nodes[node as usize];
        let was_away = std::mem::take(&mut place.crashed);
        if !place.alive && !was_away {
            return;
        }
        if !was_away {
            self.fall(node, seen_after);
        }
        self.judge.died(node);
        for job in self.jobs.values_mut().filter(|job| job.node.0 == node && job.ending.is_none()) {
            job.orphaned = true;
        }
    }

    /// A process is gone, with its machines and its ends of streams.
    pub(super) fn fall(&mut self, node: u32, seen_after: Option<u64>) {
        let place = &mut self.nodes[node as usize];
        place.alive = false;
        place.runs.clear();
        place.requester = None;
        place.provider = None;
        for conn in place.conns.clone() {
            let Some(record) = self.conns.get(conn) else { continue };
            let own = usize::from(record.ends[0].node != node);
            let mut seen = [None, None];
            seen[1 - own] = seen_after;
            self.sever(conn, seen);
            // A dial to a dead node that nobody hears of hangs until the dialler gives up.
            let dialling = self.conns.get(conn).is_some_and(|record| record.ends[0].state == EndState::Dialling);
            self.set_closed(conn, own);
            if dialling && own == 1 && seen_after.is_none() {
                self.sever(conn, [Some(crate::net::DIAL_TIMEOUT), None]);
            }
        }
        self.connected.retain(|(a, _)| *a != node);
        self.dht.live.retain(|(owner, _)| *owner != node);
    }

    pub(super) fn restart(&mut self, node: u32) {
        self.kill(node, Some(1));
        self.nodes[node as usize].life += 1;
        self.boot(node);
        if self.nodes[node as usize].script.is_some() {
            let life = self.nodes[node as usize].life;
            self.push(self.now, node, kind::WORLD, node, Happening::Start { node, life });
        }
    }

    fn reprice(&mut self, node: u32, price_in: Price, price_out: Price) {
        let place = &mut self.nodes[node as usize];
        let (Some(config), Some(side)) = (&mut place.provider_config, &mut place.provider) else { return };
        for serving in &mut config.service.models {
            serving.advert.price_in = price_in;
            serving.advert.price_out = price_out;
        }
        // The same models as before: nothing to refuse.
        let changed = side.machine.set_models(config.service.models.clone());
        debug_assert!(changed.is_ok());
        self.after(node, Role::Provider);
    }
}
