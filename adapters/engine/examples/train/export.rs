//! Writes a network and its vocabulary as a GGUF file: matrices as Q8_0, norms as F32.

use std::ops::Range;

use crate::bpe::{BOS, EOS, Vocab};
use crate::net::{EPSILON, Net, ROPE_BASE};
use crate::words::byte_to_char;

const ALIGNMENT: usize = 32;

enum Value<'a> {
    Text(&'a str),
    Number(u32),
    Real(f32),
    Flag(bool),
    Texts(Vec<String>),
    Kinds(Vec<i32>),
}

/// The bytes of the file.
pub(crate) fn gguf(net: &Net, vocab: &Vocab, name: &str) -> Vec<u8> {
    let meta = metadata(net, vocab, name);
    let tensors = tensors(net);
    let mut out = b"GGUF".to_vec();
    out.extend(3u32.to_le_bytes());
    out.extend((tensors.len() as u64).to_le_bytes());
    out.extend((meta.len() as u64).to_le_bytes());
    for (key, value) in &meta {
        put_text(&mut out, key);
        put_value(&mut out, value);
    }
    let mut data: Vec<u8> = Vec::new();
    for (name, range, inputs) in tensors {
        let values = &net.params[range];
        put_text(&mut out, &name);
        let (kind, shape) = match inputs {
            None => (0u32, vec![values.len()]),
            Some(inputs) => (8, vec![inputs, values.len() / inputs]),
        };
        out.extend((shape.len() as u32).to_le_bytes());
        shape.iter().for_each(|&n| out.extend((n as u64).to_le_bytes()));
        out.extend(kind.to_le_bytes());
        out.extend((data.len() as u64).to_le_bytes());
        match inputs {
            None => values.iter().for_each(|x| data.extend(x.to_le_bytes())),
            // The vocabulary is stored by rows already, the other matrices input by output.
            Some(_) if name == "token_embd.weight" => quantise(values.iter().copied(), &mut data),
            Some(inputs) => {
                let outputs = values.len() / inputs;
                quantise((0..values.len()).map(|i| values[i % inputs * outputs + i / inputs]), &mut data);
            }
        }
        data.resize(data.len().next_multiple_of(ALIGNMENT), 0);
    }
    out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
    out.extend(data);
    out
}

fn metadata<'a>(net: &Net, vocab: &Vocab, name: &'a str) -> Vec<(&'static str, Value<'a>)> {
    let shape = net.shape;
    let spell = |bytes: &[u8]| bytes.iter().map(|&b| byte_to_char(b)).collect::<String>();
    let mut tokens = vec!["<|begin|>".to_string(), "<|end|>".to_string()];
    tokens.extend(vocab.bytes.iter().map(|b| spell(b)));
    let mut kinds = vec![1; tokens.len()];
    kinds[..2].fill(3);
    let merges = vocab.merges.iter().map(|&(a, b)| format!("{} {}", tokens[a as usize], tokens[b as usize])).collect();
    vec![
        ("general.architecture", Value::Text("llama")),
        ("general.name", Value::Text(name)),
        ("general.license", Value::Text("MIT OR Apache-2.0")),
        ("general.alignment", Value::Number(ALIGNMENT as u32)),
        ("general.file_type", Value::Number(7)),
        ("general.quantization_version", Value::Number(2)),
        ("llama.vocab_size", Value::Number(shape.vocab as u32)),
        ("llama.context_length", Value::Number(shape.context as u32)),
        ("llama.embedding_length", Value::Number(shape.dim as u32)),
        ("llama.block_count", Value::Number(shape.layers as u32)),
        ("llama.feed_forward_length", Value::Number(shape.ffn as u32)),
        ("llama.attention.head_count", Value::Number(shape.heads as u32)),
        ("llama.attention.head_count_kv", Value::Number(shape.kv_heads as u32)),
        ("llama.attention.layer_norm_rms_epsilon", Value::Real(EPSILON)),
        ("llama.rope.freq_base", Value::Real(ROPE_BASE)),
        ("llama.rope.dimension_count", Value::Number(shape.head() as u32)),
        ("tokenizer.ggml.model", Value::Text("gpt2")),
        ("tokenizer.ggml.pre", Value::Text("gpt-2")),
        ("tokenizer.ggml.tokens", Value::Texts(tokens)),
        ("tokenizer.ggml.token_type", Value::Kinds(kinds)),
        ("tokenizer.ggml.merges", Value::Texts(merges)),
        ("tokenizer.ggml.bos_token_id", Value::Number(u32::from(BOS))),
        ("tokenizer.ggml.eos_token_id", Value::Number(u32::from(EOS))),
        ("tokenizer.ggml.add_bos_token", Value::Flag(true)),
    ]
}

