//! The table of threats in SECURITY.md names tests that exist.

use std::fs;

use super::{seed_map::is_test, top};

#[test]
fn every_threat_has_a_test_that_exists() {
    let text = fs::read_to_string(top().join("SECURITY.md")).unwrap();
    let table = text.split("\n## ").find(|part| part.starts_with("Threats")).expect("a section `Threats`");
    let rows: Vec<Vec<&str>> = table
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| #") && !line.starts_with("| ---"))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    assert!(rows.len() >= 29, "{} threats", rows.len());
    let wrong: Vec<String> = rows
        .iter()
        .filter_map(|row| {
            let [number, who, what, meets, shown] = row[..] else { return Some(format!("five cells: {row:?}")) };
            let told = [number, who, what, meets].iter().all(|cell| !cell.is_empty());
            let test = is_test(&top(), shown).err();
            test.or_else(|| (!told).then(|| "an empty cell".to_owned())).map(|why| format!("threat {number}: {why}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
