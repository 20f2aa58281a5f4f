//! The llama network with hand-written gradients: plain f32, one sequence at a time.

use std::ops::Range;

use crate::math::{exp, sigmoid};
use crate::matmul::{Mat, MatMut, add_mul, add_mul_nt, add_mul_tn};
use crate::text::Rng;

/// The size of a network. All but `layers` are multiples of 16 (so is the size of a head).
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) vocab: usize,
    pub(crate) dim: usize,
    pub(crate) layers: usize,
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) ffn: usize,
    pub(crate) context: usize,
}

pub(crate) const ROPE_BASE: f32 = 10_000.0;
pub(crate) const EPSILON: f32 = 1e-5;

impl Shape {
    pub(crate) fn head(&self) -> usize {
        self.dim / self.heads
    }
    pub(crate) fn kv(&self) -> usize {
        self.head() * self.kv_heads
    }
}

/// Where the tensors of one layer are among all parameters. Matrices are stored input by output.
#[derive(Clone)]
pub(crate) struct Layer {
    pub(crate) attn_norm: Range<usize>,
    pub(crate) q: Range<usize>,
    pub(crate) k: Range<usize>,
    pub(crate) v: Range<usize>,
    pub(crate) o: Range<usize>,
    pub(crate) ffn_norm: Range<usize>,
    pub(crate) gate: Range<usize>,
    pub(crate) up: Range<usize>,
    pub(crate) down: Range<usize>,
}

/// A network: its parameters in one row.
pub(crate) struct Net {
    pub(crate) shape: Shape,
    pub(crate) params: Vec<f32>,
    pub(crate) embed: Range<usize>,
    pub(crate) layers: Vec<Layer>,
    pub(crate) norm: Range<usize>,
}

impl Net {
    /// A network with small random weights.
    pub(crate) fn new(shape: Shape, rng: &mut Rng) -> Self {
        let Shape { vocab, dim, ffn, .. } = shape;
        let mut params = Vec::new();
        // Half the sum of twelve uniform numbers less their mean is close enough to a normal distribution.
        let mut tensor = |len: usize, deviation: Option<f32>| {
            let start = params.len();
            params.extend((0..len).map(|_| match deviation {
                None => 1.0,
                Some(d) => d * ((0..12).map(|_| (rng.next() >> 40) as f32 / 16_777_216.0).sum::<f32>() - 6.0),
            }));
            start..start + len
        };
        let deep = 0.1 / (2.0 * shape.layers as f32).sqrt();
        let embed = tensor(vocab * dim, Some(0.05));
        let layers = (0..shape.layers)
            .map(|_| Layer {
                attn_norm: tensor(dim, None),
                q: tensor(dim * dim, Some(0.1)),
                k: tensor(dim * shape.kv(), Some(0.1)),
                v: tensor(dim * shape.kv(), Some(0.1)),
                o: tensor(dim * dim, Some(deep)),
                ffn_norm: tensor(dim, None),
                gate: tensor(dim * ffn, Some(0.1)),
                up: tensor(dim * ffn, Some(0.1)),
                down: tensor(ffn * dim, Some(deep)),
            })
            .collect();
        let norm = tensor(dim, None);
        Self { shape, params, embed, layers, norm }
    }

