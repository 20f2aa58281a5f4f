//! When to dial bootstrap nodes: a pure schedule, so that it is exact per seed in virtual time.
//!
//! Every node is dialled at once, then after pauses that grow with its failures in a row. After `1 + max_retries` failures
//! the node is reported as unreachable, and dialled on for ever at the capped pace: a node that comes back is found again.

use alloc::{collections::VecDeque, vec::Vec};

use crate::{
    backoff,
    limits::Policy,
    machine::{Cause, Timeout},
    rand::Rng,
    time::{Instant, Millis},
};

/// The schedule of dials for a fixed list of nodes, named by their index in it.
#[derive(Clone, Debug)]
pub struct Bootstrap {
    nodes: Vec<Node>,
    dial_timeout: Millis,
    retry_delay: Millis,
    max_retries: u32,
    rng: Rng,
    outputs: VecDeque<BootstrapOutput>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Node {
    state: State,
    /// Failures in a row.
    failures: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum State {
    Connected,
    Dialling { until: Instant },
    Waiting { until: Instant },
}

/// A fact for the schedule.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BootstrapInput {
    /// Time passed.
    Timeout,
    /// The node is connected, whoever dialled.
    Connected(usize),
    /// A dial failed.
    Failed(usize),
    /// The connection is gone.
    Gone(usize),
}

/// An order of the schedule.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BootstrapOutput {
    /// Dial the node; answer with `Connected` or `Failed`. A dial that lasts beyond the timeout counts as failed.
    Dial(usize),
    /// The node did not answer `1 + max_retries` times in a row. Dials go on.
    Unreachable(usize),
}

impl Bootstrap {
    /// A schedule for `nodes` nodes, each dialled at `now`.
    #[must_use]
    pub fn new(now: Instant, nodes: usize, dial_timeout: Millis, policy: &Policy, seed: [u8; 32]) -> Self {
        let node = Node { state: State::Dialling { until: now.after(dial_timeout) }, failures: 0 };
        Self {
            nodes: alloc::vec![node; nodes],
            dial_timeout,
            retry_delay: policy.retry_delay,
            max_retries: policy.max_retries,
            rng: Rng::new(seed),
            outputs: (0..nodes).map(BootstrapOutput::Dial).collect(),
        }
    }

    /// Takes a fact; unknown nodes are ignored.
    pub fn handle_input(&mut self, now: Instant, input: BootstrapInput) {
        match input {
            BootstrapInput::Timeout => (0..self.nodes.len()).for_each(|index| self.pass(now, index)),
            BootstrapInput::Connected(index) => {
                if let Some(node) = self.nodes.get_mut(index) {
                    *node = Node { state: State::Connected, failures: 0 };
                }
            }
            BootstrapInput::Failed(index) => {
                if matches!(self.nodes.get(index), Some(Node { state: State::Dialling { .. }, .. })) {
                    self.fail(now, index);
                }
            }
            BootstrapInput::Gone(index) => {
                if matches!(self.nodes.get(index), Some(Node { state: State::Connected, .. })) {
                    self.wait(now, index);
                }
            }
        }
    }

    /// The next order.
    pub fn poll_output(&mut self) -> Option<BootstrapOutput> {
        self.outputs.pop_front()
    }

    /// When to hand in [`BootstrapInput::Timeout`].
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Timeout> {
        let due = self.nodes.iter().filter_map(|node| node.due()).min()?;
        Some(Timeout { at: due, cause: Cause::Bootstrap })
    }

    /// Whether the node is connected now.
    #[must_use]
    pub fn is_connected(&self, index: usize) -> bool {
        matches!(self.nodes.get(index), Some(Node { state: State::Connected, .. }))
    }

    fn pass(&mut self, now: Instant, index: usize) {
        let node = self.nodes[index];
        if node.due().is_none_or(|due| due > now) {
            return;
        }
        match node.state {
            State::Connected => {}
            State::Dialling { .. } => self.fail(now, index),
            State::Waiting { .. } => {
                self.nodes[index].state = State::Dialling { until: now.after(self.dial_timeout) };
                self.outputs.push_back(BootstrapOutput::Dial(index));
            }
        }
    }

    fn fail(&mut self, now: Instant, index: usize) {
        let node = &mut self.nodes[index];
        node.failures = node.failures.saturating_add(1);
        if node.failures == self.max_retries.saturating_add(1) {
            self.outputs.push_back(BootstrapOutput::Unreachable(index));
        }
        self.wait(now, index);
    }

    fn wait(&mut self, now: Instant, index: usize) {
        let node = &mut self.nodes[index];
        let pause = if node.failures > self.max_retries {
            // At the capped pace, spread out: nodes that lost the same bootstrap node do not come back together.
            Millis(backoff::CAP.0 / 2 + self.rng.below(backoff::CAP.0 / 2 + 1))
        } else {
            backoff::pause(&mut self.rng, self.retry_delay, backoff::CAP, node.failures.saturating_sub(1))
        };
        node.state = State::Waiting { until: now.after(pause) };
    }
}

impl Node {
    const fn due(&self) -> Option<Instant> {
        match self.state {
            State::Connected => None,
            State::Dialling { until } | State::Waiting { until } => Some(until),
        }
    }
}
