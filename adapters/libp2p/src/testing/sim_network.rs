//! Where simulated nodes play: the world, the nodes in it, and who waits for time to pass.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    task::Waker,
};

use haggle_sim::{FaultKind, NodeId, World};

use super::sim_node::SimNode;
use crate::time_source::Simulated;

/// One simulated network. Whoever waits for one of its handles moves it on.
pub(super) struct SimNetwork {
    inner: Mutex<Inner>,
    /// Who waits, to be asked again when there is something new to do.
    waiting: Mutex<Vec<Waker>>,
}

pub(super) struct Inner {
    pub(super) world: World,
    pub(super) sim_nodes: BTreeMap<NodeId, SimNode>,
    /// Who sleeps until when, in virtual ms.
    pub(super) sleepers: BTreeMap<(u64, u64), Waker>,
    pub(super) slept: u64,
    /// How often somebody was told something.
    moves: u64,
}

impl SimNetwork {
    pub(super) fn new(seed: u64) -> Self {
        let mut world = World::new(seed);
        world.listen();
        // Who waits decides how long it runs.
        world.config.max_events = u64::MAX;
        let inner = Inner { world, sim_nodes: BTreeMap::new(), sleepers: BTreeMap::new(), slept: 0, moves: 0 };
        SimNetwork { inner: Mutex::new(inner), waiting: Mutex::default() }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake_later(&self, waker: &Waker) {
        let mut waiting = self.lock_waiting();
        if !waiting.iter().any(|known| known.will_wake(waker)) {
            waiting.push(waker.clone());
        }
    }

    fn lock_waiting(&self) -> MutexGuard<'_, Vec<Waker>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Simulated for SimNetwork {
    /// What is told may be for another task, which is to do what it wants in that very moment, and a task that has just
    /// begun to wait may not be the only one: who waits goes on only after it has let the others have their turn since
    /// the last move. `seen` is the moves that it knows of.
    fn pass(&self, seen: &mut Option<u64>, waker: &Waker) -> bool {
        // Before the look, so that what comes after it is not missed.
        self.wake_later(waker);
        let mut inner = self.lock();
        let has_passed = *seen != Some(inner.moves) || inner.go_on();
        *seen = Some(inner.moves);
        has_passed
    }

    /// If everything was at rest, somebody has to go on.
    fn stir(&self) {
        let waiting = std::mem::take(&mut *self.lock_waiting());
        waiting.into_iter().for_each(Waker::wake);
    }
}

impl Inner {
    /// Runs until somebody was told something; `false`: everything is at rest.
    fn go_on(&mut self) -> bool {
        let mut told = self.serve();
        while !told {
            if !self.step(u64::MAX) {
                told = self.finish_stops(true);
                break;
            }
            told = self.pump();
        }
        self.moves += u64::from(told);
        told
    }

    /// Runs until a virtual time, whoever was told something.
    pub(super) fn run_until(&mut self, at: u64) {
        self.serve();
        while self.step(at) {
            self.pump();
        }
        self.world.run_until(at);
        self.pump();
    }

    /// Runs the next event, or rings the next alarm, if it is due by then.
    fn step(&mut self, by: u64) -> bool {
        let alarm = self.sleepers.first_key_value().map(|((at, _), _)| *at);
        let stop = self.sim_nodes.values().filter_map(SimNode::stops_at).min();
        let alarm = alarm.into_iter().chain(stop).min();
        let next = self.world.next_at();
        match alarm {
            Some(alarm) if alarm <= by && next.is_none_or(|next| next > alarm) => {
                self.world.run_until(alarm);
                true
            }
            _ => next.is_some_and(|next| next <= by) && self.world.step(),
        }
    }

    /// Does what handles have asked for; `true` if they had.
    pub(super) fn serve(&mut self) -> bool {
        let mut served = false;
        for sim_node in self.sim_nodes.values_mut() {
            served |= sim_node.serve(&mut self.world);
        }
        self.pump() | served
    }

    /// Tells what nodes have told; `true` if somebody can have heard something.
    pub(super) fn pump(&mut self) -> bool {
        let mut told = false;
        while let Some((node, what)) = self.world.told() {
            if let Some(sim_node) = self.sim_nodes.get_mut(&node) {
                sim_node.hear(&mut self.world, what);
            }
            told = true;
        }
        self.wake_sleepers() | self.finish_stops(false) | told
    }

    fn wake_sleepers(&mut self) -> bool {
        let now = self.world.now();
        let mut woken = false;
        while let Some(entry) = self.sleepers.first_entry().filter(|entry| entry.key().0 <= now) {
            entry.remove().wake();
            woken = true;
        }
        woken
    }

    /// Ends nodes that were stopped and have said what they had to say. `rests`: they have.
    fn finish_stops(&mut self, rests: bool) -> bool {
        let now = self.world.now();
        let mut finished = false;
        for sim_node in self.sim_nodes.values_mut() {
            sim_node.tell_drained(&self.world);
            if sim_node.stops_at().is_some_and(|at| rests || at <= now) {
                self.world.close_books(sim_node.node);
                // Nobody else is told anything by that.
                while let Some((node, what)) = self.world.told() {
                    if node == sim_node.node {
                        sim_node.hear(&mut self.world, what);
                    }
                }
                self.world.strike(FaultKind::Kill(sim_node.node, Some(1)));
                sim_node.close(true);
                finished = true;
            }
        }
        finished
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.sim_nodes.values_mut().for_each(|sim_node| sim_node.close(true));
        std::mem::take(&mut self.sleepers).into_values().for_each(Waker::wake);
    }
}

impl fmt::Debug for SimNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimNetwork").finish_non_exhaustive()
    }
}
