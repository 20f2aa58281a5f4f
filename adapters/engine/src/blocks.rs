//! Weights and inputs as whole numbers in blocks of 32, and the plain definition of their products. What is written here
//! is what every faster way of computing must give, bit for bit.
//!
//! Weights lie in groups of eight rows, four columns of each in turn, so that a vector of eight sums holds one sum for
//! each row and nothing has to be added across it.

/// Values in a block.
pub(crate) const BLOCK: usize = 32;
/// Rows in a group.
pub(crate) const GROUP: usize = 8;

/// Products of eight rows with a vector, block by block.
pub(crate) trait Kernel: Copy {
    fn q8(self, groups: &[Q8], input: &[Input]) -> [f32; GROUP];
    fn q4(self, groups: &[Q4], input: &[Input]) -> [f32; GROUP];
    fn q4_least(self, groups: &[Q4Least], input: &[Input]) -> [f32; GROUP];
}

/// One block of each of eight rows, as `Q8_0` has it: a scale as half precision and whole numbers from -128 to 127.
#[derive(Clone, Copy, Default)]
#[repr(align(16))]
pub(crate) struct Q8 {
    pub(crate) scales: [u16; GROUP],
    /// Four columns of row 0, the same of row 1, and so on; then the next four columns.
    pub(crate) values: [[i8; BLOCK]; 8],
}

/// The same as `Q4_0` has it: whole numbers from 0 to 15, of which 8 is taken away.
#[derive(Clone, Copy, Default)]
#[repr(align(16))]
pub(crate) struct Q4 {
    pub(crate) scales: [u16; GROUP],
    /// As in [`Q8`], but the low half of a byte is of the first 16 columns, the high half of the last 16.
    pub(crate) values: [[u8; BLOCK]; 4],
}

/// The same as `Q4_1` has it: whole numbers from 0 to 15, times a scale, and a least value.
#[derive(Clone, Copy, Default)]
#[repr(align(32))]
pub(crate) struct Q4Least {
    pub(crate) scales: [u16; GROUP],
    pub(crate) least: [u16; GROUP],
    pub(crate) values: [[u8; BLOCK]; 4],
}

/// A block of the vector that weights are multiplied with: a scale, and whole numbers from -127 to 127.
#[derive(Clone, Copy)]
pub(crate) struct Input {
    pub(crate) scale: f32,
    /// Of the whole numbers.
    pub(crate) sum: i32,
    pub(crate) values: [[i8; 4]; 8],
}

/// A kind of weights in blocks.
pub(crate) trait Blocks: Copy + Default {
    /// Bytes of a block of one row in a file.
    const BYTES: usize;

    /// Puts a block of a file, of [`Self::BYTES`] bytes, into a row.
    fn put(&mut self, row: usize, block: &[u8]);

    /// Writes a row's 32 values as plain numbers.
    fn get(&self, row: usize, into: &mut [f32; BLOCK]);

    /// Adds the product with a block of input to the sum of each row.
    fn add_product(&self, input: &Input, sums: &mut [f32; GROUP]);
}

impl Blocks for Q8 {
    const BYTES: usize = 34;

    fn put(&mut self, row: usize, block: &[u8]) {
        self.scales[row] = u16_at(block, 0);
        for (column, byte) in block[2..].iter().enumerate() {
            self.values[column / 4][4 * row + column % 4] = byte.cast_signed();
        }
    }

    fn get(&self, row: usize, into: &mut [f32; BLOCK]) {
        let scale = from_half(self.scales[row]);
        for (column, to) in into.iter_mut().enumerate() {
            *to = scale * f32::from(self.values[column / 4][4 * row + column % 4]);
        }
    }

    #[inline(always)]
    fn add_product(&self, input: &Input, sums: &mut [f32; GROUP]) {
        let mut dots = [0; GROUP];
        for (values, four) in self.values.iter().zip(&input.values) {
            for (dot, row) in dots.iter_mut().zip(values.as_chunks::<4>().0) {
                // Nothing can overflow; the plain operators would check it in some profiles and cost half the speed.
                let product = |i: usize| i32::from(row[i]).wrapping_mul(i32::from(four[i]));
                let pairs = product(0).wrapping_add(product(1)).wrapping_add(product(2).wrapping_add(product(3)));
                *dot = i32::wrapping_add(*dot, pairs);
            }
        }
        for (row, sum) in sums.iter_mut().enumerate() {
            *sum += dots[row] as f32 * (from_half(self.scales[row]) * input.scale);
        }
    }
}

impl Blocks for Q4 {
    const BYTES: usize = 18;

    fn put(&mut self, row: usize, block: &[u8]) {
        self.scales[row] = u16_at(block, 0);
        put_halves(&mut self.values, row, &block[2..]);
    }

    fn get(&self, row: usize, into: &mut [f32; BLOCK]) {
        let scale = from_half(self.scales[row]);
        get_halves(&self.values, row, into, |half| scale * f32::from(half.wrapping_sub(8).cast_signed()));
    }

