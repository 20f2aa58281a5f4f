//! Sums of f32 in one fixed order, so that they have the same bits on every machine.

/// The sum of the products.
#[inline(always)]
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    sum_by(a, b, |a, b| a * b)
}

/// The sum of the values.
#[inline(always)]
pub(crate) fn sum(a: &[f32]) -> f32 {
    sum_by(a, a, |a, _| a)
}

/// Eight sums side by side, then those in pairs: as fast as vectors allow, and the same without them.
#[inline(always)]
pub(crate) fn sum_by<A: Copy>(a: &[A], b: &[f32], term: impl Fn(A, f32) -> f32) -> f32 {
    let mut sums = [0.0; 8];
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    for (a, b) in a.iter().zip(b) {
        sums = std::array::from_fn(|i| sums[i] + term(a[i], b[i]));
    }
    let [s0, s1, s2, s3, s4, s5, s6, s7] = sums;
    let sum = ((s0 + s4) + (s1 + s5)) + ((s2 + s6) + (s3 + s7));
    a_rest.iter().zip(b_rest).fold(sum, |sum, (a, b)| sum + term(*a, *b))
}

/// Adds a multiple of a vector.
#[inline(always)]
pub(crate) fn add_scaled(to: &mut [f32], scale: f32, from: &[f32]) {
    let ((to, to_rest), (from, from_rest)) = (to.as_chunks_mut::<8>(), from.as_chunks::<8>());
    for (to, from) in to.iter_mut().zip(from) {
        *to = std::array::from_fn(|i| to[i] + scale * from[i]);
    }
    to_rest.iter_mut().zip(from_rest).for_each(|(to, from)| *to += scale * from);
}
