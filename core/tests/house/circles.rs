//! No circle of imports leaves a module's own folder.
//!
//! A module's folder is all that it declares, all the way down; the rooms of the folder are its children, each with what is
//! below it. Wherever a module names something (by `use`, or by a path), its room needs the room in which that is defined;
//! a `pub use` on the way there is no room. Of the rooms of one folder, none may need one that needs it.
//!
//! What stays inside: a module and those above it are no two rooms. A parent is made of its children, and children use what
//! their parent has for all of them. Code of tests may use what it likes.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use super::{sources, top};

#[test]
fn no_circle_leaves_a_folder() {
    let manifest = fs::read_to_string(top().join("Cargo.toml")).unwrap();
    let members = manifest.lines().find_map(|line| line.strip_prefix("members = ")).expect("a line of members");
    let members: Vec<_> = members.split('"').skip(1).step_by(2).collect();
    let found: Vec<String> = members
        .into_iter()
        .flat_map(|member| {
            let src = top().join(member).join("src");
            let named = |(path, text): (PathBuf, String)| (path_of(path.strip_prefix(&src).unwrap()), text);
            let sources: Vec<_> = sources(&src).into_iter().map(named).collect();
            circles(&sources).into_iter().map(move |circle| format!("{member}: {circle}"))
        })
        .collect();
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn a_planted_circle_is_seen() {
    let found = |files: &[(&str, &str)]| {
        let named = |(path, text): &(&str, &str)| (path_of(Path::new(path)), (*text).to_owned());
        circles(&files.iter().map(named).collect::<Vec<_>>()).len()
    };
    let a = ("a.rs", "use crate::b::{self, B};");
    assert_eq!(found(&[a, ("b.rs", "pub struct B;")]), 0);
    assert_eq!(found(&[a, ("b.rs", "fn b() { crate::a::go() }")]), 1, "a path without an import");
    assert_eq!(found(&[a, ("b.rs", "use super::a::go;")]), 1, "up and down again");
    assert_eq!(found(&[a, ("b.rs", "use crate::c::C;"), ("c.rs", "use crate::a;")]), 1, "of three");
    assert_eq!(found(&[a, ("b.rs", "// crate::a::A\nconst B: &str = \"crate::a::A\";")]), 0, "no code");
    assert_eq!(found(&[a, ("b.rs", "const Q: char = '\"'; fn b<'a>(_: &'a crate::a::A) {}")]), 1, "after a quote");
    assert_eq!(found(&[a, ("b.rs", "#[cfg(test)]\nmod tests { use crate::a::A; }")]), 0, "a test");
    let lib = ("lib.rs", "mod a;\nmod b;\npub use a::go;");
    assert_eq!(found(&[lib, a, ("b.rs", "use crate::go;")]), 1, "where it is defined counts");
    assert_eq!(found(&[lib, a, ("b.rs", "use crate::GO;")]), 0, "that is the parent's own");
    assert_eq!(found(&[("a/mod.rs", "mod x;\nuse x::X;"), ("a/x.rs", "use super::A;")]), 0, "parent and child");
    assert_eq!(found(&[("a/x.rs", "use super::y::Y;"), ("a/y.rs", "use super::x::X;")]), 1, "children");
    let far = [
        ("a/mod.rs", "mod x;\nmod y;"),
        ("a/x.rs", "use crate::b::B;"),
        ("b.rs", "use crate::a::y::Y;"),
        ("a/y.rs", ""),
    ];
    assert_eq!(found(&far), 1, "of folders, though of no two files");
}

/// A module's path; nothing for the crate's root.
type Name = Vec<String>;

/// What a module names: by a path, and what it gives a name of its own to.
#[derive(Default)]
struct Module {
    paths: Vec<Name>,
    imports: BTreeMap<String, Name>,
}

type Modules = BTreeMap<Name, Module>;

fn path_of(file: &Path) -> Name {
    let name = file.with_extension("");
    let parts = name.iter().map(|part| part.to_string_lossy().into_owned());
    parts.filter(|part| !["mod", "lib", "main"].contains(&part.as_str())).collect()
}

/// The circles of a package, each with the arrows that make it.
fn circles(sources: &[(Name, String)]) -> Vec<String> {
    let mut modules = Modules::new();
    let tests: Vec<Name> = sources.iter().flat_map(|(name, text)| read(name, &tokens(text), &mut modules)).collect();
    modules.retain(|name, _| !tests.iter().any(|test| name.starts_with(test)));
    // By folder: which room needs which, and a module that shows it.
    let mut folders: BTreeMap<&[String], BTreeMap<(&str, &str), String>> = BTreeMap::new();
    for (from, module) in &modules {
        for to in module.paths.iter().filter_map(|path| resolve(&modules, from, path, 0)) {
            let common = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
            let Some((to, _)) = modules.get_key_value(&to) else { continue };
            if let (Some(a), Some(b)) = (from.get(common), to.get(common)) {
                let shown = format!("{} -> {}", from.join("::"), to.join("::"));
                folders.entry(&from[..common]).or_default().insert((a.as_str(), b.as_str()), shown);
            }
        }
    }
    folders.values().flat_map(circles_of).collect()
}

/// The circles of one folder: rooms that need each other, be it through others.
fn circles_of(needs: &BTreeMap<(&str, &str), String>) -> Vec<String> {
    let reach = |from| {
        let (mut known, mut todo) = (BTreeSet::new(), vec![from]);
        while let Some(room) = todo.pop() {
            todo.extend(needs.keys().filter(|(a, b)| *a == room && known.insert(*b)).map(|(_, b)| *b));
        }
        known
    };
    let rooms: BTreeSet<&str> = needs.keys().map(|(from, _)| *from).collect();
    let reached: BTreeMap<&str, BTreeSet<&str>> = rooms.into_iter().map(|room| (room, reach(room))).collect();
    let each_other = |a: &str, b: &str| reached[a].contains(b) && reached.get(b).is_some_and(|back| back.contains(a));
    let mut told = BTreeSet::new();
    let mut found = Vec::new();
    for room in reached.keys().filter(|room| each_other(room, room)) {
        if told.insert(*room) {
            told.extend(reached.keys().filter(|other| each_other(room, other)));
            let arrows = needs.iter().filter(|((a, b), _)| each_other(room, a) && each_other(room, b));
            found.push(arrows.map(|(_, shown)| shown.as_str()).collect::<Vec<_>>().join(", "));
        }
    }
    found
}

/// The module in which that lies which a path names; `None` for other packages.
fn resolve(modules: &Modules, from: &Name, path: &[String], depth: u32) -> Option<Name> {
    let mut at = from.clone();
    let mut rest = path;
    while let [first, more @ ..] = rest {
        match first.as_str() {
            "crate" => at.clear(),
            "self" => {}
            "super" => drop(at.pop()),
            _ => break,
        }
        rest = more;
    }
    let is_own = rest.len() < path.len();
    while let [first, more @ ..] = rest {
        let child: Name = at.iter().chain([first]).cloned().collect();
        if modules.contains_key(&child) {
            (at, rest) = (child, more);
        } else if let Some(import) = modules.get(&at).and_then(|module| module.imports.get(first)).filter(|_| depth < 8)
        {
            return resolve(modules, &at, &[import, more].concat(), depth + 1);
        } else {
            break;
        }
    }
    (is_own || rest.len() < path.len()).then_some(at)
}

/// Takes in what a module's text names, and the modules that are written inside of it. Answers with those that are tests.
fn read(name: &Name, tokens: &[String], modules: &mut Modules) -> Vec<Name> {
    let child = |at: usize| name.iter().chain([&tokens[at]]).cloned().collect::<Name>();
    let (mut module, mut tests) = (Module::default(), Vec::new());
    let mut at = 0;
    while at < tokens.len() {
        if is(tokens, at, &["#", "[", "cfg", "(", "test"])
            || is(tokens, at, &["#", "[", "cfg", "(", "all", "(", "test"])
        {
            at = end_of_item(tokens, at);
            if is(tokens, at - 3, &["mod"]) {
                tests.push(child(at - 2));
            }
        } else if tokens[at] == "mod" && is(tokens, at + 2, &["{"]) {
            let end = end_of_item(tokens, at);
            tests.extend(read(&child(at + 1), &tokens[at + 3..end - 1], modules));
            at = end;
        } else if tokens[at] == "use" && !is(tokens, at + 1, &["<"]) {
            at = tree(tokens, at + 1, &[], &mut module);
        } else if is_word(&tokens[at]) {
            let mut path = vec![tokens[at].clone()];
            while is(tokens, at + 1, &["::"]) && tokens.get(at + 2).is_some_and(|next| is_word(next)) {
                path.push(tokens[at + 2].clone());
                at += 2;
            }
            module.paths.extend((path.len() > 1).then_some(path));
            at += 1;
        } else {
            at += 1;
        }
    }
    modules.insert(name.clone(), module);
    tests
}

/// Reads a tree of a `use` that stands below a path; where it ends.
fn tree(tokens: &[String], mut at: usize, above: &[String], module: &mut Module) -> usize {
    let mut path = above.to_vec();
    let mut name = None;
    loop {
        match tokens.get(at).map_or(";", String::as_str) {
            "::" => at += 1,
            "{" => {
                at += 1;
                while at < tokens.len() && tokens[at] != "}" {
                    at = tree(tokens, at, &path, module);
                    at += usize::from(is(tokens, at, &[","]));
                }
                return at + 1;
            }
            "as" => {
                name = tokens.get(at + 1).cloned();
                at += 2;
            }
            "self" if !path.is_empty() => at += 1,
            word if is_word(word) => {
                path.push(word.to_owned());
                at += 1;
            }
            end => {
                at += usize::from(end == "*");
                module.imports.extend(name.or(path.last().cloned()).map(|name| (name, path.clone())));
                module.paths.push(path);
                return at;
            }
        }
    }
}

fn is(tokens: &[String], at: usize, words: &[&str]) -> bool {
    tokens
        .get(at..)
        .is_some_and(|rest| rest.len() >= words.len() && rest.iter().zip(words).all(|(token, word)| token == word))
}

fn is_word(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Where an item ends that begins here, with its attributes.
fn end_of_item(tokens: &[String], mut at: usize) -> usize {
    let mut depth = 0;
    while let Some(token) = tokens.get(at) {
        at += 1;
        match token.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth -= 1,
            _ => {}
        }
        if depth < 0 || depth == 0 && [";", "}"].contains(&token.as_str()) {
            break;
        }
    }
    at
}

/// Words, `::` and signs of the code: without comments, texts and lifetimes.
fn tokens(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (length, is_code) = token(rest);
        found.extend(is_code.then(|| rest[..length].to_owned()));
        rest = &rest[length..];
    }
    found
}

