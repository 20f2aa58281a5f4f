//! Equal logits, bit for bit, however they are computed.

use super::Network;
use crate::gguf::Gguf;
use crate::sample;
use crate::simd::Simd;
use crate::tokenizer::Tokenizer;

fn load(file: &[u8]) -> Network {
    let mut gguf = Gguf::parse(file).expect("a sound file");
    let tokenizer = Tokenizer::load(&gguf).expect("a vocabulary");
    Network::load(&mut gguf, tokenizer.len()).expect("a network")
}

/// The bits of all logits: after a prompt that is read in pieces of some length, then token by token.
fn logits(network: &Network, threads: usize, piece: usize, prompt: &[u32], more: &[u32]) -> Vec<u32> {
    let mut memory = network.memory(threads);
    let pieces = prompt.chunks(piece);
    let last = pieces.len() - 1;
    let mut all = Vec::new();
    for (i, piece) in pieces.enumerate() {
        network.read(piece, i == last, &mut memory);
    }
    all.extend(memory.logits(network).iter().map(|x| x.to_bits()));
    for token in more {
        network.read(&[*token], true, &mut memory);
        all.extend(memory.logits(network).iter().map(|x| x.to_bits()));
    }
    assert!(all.iter().all(|bits| f32::from_bits(*bits).is_finite()));
    all
}

/// FNV-1a: for those who compare machines.
fn digest(logits: &[u32]) -> u64 {
    let bytes = logits.iter().flat_map(|bits| bits.to_le_bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

fn all_ways_agree(name: &str, file: &[u8], length: usize, more: usize) -> u64 {
    let mut network = load(file);
    let fast = network.simd;
    if matches!(fast, Simd::Plain) {
        eprintln!("SKIPPED in part: this processor has no AVX2");
    }
    let vocabulary = network.embed.rows as u32;
    let tokens: Vec<u32> = (0..(length + more) as u32).map(|i| (i * i * 7919 + i * 31) % vocabulary).collect();
    let (prompt, more) = tokens.split_at(length);
    network.simd = Simd::Plain;
    let plain = logits(&network, 1, 1, prompt, more);
    for (simd, threads, piece) in
        [(Simd::Plain, 2, 64), (fast, 1, 1), (fast, 1, 64), (fast, 2, 1), (fast, 2, 64), (fast, 3, 7)]
    {
        network.simd = simd;
        let same = logits(&network, threads, piece, prompt, more) == plain;
        assert!(same, "{name}: {simd:?}, {threads} threads, pieces of {piece} give other logits");
    }
    digest(&plain)
}

#[test]
fn the_embedded_model_computes_alike_in_all_ways() {
    all_ways_agree("embedded", include_bytes!("../../model/haggle-tiny-stories.gguf"), 150, 20);
}

/// If this fails, other nodes of the same exactness class would write other text: change `NUMERICS`, then this.
#[test]
fn every_kind_of_weights_computes_alike_in_all_ways() {
    let digests = sample::KINDS.map(|kind| all_ways_agree(&format!("type {kind}"), &sample::file(kind, 1), 100, 20));
    let known = [
        4_790_390_697_642_073_064,
        4_793_001_277_338_855,
        7_042_105_768_848_692_352,
        12_471_867_558_586_133_770,
        17_333_078_391_274_156_824,
    ];
    assert_eq!(digests, known);
}

#[test]
fn smollm2_computes_alike_in_all_ways() {
    if let Some(path) = sample::smollm2() {
        let digest = all_ways_agree("SmolLM2", &std::fs::read(path).expect("the file"), 70, 6);
        assert_eq!(digest, 1_441_684_447_510_978_899);
    }
}

#[test]
fn a_prompt_of_any_length_divides_among_any_threads() {
    let network = load(&sample::file(sample::Q4_1, 2));
    for length in [1, 2, 63, 64, 65] {
        let tokens: Vec<u32> = (0..length).map(|i| i * 17 % 200).collect();
        let expected = logits(&network, 1, 1, &tokens, &[]);
        for threads in [2, 5, 40] {
            assert_eq!(logits(&network, threads, 64, &tokens, &[]), expected, "{length} tokens, {threads} threads");
        }
    }
}
