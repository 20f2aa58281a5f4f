//! Model files that are damaged, hostile or not for this engine.

use haggle_engine::{Engine, Llama, LoadError};

const FILE: &[u8] = include_bytes!("../../model/haggle-tiny-stories.gguf");

fn load(file: &[u8]) -> Result<Llama, LoadError> {
    Llama::from_gguf("test", file, None)
}

fn refused(file: &[u8]) -> LoadError {
    load(file).err().expect("refused")
}

/// The file with some bytes replaced.
fn patched(at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut file = FILE.to_vec();
    file[at..at + bytes.len()].copy_from_slice(bytes);
    file
}

fn find(text: &str) -> usize {
    FILE.windows(text.len()).position(|window| window == text.as_bytes()).expect("it is there")
}

/// Where the list of tensors ends.
fn header() -> usize {
    let last = "output_norm.weight";
    find(last) + last.len() + 4 + 8 + 4 + 8
}

#[test]
fn a_file_with_another_digest_is_refused() {
    let digest = haggle_engine::TINY_STORIES_SHA256;
    let loaded = Llama::from_gguf("renamed", FILE, Some(digest)).expect("the right file");
    assert_eq!(loaded.info().name, "renamed");
    let changed = patched(FILE.len() - 1, &[FILE[FILE.len() - 1] ^ 1]);
    match Llama::from_gguf("test", &changed, Some(digest)).err() {
        Some(LoadError::Digest { expected, found }) => assert!(expected == digest && found != digest),
        other => panic!("{other:?}"),
    }
    let other = load(&changed).expect("sound, but another one");
    assert_ne!(other.info().exactness.class, loaded.info().exactness.class);
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    for length in (0..header()).chain((header()..FILE.len()).step_by(1024)) {
        match refused(&FILE[..length]) {
            LoadError::Truncated { .. } => {}
            other => panic!("{length} bytes: {other}"),
        }
    }
    assert!(matches!(refused(&FILE[..FILE.len() - 32]), LoadError::Truncated { .. }));
}

#[test]
fn a_damaged_header_never_panics() {
    let mut sound = 0;
    for at in (0..header()).step_by(13) {
        for byte in [0x00, 0xff, FILE[at] ^ 0x01] {
            sound += u32::from(load(&patched(at, &[byte])).is_ok());
        }
    }
    assert!(sound > 0, "some bytes, as those of the name, may change");
}

#[test]
fn lengths_beyond_the_file_are_refused_before_anything_is_allocated() {
    let tokens = find("tokenizer.ggml.tokens") + "tokenizer.ggml.tokens".len();
    let kinds = find("tokenizer.ggml.token_type") + "tokenizer.ggml.token_type".len();
    let tensor = find("token_embd.weight") + "token_embd.weight".len() + 4;
    // The number of tensors, of keys, the length of a key, of two lists, a row, an offset.
    for at in [8, 16, 24, tokens + 8, kinds + 8, tensor, tensor + 20] {
        for huge in [u64::MAX, u64::MAX / 2 + 1, 1 << 62, 1 << 40, FILE.len() as u64] {
            refused(&patched(at, &huge.to_le_bytes()));
        }
    }
}

#[test]
fn what_is_wrong_with_a_file_is_told() {
    let end = |text: &str| find(text) + text.len();
    let cases: [(usize, &[u8], &str); 8] = [
        (4, &[9], "version 9"),
        (end("blk.0.attn_q.weight") + 4 + 16, &[6], "type 6"),
        (find("llama"), b"mamba", "mamba"),
        (find("gpt-2"), b"qwen2", "qwen2"),
        // A layer fewer than there are tensors for.
        (end("llama.block_count") + 4, &[3], "blk.3."),
        (find("blk.3.ffn_up"), b"blk.3.other_", "is missing"),
        (find("general.file_type"), b"llama.block_count", "occurs twice"),
        (end("token_embd.weight") + 4 + 16 + 4, &[1], "offset"),
    ];
    for (at, bytes, told) in cases {
        let error = refused(&patched(at, bytes));
        assert!(error.to_string().contains(told), "{error}");
    }
    assert!(refused(b"PK\x03\x04 not a model").to_string().contains("GGUF"));
}

#[test]
fn weights_that_are_no_numbers_fail_the_answer_not_the_node() {
    // Scales as half precision: not a number, and infinity.
    let data = header().next_multiple_of(32);
    // Behind the name of a tensor are its dimensions, its type and then the place of its data.
    let place = |name: &str, skip: usize| {
        let at = find(name) + name.len() + skip;
        data + u64::from_le_bytes(FILE[at..at + 8].try_into().expect("8 bytes")) as usize
    };
    let (norm, matrix) = (place("blk.2.ffn_norm.weight", 16), place("blk.1.ffn_up.weight", 24));
    let cases: [(usize, &[u8]); 4] = [
        (norm, &f32::NAN.to_le_bytes()),
        (norm, &f32::INFINITY.to_le_bytes()),
        // The scale of a block, as half precision: not a number, infinity.
        (matrix, &[0x00, 0x7e]),
        (matrix, &[0x00, 0x7c]),
    ];
    for (at, bytes) in cases {
        let model = load(&patched(at, bytes)).expect("its form is sound");
        let mut generation = model.start(crate::request("Hi", 800, 1, 5)).expect("starts");
        let ending = (0..10).map(|_| generation.step(64)).find(haggle_engine::Step::is_ending);
        let Some(haggle_engine::Step::Failed(failure)) = ending else { panic!("{ending:?}") };
        assert_eq!(failure.why, haggle_engine::Why::Engine);
    }
}