/// How long the first token of a text is, and whether it is code.
fn token(text: &str) -> (usize, bool) {
    let first = text.chars().next().map_or(0, char::len_utf8);
    let word = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    let to = |end: &str, from: usize| text[from..].find(end).map_or(text.len(), |at| from + at + end.len());
    if text.starts_with("//") {
        return (to("\n", 0), false);
    }
    if text.starts_with("/*") {
        return (to("*/", 2), false);
    }
    if ["r", "br"].contains(&&text[..word]) {
        let hashes: String = text[word..].chars().take_while(|c| *c == '#').collect();
        let quote = word + hashes.len();
        if text[quote..].starts_with('"') {
            return (to(&format!("\"{hashes}"), quote + 1), false);
        }
    }
    match text.as_bytes() {
        [b'"', inside @ ..] => {
            let mut is_escaped = false;
            let ends = |byte: &u8| {
                let ends = *byte == b'"' && !is_escaped;
                is_escaped = *byte == b'\\' && !is_escaped;
                ends
            };
            (inside.iter().position(ends).map_or(text.len(), |at| at + 2), false)
        }
        [b'\'', b'\\', ..] => (to("'", 3), false),
        [b'\'', ..] => {
            // Else a lifetime.
            let is_char = text.chars().nth(2) == Some('\'');
            (if is_char { to("'", 2) } else { 1 }, false)
        }
        [b':', b':', ..] => (2, true),
        _ => (word.max(first), word > 0 || !text.starts_with(char::is_whitespace)),
    }
}
