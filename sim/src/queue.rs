//! The event queue.

use std::{cmp::Ordering, collections::BinaryHeap};

/// Where an event belongs among those of its instant. Lanes make the order of an instant independent of when within it
/// each event was put in: two worlds that differ only in when a machine's outputs are drained run alike.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Lane {
    pub(crate) dst: u32,
    pub(crate) kind: u8,
    pub(crate) src: u32,
}

/// Events by (time, lane, seq): within a lane, first in is first out.
#[derive(Clone, Debug)]
pub(crate) struct Queue<T> {
    heap: BinaryHeap<Entry<T>>,
    seq: u64,
}

#[derive(Clone, Debug)]
struct Entry<T> {
    at: u64,
    lane: Lane,
    seq: u64,
    event: T,
}

impl<T> Queue<T> {
    pub(crate) fn new() -> Self {
        Self { heap: BinaryHeap::new(), seq: 0 }
    }

    pub(crate) fn push(&mut self, at: u64, lane: Lane, event: T) {
        self.seq += 1;
        self.heap.push(Entry { at, lane, seq: self.seq, event });
    }

    /// The next event with its time and lane.
    pub(crate) fn pop(&mut self) -> Option<(u64, Lane, T)> {
        self.heap.pop().map(|entry| (entry.at, entry.lane, entry.event))
    }

    /// The time of the next event.
    pub(crate) fn next_at(&self) -> Option<u64> {
        self.heap.peek().map(|entry| entry.at)
    }

    pub(crate) fn len(&self) -> usize {
        self.heap.len()
    }
}

impl<T> Entry<T> {
    const fn key(&self) -> (u64, Lane, u64) {
        (self.at, self.lane, self.seq)
    }
}

impl<T> Ord for Entry<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        // The heap yields its greatest: the earliest.
        other.key().cmp(&self.key())
    }
}

impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl<T> Eq for Entry<T> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_then_lane_then_first_in() {
        let lane = |dst| Lane { dst, kind: 0, src: 0 };
        let mut queue = Queue::new();
        for (at, dst, name) in [(2, 0, 'd'), (1, 1, 'b'), (1, 0, 'a'), (1, 1, 'c'), (2, 0, 'e')] {
            queue.push(at, lane(dst), name);
        }
        let order: String = std::iter::from_fn(|| queue.pop()).map(|(_, _, name)| name).collect();
        assert_eq!(order, "abcde");
    }
}
