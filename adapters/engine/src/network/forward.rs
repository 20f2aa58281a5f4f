//! Tokens through the layers.

use std::ops::Range;

use super::{Layer, Network};
use crate::attention::Attend;
use crate::blocks::GROUP;
use crate::math::silu;
use crate::matrix::{Matrix, Times, Vectors};
use crate::simd::Work;
use crate::sums::dot;
use crate::team::{Divide, Leader, Team};

/// What a generation remembers of the tokens it has read, and room to read more.
pub(crate) struct Memory {
    state: State,
    team: Team<Room>,
    /// Of the present task; after a prediction, the logits.
    result: Vec<f32>,
}

/// All are token by token, and kept so that a token costs no allocation.
#[derive(Default)]
struct State {
    layers: Vec<Past>,
    tokens: usize,
    x: Vec<f32>,
    h: Vec<f32>,
    q: Vec<f32>,
    vectors: Vectors,
    /// Sine and cosine of the angle of each pair of a head.
    turns: Vec<(f32, f32)>,
}

/// Keys and values of one layer.
#[derive(Default)]
struct Past {
    keys: Vec<f32>,
    values: Vec<f32>,
}

/// Room of a thread.
#[derive(Default)]
pub(super) struct Room {
    weights: Vec<f32>,
    up: Vec<f32>,
}

/// A network at work.
struct Pass<'a> {
    network: &'a Network,
    state: &'a mut State,
    /// How many tokens are being read.
    count: usize,
    task: Task<'a>,
}

/// What can be divided.
#[derive(Clone, Copy)]
enum Task<'a> {
    /// Products of the vectors with matrices, side by side.
    Times([Option<&'a Matrix>; 3]),
    /// Attention of a layer, by heads.
    Attend(usize),
    /// The inner half of a feed-forward layer.
    Gate(&'a Layer),
}

impl Network {
    /// For one generation, computed by so many threads.
    pub(crate) fn memory(&self, threads: usize) -> Memory {
        let layers = self.layers.iter().map(|_| Past::default()).collect();
        Memory { state: State { layers, ..State::default() }, team: Team::new(threads), result: Vec::new() }
    }

    /// Reads the next tokens, which must be in the vocabulary. How they are divided among calls, and the calls' work
    /// among threads, changes no bit of any result.
    pub(crate) fn read(&self, tokens: &[u32], predict: bool, memory: &mut Memory) {
        let Memory { state, team, result } = memory;
        let mut pass = Pass { network: self, state, count: tokens.len(), task: Task::Times([None; 3]) };
        team.run(&mut pass, |leader| {
            leader.alone().begin(tokens);
            for (i, layer) in self.layers.iter().enumerate() {
                attention(i, layer, leader, result);
                feed_forward(layer, leader, result);
            }
            leader.alone().state.tokens += tokens.len();
            if predict {
                leader.alone().end();
                leader.divide(result);
            }
        });
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
}

fn attention<'a>(i: usize, layer: &'a Layer, leader: &mut Leader<Pass<'a>>, result: &mut Vec<f32>) {
    leader.alone().normed(&layer.attn_norm, Task::Times([&layer.q, &layer.k, &layer.v].map(Some)));
    leader.divide(result);
    leader.alone().remember(i, layer, result);
    leader.divide(result);
    {
        let mut pass = leader.alone();
        let width = pass.network.dim;
        pass.next(result, width, Task::Times([Some(&layer.o), None, None]));
    }
    leader.divide(result);
    leader.alone().add(result);
}

fn feed_forward<'a>(layer: &'a Layer, leader: &mut Leader<Pass<'a>>, result: &mut Vec<f32>) {
    leader.alone().normed(&layer.ffn_norm, Task::Gate(layer));
    leader.divide(result);
    leader.alone().next(result, layer.gate.rows, Task::Times([Some(&layer.down), None, None]));
    leader.divide(result);
    leader.alone().add(result);
}

/// The work between tasks.
impl<'a> Pass<'a> {
    fn begin(&mut self, tokens: &[u32]) {
        let (network, s) = (self.network, &mut *self.state);
        s.x.resize(tokens.len() * network.dim, 0.0);
        s.h.resize(tokens.len() * network.dim, 0.0);
        s.turns.clear();
        for (i, (token, x)) in tokens.iter().zip(s.x.chunks_exact_mut(network.dim)).enumerate() {
            network.embed.row(*token as usize, x);
            let angles = network.turns.iter().map(|turn| (s.tokens + i) as f32 * turn);
            s.turns.extend(angles.map(|angle| (libm::sinf(angle), libm::cosf(angle))));
        }
    }

    /// Goes on with what was computed so far, normed.
    fn normed(&mut self, weight: &[f32], task: Task<'a>) {
        let s = &mut *self.state;
        self.network.norm(&s.x, weight, &mut s.h);
        s.vectors.set(&s.h, self.network.dim);
        self.task = task;
    }

    /// Goes on with a result.
    fn next(&mut self, result: &[f32], width: usize, task: Task<'a>) {
        self.state.vectors.set(result, width);
        self.task = task;
    }

    fn add(&mut self, result: &[f32]) {
        self.state.x.iter_mut().zip(result).for_each(|(x, y)| *x += y);
    }

    /// Puts keys and values to those of the tokens before, and goes on with attention.
    fn remember(&mut self, i: usize, layer: &Layer, result: &[f32]) {
        let s = &mut *self.state;
        let past = &mut s.layers[i];
        let [q, k, v] = places([Some(&layer.q), Some(&layer.k), Some(&layer.v)]);
        let width = v.end;
        s.q.clear();
        let turns = s.turns.chunks_exact(self.network.turns.len());
        for (row, turns) in result.chunks_exact(width).zip(turns) {
            rotate(append(&mut s.q, &row[q.clone()]), turns);
            rotate(append(&mut past.keys, &row[k.clone()]), turns);
            append(&mut past.values, &row[v.clone()]);
        }
        self.task = Task::Attend(i);
    }

    /// Goes on with the logits of the token after the last one.
    fn end(&mut self) {
        let (network, s) = (self.network, &mut *self.state);
        let last = s.x.len() - network.dim;
        network.norm(&s.x[last..], &network.norm, &mut s.h[last..]);
        s.vectors.set(&s.h[last..], network.dim);
        self.count = 1;
        self.task = Task::Times([Some(network.output.as_ref().unwrap_or(&network.embed)), None, None]);
    }
}

impl Divide for Pass<'_> {
    type Room = Room;

    fn shape(&self) -> (usize, usize, usize) {
        match self.task {
            Task::Times(matrices) => (self.count, places(matrices)[2].end, GROUP),
            Task::Attend(_) => (self.count, self.network.dim, self.network.heads.len),
            Task::Gate(layer) => (self.count, layer.gate.rows, GROUP),
        }
    }

    fn compute(&self, columns: Range<usize>, into: &mut [f32], room: &mut Room) {
        let (network, vectors, width) = (self.network, &self.state.vectors, columns.len());
        let times = |matrix, rows: Range<usize>, into: &mut [f32], at| {
            network.simd.run(Work::Times(Times { matrix, rows, vectors, into, width, at }));
        };
        match self.task {
            Task::Times(matrices) => {
                for (matrix, place) in matrices.iter().zip(places(matrices)) {
                    let (start, end) = (columns.start.max(place.start), columns.end.min(place.end));
                    if let Some(matrix) = matrix
                        && start < end
                    {
                        times(matrix, start - place.start..end - place.start, into, start - columns.start);
                    }
                }
            }
            Task::Gate(layer) => {
                room.up.resize(into.len(), 0.0);
                times(&layer.gate, columns.clone(), into, 0);
                times(&layer.up, columns, &mut room.up, 0);
                into.iter_mut().zip(&room.up).for_each(|(gate, up)| *gate = silu(*gate) * up);
            }
            Task::Attend(i) => {
                let (heads, past) = (network.heads, &self.state.layers[i]);
                network.simd.run(Work::Attend(Attend {
                    heads,
                    range: columns.start / heads.len..columns.end / heads.len,
                    queries: &self.state.q,
                    keys: &past.keys,
                    values: &past.values,
                    past: self.state.tokens,
                    weights: &mut room.weights,
                    into,
                }));
            }
        }
    }
}

