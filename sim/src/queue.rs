//! The event queue: a heap while it is short, a wheel when it is long, in one and the same order.

mod wheel;

use std::{cmp::Reverse, collections::BinaryHeap};

use self::wheel::Wheel;

/// Where an event belongs among those of its instant. Lanes make the order of an instant independent of when within it
/// each event was put in: two worlds that differ only in when a machine's outputs are drained run alike.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Lane {
    /// The last of all lanes, or a node below 2²⁸.
    pub(crate) dst: u32,
    /// Below 16.
    pub(crate) kind: u8,
    pub(crate) src: u32,
}

/// Bits of a packed lane below its destination.
const KIND_BITS: u32 = 4;
/// The destination of the last lane, packed.
const LAST: u64 = (1 << (32 - KIND_BITS)) - 1;

impl Lane {
    /// In 64 bits that sort alike.
    const fn pack(self) -> u64 {
        let dst = if self.dst as u64 >= LAST { LAST } else { self.dst as u64 };
        (((dst << KIND_BITS) | self.kind as u64) << 32) | self.src as u64
    }

    const fn unpack(packed: u64) -> Self {
        let dst = packed >> (32 + KIND_BITS);
        let kind = (packed >> 32) as u8 & ((1 << KIND_BITS) - 1);
        Self { dst: if dst == LAST { u32::MAX } else { dst as u32 }, kind, src: packed as u32 }
    }
}

/// An event in 32 bytes; what happens lies in a slab.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Entry {
    at: u64,
    lane: u64,
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
        let entry = Entry { at, lane: lane.pack(), seq: self.seq, slot };
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
        Some((entry.at, Lane::unpack(entry.lane), event))
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
        let lane = |dst| Lane { dst, kind: 0, src: 0 };
        let mut queue = Queue::new();
        for (at, dst, name) in [(2, 0, 'd'), (1, 1, 'b'), (1, 0, 'a'), (1, 1, 'c'), (2, 0, 'e')] {
            queue.push(at, lane(dst), name);
        }
        let order: String = std::iter::from_fn(|| queue.pop()).map(|(_, _, name)| name).collect();
        assert_eq!(order, "abcde");
    }

    #[test]
    fn an_event_has_32_bytes_and_a_lane_comes_back_as_it_was() {
        assert_eq!(size_of::<Entry>(), 32);
        for lane in [
            Lane { dst: 0, kind: 15, src: u32::MAX },
            Lane { dst: (1 << 28) - 2, kind: 0, src: 7 },
            Lane { dst: u32::MAX, kind: 5, src: 1 },
        ] {
            assert_eq!(Lane::unpack(lane.pack()), lane);
        }
        assert!(Lane { dst: u32::MAX, kind: 0, src: 0 }.pack() > Lane { dst: 9, kind: 9, src: 9 }.pack());
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
                        let (at, lane) = (now.saturating_add(ahead), Lane { dst, kind, src: 0 });
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
            queue.push(at(nth), Lane { dst: 0, kind: 0, src: 0 }, nth);
        }
        assert!(matches!(queue.order, Order::Wheel(_)));
        let mut expected: Vec<(u64, u64)> = (0..5000).map(|nth| (at(nth), nth)).collect();
        expected.sort_unstable();
        let popped: Vec<(u64, u64)> = std::iter::from_fn(|| queue.pop()).map(|(at, _, nth)| (at, nth)).collect();
        assert_eq!(popped, expected);
    }
}