/// Name, place and, for matrices, the number of inputs.
fn tensors(net: &Net) -> Vec<(String, Range<usize>, Option<usize>)> {
    let (dim, ffn) = (net.shape.dim, net.shape.ffn);
    let mut all = vec![("token_embd.weight".to_string(), net.embed.clone(), Some(dim))];
    for (i, layer) in net.layers.iter().enumerate() {
        let tensors = [
            ("attn_norm", &layer.attn_norm, None),
            ("attn_q", &layer.q, Some(dim)),
            ("attn_k", &layer.k, Some(dim)),
            ("attn_v", &layer.v, Some(dim)),
            ("attn_output", &layer.o, Some(dim)),
            ("ffn_norm", &layer.ffn_norm, None),
            ("ffn_gate", &layer.gate, Some(dim)),
            ("ffn_up", &layer.up, Some(dim)),
            ("ffn_down", &layer.down, Some(ffn)),
        ];
        all.extend(tensors.map(|(name, range, inputs)| (format!("blk.{i}.{name}.weight"), range.clone(), inputs)));
    }
    all.push(("output_norm.weight".to_string(), net.norm.clone(), None));
    all
}

/// Blocks of 32: a scale as F16, then 32 whole numbers.
fn quantise(values: impl Iterator<Item = f32>, out: &mut Vec<u8>) {
    let values: Vec<f32> = values.collect();
    for block in values.chunks_exact(32) {
        let scale = block.iter().fold(0.0f32, |top, x| top.max(x.abs())) / 127.0;
        out.extend(f16_bits(scale).to_le_bytes());
        out.extend(block.iter().map(|x| if scale > 0.0 { (x / scale).round() as i8 as u8 } else { 0 }));
    }
}

/// The nearest half precision number of a scale: positive, below 65,504.
fn f16_bits(x: f32) -> u16 {
    if x < 6.103_515_6e-5 {
        return (x * 16_777_216.0).round() as u16;
    }
    let bits = x.to_bits() + 0xfff + ((x.to_bits() >> 13) & 1);
    ((bits >> 13) - (112 << 10)) as u16
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

fn put_value(out: &mut Vec<u8>, value: &Value) {
    let mut tag = |tag: u32| out.extend(tag.to_le_bytes());
    match value {
        Value::Number(n) => {
            tag(4);
            out.extend(n.to_le_bytes());
        }
        Value::Real(x) => {
            tag(6);
            out.extend(x.to_le_bytes());
        }
        Value::Flag(flag) => {
            tag(7);
            out.push(u8::from(*flag));
        }
        Value::Text(text) => {
            tag(8);
            put_text(out, text);
        }
        Value::Texts(texts) => {
            tag(9);
            tag(8);
            out.extend((texts.len() as u64).to_le_bytes());
            texts.iter().for_each(|text| put_text(out, text));
        }
        Value::Kinds(kinds) => {
            tag(9);
            tag(5);
            out.extend((kinds.len() as u64).to_le_bytes());
            kinds.iter().for_each(|kind| out.extend(kind.to_le_bytes()));
        }
    }
}