    /// The mean loss of predicting each next token (`tokens` is one longer than what is read, a multiple of 16), and
    /// its gradient added to `grad`.
    pub(crate) fn loss(&self, tokens: &[u16], grad: &mut [f32]) -> f64 {
        let Shape { dim, vocab, .. } = self.shape;
        let t = tokens.len() - 1;
        let rope = Rope::new(t, self.shape.head());
        let mut x = vec![0.0; t * dim];
        for (row, &token) in x.chunks_exact_mut(dim).zip(tokens) {
            row.copy_from_slice(&self.params[self.embed.clone()][token as usize * dim..][..dim]);
        }
        let saved: Vec<Saved> = self.layers.iter().map(|layer| self.forward(layer, &mut x, &rope)).collect();
        let (h, inverse) = rms_norm(&x, self.p(&self.norm));
        let mut logits = vec![0.0; t * vocab];
        add_mul_nt(Mat::new(&h, dim), Mat::new(self.p(&self.embed), dim), MatMut::new(&mut logits, vocab));

        // The logits become their own gradient: probability less the truth.
        let mut loss = 0.0;
        for (row, &target) in logits.chunks_exact_mut(vocab).zip(&tokens[1..]) {
            softmax(row);
            loss -= f64::from(row[target as usize].max(1e-30)).ln() / t as f64;
            row[target as usize] -= 1.0;
            row.iter_mut().for_each(|p| *p /= t as f32);
        }
        let mut dh = vec![0.0; t * dim];
        add_mul(Mat::new(&logits, vocab), Mat::new(self.p(&self.embed), dim), MatMut::new(&mut dh, dim));
        let d_embed = &mut grad[self.embed.clone()];
        add_mul_tn(Mat::new(&logits, vocab), Mat::new(&h, dim), MatMut::new(d_embed, dim));
        let mut dx = vec![0.0; t * dim];
        rms_norm_back(&x, &inverse, self.p(&self.norm), &dh, &mut dx, &mut grad[self.norm.clone()]);
        for (layer, saved) in self.layers.iter().zip(&saved).rev() {
            self.backward(layer, saved, &mut dx, &rope, grad);
        }
        for (row, &token) in dx.chunks_exact(dim).zip(tokens) {
            let to = &mut grad[self.embed.clone()][token as usize * dim..][..dim];
            to.iter_mut().zip(row).for_each(|(g, d)| *g += d);
        }
        loss
    }

    fn p(&self, range: &Range<usize>) -> &[f32] {
        &self.params[range.clone()]
    }

    fn times(&self, x: &[f32], w: &Range<usize>, inputs: usize) -> Vec<f32> {
        let outputs = w.len() / inputs;
        let mut y = vec![0.0; x.len() / inputs * outputs];
        add_mul(Mat::new(x, inputs), Mat::new(self.p(w), outputs), MatMut::new(&mut y, outputs));
        y
    }

    /// The gradients of `y = x w`, given that of `y`.
    fn times_back(&self, x: &[f32], w: &Range<usize>, dy: &[f32], dx: &mut [f32], grad: &mut [f32], inputs: usize) {
        let outputs = w.len() / inputs;
        add_mul_nt(Mat::new(dy, outputs), Mat::new(self.p(w), outputs), MatMut::new(dx, inputs));
        add_mul_tn(Mat::new(x, inputs), Mat::new(dy, outputs), MatMut::new(&mut grad[w.clone()], outputs));
    }

    fn forward(&self, layer: &Layer, x: &mut [f32], rope: &Rope) -> Saved {
        let Shape { dim, ffn, .. } = self.shape;
        let x1 = x.to_vec();
        let (h1, r1) = rms_norm(x, self.p(&layer.attn_norm));
        let mut q = self.times(&h1, &layer.q, dim);
        let mut k = self.times(&h1, &layer.k, dim);
        let v = self.times(&h1, &layer.v, dim);
        rope.turn(&mut q, dim, 1.0);
        rope.turn(&mut k, self.shape.kv(), 1.0);
        let (mixed, weights) = self.attend(&q, &k, &v);
        add(x, &self.times(&mixed, &layer.o, dim));

        let x2 = x.to_vec();
        let (h2, r2) = rms_norm(x, self.p(&layer.ffn_norm));
        let gate = self.times(&h2, &layer.gate, dim);
        let up = self.times(&h2, &layer.up, dim);
        let act: Vec<f32> = gate.iter().zip(&up).map(|(g, u)| g * sigmoid(*g) * u).collect();
        add(x, &self.times(&act, &layer.down, ffn));
        Saved { x1, h1, r1, q, k, v, weights, mixed, x2, h2, r2, gate, up, act }
    }

