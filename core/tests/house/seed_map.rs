//! The seed map in ARCHITECTURE.md names what exists.

use std::{fs, path::Path};

use super::top;

/// Rows that the map must have, by kind.
const ROWS: &[(&str, usize)] = &[("method", 16), ("event", 7), ("field", 8), ("phase", 12)];

#[test]
fn the_seed_map_is_complete_and_true() {
    let text = fs::read_to_string(top().join("ARCHITECTURE.md")).unwrap();
    let rows = rows(&text);
    for (kind, count) in ROWS {
        let found = rows.iter().filter(|row| row[0] == *kind).count();
        assert_eq!(found, *count, "rows of kind {kind}");
    }
    let wrong: Vec<String> = rows.iter().filter_map(|row| check(&top(), row).err()).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_line_that_names_nothing_is_seen() {
    let row = |symbol: &str, test: &str| {
        check(&top(), &["method".into(), "x".into(), symbol.into(), test.into()]).map_err(|_| ())
    };
    let (symbol, test) =
        ("`core/src/requester/mod.rs` `submit`", "`core/tests/house/seed_map.rs` `a_line_that_names_nothing_is_seen`");
    assert_eq!(row(symbol, test), Ok(()));
    assert_eq!(row("`core/src/requester/mod.rs` `submitt`", test), Err(()));
    assert_eq!(row("`core/src/nowhere.rs` `submit`", test), Err(()));
    assert_eq!(row(symbol, "`core/tests/house/seed_map.rs` `rows`"), Err(()), "a function that is no test");
    assert_eq!(row(symbol, "later"), Err(()));
    assert_eq!(row("not yet: `core/src/event/mod.rs` `Interrupted`", test), Ok(()));
}

/// Rows of the map's table: kind, seed's name, our symbol, test.
fn rows(text: &str) -> Vec<[String; 4]> {
    let map = text.split("\n## ").find(|part| part.starts_with("Seed map")).expect("a section `Seed map`");
    map.lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| kind") && !line.starts_with("| ---"))
        .map(|line| {
            let cells: Vec<String> = line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
            cells.try_into().unwrap_or_else(|_| panic!("four cells: {line}"))
        })
        .collect()
}

/// The symbol is defined where the row says, and so is the test.
fn check(top: &Path, row: &[String; 4]) -> Result<(), String> {
    let [_, name, symbol, test] = row;
    let (file, symbol) =
        reference(symbol.strip_prefix("not yet: ").unwrap_or(symbol)).ok_or(format!("{name}: no symbol"))?;
    let text = fs::read_to_string(top.join(file)).map_err(|_| format!("{name}: no file {file}"))?;
    if !defines(&text, symbol) {
        return Err(format!("{name}: {file} defines no {symbol}"));
    }
    is_test(top, test).map_err(|why| format!("{name}: {why}"))
}

/// `` `file` `name` `` names a test that exists.
pub(super) fn is_test(top: &Path, cell: &str) -> Result<(), String> {
    let (file, test) = reference(cell).ok_or("no test")?;
    let text = fs::read_to_string(top.join(file)).map_err(|_| format!("no file {file}"))?;
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let at = lines.iter().position(|line| line.contains(&format!("fn {test}(")));
    let marked = at.is_some_and(|at| {
        lines[at.saturating_sub(4)..at].iter().any(|line| line.starts_with("#[") && line.contains("test"))
    });
    if marked { Ok(()) } else { Err(format!("{file} has no test {test}")) }
}

/// `` `file` `name` ``
fn reference(cell: &str) -> Option<(&str, &str)> {
    let mut parts = cell.split('`').skip(1).step_by(2);
    Some((parts.next()?, parts.next()?))
}

/// A line that begins with the name, after what may stand before it in a definition; or the name as a text.
fn defines(text: &str, name: &str) -> bool {
    text.lines().any(|line| {
        let mut line = line.trim();
        if line.starts_with("//") {
            return false;
        }
        for before in
            ["pub ", "pub(crate) ", "pub(super) ", "const ", "async ", "fn ", "struct ", "enum ", "trait ", "mod "]
        {
            line = line.strip_prefix(before).unwrap_or(line);
        }
        let ends = |rest: &str| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_');
        line.strip_prefix(name).is_some_and(ends) || line.contains(&format!("\"{name}\""))
    })
}