    #[inline(always)]
    fn add_product(&self, input: &Input, sums: &mut [f32; GROUP]) {
        let dots = dot_halves(&self.values, input);
        for (row, sum) in sums.iter_mut().enumerate() {
            let dot = dots[row].wrapping_sub(input.sum.wrapping_mul(8));
            *sum += dot as f32 * (from_half(self.scales[row]) * input.scale);
        }
    }
}

impl Blocks for Q4Least {
    const BYTES: usize = 20;

    fn put(&mut self, row: usize, block: &[u8]) {
        self.scales[row] = u16_at(block, 0);
        self.least[row] = u16_at(block, 2);
        put_halves(&mut self.values, row, &block[4..]);
    }

    fn get(&self, row: usize, into: &mut [f32; BLOCK]) {
        let (scale, least) = (from_half(self.scales[row]), from_half(self.least[row]));
        get_halves(&self.values, row, into, |half| scale * f32::from(half) + least);
    }

    #[inline(always)]
    fn add_product(&self, input: &Input, sums: &mut [f32; GROUP]) {
        let dots = dot_halves(&self.values, input);
        let total = input.total();
        for (row, sum) in sums.iter_mut().enumerate() {
            let scaled = dots[row] as f32 * (from_half(self.scales[row]) * input.scale);
            *sum += scaled + from_half(self.least[row]) * total;
        }
    }
}

impl Input {
    #[inline(always)]
    pub(crate) fn new(values: &[f32; BLOCK]) -> Self {
        // Adding and taking away 1.5 * 2^23 rounds to the nearest whole number, ties to even.
        const ROUND: f32 = 12_582_912.0;
        let top = values.iter().fold(0.0, |top: f32, x| top.max(x.abs()));
        let inverse = if top > 0.0 { 127.0 / top } else { 0.0 };
        // Whole numbers would hide what is infinite or not a number: the scale keeps it, as not a number.
        let hidden = values.iter().fold(0.0, |sum, x| sum + x * 0.0);
        let whole = values.map(|x| (((x * inverse + ROUND) - ROUND) as i8).max(-127));
        let sum = whole.iter().fold(0, |sum: i32, x| sum.wrapping_add(i32::from(*x)));
        let mut fours = [[0; 4]; 8];
        fours.iter_mut().zip(whole.as_chunks().0).for_each(|(to, four)| *to = *four);
        Self { scale: top / 127.0 + hidden, sum, values: fours }
    }

    /// The sum of the values that the whole numbers stand for.
    #[inline(always)]
    pub(crate) fn total(&self) -> f32 {
        self.scale * self.sum as f32
    }
}

fn u16_at(block: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([block[at], block[at + 1]])
}

fn put_halves(values: &mut [[u8; BLOCK]; 4], row: usize, bytes: &[u8]) {
    for (at, byte) in bytes.iter().enumerate() {
        values[at / 4][4 * row + at % 4] = *byte;
    }
}

fn get_halves(values: &[[u8; BLOCK]; 4], row: usize, into: &mut [f32; BLOCK], value: impl Fn(u8) -> f32) {
    for at in 0..BLOCK / 2 {
        let byte = values[at / 4][4 * row + at % 4];
        into[at] = value(byte & 15);
        into[at + BLOCK / 2] = value(byte >> 4);
    }
}

/// Whole-number products, a sum for each row. Sixteen bits hold them: eight times 15 times 127 for each column.
#[inline(always)]
fn dot_halves(values: &[[u8; BLOCK]; 4], input: &Input) -> [i32; GROUP] {
    let mut columns = [0i16; BLOCK];
    for (k, bytes) in values.iter().enumerate() {
        let (low, high) = (input.values[k].map(i16::from), input.values[k + 4].map(i16::from));
        for (i, column) in columns.iter_mut().enumerate() {
            let product = |half: u8, by: i16| i16::from(half).wrapping_mul(by);
            let pair = product(bytes[i] & 15, low[i % 4]).wrapping_add(product(bytes[i] >> 4, high[i % 4]));
            *column = column.wrapping_add(pair);
        }
    }
    std::array::from_fn(|row| (0..4).fold(0, |sum: i32, i| sum.wrapping_add(i32::from(columns[4 * row + i]))))
}

/// Half precision to single; exact.
#[inline(always)]
pub(crate) fn from_half(half: u16) -> f32 {
    let sign = u32::from(half & 0x8000) << 16;
    let magnitude = u32::from(half & 0x7fff) << 13;
    let value = match half & 0x7c00 {
        0x7c00 => f32::from_bits(magnitude | 0x7f80_0000),
        // The exponent is biased by 15 there and by 127 here; the product also puts subnormal numbers right.
        _ => f32::from_bits(magnitude) * f32::from_bits((254 - 15) << 23),
    };
    f32::from_bits(value.to_bits() | sign)
}
