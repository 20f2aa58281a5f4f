//! Tokens through the layers.

use std::io;
use std::sync::{PoisonError, RwLock};

use super::{Layer, Network};
use crate::attention::Attend;
use crate::blocks::GROUP;
use crate::math::silu;
use crate::matrix::{Matrix, Times, Vectors};
use crate::simd::Work;
use crate::sums::dot;
use crate::team::{Alone, Member, Team};

/// What a generation remembers of the tokens it has read.
pub(crate) struct Memory {
    layers: Vec<RwLock<Past>>,
    tokens: usize,
    team: Team,
    /// One for each thread.
    states: Vec<State>,
}

/// Keys and values of one layer, token by token.
#[derive(Default)]
struct Past {
    keys: Vec<f32>,
    values: Vec<f32>,
}

/// Intermediate results, kept so that a token costs no allocation. All are token by token.
#[derive(Default)]
struct State {
    x: Vec<f32>,
    h: Vec<f32>,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    gate: Vec<f32>,
    up: Vec<f32>,
    vectors: Vectors,
    weights: Vec<f32>,
    /// Sine and cosine of the angle of each pair of a head.
    turns: Vec<(f32, f32)>,
    logits: Vec<f32>,
}

impl Network {
    /// For one generation, computed by so many threads.
    pub(crate) fn memory(&self, threads: usize) -> Memory {
        let team = Team::new(threads);
        Memory {
            layers: self.layers.iter().map(|_| RwLock::default()).collect(),
            tokens: 0,
            states: (0..team.size()).map(|_| State::default()).collect(),
            team,
        }
    }

    /// Reads the next tokens, which must be in the vocabulary. How they are divided among calls, and the calls' work
    /// among threads, changes no bit of any result.
    ///
    /// # Errors
    /// If the system gives no thread; the memory is of no use then.
    pub(crate) fn read(&self, tokens: &[u32], predict: bool, memory: &mut Memory) -> io::Result<()> {
        let Memory { layers, tokens: past, team, states } = memory;
        let begun = *past;
        *past += tokens.len();
        team.run(states, |member, state| {
            self.begin(tokens, begun, state);
            for (layer, past) in self.layers.iter().zip(&*layers) {
                self.attention(layer, begun, past, member, state)?;
                self.feed_forward(layer, member, state)?;
            }
            if predict { self.predict(member, state) } else { Ok(()) }
        })
    }

    fn begin(&self, tokens: &[u32], past: usize, s: &mut State) {
        s.x.resize(tokens.len() * self.dim, 0.0);
        s.h.resize(tokens.len() * self.dim, 0.0);
        s.turns.clear();
        for (i, (token, x)) in tokens.iter().zip(s.x.chunks_exact_mut(self.dim)).enumerate() {
            self.embed.row(*token as usize, x);
            let angles = self.turns.iter().map(|turn| (past + i) as f32 * turn);
            s.turns.extend(angles.map(|angle| (libm::sinf(angle), libm::cosf(angle))));
        }
    }

    fn attention(
        &self,
        layer: &Layer,
        past: usize,
        memory: &RwLock<Past>,
        member: &mut Member,
        s: &mut State,
    ) -> Result<(), Alone> {
        self.norm(&s.x, &layer.attn_norm, &mut s.h);
        s.vectors.set(&s.h, self.dim);
        self.times(&layer.q, &s.vectors, &mut s.q, s.x.len() / self.dim, member)?;
        self.times(&layer.k, &s.vectors, &mut s.k, s.x.len() / self.dim, member)?;
        self.times(&layer.v, &s.vectors, &mut s.v, s.x.len() / self.dim, member)?;
        self.rotate(&mut s.q, &s.turns);
        self.rotate(&mut s.k, &s.turns);
        if member.is_first() {
            let mut memory = memory.write().unwrap_or_else(PoisonError::into_inner);
            append(&mut memory.keys, &s.k);
            append(&mut memory.values, &s.v);
        }
        member.wait()?;
        {
            let memory = memory.read().unwrap_or_else(PoisonError::into_inner);
            let (heads, len) = (self.heads, self.heads.len);
            member.share(&mut s.h, self.dim, len, |columns, into| {
                self.simd.run(Work::Attend(Attend {
                    heads,
                    range: columns.start / len..columns.end / len,
                    queries: &s.q,
                    keys: &memory.keys,
                    values: &memory.values,
                    past,
                    weights: &mut s.weights,
                    into,
                }));
            })?;
        }
        s.vectors.set(&s.h, self.dim);
        self.times(&layer.o, &s.vectors, &mut s.q, s.x.len() / self.dim, member)?;
        s.x.iter_mut().zip(&s.q).for_each(|(x, y)| *x += y);
        Ok(())
    }

