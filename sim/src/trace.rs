//! A rolling 128-bit hash over everything that happens: equal runs have equal traces.

use crate::dice::mix;

/// The hash so far. Not cryptographic: it tells runs apart, it does not resist an attacker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Trace {
    a: u64,
    b: u64,
    records: u64,
}

impl Trace {
    pub(crate) const fn new() -> Self {
        Self { a: 0x243f_6a88_85a3_08d3, b: 0x1319_8a2e_0370_7344, records: 0 }
    }

    /// The hash of all records so far.
    #[must_use]
    pub const fn hash(&self) -> u128 {
        ((mix(self.a ^ self.records) as u128) << 64) | mix(self.b ^ self.records.rotate_left(32)) as u128
    }

    /// How many records there were.
    #[must_use]
    pub const fn records(&self) -> u64 {
        self.records
    }

    /// Takes in a record: its time, its number, from whom to whom, its kind and its bytes.
    pub(crate) fn record(&mut self, time: u64, src: u32, dst: u32, kind: u8, bytes: &[u8]) {
        self.records += 1;
        self.word(time ^ self.records.rotate_left(40));
        self.word((u64::from(src) << 32) | u64::from(dst));
        self.word((u64::from(kind) << 56) | bytes.len() as u64);
        for piece in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..piece.len()].copy_from_slice(piece);
            self.word(u64::from_le_bytes(word));
        }
    }

    const fn word(&mut self, word: u64) {
        self.a = (self.a ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
        self.b = (self.b.wrapping_add(word)).wrapping_mul(0xc2b2_ae3d_27d4_eb4f) ^ (self.b >> 31);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_of_a_record_counts() {
        let trace = |time, src, dst, kind, bytes: &[u8]| {
            let mut trace = Trace::new();
            trace.record(time, src, dst, kind, bytes);
            trace.hash()
        };
        let base = trace(1, 2, 3, 4, b"five");
        assert_eq!(base, trace(1, 2, 3, 4, b"five"));
        let others = [
            trace(2, 2, 3, 4, b"five"),
            trace(1, 3, 3, 4, b"five"),
            trace(1, 2, 2, 4, b"five"),
            trace(1, 2, 3, 5, b"five"),
            trace(1, 2, 3, 4, b"fivf"),
            trace(1, 2, 3, 4, b"five\0"),
        ];
        assert!(others.iter().all(|other| *other != base));
    }
}
