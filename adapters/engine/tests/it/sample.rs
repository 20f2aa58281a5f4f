//! Small models made up for tests: nothing was learned, but everything that a real file has is there.

/// Tensor types as files number them.
pub(crate) const F32: u32 = 0;
pub(crate) const F16: u32 = 1;
pub(crate) const Q4_0: u32 = 2;
pub(crate) const Q4_1: u32 = 3;
pub(crate) const Q8_0: u32 = 8;
pub(crate) const KINDS: [u32; 5] = [F32, F16, Q4_0, Q4_1, Q8_0];

const DIM: u64 = 64;
const FFN: u64 = 160;
const KV: u64 = 32;
const LAYERS: usize = 2;
/// Pairs of bytes that have a token: parts of characters, and across their borders.
const MERGES: [&str; 6] = ["ð Ł", "ä ¸", "Ã ©", "h e", "Ġ ð", "Ġ t"];
const TEMPLATE: &str = "{% for m in messages %}{{'<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n'}}\
                        {% endfor %}{{ '<|im_start|>assistant\n' }}";

/// The bytes of a file with matrices of one type: a token for each byte, some pairs, and ChatML's tokens.
pub(crate) fn file(kind: u32, seed: u64) -> Vec<u8> {
    let tokens = tokens();
    let vocabulary = tokens.len() as u64;
    let tensors = tensors(vocabulary);
    let meta = metadata(&tokens);
    let mut out = b"GGUF".to_vec();
    out.extend(3u32.to_le_bytes());
    out.extend((tensors.len() as u64).to_le_bytes());
    out.extend((meta.len() as u64).to_le_bytes());
    for (key, kind, value) in meta {
        put_text(&mut out, key);
        out.extend(kind.to_le_bytes());
        out.extend(value);
    }
    let (mut data, mut state) = (Vec::new(), seed);
    for (name, cols, rows) in tensors {
        let norm = rows == 1;
        put_text(&mut out, &name);
        out.extend(2u32.to_le_bytes());
        out.extend(cols.to_le_bytes());
        out.extend(rows.to_le_bytes());
        out.extend(if norm { F32 } else { kind }.to_le_bytes());
        out.extend((data.len() as u64).to_le_bytes());
        if norm {
            (0..cols).for_each(|_| data.extend(1f32.to_le_bytes()));
        } else {
            put_weights(&mut data, kind, (cols * rows) as usize, &mut state);
        }
        data.resize(data.len().next_multiple_of(32), 0);
    }
    out.resize(out.len().next_multiple_of(32), 0);
    out.extend(data);
    out
}

fn tokens() -> Vec<String> {
    let specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"].map(String::from);
    let bytes = (0..=255).map(|byte| spelled(byte).to_string());
    let pairs = MERGES.iter().map(|merge| merge.replace(' ', ""));
    specials.into_iter().chain(bytes).chain(pairs).collect()
}

/// The character that stands for a byte.
fn spelled(byte: u8) -> char {
    let code = match byte {
        0..=32 => 256 + u32::from(byte),
        127..=160 => 289 + u32::from(byte - 127),
        173 => 323,
        _ => u32::from(byte),
    };
    char::from_u32(code).expect("a character")
}

fn tensors(vocabulary: u64) -> Vec<(String, u64, u64)> {
    let mut all = vec![("token_embd.weight".to_string(), DIM, vocabulary), ("output_norm.weight".into(), DIM, 1)];
    for layer in 0..LAYERS {
        let parts = [
            ("attn_norm", DIM, 1),
            ("attn_q", DIM, DIM),
            ("attn_k", DIM, KV),
            ("attn_v", DIM, KV),
            ("attn_output", DIM, DIM),
            ("ffn_norm", DIM, 1),
            ("ffn_gate", DIM, FFN),
            ("ffn_up", DIM, FFN),
            ("ffn_down", FFN, DIM),
        ];
        all.extend(parts.map(|(part, cols, rows)| (format!("blk.{layer}.{part}.weight"), cols, rows)));
    }
    all
}

