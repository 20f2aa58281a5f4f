//! The llama network: one token at a time through all layers.

use crate::gguf::{Gguf, Kind, LoadError, Tensor, Value, malformed, unsupported};
use crate::math::{exp, silu};
use crate::matrix::{Matrix, Vector, add_scaled, dot, floats, sum};

/// The weights and the sizes that go with them.
pub(crate) struct Network {
    /// Tokens that fit, as the file says.
    pub(crate) context: usize,
    /// How the matrices are stored.
    pub(crate) kinds: Vec<Kind>,
    dim: usize,
    heads: usize,
    kv_heads: usize,
    epsilon: f32,
    /// The angle each pair of a head turns by from one position to the next.
    turns: Vec<f32>,
    embed: Matrix,
    layers: Vec<Layer>,
    norm: Vec<f32>,
    /// None: the embedding is used once more.
    output: Option<Matrix>,
}

struct Layer {
    attn_norm: Vec<f32>,
    q: Matrix,
    k: Matrix,
    v: Matrix,
    o: Matrix,
    ffn_norm: Vec<f32>,
    gate: Matrix,
    up: Matrix,
    down: Matrix,
}

impl Network {
    pub(crate) fn load(gguf: &mut Gguf, vocabulary: usize) -> Result<Self, LoadError> {
        match gguf.text("general.architecture")? {
            "llama" => {}
            other => return Err(unsupported(format!("its architecture is {other:?}; only \"llama\" is known"))),
        }
        if matches!(gguf.value("llama.rope.scaling.type"), Some(Value::Text(kind)) if kind != "none") {
            return Err(unsupported("it scales rotary positions"));
        }
        let dim = gguf.number("llama.embedding_length", 1..=65_536)?;
        let heads = gguf.number("llama.attention.head_count", 1..=1024)?;
        let kv_heads = match gguf.value("llama.attention.head_count_kv") {
            None => heads,
            Some(_) => gguf.number("llama.attention.head_count_kv", 1..=1024)?,
        };
        if !dim.is_multiple_of(2 * heads) || !heads.is_multiple_of(kv_heads) {
            return Err(malformed(format!(
                "{dim} values do not divide among {heads} heads, or those among {kv_heads}"
            )));
        }
        let head = dim / heads;
        if gguf
            .value("llama.rope.dimension_count")
            .is_some_and(|n| !matches!(n, Value::Unsigned(n) if n == head as u64))
        {
            return Err(unsupported("it turns only a part of each head"));
        }
        let base = gguf.real("llama.rope.freq_base")?.unwrap_or(10_000.0);
        let epsilon = gguf.real("llama.attention.layer_norm_rms_epsilon")?;
        let ffn = gguf.number("llama.feed_forward_length", 1..=1 << 20)?;
        let context = gguf.number("llama.context_length", 1..=1 << 20)?;
        let layers = gguf.number("llama.block_count", 1..=1024)?;

        let mut tensors = Tensors { gguf, kinds: Vec::new() };
        let network = Self {
            embed: tensors.matrix("token_embd.weight", dim, vocabulary)?,
            layers: (0..layers).map(|i| tensors.layer(i, dim, head * kv_heads, ffn)).collect::<Result<_, _>>()?,
            norm: tensors.norm("output_norm.weight", dim)?,
            output: match tensors.gguf.take("output.weight") {
                None => None,
                Some(tensor) => Some(tensors.checked("output.weight", tensor, dim, vocabulary)?),
            },
            kinds: tensors.kinds,
            turns: (0..head / 2).map(|i| libm::powf(base, -2.0 * i as f32 / head as f32)).collect(),
            epsilon: epsilon.ok_or_else(|| malformed("llama.attention.layer_norm_rms_epsilon is missing"))?,
            context,
            dim,
            heads,
            kv_heads,
        };
        match gguf.left().next() {
            Some(name) => Err(unsupported(format!("it has a tensor {name:?}"))),
            None => Ok(network),
        }
    }

