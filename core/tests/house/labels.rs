//! The rules of `PROTOCOL.md` and the places that hold them name each other: `[A5]` in a comment is a citation of that rule.
//!
//! A citation counts where it hangs on something: the line after its comment is code. Take the code away and it hangs in the
//! air; take the test away and the rule is held by nobody. Both are told. A comment that stayed, and now stands before
//! whatever came next, looks like any other: of each rule that must be kept the code is therefore named here, and is looked
//! for below its citation.

use std::{collections::BTreeMap, fs};

use super::{sources, top};

/// Rooms whose comments say where a rule is kept.
const CODE: &[&str] = &["core/src", "adapters/libp2p/src", "adapters/engine/src"];
/// Rooms whose comments say what fails when it is broken.
const TESTS: &[&str] = &["core/tests", "sim/tests", "sim/src/oracle", "adapters/libp2p/tests"];

/// What keeps a rule that must be kept: the code, or its beginning, in the lines below a citation.
const KEPT_BY: &[(&str, &str)] = &[
    ("T2", "pub const PROTOCOL"),
    ("T4", "self.streams.len() >= self.limits.streams"),
    ("D1", "pub fn dht_key("),
    ("D2", "Description::Unknown => survey.unknown.push"),
    ("F2", "u16::from_be_bytes(*head)"),
    ("F3", "pub fn next"),
    ("E5", "fn check_shape"),
    ("C1", "_ => Err(Violation::Unexpected)"),
    ("C2", "stream.idle_frames.charge"),
    ("C4", "Message::Describe =>"),
    ("C5", "pub(super) fn gone("),
    ("C6", "match message {"),
    ("C7", "policy.first_token.0.saturating_sub"),
    ("M1", "pub const fn cost(&self, tokens: u64) -> u128"),
    ("M4", "money::reserve_in_both"),
    ("N1", "let rfq = Rfq {"),
    ("N4", "!within(&offer.tariff, &last)"),
    ("A1", "self.send(cx, &award)"),
    ("A4", "!= self.award.body_hash"),
    ("A5", "cx.limits.body_unasked"),
    ("A6", "/ service.body_rate"),
    ("A8", "accepted.terms != self.terms"),
    ("A9", "|| !granted"),
    ("W1", "if seq != self.window.end()"),
    ("W2", "written > self.max_tokens"),
    ("W4", "if !self.window.take("),
    ("W5", "next > self.window.end()"),
    ("X1", "end.hash == self.text_hash"),
    ("X3", "end: true"),
    ("K2", "fn on_cancel"),
    ("R1", "if next != self.next()"),
    ("R2", "frame.start == next"),
    ("R3", "body_credit: 0"),
    ("R4", "if epoch <= self.epoch"),
    ("R9", "== self.evidence.as_bytes()"),
    ("A13", "fn lacks_features"),
    ("S1", "DeclineReason::Settlement"),
    ("S2", "Violation::Voucher"),
];

#[test]
fn what_must_be_kept_is_kept_where_it_is_cited() {
    let protocol = fs::read_to_string(top().join("core/PROTOCOL.md")).unwrap();
    let mut untold: Vec<&str> =
        rules(&protocol).into_iter().filter(|(_, must)| *must).map(|(label, _)| label).collect();
    let sources: Vec<_> = CODE.iter().flat_map(|room| sources(&top().join(room))).collect();
    for (label, code) in KEPT_BY {
        assert!(sources.iter().any(|(_, text)| keeps(text, label, code)), "[{label}] is cited nowhere above `{code}`");
        untold.retain(|untold| untold != label);
    }
    assert!(untold.is_empty(), "what keeps {untold:?}?");
}

#[test]
fn a_comment_that_stayed_keeps_nothing() {
    let text = "// [A1]\n// as ordered\nsend(\n    award,\n);\n";
    assert!(keeps(text, "A1", "send(") && keeps(text, "A1", "award"));
    assert!(!keeps("// [A1]\nnext();\n\nfn f() {\nlet a;\nsend(award);\n}", "A1", "send("));
    assert!(!keeps("// [A1]\n// send(award)\nnext();\n", "A1", "send("), "a comment is no code");
    assert!(keeps("send(award); // [A1]\n", "A1", "send("));
}

/// Whether a citation of the rule stands above the code, or beside it: the code is in the statement's first lines.
fn keeps(text: &str, label: &str, code: &str) -> bool {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let said = format!("[{label}]");
    let cites = |line: &str| line.split_once("//").is_some_and(|(_, comment)| comment.contains(&said));
    lines.iter().enumerate().filter(|(_, line)| cites(line)).any(|(at, _)| {
        lines[at..].iter().filter(|line| !line.starts_with("//")).take(3).any(|line| line.contains(code))
    })
}

