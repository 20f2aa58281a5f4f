//! Recordings of real processes.

use std::{fs, path::Path};

use crate::world::{Folder, Node, Over, run};

const PROMPT: &str = "Once upon a time";

/// A sale over real sockets, recorded on both sides.
fn recorded(folder: &Folder, more: &[&str]) -> (String, String, Over) {
    let file = |name: &str| folder.path().join(name).to_str().expect("text").to_owned();
    let (selling, buying) = (file("serve.flight"), file("ask.flight"));
    let serve = Node::start(&["serve", "--price-out", "3", "--record", &selling]);
    let ask = ["ask", "--provider", &serve.address, "--budget", "1", "--seed", "3", "--max-tokens", "20"];
    let asked = run(folder.haggle(&[&ask[..], &["--record", &buying], more, &[PROMPT]].concat()));
    asked.exits(0);
    serve.process.signal("TERM");
    assert_eq!(serve.process.over().code, Some(0));
    (selling, buying, asked)
}

fn replay(folder: &Folder, file: &str, more: &[&str]) -> Over {
    run(folder.haggle(&[&["replay", file], more].concat()))
}

#[test]
fn both_sides_of_a_real_sale_are_replayed_byte_for_byte() {
    let folder = Folder::new();
    let (selling, buying, asked) = recorded(&folder, &[]);
    assert!(asked.err.contains("prompts and answers are inside"), "{}", asked.err);
    assert!(!asked.err.contains("why"), "it was not asked why: {}", asked.err);
    for (file, told) in [(&selling, "provider"), (&buying, "job:weighed")] {
        let same = replay(&folder, file, &[]);
        same.exits(0);
        assert!(same.out.contains("equal byte for byte"), "{}", same.out);
        let told_all = replay(&folder, file, &["--explain", "--json"]);
        told_all.exits(0);
        assert!(told_all.out.contains(told), "{told} is not in {}", told_all.out);
    }
    let explained = replay(&folder, &buying, &["--explain"]);
    explained.exits(0);
    for part in
        ["whose offer is taken", "awarded: the only acceptable offer", "stream:token", "20 tokens, 0.00006 units"]
    {
        assert!(explained.out.contains(part), "{part} is not in {}", explained.out);
    }
    let summary = replay(&folder, &buying, &["--json"]).json();
    let early = replay(&folder, &buying, &["--json", "--until", "1ms"]).json();
    assert!(early["steps"].as_u64() < summary["steps"].as_u64(), "{early} {summary}");
}

#[test]
fn a_changed_recording_is_refused_and_none_is_overwritten() {
    let folder = Folder::new();
    let (selling, buying, _) = recorded(&folder, &[]);
    let mut bytes = fs::read(&buying).expect("a recording");
    let half = bytes.len() / 2;
    bytes[half] ^= 1;
    fs::write(&buying, &bytes).expect("written");
    replay(&folder, &buying, &[]).says(2, &["not what was recorded"]);
    assert_eq!(replay(&folder, &buying, &["--json"]).events("error")[0]["error"]["code"], "damaged");
    let whole = fs::read_to_string(&selling).expect("a recording");
    let cut = folder.file("cut.flight", format!("{}\n", whole.lines().next().expect("a header")));
    replay(&folder, cut.to_str().expect("text"), &[]).says(2, &["no step", "nothing was run again"]);
    replay(&folder, "no such file", &[]).says(2, &["cannot read the recording"]);
    let again = ["ask", "--provider", "/ip4/127.0.0.1/tcp/1/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN"];
    run(folder.haggle(&[&again[..], &["--record", &selling, PROMPT]].concat())).says(2, &["is there already"]);
}

#[test]
fn a_redacted_recording_holds_no_text_and_is_explained_only() {
    let folder = Folder::new();
    let (_, buying, asked) = recorded(&folder, &["--redact"]);
    let text = fs::read_to_string(&buying).expect("a recording");
    assert!(!text.contains(PROMPT) && !asked.out.is_empty());
    let words = asked.out.split_whitespace().filter(|word| word.len() > 4);
    words.for_each(|word| assert!(!text.contains(word), "{word} is in {text}"));
    replay(&folder, &buying, &[]).says(2, &["redacted"]);
    let told = replay(&folder, &buying, &["--explain"]);
    told.exits(0);
    assert!(told.out.contains("awarded") && told.out.contains("weighed"), "{}", told.out);
}

#[test]
fn a_node_that_was_killed_leaves_a_recording_to_the_last_step() {
    let folder = Folder::new();
    let file = folder.path().join("serve.flight");
    let serve = Node::start(&["serve", "--set", "tokens_per_second=40", "--record", file.to_str().expect("text")]);
    let ask = ["ask", "--provider", &serve.address, "--seed", "3", "--max-tokens", "200", "--failover", "never"];
    let mut asking = crate::world::Running::spawn(folder.haggle(&[&ask[..], &["--patience", "1s", PROMPT]].concat()));
    asking.wait_for_output();
    serve.process.signal("KILL");
    assert_eq!(asking.over().code, Some(7));
    let replayed = replay(&folder, file.to_str().expect("text"), &["--json"]).json();
    assert!(replayed["outputs"].as_u64() > Some(3), "{replayed}");
    assert!(Path::new(&file).exists());
}