    fn head(&self) -> usize {
        self.dim / self.heads
    }

    fn norm(&self, x: &[f32], weight: &[f32], into: &mut [f32]) {
        let mean = dot(x, x) / x.len() as f32;
        let scale = 1.0 / (mean + self.epsilon).sqrt();
        for ((to, x), w) in into.iter_mut().zip(x).zip(weight) {
            *to = x * scale * w;
        }
    }
}

/// The tensors of a file, each checked for its shape.
struct Tensors<'a, 'f> {
    gguf: &'a mut Gguf<'f>,
    kinds: Vec<Kind>,
}

impl Tensors<'_, '_> {
    fn matrix(&mut self, name: &str, cols: usize, rows: usize) -> Result<Matrix, LoadError> {
        let tensor = self.gguf.take(name).ok_or_else(|| malformed(format!("tensor {name:?} is missing")))?;
        self.checked(name, tensor, cols, rows)
    }

    fn checked(&mut self, name: &str, tensor: Tensor, cols: usize, rows: usize) -> Result<Matrix, LoadError> {
        if (tensor.cols, tensor.rows) != (cols, rows) {
            let (have, need) = (format!("{} by {}", tensor.cols, tensor.rows), format!("{cols} by {rows}"));
            return Err(malformed(format!("tensor {name:?} is {have}, not {need}")));
        }
        if let Err(place) = self.kinds.binary_search(&tensor.kind) {
            self.kinds.insert(place, tensor.kind);
        }
        Ok(Matrix::load(&tensor))
    }

    fn norm(&mut self, name: &str, len: usize) -> Result<Vec<f32>, LoadError> {
        match self.gguf.take(name) {
            Some(Tensor { kind: Kind::F32, cols, rows: 1, bytes }) if cols == len => Ok(floats(bytes)),
            Some(_) => Err(malformed(format!("tensor {name:?} is not a row of {len} F32"))),
            None => Err(malformed(format!("tensor {name:?} is missing"))),
        }
    }

    fn layer(&mut self, i: usize, dim: usize, kv: usize, ffn: usize) -> Result<Layer, LoadError> {
        let name = |part: &str| format!("blk.{i}.{part}.weight");
        Ok(Layer {
            attn_norm: self.norm(&name("attn_norm"), dim)?,
            q: self.matrix(&name("attn_q"), dim, dim)?,
            k: self.matrix(&name("attn_k"), dim, kv)?,
            v: self.matrix(&name("attn_v"), dim, kv)?,
            o: self.matrix(&name("attn_output"), dim, dim)?,
            ffn_norm: self.norm(&name("ffn_norm"), dim)?,
            gate: self.matrix(&name("ffn_gate"), dim, ffn)?,
            up: self.matrix(&name("ffn_up"), dim, ffn)?,
            down: self.matrix(&name("ffn_down"), ffn, dim)?,
        })
    }
}

/// What a generation remembers of the tokens it has read: keys and values for each layer, growing by the token.
#[derive(Default)]
pub(crate) struct Memory {
    layers: Vec<(Vec<f32>, Vec<f32>)>,
    tokens: usize,
    scratch: Scratch,
}

/// Room for intermediate results, kept from token to token.
#[derive(Default)]
struct Scratch {
    vector: Vector,
    x: Vec<f32>,
    h: Vec<f32>,
    q: Vec<f32>,
    gate: Vec<f32>,
    up: Vec<f32>,
    weights: Vec<f32>,
    turns: Vec<(f32, f32)>,
}

impl Network {
    pub(crate) fn memory(&self) -> Memory {
        Memory { layers: self.layers.iter().map(|_| Default::default()).collect(), ..Memory::default() }
    }