fn metadata(tokens: &[String]) -> Vec<(&'static str, u32, Vec<u8>)> {
    let text = |text: &str| {
        let mut bytes = Vec::new();
        put_text(&mut bytes, text);
        bytes
    };
    let number = |n: u64| (n as u32).to_le_bytes().to_vec();
    let list = |kind: u32, len: usize| [kind.to_le_bytes().to_vec(), (len as u64).to_le_bytes().to_vec()].concat();
    let texts = |texts: &[String]| [list(8, texts.len()), texts.iter().flat_map(|t| text(t)).collect()].concat();
    let kinds = (0..tokens.len()).flat_map(|i| if i < 3 { 3i32 } else { 1 }.to_le_bytes());
    vec![
        ("general.architecture", 8, text("llama")),
        ("general.name", 8, text("Sample")),
        ("llama.context_length", 4, number(512)),
        ("llama.embedding_length", 4, number(DIM)),
        ("llama.block_count", 4, number(LAYERS as u64)),
        ("llama.feed_forward_length", 4, number(FFN)),
        ("llama.attention.head_count", 4, number(2)),
        ("llama.attention.head_count_kv", 4, number(1)),
        ("llama.attention.layer_norm_rms_epsilon", 6, 1e-5f32.to_le_bytes().to_vec()),
        ("tokenizer.ggml.model", 8, text("gpt2")),
        ("tokenizer.ggml.pre", 8, text("smollm")),
        ("tokenizer.ggml.tokens", 9, texts(tokens)),
        ("tokenizer.ggml.token_type", 9, [list(5, tokens.len()), kinds.collect()].concat()),
        ("tokenizer.ggml.merges", 9, texts(&MERGES.map(String::from))),
        ("tokenizer.ggml.eos_token_id", 4, number(2)),
        ("tokenizer.ggml.add_bos_token", 7, vec![0]),
        ("tokenizer.chat_template", 8, text(TEMPLATE)),
    ]
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

/// Around 0, with scales and least values of any bits: powers of two would hide in which order they are multiplied.
fn put_weights(out: &mut Vec<u8>, kind: u32, count: usize, state: &mut u64) {
    // The high bytes of half precision: about 2^-10, 2^-6, -2^-4.
    const SMALL: u8 = 0x14;
    const LARGE: u8 = 0x24;
    const LEAST: u8 = 0xac;
    let heads: &[u8] = match kind {
        F32 => return (0..count).for_each(|_| out.extend((f32::from(draw(state)) / 509.0 - 0.25).to_le_bytes())),
        // A sign and the bits below the exponent of 2^-4.
        F16 => return (0..count).for_each(|_| out.extend([draw(state), 0x2c | draw(state) & 0x83])),
        Q4_0 => &[LARGE],
        Q4_1 => &[LARGE, LEAST],
        _ => &[SMALL],
    };
    let values = if kind == Q8_0 { 32 } else { 16 };
    for _ in 0..count / 32 {
        heads.iter().for_each(|head| out.extend([draw(state), head | draw(state) & 3]));
        out.extend((0..values).map(|_| draw(state)));
    }
}

/// A fixed sequence (SplitMix64).
fn draw(state: &mut u64) -> u8 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut bits = *state;
    bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    (bits >> 56) as u8
}

/// The path of SmolLM2-135M-Instruct.Q4_1.gguf, if whoever runs the tests has it.
pub(crate) fn smollm2() -> Option<std::path::PathBuf> {
    let path = std::env::var_os("HAGGLE_SMOLLM2").map(Into::into);
    if path.is_none() {
        eprintln!("SKIPPED: set HAGGLE_SMOLLM2 to the path of SmolLM2-135M-Instruct.Q4_1.gguf (the README says how)");
    }
    path
}
