//! Whoever writes a peer in another language is shown each rule: bytes that keep it, and bytes that break it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use super::{labels::rules, top};

/// What no bytes can show to keep the rule.
const NOT_KEPT: &[(&str, &str)] = &[
    ("T2", "a protocol is chosen before its first byte"),
    ("T4", "what lies above our own limits is the multiplexer's"),
    ("D2", "whom one believes is in no message"),
];
/// What no bytes can show to break it.
const NOT_REFUSED: &[(&str, &str)] = &[
    ("T2", "another protocol is another conversation"),
    ("T4", "what lies above our own limits is the multiplexer's"),
    ("D1", "who looks under another key finds nobody, and nobody is told"),
    ("D2", "whom one believes is in no message"),
    ("C5", "a stream that is not closed has no byte that says so"),
    ("C6", "nor has an answer that does not come"),
    ("C7", "patience ends on a clock of one's own"),
    ("M1", "a sum is one's own"),
    ("M4", "a purse is one's own"),
];
/// Rules that a section's first words make one that must be kept.
const ALSO: &[&str] = &["E1", "E2", "E3", "E4", "B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B9"];

#[test]
fn every_rule_that_must_be_kept_is_shown_kept_and_broken() {
    let protocol = fs::read_to_string(top().join("core/PROTOCOL.md")).unwrap();
    let rules = rules(&protocol);
    let (mut kept, mut refused) = (BTreeSet::new(), BTreeSet::new());
    for (path, text) in files(&top().join("core/tests/vectors")) {
        let shown: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("# ")).flat_map(shows).collect();
        let is_list = !text.starts_with("# Frame payloads");
        assert!(!is_list || text.lines().next().is_some_and(|line| shows(&line[2..]).next().is_some()), "{path}");
        for (is_kept, label) in shown {
            assert!(rules.contains_key(label.as_str()), "{path}: [{label}] is no rule");
            if is_kept {
                kept.insert(label)
            } else {
                refused.insert(label)
            };
        }
    }
    let must: BTreeSet<&str> =
        rules.iter().filter(|(_, must)| **must).map(|(label, _)| *label).chain(ALSO.iter().copied()).collect();
    let lacking = |shown: &BTreeSet<String>| -> Vec<&str> {
        must.iter().copied().filter(|label| !shown.contains(*label)).collect()
    };
    let excused = |excuses: &'static [(&str, &str)]| -> Vec<&str> {
        excuses.iter().map(|(label, _)| *label).collect::<BTreeSet<_>>().into_iter().collect()
    };
    assert_eq!(lacking(&kept), excused(NOT_KEPT), "what no vector keeps, and what none can");
    assert_eq!(lacking(&refused), excused(NOT_REFUSED), "what no vector breaks, and what none can");
}

#[test]
fn what_a_comment_shows_is_read() {
    let found = |text| shows(text).collect::<Vec<_>>();
    let label = |is_kept, label: &str| (is_kept, label.to_owned());
    assert_eq!(
        found("kept [A1] [B2], refused [C3]: text, refused [D4]"),
        [label(true, "A1"), label(true, "B2"), label(false, "C3")]
    );
    assert_eq!(found("malformed: [A1]"), []);
}

/// The rules that a comment of a vector says to be kept (`true`) or broken in what follows it: `kept [A1] [A4], refused [A5]: …`.
fn shows(comment: &str) -> impl Iterator<Item = (bool, String)> {
    let (said, _) = comment.split_once(':').unwrap_or_default();
    said.split(", ").flat_map(|clause| {
        let (word, labels) = clause.split_once(' ').unwrap_or_default();
        let is_kept = match word {
            "kept" => Some(true),
            "refused" => Some(false),
            _ => None,
        };
        let labels = labels.split(' ').filter_map(|label| label.strip_prefix('[')?.strip_suffix(']'));
        labels.filter_map(move |label| Some((is_kept?, label.to_owned()))).collect::<Vec<_>>()
    })
}

/// The vectors, by their paths.
fn files(folder: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|ext| ext == "txt") {
            found.insert(path.display().to_string(), fs::read_to_string(&path).unwrap());
        }
    }
    found
}
