//! One matrix product, in tiles that stay in registers. Each sum runs in the order of its terms, so that the result
//! is the same whatever the vector width.

use std::ops::Range;

const ROWS: usize = 4;
const COLS: usize = 8;

/// A view of a matrix.
#[derive(Clone, Copy)]
pub(crate) struct Mat<'a> {
    data: &'a [f32],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl<'a> Mat<'a> {
    /// All of `data`, by rows.
    pub(crate) fn new(data: &'a [f32], cols: usize) -> Self {
        Self { data, rows: data.len() / cols, cols, row_stride: cols, col_stride: 1 }
    }

    /// Some rows, and of them `cols` columns from `first`.
    pub(crate) fn part(data: &'a [f32], stride: usize, rows: &Range<usize>, first: usize, cols: usize) -> Self {
        let data = &data[rows.start * stride + first..];
        Self { data, rows: rows.len(), cols, row_stride: stride, col_stride: 1 }
    }

    /// A row of a matrix that is not transposed.
    pub(crate) fn row(&self, i: usize) -> &'a [f32] {
        &self.data[i * self.row_stride..][..self.cols]
    }

    fn transposed(self) -> Self {
        Self {
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
            data: self.data,
        }
    }
}

/// A matrix to add to.
pub(crate) struct MatMut<'a> {
    data: &'a mut [f32],
    stride: usize,
    cols: usize,
}

impl<'a> MatMut<'a> {
    /// All of `data`, by rows.
    pub(crate) fn new(data: &'a mut [f32], cols: usize) -> Self {
        Self { data, stride: cols, cols }
    }

    /// All rows, and of them `cols` columns from `first`.
    pub(crate) fn part(data: &'a mut [f32], stride: usize, first: usize, cols: usize) -> Self {
        Self { data: &mut data[first..], stride, cols }
    }
}

/// `c += a bᵀ`
pub(crate) fn add_mul_nt(a: Mat, b: Mat, c: MatMut) {
    add_mul(a, b.transposed(), c);
}

/// `c += aᵀ b`
pub(crate) fn add_mul_tn(a: Mat, b: Mat, c: MatMut) {
    add_mul(a.transposed(), b, c);
}

/// `c += a b`; the columns of `b` are a multiple of 16.
pub(crate) fn add_mul(a: Mat, b: Mat, c: MatMut) {
    assert!(a.cols == b.rows && b.cols == c.cols && b.cols.is_multiple_of(COLS));
    let depth = a.cols;
    let mut packed_b = vec![[0.0; COLS]; depth * (b.cols / COLS)];
    for (panel, to) in packed_b.chunks_exact_mut(depth).enumerate() {
        for (k, to) in to.iter_mut().enumerate() {
            let from = &b.data[k * b.row_stride + panel * COLS * b.col_stride..];
            to.iter_mut().enumerate().for_each(|(j, to)| *to = from[j * b.col_stride]);
        }
    }
    let mut packed_a = vec![[0.0; ROWS]; depth];
    for first in (0..a.rows).step_by(ROWS) {
        let rows = ROWS.min(a.rows - first);
        for (k, to) in packed_a.iter_mut().enumerate() {
            let from = &a.data[first * a.row_stride + k * a.col_stride..];
            to[..rows].iter_mut().enumerate().for_each(|(i, to)| *to = from[i * a.row_stride]);
        }
        for (panel, packed_b) in packed_b.chunks_exact(depth).enumerate() {
            let tile = tile(&packed_a, packed_b);
            for (i, sums) in tile[..rows].iter().enumerate() {
                let to = &mut c.data[(first + i) * c.stride + panel * COLS..][..COLS];
                to.iter_mut().zip(sums).for_each(|(to, sum)| *to += sum);
            }
        }
    }
}

fn tile(a: &[[f32; ROWS]], b: &[[f32; COLS]]) -> [[f32; COLS]; ROWS] {
    let mut sums = [[0.0; COLS]; ROWS];
    for (a, b) in a.iter().zip(b) {
        for i in 0..ROWS {
            for j in 0..COLS {
                sums[i][j] += a[i] * b[j];
            }
        }
    }
    sums
}
