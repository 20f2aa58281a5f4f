//! Reads choices out of bytes. When they run out, every choice is 0.

use haggle_core::{Instant, machine::Timeout};

pub(crate) struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    pub(crate) const fn new(data: &'a [u8]) -> Self {
        Self(data)
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        let (byte, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *byte
    }

    pub(crate) fn bit(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    /// A choice out of `0..of`.
    pub(crate) fn below(&mut self, of: usize) -> usize {
        if of == 0 { 0 } else { usize::from(self.byte()) % of }
    }

    pub(crate) fn bytes(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// All that is left, whole and cut into pieces: eight bytes say how long these are, in turn.
    pub(crate) fn pieces(&mut self) -> (&'a [u8], Vec<&'a [u8]>) {
        let lengths: Vec<usize> = (0..8).map(|_| usize::from(self.byte())).collect();
        let stream = self.bytes(usize::MAX);
        let (mut pieces, mut rest) = (Vec::new(), stream);
        for length in lengths.iter().cycle().take(stream.len() * 8 + 8) {
            let (piece, after) = rest.split_at((*length).min(rest.len()));
            pieces.push(piece);
            rest = after;
        }
        pieces.push(rest);
        (stream, pieces)
    }

    /// A number of any size: mostly small, sometimes all of 64 bits, sometimes at the edge.
    pub(crate) fn number(&mut self) -> u64 {
        match self.byte() {
            small @ 0..=199 => u64::from(small),
            200..=219 => u64::from(self.byte()) << 8 | u64::from(self.byte()),
            220..=239 => self.bytes(8).iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
            240..=247 => u64::MAX - u64::from(self.byte()),
            _ => 1 << (self.byte() % 64),
        }
    }

    /// The next moment: now, a little later, much later, exactly at the deadline, before it, or anywhere, the past included.
    pub(crate) fn moment(&mut self, now: Instant, due: Option<Timeout>) -> Instant {
        let later = |millis: u64| Instant::from_millis(now.as_millis().saturating_add(millis));
        let due = due.map_or(now, |due| due.at);
        match self.byte() {
            0..=99 => now,
            100..=159 => later(u64::from(self.byte())),
            160..=199 => later(u64::from(self.byte()) * 500),
            200..=229 => due.max(now),
            230..=239 => Instant::from_millis(due.as_millis().saturating_sub(1)).max(now),
            240..=247 => Instant::from_millis(self.number()),
            248..=254 => later(self.number()),
            255 => Instant::MAX,
        }
    }
}
