//! The vectors are the protocol for those who write it in another language.
//!
//! A line of a valid vector is `bytes | the same in CBOR's diagnostic notation | what it is`. A line of an invalid one is
//! `bytes | malformed, not canonical or out of bounds | whether the CDDL refuses it too | what is wrong`.

use std::{collections::BTreeSet, fs, path::PathBuf};

use ciborium::Value;
use haggle_core::wire::{DecodeError, decode};

use crate::{encoded, hex, samples, unhex};

pub(crate) struct Line {
    pub(crate) bytes: Vec<u8>,
    pub(crate) columns: Vec<String>,
}

/// The lines of one file of vectors.
pub(crate) fn read(name: &str) -> Vec<Line> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/vectors/{name}.txt"));
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines
        .map(|line| {
            let mut columns = line.split(" | ").map(|column| column.trim().to_owned());
            Line { bytes: unhex(&columns.next().unwrap()), columns: columns.collect() }
        })
        .collect()
}

#[test]
fn valid_vectors_are_what_they_say() {
    let samples = samples::all();
    let files: BTreeSet<&str> = samples.iter().map(|(file, ..)| *file).collect();
    assert_eq!(files.len(), 19, "one file for each kind of message");
    for file in files {
        let lines = read(file);
        let samples: Vec<_> = samples.iter().filter(|(name, ..)| *name == file).collect();
        assert_eq!(lines.len(), samples.len(), "{file}");
        for (line, (_, name, message)) in lines.iter().zip(samples) {
            assert_eq!(hex(&encoded(message)), hex(&line.bytes), "{file}: {name}");
            assert_eq!(decode(&line.bytes).as_ref(), Ok(message), "{file}: {name}");
            let value: Value = ciborium::from_reader(&line.bytes[..]).unwrap();
            assert_eq!(line.columns, [diagnostic(&value), (*name).to_owned()], "{file}");
        }
    }
}

/// [E1] [E2] [E3] [E4]
#[test]
fn invalid_vectors_are_refused_for_the_reason_given() {
    let lines = read("invalid");
    assert!(lines.len() >= 90, "{}", lines.len());
    let mut wrong = Vec::new();
    for line in &lines {
        let expected = match &line.columns[0][..] {
            "malformed" => DecodeError::Malformed,
            "not canonical" => DecodeError::NotCanonical,
            "out of bounds" => DecodeError::OutOfBounds,
            other => panic!("unknown verdict {other}"),
        };
        let found = decode(&line.bytes);
        if found != Err(expected) {
            wrong.push((&line.columns, found));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let distinct: BTreeSet<&[u8]> = lines.iter().map(|line| &line.bytes[..]).collect();
    assert_eq!(distinct.len(), lines.len());
}

/// A text as JSON writes it, all but what can be seen escaped.
fn quoted(text: &str) -> String {
    let escaped = text.chars().map(|c| match c {
        '\'' => c.to_string(),
        _ if c.escape_debug().len() > 2 || c == '\0' => {
            c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")).collect()
        }
        _ => c.escape_debug().to_string(),
    });
    format!("\"{}\"", escaped.collect::<String>())
}

/// CBOR's diagnostic notation (RFC 8949, section 8), without line breaks.
fn diagnostic(value: &Value) -> String {
    let list = |values: &[Value]| values.iter().map(diagnostic).collect::<Vec<_>>().join(", ");
    match value {
        Value::Integer(number) => i128::from(*number).to_string(),
        Value::Bytes(bytes) => format!("h'{}'", hex(bytes)),
        Value::Text(text) => quoted(text),
        Value::Bool(truth) => truth.to_string(),
        Value::Array(values) => format!("[{}]", list(values)),
        Value::Map(entries) => {
            let entry = |(key, value)| format!("{}: {}", diagnostic(key), diagnostic(value));
            let entries: Vec<_> = entries.iter().map(|(key, value)| entry((key, value))).collect();
            format!("{{{}}}", entries.join(", "))
        }
        other => panic!("{other:?} is in no message"),
    }
}
