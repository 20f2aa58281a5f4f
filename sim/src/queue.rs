//! The event queue: a heap while it is short, a wheel when it is long, in one and the same order.

mod lane;
mod wheel;

use std::{cmp::Reverse, collections::BinaryHeap};

pub(crate) use self::lane::Lane;
use self::wheel::Wheel;

/// An event in 32 bytes; what happens lies in a slab.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Entry {
    at: u64,
    lane: Lane,
    seq: u64,
    slot: u32,
}

/// Below that many events a heap is as fast, and costs a new world nothing.
const LONG: usize = 1024;

/// Events by (time, lane, seq): within a lane, first in is first out.
#[derive(Clone, Debug)]
pub(crate) struct Queue<T> {
    order: Order,
    len: usize,
    seq: u64,
    slab: Vec<Option<T>>,
    free: Vec<u32>,
}

#[derive(Clone, Debug)]
enum Order {
    Heap(BinaryHeap<Reverse<Entry>>),
    Wheel(Box<Wheel>),
}

impl<T> Queue<T> {
    pub(crate) const fn new() -> Self {
        let order = Order::Heap(BinaryHeap::new());
        Self { order, len: 0, seq: 0, slab: Vec::new(), free: Vec::new() }
    }

    pub(crate) fn push(&mut self, at: u64, lane: Lane, event: T) {
        self.seq += 1;
        self.len += 1;
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slab[slot as usize] = Some(event);
                slot
            }
            None => {
                self.slab.push(Some(event));
                (self.slab.len() - 1) as u32
            }
        };
        let entry = Entry { at, lane, seq: self.seq, slot };
        match &mut self.order {
            Order::Heap(heap) if heap.len() < LONG => heap.push(Reverse(entry)),
            Order::Heap(heap) => {
                let mut wheel = Box::new(Wheel::new(heap.peek().map_or(at, |Reverse(first)| first.at.min(at))));
                heap.drain().for_each(|Reverse(earlier)| wheel.push(earlier));
                wheel.push(entry);
                self.order = Order::Wheel(wheel);
            }
            Order::Wheel(wheel) => wheel.push(entry),
        }
    }

    /// The next event with its time and lane.
    pub(crate) fn pop(&mut self) -> Option<(u64, Lane, T)> {
        let entry = match &mut self.order {
            Order::Heap(heap) => heap.pop().map(|Reverse(entry)| entry),
            Order::Wheel(wheel) => wheel.pop(),
        }?;
        self.len -= 1;
        self.free.push(entry.slot);
        let event = self.slab[entry.slot as usize].take()?;
        Some((entry.at, entry.lane, event))
    }

    /// The time of the next event.
    pub(crate) fn next_at(&mut self) -> Option<u64> {
        match &mut self.order {
            Order::Heap(heap) => heap.peek().map(|Reverse(entry)| entry.at),
            Order::Wheel(wheel) => wheel.next_at(),
        }
    }

    pub(crate) const fn len(&self) -> usize {
        self.len
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn time_then_lane_then_first_in() {
        let lane = Lane::start;
        let mut queue = Queue::new();
        for (at, dst, name) in [(2, 0, 'd'), (1, 1, 'b'), (1, 0, 'a'), (1, 1, 'c'), (2, 0, 'e')] {
            queue.push(at, lane(dst), name);
        }
        let order: String = std::iter::from_fn(|| queue.pop()).map(|(_, _, name)| name).collect();
        assert_eq!(order, "abcde");
    }

    #[test]
    fn an_event_has_32_bytes() {
        assert_eq!(size_of::<Entry>(), 32);
    }

    /// Pops and peeks between pushes; times from the same instant to years ahead.
    #[derive(Clone, Debug)]
    enum Step {
        Push(u64, u32, u8),
        Pop,
        Peek,
    }

    fn step() -> impl Strategy<Value = Step> {
        let ahead = prop_oneof![
            8 => 0_u64..3,
            8 => 0_u64..200,
            4 => 4_000_u64..4_200,
            2 => 0_u64..40_000_000,
            1 => Just(1 << 45),
            1 => Just(u64::MAX),
        ];
        prop_oneof![
            6 => (ahead, 0_u32..5, 0_u8..3).prop_map(|(ahead, dst, kind)| Step::Push(ahead, dst, kind)),
            5 => Just(Step::Pop),
            1 => Just(Step::Peek),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// The heap's order is the definition; the wheel has to agree with it.
        #[test]
        fn a_wheel_has_the_order_of_a_heap(steps in proptest::collection::vec(step(), 1..800)) {
            let mut queue = Queue::new();
            queue.order = Order::Wheel(Box::new(Wheel::new(0)));
            let (mut heap, mut seq, mut now) = (BinaryHeap::new(), 0_u64, 0_u64);
            let mut pops = steps.len();
            for step in steps.into_iter().chain(std::iter::repeat(Step::Pop)) {
                match step {
                    Step::Push(ahead, dst, kind) => {
                        seq += 1;
                        let lanes = [Lane::start(dst), Lane::net(dst, 0), Lane::engine(dst)];
                        let (at, lane) = (now.saturating_add(ahead), lanes[usize::from(kind)]);
                        heap.push(Reverse((at, lane, seq)));
                        queue.push(at, lane, seq);
                    }
                    Step::Peek => prop_assert_eq!(queue.next_at(), heap.peek().map(|Reverse((at, ..))| *at)),
                    Step::Pop => {
                        let popped = heap.pop().map(|Reverse(entry)| entry);
                        prop_assert_eq!(queue.pop(), popped);
                        now = popped.map_or(now, |(at, ..)| at);
                        pops = pops.saturating_sub(1);
                        if popped.is_none() && pops == 0 {
                            break;
                        }
                    }
                }
                prop_assert_eq!(queue.len(), heap.len());
            }
        }
    }

    #[test]
    fn what_was_in_a_heap_comes_out_of_the_wheel() {
        let mut queue = Queue::new();
        let at = |nth: u64| (nth * 7919) % 100_000;
        for nth in 0..5000 {
            queue.push(at(nth), Lane::start(0), nth);
        }
        assert!(matches!(queue.order, Order::Wheel(_)));
        let mut expected: Vec<(u64, u64)> = (0..5000).map(|nth| (at(nth), nth)).collect();
        expected.sort_unstable();
        let popped: Vec<(u64, u64)> = std::iter::from_fn(|| queue.pop()).map(|(at, _, nth)| (at, nth)).collect();
        assert_eq!(popped, expected);
    }
}
