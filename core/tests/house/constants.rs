//! `limits.rs` holds or names every number that the core is bound by.

use std::collections::BTreeSet;

use super::{sources, top};

/// Numbers that bound nothing: parts of a format, and marks.
const NO_BOUNDS: [&str; 8] = ["FALSE", "TRUE", "HEAD", "HEADER", "VERSION", "ONE", "NEVER", "UNCOUNTED"];
const NUMBERS: [&str; 9] = ["u8", "u16", "u32", "u64", "u128", "usize", "i32", "i64", "Millis"];

#[test]
fn every_number_is_found_from_the_limits() {
    let src = top().join("core/src");
    let mut there = BTreeSet::new();
    let mut named = BTreeSet::new();
    for (path, text) in sources(&src) {
        let file = path.strip_prefix(&src).unwrap().to_string_lossy().into_owned();
        match file.as_str() {
            "limits.rs" => named.extend(text.lines().filter_map(row).flatten()),
            _ if file.ends_with("tests.rs") => {}
            _ => there.extend(text.lines().filter_map(number).map(|name| (file.clone(), name.to_owned()))),
        }
    }
    let (missing, gone): (Vec<_>, Vec<_>) = (there.difference(&named).collect(), named.difference(&there).collect());
    assert!(missing.is_empty() && gone.is_empty(), "not in the table of limits.rs: {missing:?}; not there: {gone:?}");
}

/// A constant that is a number or a span.
fn number(line: &str) -> Option<&str> {
    let (before, after) = line.split_once("const ")?;
    let (name, kind) = after.split_once(": ")?;
    let kind = kind.split([' ', ';']).next()?;
    let declares = before.trim().is_empty() || before.trim_start().starts_with("pub");
    (declares && NUMBERS.contains(&kind) && !NO_BOUNDS.contains(&name)).then_some(name)
}

/// A row of the table: a file and what is bound there.
fn row(line: &str) -> Option<Vec<(String, String)>> {
    let (file, constants) = line.strip_prefix("//! | `")?.split_once("` | ")?;
    let names = constants.split('`').skip(1).step_by(2);
    Some(names.map(|name| (file.to_owned(), name.to_owned())).collect())
}
