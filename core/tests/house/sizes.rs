//! A file can be read in one sitting, a function on one screen.

use super::{sources, top};

const FILE: usize = 500;
const FUNCTION: usize = 60;

#[test]
fn files_and_functions_stay_small() {
    let rooms = ["core", "adapters", "sim", "fuzz", "benches"];
    let mut large = Vec::new();
    for (path, text) in rooms.iter().flat_map(|room| sources(&top().join(room))) {
        let path = path.strip_prefix(top()).unwrap().display().to_string();
        // Tests of the core are tables and scripts, which grow with what they list.
        if path.starts_with("core/") && path.contains("tests") {
            continue;
        }
        let lines = text.lines().count();
        large.extend((lines > FILE).then(|| format!("{path}: {lines} lines")));
        let long = functions(&text).into_iter().filter(|(_, lines)| *lines > FUNCTION);
        large.extend(long.map(|(first, lines)| format!("{path}: {lines} lines: {first}")));
    }
    assert!(large.is_empty(), "divide by what it is about:\n{}", large.join("\n"));
}

#[test]
fn a_function_is_measured_with_its_signature_and_what_is_in_it() {
    let text = "\
impl A {
    pub(crate) async fn a(
        b: B,
    ) -> C
    where
        B: D,
    {
        fn e() {}

        if f {
        }
    }

    const fn g();
}
";
    let measured: Vec<usize> = functions(text).into_iter().map(|(_, lines)| lines).collect();
    assert_eq!(measured, [11, 1, 1]);
}

/// The first line of every function, and how many it has. As rustfmt leaves it, one ends where a line as deep as its first
/// closes it.
fn functions(text: &str) -> Vec<(&str, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let depth = |line: &str| line.len() - line.trim_start().len();
    let begins = |line: &str| {
        let before = line.trim_start().split_once("fn ").map(|(before, _)| before.split_whitespace());
        let allowed = ["const", "async", "unsafe"];
        before.is_some_and(|mut words| words.all(|word| word.starts_with("pub") || allowed.contains(&word)))
    };
    let mut found = Vec::new();
    for (at, first) in lines.iter().enumerate().filter(|(_, line)| begins(line)) {
        let closes = |line: &&str| depth(line) == depth(first) && line.ends_with(['}', ';']);
        let last = lines[at..].iter().position(closes).expect("a function that is closed");
        found.push((first.trim(), last + 1));
    }
    found
}
