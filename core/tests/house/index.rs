//! The index says where things are decided: each file of an entry is there, and holds the names that stand behind it.

use std::{collections::BTreeSet, fs};

use super::{rooms::named, top};

#[test]
fn every_entry_of_the_index_leads_somewhere() {
    let text = fs::read_to_string(top().join("ARCHITECTURE.md")).unwrap();
    let entries = entries(&text);
    assert!(entries.len() > 150, "the index was not found");
    let wrong: Vec<String> = entries.iter().flat_map(|entry| complaints(entry)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let words: BTreeSet<&str> = entries.iter().map(|entry| word(entry)).collect();
    assert_eq!(words.len(), entries.len(), "a word stands there twice");
}

#[test]
fn an_entry_that_leads_nowhere_is_seen() {
    let here = "`core/tests/house/rooms.rs`";
    let wrong = |entry: &str| complaints(entry).len();
    assert_eq!(wrong(&format!("index: that it leads somewhere. {here} `complaints` `named`")), 0);
    assert_eq!(wrong("index: in words only"), 1, "no file");
    assert_eq!(wrong("index: `core/tests/house/nowhere.rs` `complaints`"), 1, "a file that is not there");
    assert_eq!(wrong(&format!("index: {here} `named_otherwise`")), 1, "a name that is not in the file");
    assert_eq!(wrong(&format!("index: {here} `complaint`")), 1, "a part of a name");
    assert_eq!(
        wrong(&format!("index: {here}; `core/tests/house/sizes.rs` `complaints`")),
        1,
        "the file before it counts"
    );
    assert_eq!(wrong("index: `complaints`"), 1, "no file before it");
}

/// The lines of the index, without what marks them as such.
fn entries(text: &str) -> Vec<&str> {
    let lines = text.lines().skip_while(|line| *line != "## Index: where it is decided").skip(1);
    lines.take_while(|line| !line.starts_with("## ")).filter_map(|line| line.strip_prefix("- ")).collect()
}

/// What a reader looks for.
fn word(entry: &str) -> &str {
    entry.split([':', '.']).next().unwrap_or_default()
}

fn complaints(entry: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut file: Option<(&str, String)> = None;
    for name in named(entry) {
        // What the command line or a client writes: it is told, not looked for.
        if name.starts_with('-') || name.starts_with('/') {
            continue;
        }
        match fs::read_to_string(top().join(name)) {
            // What only a unit test has is decided nowhere.
            Ok(text) if name.contains("/src/") => {
                let shipped = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default().to_owned();
                file = Some((name, shipped));
            }
            Ok(text) => file = Some((name, text)),
            Err(_) if name.contains('/') => return vec![format!("{}: there is no {name}", word(entry))],
            Err(_) => match &file {
                Some((_, text)) if holds(text, name) => {}
                Some((path, _)) => wrong.push(format!("{}: no `{name}` in {path}", word(entry))),
                None => wrong.push(format!("{}: `{name}` stands behind no file", word(entry))),
            },
        }
    }
    if file.is_none() && wrong.is_empty() {
        wrong.push(format!("{}: no file is named", word(entry)));
    }
    wrong
}

/// Whether a text has a name, not only as a part of a longer one.
fn holds(text: &str, name: &str) -> bool {
    let is_part = |char: char| char.is_alphanumeric() || char == '_';
    text.match_indices(name)
        .any(|(at, _)| !text[..at].ends_with(is_part) && !text[at + name.len()..].starts_with(is_part))
}
