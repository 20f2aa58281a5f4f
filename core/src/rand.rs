//! Chance as an argument: every draw comes from one 32-byte seed.

use core::hash::{Hash, Hasher};

use rand_chacha::{
    ChaCha12Rng,
    rand_core::{Rng as _, SeedableRng},
};

/// A seeded generator. Equal seeds draw equal sequences on every target.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rng(ChaCha12Rng);

impl Rng {
    /// A generator that is wholly determined by `seed`.
    #[must_use]
    pub fn new(seed: [u8; 32]) -> Self {
        Self(ChaCha12Rng::from_seed(seed))
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// 16 random bytes.
    pub fn bytes(&mut self) -> [u8; 16] {
        let mut bytes = [0; 16];
        self.0.fill_bytes(&mut bytes);
        bytes
    }

    /// A draw from `0..bound`; 0 if `bound` is 0. The bias of the multiplication is below 2⁻³² for every bound in use.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.bits()) * u128::from(bound)) >> 64) as u64
    }
}

impl Hash for Rng {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.get_seed().hash(state);
        self.0.get_word_pos().hash(state);
    }
}
