//! Weights as they are stored, times vectors.

use std::ops::Range;

use crate::blocks::{BLOCK, Blocks, GROUP, Input, Kernel, Q4, Q4Least, Q8, from_half};
use crate::gguf::{Kind, Tensor};
use crate::sums::{dot, sum_by};

/// A matrix of weights, by rows.
pub(crate) struct Matrix {
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    values: Values,
}

enum Values {
    F32(Vec<f32>),
    F16(Vec<u16>),
    Q8(Vec<Q8>),
    Q4(Vec<Q4>),
    Q4Least(Vec<Q4Least>),
}

impl Matrix {
    pub(crate) fn load(tensor: &Tensor) -> Self {
        let values = match tensor.kind {
            Kind::F32 => Values::F32(floats(tensor.bytes)),
            Kind::F16 => Values::F16(tensor.bytes.as_chunks().0.iter().map(|two| u16::from_le_bytes(*two)).collect()),
            Kind::Q8 => Values::Q8(groups(tensor)),
            Kind::Q4 => Values::Q4(groups(tensor)),
            Kind::Q4Least => Values::Q4Least(groups(tensor)),
        };
        Self { rows: tensor.rows, cols: tensor.cols, values }
    }

    /// Writes one row as plain numbers.
    pub(crate) fn row(&self, row: usize, into: &mut [f32]) {
        let range = row * self.cols..(row + 1) * self.cols;
        match &self.values {
            Values::F32(values) => into.copy_from_slice(&values[range]),
            Values::F16(values) => into.iter_mut().zip(&values[range]).for_each(|(to, half)| *to = from_half(*half)),
            Values::Q8(groups) => self.row_of(groups, row, into),
            Values::Q4(groups) => self.row_of(groups, row, into),
            Values::Q4Least(groups) => self.row_of(groups, row, into),
        }
    }

    fn row_of<B: Blocks>(&self, groups: &[B], row: usize, into: &mut [f32]) {
        let blocks = self.cols / BLOCK;
        let groups = &groups[row / GROUP * blocks..][..blocks];
        into.as_chunks_mut().0.iter_mut().zip(groups).for_each(|(to, group)| group.get(row % GROUP, to));
    }
}

/// The products of some rows of a matrix with vectors.
pub(crate) struct Times<'a> {
    pub(crate) matrix: &'a Matrix,
    /// Begins at the first row of a group.
    pub(crate) rows: Range<usize>,
    pub(crate) vectors: &'a Vectors,
    /// Rows of `width` values, one for each vector; the products come at column `at`.
    pub(crate) into: &'a mut [f32],
    pub(crate) width: usize,
    pub(crate) at: usize,
}

impl Times<'_> {
    #[inline(always)]
    pub(crate) fn run(self, kernel: impl Kernel) {
        let cols = self.matrix.cols;
        match &self.matrix.values {
            Values::F32(values) => self.by_row(values, dot),
            Values::F16(values) => {
                self.by_row(values, |row, vector| sum_by(row, vector, |a, b| from_half(a) * b));
            }
            Values::Q8(groups) => self.by_group(groups, cols / BLOCK, |groups, input| kernel.q8(groups, input)),
            Values::Q4(groups) => self.by_group(groups, cols / BLOCK, |groups, input| kernel.q4(groups, input)),
            Values::Q4Least(groups) => {
                self.by_group(groups, cols / BLOCK, |groups, input| kernel.q4_least(groups, input));
            }
        }
    }

    /// Each row is read once for all vectors.
    #[inline(always)]
    fn by_row<A>(self, values: &[A], product: impl Fn(&[A], &[f32]) -> f32) {
        let cols = self.matrix.cols;
        for (i, row) in values[self.rows.start * cols..self.rows.end * cols].chunks_exact(cols).enumerate() {
            for (vector, into) in self.vectors.plain.chunks_exact(cols).zip(self.into.chunks_exact_mut(self.width)) {
                into[self.at + i] = product(row, vector);
            }
        }
    }

    /// Each group of rows is read once for all vectors.
    #[inline(always)]
    fn by_group<B>(self, groups: &[B], blocks: usize, product: impl Fn(&[B], &[Input]) -> [f32; GROUP]) {
        let rows = self.rows.len();
        for start in (0..rows).step_by(GROUP) {
            let group = &groups[(self.rows.start + start) / GROUP * blocks..][..blocks];
            let end = rows.min(start + GROUP);
            for (input, into) in self.vectors.blocks.chunks_exact(blocks).zip(self.into.chunks_exact_mut(self.width)) {
                let products = product(group, input);
                into[self.at + start..self.at + end].copy_from_slice(&products[..end - start]);
            }
        }
    }
}

/// Vectors of one length as they are, and in blocks of whole numbers for matrices stored that way.
#[derive(Default)]
pub(crate) struct Vectors {
    plain: Vec<f32>,
    blocks: Vec<Input>,
}

impl Vectors {
    /// Of any number of vectors. Blocks are made only if their length is one of whole blocks.
    pub(crate) fn set(&mut self, values: &[f32], len: usize) -> &Self {
        self.plain.clear();
        self.plain.extend_from_slice(values);
        self.blocks.clear();
        if len.is_multiple_of(BLOCK) {
            self.blocks.extend(values.as_chunks().0.iter().map(Input::new));
        }
        self
    }
}

fn groups<B: Blocks>(tensor: &Tensor) -> Vec<B> {
    let blocks = tensor.cols / BLOCK;
    let mut groups = vec![B::default(); tensor.rows.div_ceil(GROUP) * blocks];
    for (at, bytes) in tensor.bytes.chunks_exact(B::BYTES).enumerate() {
        let (row, block) = (at / blocks, at % blocks);
        groups[row / GROUP * blocks + block].put(row % GROUP, bytes);
    }
    groups
}

/// Little-endian numbers.
pub(crate) fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|four| f32::from_le_bytes(*four)).collect()
}

#[cfg(test)]
mod tests {
    use super::{Matrix, Times, Vectors};
    use crate::blocks::{BLOCK, from_half};
    use crate::gguf::{Kind, Tensor};
    use crate::simd::{Simd, Work};

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
            times(&matrix, &input, &mut product);
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
        times(&matrix, &[-0.25; BLOCK], &mut product);
        assert!((product[0] + 0.25 * 528.0).abs() < 1e-4, "{}", product[0]);
    }

    fn times(matrix: &Matrix, input: &[f32], into: &mut [f32]) {
        let mut vectors = Vectors::default();
        let vectors = vectors.set(input, matrix.cols);
        Simd::detect().run(Work::Times(Times {
            matrix,
            rows: 0..matrix.rows,
            vectors,
            into,
            width: matrix.rows,
            at: 0,
        }));
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
