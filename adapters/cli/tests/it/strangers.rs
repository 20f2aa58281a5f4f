//! Texts of strangers, as people and as programs get them.

use std::{fs, process::Stdio};

use crate::{
    server::{Does, Server},
    world::{Folder, Node, run},
};

/// Escapes, controls that are one byte elsewhere, changes of direction, and what has no width.
const EVIL: [&str; 4] =
    ["a\x1b[2Jb\x07\u{9b}31m ", "pay \u{202e}01\u{2066} ", "lla\u{200b}ma\u{e0041}\u{2028}", "\r\nend\x7f"];
const SEEN: &str =
    "a\u{fffd}[2Jb\u{fffd}\u{fffd}31m pay \u{fffd}01\u{fffd} lla\u{fffd}ma\u{fffd}\u{fffd}\nend\u{fffd}\n";
const NAME: &str = "ta\u{202e}les\u{1b}]0;x\u{7}\nnobody  0  0";

fn is_harmless(text: &str) -> bool {
    let harmful = |c: char| (c.is_control() && c != '\n') || "\u{202e}\u{2066}\u{200b}\u{2028}\u{e0041}".contains(c);
    !text.contains(harmful)
}

#[test]
fn an_answer_is_harmless_for_people_and_as_it_is_for_programs() {
    let server = Server::start(Does::Says(&EVIL));
    let serve = Node::start(&["serve", "--upstream", &server.url(), "--model", "m", "--alias", NAME]);
    let folder = Folder::new();
    let ask = ["ask", "--provider", &serve.address, "--model", "m", "--chat"];
    let ask = |more: &[&str]| folder.haggle(&[&ask[..], more, &["Hi"]].concat());

    // A pipe may end in a terminal.
    let over = run(ask(&[]));
    over.exits(0);
    assert_eq!(over.out, SEEN.trim_end());
    assert!(is_harmless(&over.err), "{:?}", over.err);
    let raw = run(ask(&["--raw"]));
    raw.exits(0);
    assert_eq!(raw.out, EVIL.concat());

    let state = folder.path().join("state");
    let file = folder.path().join("answer");
    let mut to_file = ask(&["--state", state.to_str().expect("text")]);
    let to = fs::File::create(&file).expect("a file");
    assert!(to_file.stdin(Stdio::null()).stdout(to).stderr(Stdio::null()).status().expect("runs").success());
    for file in [file, state.join("answer.txt")] {
        assert_eq!(fs::read_to_string(file).expect("an answer"), EVIL.concat());
    }

    let json = run(ask(&["--json"]));
    json.exits(0);
    let text: String = json.events("stream:token").iter().filter_map(|event| event["text"].as_str()).collect();
    assert_eq!(text, EVIL.concat(), "what a program reads is what was written");
    assert!(is_harmless(&json.out), "{:?}", json.out);
}

#[test]
fn a_models_name_moves_nothing_and_forges_no_line() {
    let serve = Node::start(&["serve", "--alias", NAME]);
    let folder = Folder::new();
    let of = ["--provider", &serve.address, "--model", NAME];
    let table = run(folder.haggle(&[&["discover"][..], &of].concat()));
    table.exits(0);
    assert!(is_harmless(&table.out), "{:?}", table.out);
    assert!(table.out.contains("ta\u{fffd}les\u{fffd}]0;x\u{fffd} nobody"), "{:?}", table.out);
    // In a message that quotes it, and in the log of whoever is told of it.
    let near = NAME.replace("les", "le");
    let mut other = folder.haggle(&["ask", "-vv", "--provider", &serve.address, "--model", &near, "Hi"]);
    other.env("RUST_LOG", "trace");
    let over = run(other);
    over.says(4, &["did you mean ta\u{fffd}les"]);
    assert!(is_harmless(&over.err), "{:?}", over.err);
    assert!(!over.err.lines().any(|line| line.starts_with("nobody  0")), "{:?}", over.err);
}