#[test]
fn every_rule_has_a_place_and_a_test_and_every_citation_a_rule() {
    let protocol = fs::read_to_string(top().join("core/PROTOCOL.md")).unwrap();
    let rules = rules(&protocol);
    assert!(rules.len() > 60, "the rules were not found: {}", rules.len());
    let places = citations(CODE);
    let tests = citations(TESTS);
    let mut wrong = complaints(&rules, &places, &tests);
    wrong.extend(
        places
            .iter()
            .chain(&tests)
            .filter(|(label, _)| !rules.contains_key(label.as_str()))
            .map(|(label, at)| format!("{}: [{label}] is no rule of core/PROTOCOL.md", at.join(", "))),
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_is_missing_is_seen() {
    let rules = rules(
        "- [A1] A provider MUST do it.\n- [A2] A word\n  that MUST be kept.\n- [A3] So it is.\n\nMUST not count.\n",
    );
    assert_eq!(rules, BTreeMap::from([("A1", true), ("A2", true), ("A3", false)]));
    let cited = |labels: &[&str]| labels.iter().map(|label| ((*label).to_owned(), vec!["x.rs".to_owned()])).collect();
    assert_eq!(complaints(&rules, &cited(&["A1", "A2", "A3"]), &cited(&["A1", "A2"])), Vec::<String>::new());
    assert_eq!(complaints(&rules, &cited(&["A1", "A2"]), &cited(&["A1"])).len(), 2, "a place of A3, a test of A2");
}

#[test]
fn a_citation_hangs_on_what_follows() {
    let found = |text: &'static str| cited(text).into_iter().map(|(_, label)| label).collect::<Vec<_>>();
    assert_eq!(found("/// Kept here: [A1] and [W4].\nfn a() {}\n"), ["A1", "W4"]);
    assert_eq!(found("//! A module about [R3].\n\nuse a;\n"), ["R3"]);
    assert_eq!(found("fn a() {\n    b(); // [A1]\n}\n"), ["A1"]);
    assert_eq!(found("    // [A1]\n}\n"), [] as [&str; 0], "what it spoke of is gone");
    assert_eq!(found("/// [A1]\n\nfn a() {}\n"), [] as [&str; 0]);
    assert_eq!(found("let a = [A1];\n/// A [`link`] and a [word].\nfn a() {}"), [] as [&str; 0]);
}

/// Every rule by its label, and whether it is one that a peer must keep.
pub(super) fn rules(protocol: &str) -> BTreeMap<&str, bool> {
    let mut rules = BTreeMap::new();
    let mut last = None;
    for line in protocol.lines() {
        if let Some((label, _)) = line.strip_prefix("- [").and_then(|rest| rest.split_once(']')) {
            rules.insert(label, false);
            last = Some(label);
        } else if !line.starts_with("  ") {
            last = None;
        }
        if let Some(label) = last
            && (line.contains("MUST") || line.contains("violation"))
        {
            rules.insert(label, true);
        }
    }
    rules
}

/// What has no place, and what must have a test and has none.
fn complaints(rules: &BTreeMap<&str, bool>, places: &Citations, tests: &Citations) -> Vec<String> {
    let missing = |cited: &Citations, label: &str| !cited.contains_key(label);
    rules
        .iter()
        .flat_map(|(label, must)| {
            let place = missing(places, label).then(|| format!("[{label}] has no place in {}", CODE.join(" or ")));
            let test =
                (*must && missing(tests, label)).then(|| format!("[{label}] has no test in {}", TESTS.join(" or ")));
            place.into_iter().chain(test)
        })
        .collect()
}

/// Where each label is cited.
type Citations = BTreeMap<String, Vec<String>>;

fn citations(rooms: &[&str]) -> Citations {
    let mut found = Citations::new();
    for room in rooms {
        for (path, text) in sources(&top().join(room)) {
            // Its own examples are no citations.
            if path.ends_with("house/labels.rs") {
                continue;
            }
            for (line, label) in cited(&text) {
                let at = format!("{}:{line}", path.strip_prefix(top()).unwrap_or(&path).display());
                found.entry(label.to_owned()).or_default().push(at);
            }
        }
    }
    found
}

/// The labels in a file's comments, with their lines.
fn cited(text: &str) -> Vec<(usize, &str)> {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let Some((before, comment)) = line.split_once("//") else { continue };
        let next = lines[at..].iter().find(|line| !line.starts_with("//")).unwrap_or(&"");
        let hangs = !before.is_empty() || comment.starts_with('!') || !(next.is_empty() || next.starts_with('}'));
        if hangs {
            let labels = comment.split('[').skip(1).filter_map(|rest| rest.split_once(']')).map(|(label, _)| label);
            found.extend(labels.filter(|label| is_label(label)).map(|label| (at + 1, label)));
        }
    }
    found
}

/// One capital letter, then a number.
fn is_label(text: &str) -> bool {
    let mut chars = text.chars();
    chars.next().is_some_and(|first| first.is_ascii_uppercase())
        && !chars.as_str().is_empty()
        && chars.all(|c| c.is_ascii_digit())
}
