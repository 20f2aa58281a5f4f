//! The llama network: tokens through all layers.

mod forward;
#[cfg(test)]
mod tests;

pub(crate) use forward::Memory;

use crate::attention::Heads;
use crate::gguf::{Gguf, Kind, LoadError, Tensor, Value, malformed, unsupported};
use crate::matrix::{Matrix, floats};
use crate::simd::Simd;

/// Tokens read at once, and values of the widest layer for them, at most.
const CHUNK: usize = 64;
const VALUES: usize = 1 << 20;

/// The weights and the sizes that go with them.
pub(crate) struct Network {
    /// Tokens that fit, as the file says.
    pub(crate) context: usize,
    /// How the matrices are stored.
    pub(crate) kinds: Vec<Kind>,
    /// Tokens to be read at once, at most.
    pub(crate) chunk: usize,
    /// How many weights its matrices have.
    pub(crate) weights: usize,
    simd: Simd,
    dim: usize,
    heads: Heads,
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

        let mut tensors = Tensors { gguf, kinds: Vec::new(), weights: 0 };
        let network = Self {
            simd: Simd::detect(),
            // So that intermediate results stay small beside the weights.
            chunk: (VALUES / dim.max(ffn)).clamp(1, CHUNK),
            embed: tensors.matrix("token_embd.weight", dim, vocabulary)?,
            layers: (0..layers).map(|i| tensors.layer(i, dim, head * kv_heads, ffn)).collect::<Result<_, _>>()?,
            norm: tensors.norm("output_norm.weight", dim)?,
            output: match tensors.gguf.take("output.weight") {
                None => None,
                Some(tensor) => Some(tensors.checked("output.weight", tensor, dim, vocabulary)?),
            },
            kinds: tensors.kinds,
            weights: tensors.weights,
            turns: (0..head / 2).map(|i| libm::powf(base, -2.0 * i as f32 / head as f32)).collect(),
            epsilon: epsilon.ok_or_else(|| malformed("llama.attention.layer_norm_rms_epsilon is missing"))?,
            context,
            dim,
            heads: Heads { count: heads, kv: kv_heads, len: head },
        };
        match gguf.left().next() {
            Some(name) => Err(unsupported(format!("it has a tensor {name:?}"))),
            None => Ok(network),
        }
    }
}

/// The tensors of a file, each checked for its shape.
struct Tensors<'a, 'f> {
    gguf: &'a mut Gguf<'f>,
    kinds: Vec<Kind>,
    weights: usize,
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
        self.weights += cols * rows;
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
