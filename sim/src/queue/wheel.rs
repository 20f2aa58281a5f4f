//! A wheel of two levels, and a heap for what lies beyond them.

use std::{cmp::Reverse, collections::BinaryHeap};

use super::Entry;

/// Slots of a level. A slot of the fine level is one ms, one of the coarse level is a whole turn of the fine one.
const SLOTS: u64 = 4096;

/// Events of one turn lie in the slot of their ms, those of later turns in the slot of their turn, until it begins.
/// A slot is put in order when its ms comes.
#[derive(Clone, Debug)]
pub(super) struct Wheel {
    /// The ms that is being popped.
    now: u64,
    /// The turn of the fine level.
    turn: u64,
    /// What is left of `now`, the first at the end.
    current: Vec<Entry>,
    /// What was put in for `now` or earlier when `now` had already come.
    late: BinaryHeap<Reverse<Entry>>,
    fine: Level,
    coarse: Level,
    /// Turns that the coarse level has no slot for yet.
    far: BinaryHeap<Reverse<Entry>>,
}

impl Wheel {
    /// A wheel for events at `now` and later.
    pub(super) fn new(now: u64) -> Self {
        Self {
            now,
            turn: now / SLOTS,
            current: Vec::new(),
            late: BinaryHeap::new(),
            fine: Level::new(),
            coarse: Level::new(),
            far: BinaryHeap::new(),
        }
    }

    pub(super) fn push(&mut self, entry: Entry) {
        if entry.at <= self.now {
            return self.late.push(Reverse(entry));
        }
        self.sort_in(entry);
    }

    fn sort_in(&mut self, entry: Entry) {
        let turn = entry.at / SLOTS;
        match turn - self.turn {
            0 => self.fine.put(entry.at % SLOTS, entry),
            1..SLOTS => self.coarse.put(turn % SLOTS, entry),
            _ => self.far.push(Reverse(entry)),
        }
    }

    pub(super) fn pop(&mut self) -> Option<Entry> {
        if !self.advance() {
            return None;
        }
        match (self.current.last(), self.late.peek()) {
            (Some(first), Some(Reverse(late))) if late < first => self.late.pop().map(|Reverse(entry)| entry),
            (Some(_), _) => self.current.pop(),
            (None, _) => self.late.pop().map(|Reverse(entry)| entry),
        }
    }

    /// Looking ahead makes the next ms the one that is popped; what is put in before it is late, and comes first.
    pub(super) fn next_at(&mut self) -> Option<u64> {
        if !self.advance() {
            return None;
        }
        let late = self.late.peek().map(|Reverse(late)| late.at);
        self.current.last().map(|first| first.at).into_iter().chain(late).min()
    }

    /// Goes to the next ms with events, unless there are some left of this one. `false`: there are none at all.
    fn advance(&mut self) -> bool {
        while self.current.is_empty() && self.late.is_empty() {
            let begun = if self.now / SLOTS == self.turn { self.now % SLOTS } else { 0 };
            if let Some(slot) = self.fine.first_from(begun) {
                self.now = self.turn * SLOTS + slot;
                self.fine.take(slot, &mut self.current);
                self.current.sort_unstable_by(|a, b| b.cmp(a));
            } else if !self.next_turn() {
                return false;
            }
        }
        true
    }

    /// Begins the next turn that has events.
    fn next_turn(&mut self) -> bool {
        let after = (self.turn + 1) % SLOTS;
        let slot = self.coarse.first_from(after).or_else(|| self.coarse.first_from(0));
        match (slot, self.far.peek()) {
            (Some(slot), _) => self.turn += (slot + SLOTS - self.turn % SLOTS) % SLOTS,
            (None, Some(Reverse(first))) => self.turn = first.at / SLOTS,
            (None, None) => return false,
        }
        let mut entries = Vec::new();
        if let Some(slot) = slot {
            self.coarse.take(slot, &mut entries);
        }
        entries.drain(..).for_each(|entry| self.fine.put(entry.at % SLOTS, entry));
        if let Some(slot) = slot {
            self.coarse.give_back(slot, entries);
        }
        while let Some(Reverse(first)) = self.far.peek().copied()
            && first.at / SLOTS - self.turn < SLOTS
        {
            self.far.pop();
            self.sort_in(first);
        }
        true
    }
}

/// Slots, and which of them are not empty.
#[derive(Clone, Debug)]
struct Level {
    slots: Vec<Vec<Entry>>,
    used: [u64; SLOTS as usize / 64],
}

impl Level {
    fn new() -> Self {
        Self { slots: vec![Vec::new(); SLOTS as usize], used: [0; SLOTS as usize / 64] }
    }

    fn put(&mut self, slot: u64, entry: Entry) {
        self.used[slot as usize / 64] |= 1 << (slot % 64);
        self.slots[slot as usize].push(entry);
    }

    /// Takes a slot's events for an empty buffer, so that both keep their capacity.
    fn take(&mut self, slot: u64, into: &mut Vec<Entry>) {
        self.used[slot as usize / 64] &= !(1 << (slot % 64));
        std::mem::swap(&mut self.slots[slot as usize], into);
    }

    /// Returns an emptied buffer for its capacity.
    fn give_back(&mut self, slot: u64, empty: Vec<Entry>) {
        if self.slots[slot as usize].is_empty() {
            self.slots[slot as usize] = empty;
        }
    }

    /// The first slot with events, from this one on.
    fn first_from(&self, slot: u64) -> Option<u64> {
        let (word, bit) = (slot as usize / 64, slot % 64);
        let masked = self.used[word] & (u64::MAX << bit);
        if masked != 0 {
            return Some(word as u64 * 64 + u64::from(masked.trailing_zeros()));
        }
        let (word, bits) = self.used.iter().enumerate().skip(word + 1).find(|(_, bits)| **bits != 0)?;
        Some(word as u64 * 64 + u64::from(bits.trailing_zeros()))
    }
}