    fn backward(&self, layer: &Layer, s: &Saved, dx: &mut [f32], rope: &Rope, grad: &mut [f32]) {
        let Shape { dim, ffn, .. } = self.shape;
        let mut d_act = vec![0.0; s.act.len()];
        self.times_back(&s.act, &layer.down, dx, &mut d_act, grad, ffn);
        let (mut d_gate, mut d_up) = (d_act.clone(), d_act);
        for i in 0..s.gate.len() {
            let (g, sig) = (s.gate[i], sigmoid(s.gate[i]));
            d_gate[i] *= s.up[i] * sig * (1.0 + g * (1.0 - sig));
            d_up[i] *= g * sig;
        }
        let mut dh = vec![0.0; dx.len()];
        self.times_back(&s.h2, &layer.gate, &d_gate, &mut dh, grad, dim);
        self.times_back(&s.h2, &layer.up, &d_up, &mut dh, grad, dim);
        rms_norm_back(&s.x2, &s.r2, self.p(&layer.ffn_norm), &dh, dx, &mut grad[layer.ffn_norm.clone()]);

        let mut d_mixed = vec![0.0; s.mixed.len()];
        self.times_back(&s.mixed, &layer.o, dx, &mut d_mixed, grad, dim);
        let (mut dq, mut dk, dv) = self.attend_back(s, &d_mixed);
        rope.turn(&mut dq, dim, -1.0);
        rope.turn(&mut dk, self.shape.kv(), -1.0);
        dh.fill(0.0);
        self.times_back(&s.h1, &layer.q, &dq, &mut dh, grad, dim);
        self.times_back(&s.h1, &layer.k, &dk, &mut dh, grad, dim);
        self.times_back(&s.h1, &layer.v, &dv, &mut dh, grad, dim);
        rms_norm_back(&s.x1, &s.r1, self.p(&layer.attn_norm), &dh, dx, &mut grad[layer.attn_norm.clone()]);
    }

    /// Causal attention, in blocks of rows so that most of the future is never computed. The weights are kept.
    fn attend(&self, q: &[f32], k: &[f32], v: &[f32]) -> (Vec<f32>, Vec<f32>) {
        let Shape { dim, heads, .. } = self.shape;
        let (t, head, kv) = (q.len() / dim, self.shape.head(), self.shape.kv());
        let scale = 1.0 / (head as f32).sqrt();
        let mut mixed = vec![0.0; q.len()];
        let mut weights = vec![0.0; heads * t * t];
        for h in 0..heads {
            let from = h * self.shape.kv_heads / heads * head;
            for rows in blocks(t) {
                let seen = rows.end;
                let w = &mut weights[(h * t + rows.start) * t..(h * t + rows.end) * t];
                let queries = Mat::part(q, dim, &rows, h * head, head);
                add_mul_nt(queries, Mat::part(k, kv, &(0..seen), from, head), MatMut::part(w, t, 0, seen));
                for (i, row) in w.chunks_exact_mut(t).enumerate() {
                    let (past, future) = row.split_at_mut(rows.start + i + 1);
                    past.iter_mut().for_each(|x| *x *= scale);
                    softmax(past);
                    future.fill(0.0);
                }
                let out = &mut mixed[rows.start * dim..rows.end * dim];
                let values = Mat::part(v, kv, &(0..seen), from, head);
                add_mul(Mat::part(w, t, &(0..rows.len()), 0, seen), values, MatMut::part(out, dim, h * head, head));
            }
        }
        (mixed, weights)
    }

    fn attend_back(&self, s: &Saved, d_mixed: &[f32]) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
        let Shape { dim, heads, .. } = self.shape;
        let (t, head, kv) = (s.q.len() / dim, self.shape.head(), self.shape.kv());
        let scale = 1.0 / (head as f32).sqrt();
        let (mut dq, mut dk, mut dv) = (vec![0.0; s.q.len()], vec![0.0; s.k.len()], vec![0.0; s.v.len()]);
        for h in 0..heads {
            let from = h * self.shape.kv_heads / heads * head;
            for rows in blocks(t) {
                let seen = 0..rows.end;
                let w = Mat::part(&s.weights[h * t * t..], t, &rows, 0, seen.len());
                let d_out = Mat::part(d_mixed, dim, &rows, h * head, head);
                add_mul_tn(w, d_out, MatMut::part(&mut dv[..seen.len() * kv], kv, from, head));
                let mut dw = vec![0.0; rows.len() * seen.len()];
                let values = Mat::part(&s.v, kv, &seen, from, head);
                add_mul_nt(d_out, values, MatMut::new(&mut dw, seen.len()));
                for (i, d) in dw.chunks_exact_mut(seen.len()).enumerate() {
                    let w = w.row(i);
                    let dot: f32 = d.iter().zip(w).map(|(d, w)| d * w).sum();
                    d.iter_mut().zip(w).for_each(|(d, w)| *d = (*d - dot) * w * scale);
                }
                let dw = Mat::new(&dw, seen.len());
                let d_queries = &mut dq[rows.start * dim..rows.end * dim];
                let keys = Mat::part(&s.k, kv, &seen, from, head);
                add_mul(dw, keys, MatMut::part(d_queries, dim, h * head, head));
                let queries = Mat::part(&s.q, dim, &rows, h * head, head);
                add_mul_tn(dw, queries, MatMut::part(&mut dk[..seen.len() * kv], kv, from, head));
            }
        }
        (dq, dk, dv)
    }
}