/// The columns of the product with each matrix. Each begins a group.
fn places(matrices: [Option<&Matrix>; 3]) -> [Range<usize>; 3] {
    let mut end: usize = 0;
    matrices.map(|matrix| {
        let start = end.next_multiple_of(GROUP);
        end = matrix.map_or(end, |matrix| start + matrix.rows);
        start.min(end)..end
    })
}

/// Turns each pair of each head by its angle.
fn rotate(x: &mut [f32], turns: &[(f32, f32)]) {
    for head in x.chunks_exact_mut(2 * turns.len()) {
        for (pair, (sin, cos)) in head.as_chunks_mut::<2>().0.iter_mut().zip(turns) {
            let [a, b] = *pair;
            *pair = [a * cos - b * sin, a * sin + b * cos];
        }
    }
}

/// Grows by some tokens at a time: twice as much, as a vector does by itself, is too much for a long context.
fn append<'a>(to: &'a mut Vec<f32>, new: &[f32]) -> &'a mut [f32] {
    const TOKENS: usize = 64;
    if to.capacity() - to.len() < new.len() {
        to.reserve_exact(new.len() * TOKENS);
    }
    let start = to.len();
    to.extend_from_slice(new);
    &mut to[start..]
}

impl Memory {
    /// Those after the last token that was read for a prediction.
    pub(crate) fn logits(&self, network: &Network) -> &[f32] {
        let all = network.output.as_ref().unwrap_or(&network.embed).rows;
        self.result.get(..all).unwrap_or_default()
    }
}
