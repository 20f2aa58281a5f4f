//! Replays the committed corpus, then a fixed set of made-up inputs.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests, which may panic")]

use std::{fs, path::PathBuf};

fn replay(target: &str, run: fn(&[u8])) {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    let mut files: Vec<PathBuf> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 10, "{} has {} files", folder.display(), files.len());
    for file in files {
        run_named(run, &fs::read(&file).unwrap(), &file.display().to_string());
    }
    let mut state = 1;
    for round in 0..300_usize {
        let input: Vec<u8> = (0..round * 4).map(|_| draw(&mut state)).collect();
        run_named(run, &input, &format!("round {round}"));
    }
}

fn run_named(run: fn(&[u8]), input: &[u8], name: &str) {
    let result = std::panic::catch_unwind(|| run(input));
    assert!(result.is_ok(), "{name} breaks a law: see above");
}

/// A fixed sequence (SplitMix64): what failed once fails again.
fn draw(state: &mut u64) -> u8 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut bits = *state;
    bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    (bits >> 56) as u8
}

#[test]
fn decode() {
    replay("decode", haggle_fuzz::decode);
}

#[test]
fn deframe() {
    replay("deframe", haggle_fuzz::deframe);
}

#[test]
fn foreign() {
    replay("foreign", haggle_fuzz::foreign);
}

#[test]
fn gguf() {
    replay("gguf", haggle_fuzz::gguf);
}

#[test]
fn prompt() {
    replay("prompt", haggle_fuzz::prompt);
}

#[test]
fn requester() {
    replay("requester", haggle_fuzz::requester);
}

#[test]
fn provider() {
    replay("provider", haggle_fuzz::provider);
}

#[test]
fn upstream() {
    replay("upstream", haggle_fuzz::upstream);
}

#[test]
fn snapshot() {
    replay("snapshot", haggle_fuzz::snapshot);
}

/// With a good checksum, so that what is inside is looked at.
#[test]
fn snapshots_with_any_byte_changed() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("corpus/snapshot");
    let mut state = 2;
    for file in fs::read_dir(&folder).unwrap() {
        let kept = fs::read(file.unwrap().path()).unwrap();
        for at in 1..kept.len() {
            let mut changed = kept.clone();
            changed[at] ^= draw(&mut state).max(1);
            run_named(haggle_fuzz::snapshot, &changed, &format!("byte {at} changed"));
            run_named(haggle_fuzz::snapshot, &kept[..at], &format!("cut at {at}"));
        }
    }
}
