//! What tokens take from those before them.

use std::ops::Range;

use crate::math::exp;
use crate::sums::{add_scaled, dot, sum};

/// How the values of a token divide into heads.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Heads {
    /// Of queries.
    pub(crate) count: usize,
    /// Of keys and values; each serves `count / kv` heads.
    pub(crate) kv: usize,
    /// Values of a head.
    pub(crate) len: usize,
}

/// Attention of some heads, for some tokens in a row.
pub(crate) struct Attend<'a> {
    pub(crate) heads: Heads,
    /// The heads to compute.
    pub(crate) range: Range<usize>,
    /// Of all heads, token by token.
    pub(crate) queries: &'a [f32],
    /// Of all tokens so far, these included.
    pub(crate) keys: &'a [f32],
    pub(crate) values: &'a [f32],
    /// Tokens before these.
    pub(crate) past: usize,
    pub(crate) weights: &'a mut Vec<f32>,
    /// Of the heads to compute, token by token.
    pub(crate) into: &'a mut [f32],
}

impl Attend<'_> {
    #[inline(always)]
    pub(crate) fn run(self) {
        let Heads { count, kv, len } = self.heads;
        let scale = 1.0 / (len as f32).sqrt();
        let shared = count / kv;
        let tokens = self.queries.chunks_exact(count * len).zip(self.into.chunks_exact_mut(self.range.len() * len));
        for (token, (queries, into)) in tokens.enumerate() {
            let seen = (self.past + token + 1) * kv * len;
            for (head, mixed) in self.range.clone().zip(into.chunks_exact_mut(len)) {
                let query = &queries[head * len..][..len];
                let from = head / shared * len;
                let keys = self.keys[..seen].chunks_exact(kv * len);
                self.weights.resize(keys.len(), 0.0);
                for (weight, key) in self.weights.iter_mut().zip(keys) {
                    *weight = dot(query, &key[from..][..len]) * scale;
                }
                softmax(self.weights);
                mixed.fill(0.0);
                let values = self.values[..seen].chunks_exact(kv * len);
                for (weight, value) in self.weights.iter().zip(values) {
                    add_scaled(mixed, *weight, &value[from..][..len]);
                }
            }
        }
    }
}

#[inline(always)]
fn softmax(x: &mut [f32]) {
    let top = x.iter().copied().fold(f32::MIN, f32::max);
    x.iter_mut().for_each(|x| *x = exp(*x - top));
    let scale = 1.0 / sum(x);
    x.iter_mut().for_each(|x| *x *= scale);
}