    /// Reads the next token, which must be in the vocabulary.
    pub(crate) fn read(&self, token: u32, memory: &mut Memory) {
        let Memory { layers, tokens, scratch: s } = memory;
        s.turns.clear();
        s.turns.extend(self.turns.iter().map(|turn| {
            let angle = *tokens as f32 * turn;
            (libm::sinf(angle), libm::cosf(angle))
        }));
        *tokens += 1;
        s.x.resize(self.dim, 0.0);
        s.h.resize(self.dim, 0.0);
        s.q.resize(self.dim, 0.0);
        self.embed.row(token as usize, &mut s.x);
        for (layer, (keys, values)) in self.layers.iter().zip(layers) {
            self.attention(layer, keys, values, s);
            self.feed_forward(layer, s);
        }
    }

    /// Writes how likely each token is to come next, on a logarithmic scale.
    pub(crate) fn predict(&self, memory: &mut Memory, logits: &mut Vec<f32>) {
        let s = &mut memory.scratch;
        let output = self.output.as_ref().unwrap_or(&self.embed);
        self.norm(&s.x, &self.norm, &mut s.h);
        logits.resize(output.rows, 0.0);
        output.times(s.vector.set(&s.h), logits);
    }

    fn attention(&self, layer: &Layer, keys: &mut Vec<f32>, values: &mut Vec<f32>, s: &mut Scratch) {
        let (head, kv) = (self.head(), self.head() * self.kv_heads);
        self.norm(&s.x, &layer.attn_norm, &mut s.h);
        let h = s.vector.set(&s.h);
        let past = keys.len();
        keys.resize(past + kv, 0.0);
        values.resize(past + kv, 0.0);
        layer.q.times(h, &mut s.q);
        layer.k.times(h, &mut keys[past..]);
        layer.v.times(h, &mut values[past..]);
        rotate(&mut s.q, &s.turns);
        rotate(&mut keys[past..], &s.turns);

        let scale = 1.0 / (head as f32).sqrt();
        let shared = self.heads / self.kv_heads;
        for (i, (q, mixed)) in s.q.chunks_exact(head).zip(s.h.chunks_exact_mut(head)).enumerate() {
            let from = i / shared * head;
            s.weights.clear();
            s.weights.extend(keys.chunks_exact(kv).map(|key| dot(q, &key[from..from + head]) * scale));
            softmax(&mut s.weights);
            mixed.fill(0.0);
            for (weight, value) in s.weights.iter().zip(values.chunks_exact(kv)) {
                add_scaled(mixed, *weight, &value[from..from + head]);
            }
        }
        layer.o.times(s.vector.set(&s.h), &mut s.q);
        s.x.iter_mut().zip(&s.q).for_each(|(x, y)| *x += y);
    }

    fn feed_forward(&self, layer: &Layer, s: &mut Scratch) {
        self.norm(&s.x, &layer.ffn_norm, &mut s.h);
        s.gate.resize(layer.gate.rows, 0.0);
        s.up.resize(layer.up.rows, 0.0);
        let h = s.vector.set(&s.h);
        layer.gate.times(h, &mut s.gate);
        layer.up.times(h, &mut s.up);
        s.gate.iter_mut().zip(&s.up).for_each(|(gate, up)| *gate = silu(*gate) * up);
        layer.down.times(s.vector.set(&s.gate), &mut s.q);
        s.x.iter_mut().zip(&s.q).for_each(|(x, y)| *x += y);
    }
}

/// Turns each pair of each head by its angle at this position.
fn rotate(x: &mut [f32], turns: &[(f32, f32)]) {
    for head in x.chunks_exact_mut(2 * turns.len()) {
        for (pair, (sin, cos)) in head.as_chunks_mut::<2>().0.iter_mut().zip(turns) {
            let [a, b] = *pair;
            *pair = [a * cos - b * sin, a * sin + b * cos];
        }
    }
}

fn softmax(x: &mut [f32]) {
    let top = x.iter().copied().fold(f32::MIN, f32::max);
    x.iter_mut().for_each(|x| *x = exp(*x - top));
    let scale = 1.0 / sum(x);
    x.iter_mut().for_each(|x| *x *= scale);
}
