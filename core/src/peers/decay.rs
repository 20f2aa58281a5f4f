//! Exponential decay in integers: no float, the same on every target.

use crate::time::Millis;

/// One, in the fixed point of weights.
pub(super) const ONE: u64 = 1 << 32;

/// One decayed by 1/2, 1/4, 1/8 … 2⁻²⁰ of a half-life. 2²⁰ steps tell every millisecond of a 10 min half-life apart.
const ROOTS: [u64; 20] = [
    0xb504f334, 0xd744fccb, 0xeac0c6e8, 0xf5257d15, 0xfa83b2db, 0xfd3e0c0d, 0xfe9e115c, 0xff4ecb59, 0xffa75652,
    0xffd3a752, 0xffe9d2b3, 0xfff4e91c, 0xfffa747f, 0xfffd3a3b, 0xfffe9d1d, 0xffff4e8e, 0xffffa747, 0xffffd3a3,
    0xffffe9d2, 0xfffff4e9,
];

/// What is left of [`ONE`] after `elapsed`: exactly half after each half-life, and never more than a moment before.
pub(super) fn left(elapsed: Millis, half_life: Millis) -> u64 {
    let halvings = elapsed.0 / half_life.0;
    if halvings > 32 {
        return 0;
    }
    let steps = (u128::from(elapsed.0 % half_life.0) << ROOTS.len()) / u128::from(half_life.0);
    let bits = (0..ROOTS.len()).filter(|bit| steps >> (ROOTS.len() - 1 - bit) & 1 == 1);
    bits.fold(ONE, |weight, bit| (weight * ROOTS[bit]) >> 32) >> halvings
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HALF_LIFE: Millis = Millis::from_secs(600);

    #[test]
    fn each_root_squared_is_the_one_before() {
        let square = |root: u64| (root * root) >> 32;
        assert!(square(ROOTS[0]).abs_diff(ONE / 2) <= 2);
        for pair in ROOTS.windows(2) {
            assert!(square(pair[1]).abs_diff(pair[0]) <= 2, "{pair:x?}");
        }
    }

    #[test]
    fn halves_exactly_and_ends() {
        assert_eq!(left(Millis::ZERO, HALF_LIFE), ONE);
        assert_eq!(left(HALF_LIFE, HALF_LIFE), ONE / 2);
        assert_eq!(left(HALF_LIFE.times(32), HALF_LIFE), 1);
        assert_eq!(left(HALF_LIFE.times(33), HALF_LIFE), 0);
        assert_eq!(left(Millis(u64::MAX), HALF_LIFE), 0);
    }

    #[test]
    fn falls_with_every_millisecond_of_the_first_half_lives() {
        let mut last = ONE + 1;
        for elapsed in 0..1_200_000 {
            let weight = left(Millis(elapsed), HALF_LIFE);
            assert!(weight < last, "at {elapsed} ms");
            last = weight;
        }
    }

    proptest! {
        #[test]
        fn a_half_life_later_is_half(elapsed in 0_u64..20_000_000) {
            let (weight, later) = (left(Millis(elapsed), HALF_LIFE), left(Millis(elapsed + 600_000), HALF_LIFE));
            prop_assert_eq!(weight / 2, later);
        }
    }
}
