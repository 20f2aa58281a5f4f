//! Weights as they are stored, times a vector. Each sum has one fixed order, so that the result has the same bits on
//! every machine and however a prompt was divided into steps.

use crate::gguf::{Kind, Tensor};

/// Values in a block of Q8_0.
const BLOCK: usize = 32;

/// A matrix of weights, by rows.
pub(crate) struct Matrix {
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    values: Values,
}

enum Values {
    F32(Vec<f32>),
    F16(Vec<u16>),
    Q8(Vec<(f32, [i8; BLOCK])>),
}

impl Matrix {
    pub(crate) fn load(tensor: &Tensor) -> Self {
        let values = match tensor.kind {
            Kind::F32 => Values::F32(floats(tensor.bytes)),
            Kind::F16 => Values::F16(tensor.bytes.as_chunks().0.iter().map(|two| u16::from_le_bytes(*two)).collect()),
            Kind::Q8 => Values::Q8(tensor.bytes.as_chunks().0.iter().map(block).collect()),
        };
        Self { rows: tensor.rows, cols: tensor.cols, values }
    }

    /// Writes one row as plain numbers.
    pub(crate) fn row(&self, row: usize, into: &mut [f32]) {
        let range = row * self.cols..(row + 1) * self.cols;
        match &self.values {
            Values::F32(values) => into.copy_from_slice(&values[range]),
            Values::F16(values) => into.iter_mut().zip(&values[range]).for_each(|(to, half)| *to = from_half(*half)),
            Values::Q8(blocks) => {
                let blocks = &blocks[range.start / BLOCK..range.end / BLOCK];
                for (to, (scale, values)) in into.as_chunks_mut::<BLOCK>().0.iter_mut().zip(blocks) {
                    to.iter_mut().zip(values).for_each(|(to, value)| *to = scale * f32::from(*value));
                }
            }
        }
    }

    /// Writes the product with a vector of `cols` values.
    pub(crate) fn times(&self, vector: &Vector, into: &mut [f32]) {
        match &self.values {
            Values::F32(values) => {
                for (to, row) in into.iter_mut().zip(values.chunks_exact(self.cols)) {
                    *to = dot(row, &vector.plain);
                }
            }
            Values::F16(values) => {
                for (to, row) in into.iter_mut().zip(values.chunks_exact(self.cols)) {
                    *to = sum_by(row, &vector.plain, |a, b| from_half(a) * b);
                }
            }
            Values::Q8(blocks) => {
                for (to, row) in into.iter_mut().zip(blocks.chunks_exact(self.cols / BLOCK)) {
                    *to = 0.0;
                    for (a, b) in row.iter().zip(&vector.blocks) {
                        *to += dot_block(a, b);
                    }
                }
            }
        }
    }
}

/// A vector as it is, and in blocks of whole numbers for matrices stored that way.
#[derive(Default)]
pub(crate) struct Vector {
    plain: Vec<f32>,
    blocks: Vec<(f32, [i16; BLOCK])>,
}

impl Vector {
    pub(crate) fn set(&mut self, values: &[f32]) -> &Self {
        self.plain.clear();
        self.plain.extend_from_slice(values);
        self.blocks.clear();
        self.blocks.extend(values.as_chunks().0.iter().map(to_block));
        self
    }
}

fn block(bytes: &[u8; BLOCK + 2]) -> (f32, [i8; BLOCK]) {
    let mut values = [0; BLOCK];
    values.iter_mut().zip(&bytes[2..]).for_each(|(value, byte)| *value = byte.cast_signed());
    (from_half(u16::from_le_bytes([bytes[0], bytes[1]])), values)
}

fn to_block(values: &[f32; BLOCK]) -> (f32, [i16; BLOCK]) {
    // Adding and taking away 1.5 * 2^23 rounds to the nearest whole number, ties to even.
    const ROUND: f32 = 12_582_912.0;
    let top = values.iter().fold(0.0, |top: f32, x| top.max(x.abs()));
    let inverse = if top > 0.0 { 127.0 / top } else { 0.0 };
    // Whole numbers would hide what is infinite or not a number: the scale keeps it, as not a number.
    let hidden = values.iter().fold(0.0, |sum, x| sum + x * 0.0);
    (top / 127.0 + hidden, values.map(|x| ((x * inverse + ROUND) - ROUND) as i16))
}

