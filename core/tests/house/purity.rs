//! The core has no clock, no thread, no socket, no float, no hash order, and few dependencies.

use std::fs;

use super::{sources, top};

/// Words that do not occur in the core's code, outside of tests and comments.
const BANNED: &[(&str, &str)] = &[
    ("f32", "no floats: they differ between machines"),
    ("f64", "no floats: they differ between machines"),
    ("HashMap", "no hash order: use BTreeMap"),
    ("HashSet", "no hash order: use BTreeSet"),
    ("std", "the core is no_std: use core or alloc"),
    ("SystemTime", "no clock: time is an argument"),
    ("thread", "no threads"),
    ("TcpStream", "no sockets"),
    ("UdpSocket", "no sockets"),
    ("static", "no globals"),
    ("unsafe", "no unsafe code"),
    ("println", "no output"),
];

/// Direct normal dependencies, and nothing else. One more needs a reason in ARCHITECTURE.md.
const DEPENDENCIES: &[&str] = &["minicbor", "rand_chacha", "serde", "sha2"];

#[test]
fn the_core_is_pure() {
    for (path, text) in sources(&top().join("core/src")) {
        for (number, word) in words(&text) {
            if let Some((_, why)) = BANNED.iter().find(|(banned, _)| *banned == word) {
                panic!("{}:{number}: `{word}`: {why}", path.display());
            }
        }
    }
}

#[test]
fn the_core_forbids_std_and_unsafe_unconditionally() {
    let lib = fs::read_to_string(top().join("core/src/lib.rs")).unwrap();
    for line in ["#![no_std]", "#![forbid(unsafe_code)]"] {
        assert!(lib.lines().any(|l| l == line), "core/src/lib.rs has no line {line}");
    }
}

#[test]
fn the_core_has_few_dependencies() {
    let manifest = fs::read_to_string(top().join("core/Cargo.toml")).unwrap();
    assert!(!manifest.contains("[target."), "dependencies by target would not be counted");
    let normal = manifest.split("\n[").find_map(|part| part.strip_prefix("dependencies]")).unwrap();
    let mut names: Vec<&str> = normal
        .lines()
        .filter(|line| !line.trim().is_empty() && !line.starts_with('#'))
        .map(|line| line.split(['.', ' ', '=']).next().unwrap())
        .collect();
    names.sort_unstable();
    assert_eq!(names, DEPENDENCIES);
    assert!(names.len() <= 6);
}

#[test]
fn the_check_sees_what_it_should() {
    let hits = |code: &str| words(code).into_iter().filter(|(_, word)| BANNED.iter().any(|(b, _)| b == word)).count();
    assert_eq!(hits("let x: f64 = 0.0;"), 1);
    assert_eq!(hits("use std::collections::HashMap;"), 2);
    assert_eq!(hits("// a f64 in a comment\n/// std too"), 0);
    assert_eq!(hits("fn a(s: &'static str) {}"), 0, "a lifetime is no global");
    assert_eq!(hits("\"a static text\""), 0);
    assert_eq!(hits("x\n#[cfg(test)]\nmod tests { use std::vec; }"), 0);
    assert_eq!(hits("#[cfg(test)]\nextern crate std;\nfn a(x: f32) {}"), 1);
}

/// Words of the code with their line numbers: without comments, texts, lifetimes and test modules.
fn words(text: &str) -> Vec<(usize, String)> {
    let mut words = Vec::new();
    let mut lines = text.lines().enumerate().peekable();
    while let Some((number, line)) = lines.next() {
        let code = line.trim();
        if code.starts_with("#[cfg(test)]") || code.starts_with("#[cfg(all(test") {
            // A test module is the last thing in a file; anything else is one line.
            match lines.next() {
                Some((_, next)) if next.starts_with("mod ") && next.ends_with('{') => break,
                _ => continue,
            }
        }
        let code = code.split("//").next().unwrap_or_default();
        // Every second part lies between quotes.
        for part in code.replace("\\\"", "").split('"').step_by(2) {
            let part = part.replace("'static", "");
            let found = part.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty());
            words.extend(found.map(|word| (number + 1, word.to_owned())));
        }
    }
    words
}
