//! The tables that say where things are: what they name exists, and they leave nothing out.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use super::{seed_map::is_test, sources, top};

/// A table stands below the line `Inside … FOLDER …`, and names paths in that folder; tests are named from the top.
const TABLES: &[(&str, &str)] = &[
    ("ARCHITECTURE.md", "core/src/"),
    ("ARCHITECTURE.md", "adapters/libp2p/src/"),
    ("ARCHITECTURE.md", "adapters/engine/src/"),
    ("ARCHITECTURE.md", "adapters/engine/src/upstream/"),
    ("ARCHITECTURE.md", "adapters/cli/src/"),
    ("ARCHITECTURE.md", "adapters/gateway/src/"),
    ("sim/README.md", "sim/src/"),
];

#[test]
fn every_room_is_told_and_every_told_room_exists() {
    for (file, folder) in TABLES {
        let text = fs::read_to_string(top().join(file)).unwrap();
        let wrong = complaints(&top(), folder, &table(&text, &format!("Inside `{folder}`")));
        assert!(wrong.is_empty(), "{file}:\n{}", wrong.join("\n"));
    }
}

#[test]
fn what_a_table_lacks_or_invents_is_seen() {
    let wrong = |rows: &str| complaints(&top(), "core/tests/house/", &table(&format!("Inside:\n\n{rows}"), "Inside"));
    let all = "| a | `circles.rs`, `constants.rs`, `index.rs`, `labels.rs`, `lockfile.rs`, `purity.rs`, `readme.rs`, `rooms.rs`, `seed_map.rs`, `sizes.rs`, `threats.rs` |";
    let row = |more: &str| format!("{all}{more}\n| b | `vectors.rs` |");
    assert_eq!(wrong(&row(" `core/tests/house/rooms.rs` `what_a_table_lacks_or_invents_is_seen` |")), [""; 0]);
    assert_eq!(wrong(all).len(), 1, "one is left out");
    assert_eq!(wrong(&row("\n| c | `nowhere.rs` |")).len(), 1, "a room");
    assert_eq!(wrong(&row(" `core/tests/nowhere.rs` |")).len(), 1, "a file of tests");
    assert_eq!(wrong(&row(" `core/tests/house/rooms.rs` `no_test` |")).len(), 1, "a test");
    assert_eq!(wrong(&row(" `core/tests/rules/buyer.rs` |")).len(), 1, "a file without tests");
}

#[test]
fn every_rule_of_the_simulator_is_told_with_where_it_is_judged() {
    let text = fs::read_to_string(top().join("sim/README.md")).unwrap();
    let rules = fs::read_to_string(top().join("sim/src/oracle/rules.rs")).unwrap();
    let rules = rules.split("pub enum Rule {").nth(1).and_then(|rest| rest.split('}').next()).unwrap();
    let rules = rules.lines().filter_map(|line| line.trim().strip_suffix(','));
    let mut untold: BTreeSet<&str> = rules.collect();
    assert!(untold.len() > 30, "the rules were not found");
    for row in table(&text, "`Rule` names every rule") {
        let [_, names, files] = row[..] else { panic!("three cells: {row:?}") };
        let names = named(names);
        let says = |text: &str, name: &str| text.contains(&format!("Rule::{name}"));
        let files: Vec<(&str, String)> = named(files)
            .into_iter()
            .map(|file| (file, fs::read_to_string(top().join("sim/src").join(file)).expect(file)))
            .collect();
        for name in &names {
            assert!(files.iter().any(|(_, text)| says(text, name)), "{name} is judged in none of its files");
            untold.remove(name);
        }
        for (file, text) in &files {
            assert!(names.iter().any(|name| says(text, name)), "{file} judges none of {names:?}");
        }
    }
    assert!(untold.is_empty(), "{untold:?}");
}

/// The cells of the table that follows a line which begins so.
fn table<'a>(text: &'a str, heading: &str) -> Vec<Vec<&'a str>> {
    let lines = text.lines().skip_while(|line| !line.starts_with(heading)).skip_while(|line| !line.starts_with('|'));
    let rows: Vec<_> = lines
        .take_while(|line| line.starts_with('|'))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    assert!(!rows.is_empty(), "no table below `{heading}`");
    rows
}

/// What stands between backticks.
pub(super) fn named(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

fn complaints(top: &Path, folder: &str, rows: &[Vec<&str>]) -> Vec<String> {
    let is_path = |word: &&str| word.ends_with(".rs") || word.ends_with('/') || word.ends_with(".md");
    let mut untold = rooms(&top.join(folder));
    let mut wrong = Vec::new();
    for row in rows {
        for path in row.get(1).map(|cell| named(cell)).unwrap_or_default().into_iter().filter(is_path) {
            if !top.join(folder).join(path).exists() && !top.join(path).exists() {
                wrong.push(format!("{folder}: no {path}"));
            }
            untold.remove(path.split(['/', '.']).next().unwrap_or_default());
        }
        let mut file = "";
        for word in row.get(2).map(|cell| named(cell)).unwrap_or_default() {
            if !is_path(&word) {
                wrong.extend(is_test(top, &format!("`{file}` `{word}`")).err());
            } else if has_tests(&top.join(word)) {
                file = word;
            } else {
                wrong.push(format!("{word} has no tests"));
            }
        }
    }
    wrong.extend(untold.into_iter().map(|room| format!("{folder}{room} is in no row")));
    wrong
}

/// Modules at the top of a folder; the crate's root is none.
fn rooms(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).unwrap_or_else(|_| panic!("no folder {}", folder.display()));
    let names = entries.map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned());
    names.filter(|name| !["lib", "main", "mod"].contains(&name.as_str())).collect()
}

fn has_tests(path: &Path) -> bool {
    let files: Vec<(PathBuf, String)> = match fs::read_to_string(path) {
        Ok(text) => vec![(path.to_path_buf(), text)],
        Err(_) if path.is_dir() => sources(path),
        Err(_) => Vec::new(),
    };
    files.iter().any(|(_, text)| text.lines().any(|line| line.trim().starts_with("#[") && line.contains("test")))
}
