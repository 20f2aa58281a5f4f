//! The two ways of computing: plain, and with AVX2. They give the same bits: whole-number products are exact, and sums
//! of f32 have the order that `blocks` and `sums` write down, without fused operations.
//!
//! This is the only file of the crate with unsafe code: one call that needs the right processor, and loads from arrays.
#![cfg_attr(target_arch = "x86_64", expect(unsafe_code, reason = "vector instructions"))]

use crate::attention::Attend;
use crate::blocks::Kernel;
use crate::matrix::Times;

/// A way of computing.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Simd {
    /// On any processor.
    Plain,
    #[cfg(target_arch = "x86_64")]
    Avx2(avx2::Here),
}

/// Work that is done in one of the ways.
pub(crate) enum Work<'a> {
    Times(Times<'a>),
    Attend(Attend<'a>),
}

impl Simd {
    /// The fastest way on this processor.
    pub(crate) fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        if let Some(here) = avx2::Here::detect() {
            return Self::Avx2(here);
        }
        Self::Plain
    }

    pub(crate) fn run(self, work: Work) {
        match self {
            Self::Plain => run(work, plain::Plain),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `Here` is made by `detect` only, where the processor has said that it has these instructions.
            Self::Avx2(here) => unsafe { avx2::run(work, here) },
        }
    }
}

#[inline(always)]
fn run(work: Work, kernel: impl Kernel) {
    match work {
        Work::Times(times) => times.run(kernel),
        Work::Attend(attend) => attend.run(),
    }
}

mod plain {
    use crate::blocks::{Blocks, GROUP, Input, Kernel, Q4, Q4Least, Q8};

    #[derive(Clone, Copy)]
    pub(super) struct Plain;

    impl Kernel for Plain {
        fn q8(self, groups: &[Q8], input: &[Input]) -> [f32; GROUP] {
            product(groups, input)
        }

        fn q4(self, groups: &[Q4], input: &[Input]) -> [f32; GROUP] {
            product(groups, input)
        }

        fn q4_least(self, groups: &[Q4Least], input: &[Input]) -> [f32; GROUP] {
            product(groups, input)
        }
    }

    fn product<B: Blocks>(groups: &[B], input: &[Input]) -> [f32; GROUP] {
        let mut sums = [0.0; GROUP];
        groups.iter().zip(input).for_each(|(group, input)| group.add_product(input, &mut sums));
        sums
    }
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::*;

    use super::Work;
    use crate::blocks::{BLOCK, GROUP, Input, Kernel, Q4, Q4Least, Q8};

    /// Proof that this processor has AVX2 and half precision.
    #[derive(Debug, Clone, Copy)]
    pub(crate) struct Here(());

    impl Here {
        pub(super) fn detect() -> Option<Self> {
            (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("f16c")).then_some(Self(()))
        }
    }

    /// Everything called from here that is inlined is compiled for these instructions.
    #[target_feature(enable = "avx2,f16c")]
    pub(super) fn run(work: Work, here: Here) {
        super::run(work, here);
    }

    impl Kernel for Here {
        #[inline(always)]
        fn q8(self, groups: &[Q8], input: &[Input]) -> [f32; GROUP] {
            // SAFETY: a `Here` proves that the processor has the instructions.
            unsafe { q8(groups, input) }
        }

        #[inline(always)]
        fn q4(self, groups: &[Q4], input: &[Input]) -> [f32; GROUP] {
            // SAFETY: as above.
            unsafe { q4(groups, input) }
        }

        #[inline(always)]
        fn q4_least(self, groups: &[Q4Least], input: &[Input]) -> [f32; GROUP] {
            // SAFETY: as above.
            unsafe { q4_least(groups, input) }
        }
    }

    #[inline]
    #[target_feature(enable = "avx2,f16c")]
    fn q8(groups: &[Q8], input: &[Input]) -> [f32; GROUP] {
        let mut sums = _mm256_setzero_ps();
        for (group, input) in groups.iter().zip(input) {
            let mut dots = _mm256_setzero_si256();
            for (values, four) in group.values.iter().zip(&input.values) {
                let values = signed(values);
                // The instruction wants one factor without sign: the weights' goes to the input, which is above -128.
                let four = _mm256_sign_epi8(spread(four), values);
                let pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(values), four);
                dots = _mm256_add_epi32(dots, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
            }
            sums = _mm256_add_ps(sums, scaled(dots, &group.scales, input));
        }
        numbers(sums)
    }