#[inline(always)]
fn dot_block(a: &(f32, [i8; BLOCK]), b: &(f32, [i16; BLOCK])) -> f32 {
    // Nothing can overflow; the plain operators would check it in some profiles and cost half the speed.
    let products = a.1.iter().zip(&b.1).map(|(a, b)| i32::from(*a).wrapping_mul(i32::from(*b)));
    products.fold(0, i32::wrapping_add) as f32 * (a.0 * b.0)
}

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
fn sum_by<A: Copy>(a: &[A], b: &[f32], term: impl Fn(A, f32) -> f32) -> f32 {
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

/// Little-endian numbers.
pub(crate) fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|four| f32::from_le_bytes(*four)).collect()
}

/// Half precision to single; exact.
#[inline(always)]
fn from_half(half: u16) -> f32 {
    let sign = u32::from(half & 0x8000) << 16;
    let magnitude = u32::from(half & 0x7fff) << 13;
    let value = match half & 0x7c00 {
        0x7c00 => f32::from_bits(magnitude | 0x7f80_0000),
        // The exponent is biased by 15 there and by 127 here; the product also puts subnormal numbers right.
        _ => f32::from_bits(magnitude) * f32::from_bits((254 - 15) << 23),
    };
    f32::from_bits(value.to_bits() | sign)
}

#[cfg(test)]
mod tests {
    use super::{BLOCK, Matrix, Vector, from_half};
    use crate::gguf::{Kind, Tensor};

    /// The same weights, stored in three ways, times the same vector.
    #[test]
    fn all_kinds_of_weights_agree() {
        const COLS: usize = 3 * BLOCK;
        let whole = |i: usize| (i * 37 % 255) as i8;
        let scale = 0.0078125f32; // The same as half precision: 0x2000.
        let values: Vec<f32> = (0..2 * COLS).map(|i| f32::from(whole(i)) * scale).collect();
        let as_f32: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        let as_f16: Vec<u8> = values.iter().flat_map(|x| to_half(*x).to_le_bytes()).collect();
        let block = |b: usize| [0x00, 0x20].into_iter().chain((b * BLOCK..(b + 1) * BLOCK).map(|i| whole(i) as u8));
        let as_q8: Vec<u8> = (0..2 * COLS / BLOCK).flat_map(block).collect();

        let input: Vec<f32> = (0..COLS).map(|i| (i as f32 * 0.37).sin()).collect();
        let exact = |row: usize| values[row * COLS..].iter().zip(&input).map(|(a, b)| f64::from(a * b)).sum::<f64>();
        for (kind, bytes, tolerance) in
            [(Kind::F32, &as_f32, 1e-4), (Kind::F16, &as_f16, 1e-4), (Kind::Q8, &as_q8, 0.02)]
        {
            let matrix = Matrix::load(&Tensor { kind, cols: COLS, rows: 2, bytes });
            let mut row = vec![0.0; COLS];
            matrix.row(1, &mut row);
            assert_eq!(row, values[COLS..], "{}", kind.name());
            let mut product = [0.0; 2];
            matrix.times(Vector::default().set(&input), &mut product);
            for (i, product) in product.into_iter().enumerate() {
                let error = (f64::from(product) - exact(i)).abs();
                assert!(error < tolerance, "{} row {i}: {product}, not {}", kind.name(), exact(i));
            }
        }
    }

    #[test]
    fn a_vector_of_one_value_is_exact_in_blocks() {
        let bytes: Vec<u8> = [0x00, 0x3c].into_iter().chain(1..=32).collect();
        let matrix = Matrix::load(&Tensor { kind: Kind::Q8, cols: BLOCK, rows: 1, bytes: &bytes });
        let mut product = [0.0];
        matrix.times(Vector::default().set(&[-0.25; BLOCK]), &mut product);
        assert!((product[0] + 0.25 * 528.0).abs() < 1e-4, "{}", product[0]);
    }

    /// For numbers that half precision holds exactly.
    fn to_half(x: f32) -> u16 {
        (0..=u16::MAX).find(|&half| from_half(half) == x).expect("exact")
    }

    #[test]
    fn half_precision_is_read_exactly() {
        let known = [(0x0000, 0.0), (0x3c00, 1.0), (0xc000, -2.0), (0x7bff, 65504.0), (0x3555, 0.333_251_95)];
        for (half, value) in known {
            assert_eq!(from_half(half), value);
        }
        assert_eq!(from_half(0x0001), 5.960_464_5e-8);
        assert_eq!(from_half(0x03ff), 6.097_555e-5);
        assert_eq!(from_half(0x7c00), f32::INFINITY);
        assert!(from_half(0x7e00).is_nan());
        assert!(from_half(0x8000).is_sign_negative());
    }
}