    fn feed_forward(&self, layer: &Layer, member: &mut Member, s: &mut State) -> Result<(), Alone> {
        self.norm(&s.x, &layer.ffn_norm, &mut s.h);
        s.vectors.set(&s.h, self.dim);
        let (tokens, width) = (s.x.len() / self.dim, layer.gate.rows);
        s.gate.resize(tokens * width, 0.0);
        let (up, vectors) = (&mut s.up, &s.vectors);
        member.share(&mut s.gate, width, GROUP, |rows, gate| {
            up.resize(gate.len(), 0.0);
            self.simd.run(Work::Times(Times { matrix: &layer.gate, rows: rows.clone(), vectors, into: gate }));
            self.simd.run(Work::Times(Times { matrix: &layer.up, rows, vectors, into: up }));
            gate.iter_mut().zip(&*up).for_each(|(gate, up)| *gate = silu(*gate) * up);
        })?;
        s.vectors.set(&s.gate, width);
        self.times(&layer.down, &s.vectors, &mut s.q, tokens, member)?;
        s.x.iter_mut().zip(&s.q).for_each(|(x, y)| *x += y);
        Ok(())
    }

    /// Computes how likely each token is to come after the last one, on a logarithmic scale.
    fn predict(&self, member: &mut Member, s: &mut State) -> Result<(), Alone> {
        let output = self.output.as_ref().unwrap_or(&self.embed);
        let last = s.x.len() - self.dim;
        self.norm(&s.x[last..], &self.norm, &mut s.h[last..]);
        s.vectors.set(&s.h[last..], self.dim);
        self.times(output, &s.vectors, &mut s.logits, 1, member)
    }

    fn times(
        &self,
        matrix: &Matrix,
        vectors: &Vectors,
        products: &mut Vec<f32>,
        tokens: usize,
        member: &mut Member,
    ) -> Result<(), Alone> {
        products.resize(tokens * matrix.rows, 0.0);
        member.share(products, matrix.rows, GROUP, |rows, into| {
            self.simd.run(Work::Times(Times { matrix, rows, vectors, into }));
        })
    }

    fn norm(&self, x: &[f32], weight: &[f32], into: &mut [f32]) {
        for (x, into) in x.chunks_exact(self.dim).zip(into.chunks_exact_mut(self.dim)) {
            let mean = dot(x, x) / x.len() as f32;
            let scale = 1.0 / (mean + self.epsilon).sqrt();
            for ((to, x), w) in into.iter_mut().zip(x).zip(weight) {
                *to = x * scale * w;
            }
        }
    }

    /// Turns each pair of each head by its angle at the token's position.
    fn rotate(&self, x: &mut [f32], turns: &[(f32, f32)]) {
        let tokens = turns.len() / self.turns.len();
        for (token, turns) in x.chunks_exact_mut(x.len() / tokens).zip(turns.chunks_exact(self.turns.len())) {
            for head in token.chunks_exact_mut(self.heads.len) {
                for (pair, (sin, cos)) in head.as_chunks_mut::<2>().0.iter_mut().zip(turns) {
                    let [a, b] = *pair;
                    *pair = [a * cos - b * sin, a * sin + b * cos];
                }
            }
        }
    }
}

impl Memory {
    /// Those of the last token that was read for a prediction.
    pub(crate) fn logits(&self) -> &[f32] {
        self.states.first().map_or(&[], |state| &state.logits)
    }
}

/// Grows by a few tokens at a time: twice as much, as a vector does by itself, is too much for a long context.
fn append(to: &mut Vec<f32>, new: &[f32]) {
    const TOKENS: usize = 64;
    if to.capacity() - to.len() < new.len() {
        to.reserve_exact(new.len() * TOKENS);
    }
    to.extend_from_slice(new);
}