/// What the backward pass of a layer needs of the forward pass.
struct Saved {
    x1: Vec<f32>,
    h1: Vec<f32>,
    r1: Vec<f32>,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    weights: Vec<f32>,
    mixed: Vec<f32>,
    x2: Vec<f32>,
    h2: Vec<f32>,
    r2: Vec<f32>,
    gate: Vec<f32>,
    up: Vec<f32>,
    act: Vec<f32>,
}

fn blocks(t: usize) -> impl Iterator<Item = Range<usize>> {
    (0..t).step_by(64).map(move |start| start..t.min(start + 64))
}

fn add(x: &mut [f32], y: &[f32]) {
    x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
}

fn softmax(row: &mut [f32]) {
    let top = row.iter().copied().fold(f32::MIN, f32::max);
    row.iter_mut().for_each(|x| *x = exp(*x - top));
    let sum: f32 = row.iter().sum();
    row.iter_mut().for_each(|x| *x /= sum);
}

/// The normalised rows, and one over the root mean square of each.
fn rms_norm(x: &[f32], weight: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let dim = weight.len();
    let mut y = x.to_vec();
    let mut inverse = Vec::with_capacity(x.len() / dim);
    for row in y.chunks_exact_mut(dim) {
        let mean = row.iter().map(|x| x * x).sum::<f32>() / dim as f32;
        let r = 1.0 / (mean + EPSILON).sqrt();
        row.iter_mut().zip(weight).for_each(|(x, w)| *x *= r * w);
        inverse.push(r);
    }
    (y, inverse)
}

/// Adds the gradients of [`rms_norm`] to those of its input and its weight.
fn rms_norm_back(x: &[f32], inverse: &[f32], weight: &[f32], dy: &[f32], dx: &mut [f32], d_weight: &mut [f32]) {
    let dim = weight.len();
    for (i, r) in inverse.iter().enumerate() {
        let (x, dy, dx) = (&x[i * dim..][..dim], &dy[i * dim..][..dim], &mut dx[i * dim..][..dim]);
        let dot: f32 = (0..dim).map(|j| dy[j] * weight[j] * x[j]).sum();
        let pull = r * r * r * dot / dim as f32;
        for j in 0..dim {
            d_weight[j] += dy[j] * x[j] * r;
            dx[j] += r * weight[j] * dy[j] - pull * x[j];
        }
    }
}

/// Rotary positions: sine and cosine for each position and pair of a head.
struct Rope {
    pairs: usize,
    turns: Vec<(f32, f32)>,
}

impl Rope {
    fn new(positions: usize, head: usize) -> Self {
        let pairs = head / 2;
        let turns = (0..positions * pairs)
            .map(|i| (i / pairs) as f32 * libm::powf(ROPE_BASE, -2.0 * (i % pairs) as f32 / head as f32))
            .map(|angle| (libm::sinf(angle), libm::cosf(angle)))
            .collect();
        Self { pairs, turns }
    }

    /// Turns all heads of all rows; a `direction` of -1 turns back.
    fn turn(&self, x: &mut [f32], width: usize, direction: f32) {
        for (row, turns) in x.chunks_exact_mut(width).zip(self.turns.chunks_exact(self.pairs)) {
            for head in row.chunks_exact_mut(2 * self.pairs) {
                for (pair, (sin, cos)) in head.chunks_exact_mut(2).zip(turns) {
                    let (a, b) = (pair[0], pair[1]);
                    pair[0] = a * cos - b * sin * direction;
                    pair[1] = a * sin * direction + b * cos;
                }
            }
        }
    }
}
