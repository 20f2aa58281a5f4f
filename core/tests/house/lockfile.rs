//! Versions with known holes stay out, whether or not an advisory database can be reached.

use std::fs;

use super::top;

/// Package, first version without the hole, what the hole is.
const FIRST_GOOD: &[(&str, [u32; 3], &str)] = &[
    ("yamux", [0, 13, 10], "CVE-2026-32314: a peer can make it panic"),
    ("libp2p", [0, 57, 0], "older sets of crates bring older yamux and quic"),
    ("libp2p-gossipsub", [0, 50, 0], "GHSA-gc42-3jg7-rxr2 and others"),
    ("libp2p-rendezvous", [0, 18, 0], "GHSA-cqfx-gf56-8x59: unbounded registrations"),
    ("libp2p-quic", [0, 13, 1], "GHSA-5hq8-qhww-jm7q: a peer can make it panic"),
    ("snow", [0, 10, 0], "older versions of the Noise implementation"),
];

#[test]
fn no_version_with_a_known_hole() {
    let lock = fs::read_to_string(top().join("Cargo.lock")).unwrap();
    assert!(packages(&lock).count() > 50, "Cargo.lock was not understood");
    let bad = holes(&lock);
    assert!(bad.is_empty(), "{bad:?}");
}

#[test]
fn a_hole_is_seen() {
    let lock =
        "[[package]]\nname = \"yamux\"\nversion = \"0.12.1\"\n\n[[package]]\nname = \"yamux\"\nversion = \"0.13.10\"\n";
    assert_eq!(holes(lock).len(), 1);
}

fn holes(lock: &str) -> Vec<String> {
    let is_bad = |name: &str, version: [u32; 3]| {
        FIRST_GOOD.iter().find(|(package, good, _)| *package == name && version < *good).map(|(_, _, why)| *why)
    };
    packages(lock)
        .filter_map(|(name, version)| is_bad(name, version).map(|why| format!("{name} {version:?}: {why}")))
        .collect()
}

fn packages(lock: &str) -> impl Iterator<Item = (&str, [u32; 3])> {
    lock.split("[[package]]").filter_map(|part| {
        let field = |key: &str| part.lines().find_map(|line| line.strip_prefix(key)?.strip_suffix('"'));
        let version = field("version = \"")?;
        let mut numbers = version.split(['.', '-', '+']).map(|number| number.parse().unwrap_or(0));
        let mut next = || numbers.next().unwrap_or(0);
        Some((field("name = \"")?, [next(), next(), next()]))
    })
}
