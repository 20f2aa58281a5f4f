//! The wire: canonical, bounded, and as `PROTOCOL.md`, `protocol.cddl` and the vectors say.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests, which may panic")]

mod bounds;
mod cddl;
mod codec;
mod exhaustive;
mod framing;
mod memory;
mod prompt;
mod protocol;
mod samples;
mod tables;
mod vectors;

/// Bytes of hexadecimal digits; spaces are for the eye.
fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.chars().filter(|c| !c.is_whitespace()).map(|c| c.to_digit(16).unwrap() as u8).collect();
    let (pairs, rest) = digits.as_chunks::<2>();
    assert!(rest.is_empty(), "half a byte in {text}");
    pairs.iter().map(|[high, low]| high << 4 | low).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn encoded(message: &haggle_core::wire::Message<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    haggle_core::wire::encode(message, &mut bytes);
    bytes
}
