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
                    *to = dot_half(row, &vector.plain);
                }
            }
            Values::Q8(blocks) => {
                for (to, row) in into.iter_mut().zip(blocks.chunks_exact(self.cols / BLOCK)) {
                    *to = row.iter().zip(&vector.blocks).fold(0.0, |sum, (a, b)| sum + dot_block(a, b));
                }
            }
        }
    }
}

/// A vector as it is, and in blocks of whole numbers for matrices stored that way.
#[derive(Default)]
pub(crate) struct Vector {
    plain: Vec<f32>,
    blocks: Vec<(f32, [i8; BLOCK])>,
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

fn to_block(values: &[f32; BLOCK]) -> (f32, [i8; BLOCK]) {
    // Adding and taking away 1.5 * 2^23 rounds to the nearest whole number, ties to even.
    const ROUND: f32 = 12_582_912.0;
    let top = values.iter().fold(0.0, |top: f32, x| top.max(x.abs()));
    let inverse = if top > 0.0 { 127.0 / top } else { 0.0 };
    (top / 127.0, values.map(|x| ((x * inverse + ROUND) - ROUND) as i8))
}

fn dot_block(a: &(f32, [i8; BLOCK]), b: &(f32, [i8; BLOCK])) -> f32 {
    let sum: i32 = a.1.iter().zip(&b.1).map(|(a, b)| i32::from(i16::from(*a) * i16::from(*b))).sum();
    sum as f32 * (a.0 * b.0)
}

/// Eight sums side by side, then those in pairs: as fast as vectors allow, and the same without them.
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0; 8];
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    for (a, b) in a.iter().zip(b) {
        for i in 0..8 {
            sums[i] += a[i] * b[i];
        }
    }
    let [s0, s1, s2, s3, s4, s5, s6, s7] = sums;
    let sum = ((s0 + s4) + (s1 + s5)) + ((s2 + s6) + (s3 + s7));
    a_rest.iter().zip(b_rest).fold(sum, |sum, (a, b)| sum + a * b)
}

fn dot_half(a: &[u16], b: &[f32]) -> f32 {
    let mut sums = [0.0; 8];
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    for (a, b) in a.iter().zip(b) {
        for i in 0..8 {
            sums[i] += from_half(a[i]) * b[i];
        }
    }
    let [s0, s1, s2, s3, s4, s5, s6, s7] = sums;
    let sum = ((s0 + s4) + (s1 + s5)) + ((s2 + s6) + (s3 + s7));
    a_rest.iter().zip(b_rest).fold(sum, |sum, (a, b)| sum + from_half(*a) * b)
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
    use super::from_half;

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