    #[inline]
    #[target_feature(enable = "avx2,f16c")]
    fn q4(groups: &[Q4], input: &[Input]) -> [f32; GROUP] {
        let mut sums = _mm256_setzero_ps();
        for (group, input) in groups.iter().zip(input) {
            let eight = _mm256_set1_epi32(input.sum.wrapping_mul(8));
            let dots = _mm256_sub_epi32(halves(&group.values, input), eight);
            sums = _mm256_add_ps(sums, scaled(dots, &group.scales, input));
        }
        numbers(sums)
    }

    #[inline]
    #[target_feature(enable = "avx2,f16c")]
    fn q4_least(groups: &[Q4Least], input: &[Input]) -> [f32; GROUP] {
        let mut sums = _mm256_setzero_ps();
        for (group, input) in groups.iter().zip(input) {
            let scaled = scaled(halves(&group.values, input), &group.scales, input);
            let least = _mm256_mul_ps(singles(&group.least), _mm256_set1_ps(input.total()));
            sums = _mm256_add_ps(sums, _mm256_add_ps(scaled, least));
        }
        numbers(sums)
    }

    /// Whole-number products of halves of bytes, a sum for each row. Sixteen bits hold 16 times 15 times 127.
    #[inline]
    #[target_feature(enable = "avx2,f16c")]
    fn halves(values: &[[u8; BLOCK]; 4], input: &Input) -> __m256i {
        let low = _mm256_set1_epi8(15);
        let (mut first, mut second) = (_mm256_setzero_si256(), _mm256_setzero_si256());
        for (k, values) in values.iter().enumerate() {
            let values = unsigned(values);
            let high = _mm256_and_si256(_mm256_srli_epi16::<4>(values), low);
            let pairs = _mm256_maddubs_epi16(_mm256_and_si256(values, low), spread(&input.values[k]));
            first = _mm256_add_epi16(first, pairs);
            second = _mm256_add_epi16(second, _mm256_maddubs_epi16(high, spread(&input.values[k + 4])));
        }
        _mm256_madd_epi16(_mm256_add_epi16(first, second), _mm256_set1_epi16(1))
    }

    #[inline]
    #[target_feature(enable = "avx2,f16c")]
    fn scaled(dots: __m256i, scales: &[u16; GROUP], input: &Input) -> __m256 {
        _mm256_mul_ps(_mm256_cvtepi32_ps(dots), _mm256_mul_ps(singles(scales), _mm256_set1_ps(input.scale)))
    }

    /// The same four values for every row.
    #[inline]
    #[target_feature(enable = "avx2,f16c")]
    fn spread(four: &[i8; 4]) -> __m256i {
        _mm256_set1_epi32(i32::from_le_bytes(four.map(i8::cast_unsigned)))
    }

    #[inline]
    #[target_feature(enable = "avx2,f16c")]
    fn signed(values: &[i8; BLOCK]) -> __m256i {
        // SAFETY: 32 bytes are behind the reference; no alignment is asked for.
        unsafe { _mm256_loadu_si256(values.as_ptr().cast()) }
    }

    #[inline]
    #[target_feature(enable = "avx2,f16c")]
    fn unsigned(values: &[u8; BLOCK]) -> __m256i {
        // SAFETY: as above.
        unsafe { _mm256_loadu_si256(values.as_ptr().cast()) }
    }

    /// Half precision to single.
    #[inline]
    #[target_feature(enable = "avx2,f16c")]
    fn singles(halves: &[u16; GROUP]) -> __m256 {
        // SAFETY: 16 bytes are behind the reference; no alignment is asked for.
        _mm256_cvtph_ps(unsafe { _mm_loadu_si128(halves.as_ptr().cast()) })
    }

    #[inline]
    #[target_feature(enable = "avx2,f16c")]
    fn numbers(sums: __m256) -> [f32; GROUP] {
        let mut numbers = [0.0; GROUP];
        // SAFETY: 32 bytes are behind the reference; no alignment is asked for.
        unsafe { _mm256_storeu_ps(numbers.as_mut_ptr(), sums) };
        numbers
    }
}
