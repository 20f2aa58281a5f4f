//! Processes that are killed, and what is left.

use std::{fs, path::Path, thread, time::Duration};

use crate::world::{Folder, Node, Over, Running, run};

const PROMPT: &str = "Once upon a time";

/// A fixed sequence (SplitMix64): what failed once fails again.
struct Draws(u64);

impl Draws {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (bits ^ bits >> 31) % bound
    }
}

fn serve(more: &[&str]) -> Node {
    Node::start(&[&["serve", "--tokens-per-second", "60"][..], more].concat())
}

/// What an answer would be if nothing went wrong.
fn undisturbed(folder: &Folder, provider: &Node) -> String {
    let ask = ["ask", "--raw", "--provider", &provider.address, "--seed", "7", "--max-tokens", "60", PROMPT];
    let over = run(folder.haggle(&ask));
    over.exits(0);
    over.out
}

/// Waits until the answer in a directory has some bytes.
fn until_written(file: &Path, bytes: u64) {
    for _ in 0..6_000 {
        if fs::metadata(file).is_ok_and(|file| file.len() >= bytes) {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("{} has not {bytes} bytes after a minute", file.display());
}

#[test]
fn an_answer_that_was_killed_goes_on_without_a_repeated_or_missing_token() {
    let provider = serve(&[]);
    let folder = Folder::new();
    let whole = undisturbed(&folder, &provider);
    let mut draws = Draws(11);
    for round in 0..4 {
        let state = folder.path().join(format!("state-{round}"));
        let dir = state.to_str().expect("a path");
        let ask = ["ask", "--state", dir, "--provider", &provider.address, "--seed", "7", "--max-tokens", "60", PROMPT];
        let running = Running::spawn(folder.haggle(&ask));
        let bytes = draws.below(whole.len() as u64 - 20);
        println!("round {round}: killed after {bytes} of {} bytes", whole.len());
        until_written(&state.join("answer.txt"), bytes);
        drop(running);
        // Twice in one answer.
        if round % 2 == 1 {
            let again = Running::spawn(folder.haggle(&["ask", "--state", dir, "--resume"]));
            until_written(&state.join("answer.txt"), bytes + 10);
            drop(again);
        }
        let over = run(folder.haggle(&["ask", "--raw", "--state", dir, "--resume"]));
        over.exits(0);
        assert_eq!(fs::read_to_string(state.join("answer.txt")).expect("a file"), whole, "round {round}");
        assert_eq!(over.out, whole, "stdout has the whole answer");
        // What is complete is told again.
        let told = run(folder.haggle(&["ask", "--state", dir, "--resume"]));
        told.exits(0);
        assert_eq!(told.out, *whole, "nobody sees it but a program");
    }
}

#[test]
fn an_answer_that_failed_is_told_again_by_its_code() {
    let provider = serve(&["--price-out", "1"]);
    let folder = Folder::new();
    let state = folder.path().join("state");
    let dir = state.to_str().expect("a path");
    let ask = ["ask", "--json", "--state", dir, "--provider", &provider.address, "--max-tokens", "9", PROMPT];
    let failed = run(folder.haggle(&ask));
    failed.exits(5);
    let told = run(folder.haggle(&["ask", "--json", "--state", dir, "--resume"]));
    told.exits(5);
    let code = |over: &Over| over.events("error")[0]["error"]["code"].clone();
    assert_eq!((code(&failed), code(&told)), ("over_budget".into(), "over_budget".into()));
}

#[test]
fn a_state_directory_is_for_one_process_and_its_damage_is_told() {
    let provider = serve(&[]);
    let folder = Folder::new();
    let state = folder.path().join("state");
    let dir = state.to_str().expect("a path");
    run(folder.haggle(&["ask", "--state", dir, "--resume"])).says(3, &["ask first"]);
    let ask = ["ask", "--state", dir, "--provider", &provider.address, "--seed", "7", "--max-tokens", "60", PROMPT];
    let running = Running::spawn(folder.haggle(&ask));
    until_written(&state.join("answer.txt"), 10);
    run(folder.haggle(&["bans", "--state", dir])).says(3, &["another process", "end it first"]);
    drop(running);
    run(folder.haggle(&ask)).says(3, &["not complete", "--resume"]);
    let file = state.join("requester.snapshot");
    let mut bytes = fs::read(&file).expect("a snapshot");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&file, &bytes).expect("written");
    run(folder.haggle(&["ask", "--state", dir, "--resume"])).says(3, &["requester.snapshot", "move the file away"]);
    fs::write(&file, &bytes[..middle]).expect("written");
    run(folder.haggle(&["ask", "--state", dir, "--resume"])).says(3, &["not written to its end"]);
    // As it says: nobody is left who could go on, and what came is not lost.
    let moved = |name: &str| fs::rename(state.join(name), state.join(format!("{name}.away"))).expect("moved");
    moved("requester.snapshot");
    let came = fs::read(state.join("answer.txt")).expect("an answer");
    let left = ["nobody can go on", "stays in answer.txt", "move answer.txt and journal.jsonl away"];
    run(folder.haggle(&["ask", "--state", dir, "--resume"])).says(3, &left);
    moved("journal.jsonl");
    run(folder.haggle(&ask)).says(3, &["answer.txt", "move it away"]);
    assert_eq!(fs::read(state.join("answer.txt")).expect("an answer"), came);
    moved("answer.txt");
    run(folder.haggle(&ask)).exits(0);
}

#[test]
fn a_complete_answer_is_untouched_until_the_next_job_is_taken() {
    let provider = serve(&[]);
    let folder = Folder::new();
    let state = folder.path().join("state");
    let dir = state.to_str().expect("a path");
    let ask = ["ask", "--raw", "--state", dir, "--provider", &provider.address, "--seed", "7", "--max-tokens", "9"];
    let ask_with = |more: &[&str]| run(folder.haggle(&[&ask[..], more].concat()));
    let ask = |prompt: &str| ask_with(&[prompt]);
    let first = ask(PROMPT);
    first.exits(0);
    let kept = ["answer.txt", "journal.jsonl"].map(|name| state.join(name));
    let read = || kept.each_ref().map(|file| fs::read(file).expect("a file"));
    let before = read();
    assert_eq!(before[0], first.out.as_bytes());

    let file = state.join("requester.snapshot");
    let whole = fs::read(&file).expect("a snapshot");
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    for damaged in [&flipped[..], &whole[..7], &[]] {
        fs::write(&file, damaged).expect("written");
        ask("The dog").says(3, &["requester.snapshot", "move the file away"]);
        assert_eq!(read(), before);
    }
    // What nobody takes begins no answer.
    fs::write(&file, &whole).expect("written");
    ask_with(&["--stop", "", "The dog"]).says(2, &["stop strings"]);
    assert_eq!(read(), before);
    // The directory still tells the answer, and takes the next one as it was said.
    fs::write(&file, &flipped).expect("written");
    let told = run(folder.haggle(&["ask", "--raw", "--state", dir, "--resume"]));
    told.exits(0);
    assert_eq!(told.out, first.out);
    fs::rename(&file, state.join("damaged")).expect("moved");
    let second = ask("The dog");
    second.exits(0);
    assert_eq!(read()[0], second.out.as_bytes());
    assert_ne!(first.out, second.out);
}

#[test]
fn a_provider_killed_at_twenty_moments_is_replaced_by_the_same_text() {
    let second = serve(&["--price-out", "1"]);
    let folder = Folder::new();
    let whole = undisturbed_at(&folder, &second);
    let mut draws = Draws(12);
    for round in 0..20 {
        let first = Node::start(&["serve", "--tokens-per-second", "200"]);
        let ask = ["ask", "--provider", &first.address, "--provider", &second.address, "--budget", "1", "--seed", "7"];
        let state = folder.path().join(format!("moment-{round}"));
        let dir = state.to_str().expect("a path");
        let more = ["--patience", "100ms", "--state", dir, "--max-tokens", "40", PROMPT];
        let running = Running::spawn(folder.haggle(&[&ask[..], &more].concat()));
        let bytes = draws.below(whole.len() as u64 - 10);
        println!("round {round}: killed after {bytes} of {} bytes", whole.len());
        until_written(&state.join("answer.txt"), bytes);
        drop(first);
        let over = running.over();
        over.exits(0);
        assert_eq!(over.out, whole, "round {round}: {}", over.err);
    }
}

fn undisturbed_at(folder: &Folder, provider: &Node) -> String {
    let ask = ["ask", "--provider", &provider.address, "--budget", "1", "--seed", "7", "--max-tokens", "40", PROMPT];
    let over = run(folder.haggle(&ask));
    over.exits(0);
    over.out
}

#[test]
fn a_provider_that_was_killed_comes_back_under_its_name_and_the_answer_is_completed() {
    let folder = Folder::new();
    let state = folder.path().join("seller");
    let dir = state.to_str().expect("a path");
    let second = serve(&["--price-out", "1"]);
    let whole = undisturbed_at(&folder, &second);
    let first = serve(&["--state", dir]);
    let (peer, port) = (first.peer.clone(), first.port());
    let kept = folder.path().join("buyer");
    let buyer = kept.to_str().expect("a path");
    let ask = ["ask", "--provider", &first.address, "--provider", &second.address, "--budget", "1", "--seed", "7"];
    let more = ["--state", buyer, "--max-tokens", "40", PROMPT];
    let running = Running::spawn(folder.haggle(&[&ask[..], &more].concat()));
    until_written(&kept.join("answer.txt"), 10);
    drop(first);
    let listen = format!("/ip4/127.0.0.1/tcp/{port}");
    let again = serve(&["--state", dir, "--listen", &listen]);
    assert_eq!(again.peer, peer, "the key is in the state directory");
    let over = running.over();
    over.exits(0);
    assert_eq!(over.out, whole, "{}", over.err);
}

#[test]
fn bans_go_from_one_state_directory_to_another() {
    let folder = Folder::new();
    let (one, other, file) = (folder.path().join("one"), folder.path().join("other"), folder.path().join("bans"));
    let [one, other, file] = [&one, &other, &file].map(|path| path.to_str().expect("a path"));
    let peer = "12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp";
    run(folder.haggle(&["bans", "--state", one])).says(0, &[]);
    run(folder.haggle(&["ban", "--state", one, peer])).exits(0);
    assert!(run(folder.haggle(&["bans", "--state", one])).out.contains(peer));
    run(folder.haggle(&["bans", "--state", one, "--export", file])).exits(0);
    run(folder.haggle(&["bans", "--state", other, "--import", file])).exits(0);
    let over = run(folder.haggle(&["bans", "--state", other, "--json"]));
    assert_eq!((over.json()["peer"].as_str(), over.json()["cause"].as_str()), (Some(peer), Some("manual")));
    let known = run(folder.haggle(&["reliability", "--state", other, "--json", peer]));
    assert_eq!(known.json()["reliability"]["standing"], "banned");
    run(folder.haggle(&["allow", "--state", other, peer])).exits(0);
    assert!(run(folder.haggle(&["bans", "--state", other])).out.contains("nobody"));

    // A ban that has 60 s left, exported 59 s and 61 s ago: it still holds, and it is over.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock").as_millis() as u64;
    for (ago, holds) in [(30_000, true), (61_000, false)] {
        let header = serde_json::json!({"haggle_bans": 1, "exported_at_ms": now - ago});
        let ban = serde_json::json!({
            "peer": peer, "cause": "score", "remaining_ms": 60_000, "remembered_ms": 120_000, "proven": false,
        });
        fs::write(file, format!("{header}\n{ban}\n")).expect("written");
        let dir = folder.path().join(format!("ago-{ago}"));
        let dir = dir.to_str().expect("a path");
        run(folder.haggle(&["bans", "--state", dir, "--import", file])).exits(0);
        let known = run(folder.haggle(&["reliability", "--state", dir, "--json", peer]));
        assert_eq!(known.json()["reliability"]["standing"] == "banned", holds, "{ago}: {}", known.out);
    }
    fs::write(file, "{\"haggle_bans\": 1, \"exported_at_ms\": 0, \"more\": 1}\n").expect("written");
    run(folder.haggle(&["bans", "--state", one, "--import", file])).says(2, &["line 1", "more"]);
}
