//! What a person who serves sees, and what is in the books of both sides.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use serde_json::Value;

use crate::world::{Folder, Node, Running, run};

const PROMPT: &str = "Once upon a time";

pub(crate) fn lines(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).expect("a ledger");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// What both sides have to agree on.
pub(crate) fn figures(lines: &[Value]) -> Vec<Value> {
    let names = ["job", "attempt", "model", "fee_in", "price_out", "tokens", "owed", "settlement"];
    let mut figures: Vec<Value> =
        lines.iter().map(|line| names.iter().map(|name| line[name].clone()).collect()).collect();
    figures.sort_by_key(Value::to_string);
    figures
}

#[test]
fn the_ledgers_of_both_sides_agree() {
    let folder = Folder::new();
    let (sold, bought) = (folder.path().join("sold.jsonl"), folder.path().join("bought.jsonl"));
    let (sold_text, bought_text) = (sold.to_str().expect("text"), bought.to_str().expect("text"));
    let serve = ["serve", "--price-in", "1", "--price-out", "100", "--slots", "4", "--tokens-per-second", "200"];
    let serve = Node::start(&[&serve[..], &["--ledger", sold_text, "--drain", "1s"]].concat());
    let ask = |tokens| {
        let ask = ["ask", "--provider", &serve.address, "--budget", "1", "--seed", "1", "--max-tokens", tokens];
        folder.haggle(&[&ask[..], &["--ledger", bought_text, "--patience", "2s", PROMPT]].concat())
    };
    run(ask("20")).exits(0);
    run(ask("30")).exits(0);
    let cancelled = {
        let mut ask = Running::spawn(ask("900"));
        ask.wait_for_output();
        ask.signal("INT");
        ask.over()
    };
    cancelled.exits(130);
    // One that the end of the time cuts off, and that is told of it.
    let mut last = Running::spawn(ask("900"));
    last.wait_for_output();
    serve.process.signal("TERM");
    last.over().says(7, &["stopped serving"]);
    let over = serve.process.over();
    over.says(0, &["taking no new jobs; 1 still run"]);
    let status = over.events("status").pop().expect("the figures of all");
    assert_eq!((&status["won"], &status["served"], &status["running"]), (&4.into(), &4.into(), &0.into()), "{status}");

    let (ours, theirs) = (lines(&sold), lines(&bought));
    assert_eq!((ours.len(), theirs.len()), (4, 4), "{ours:?} {theirs:?}");
    let outcomes = |lines: &[Value]| lines.iter().map(|line| line["outcome"].clone()).collect::<Vec<_>>();
    assert_eq!(outcomes(&ours), ["length", "length", "cancelled", "shutdown"]);
    assert_eq!(outcomes(&theirs), ["length", "length", "cancelled", "interrupted"]);
    // Who cancels says so before it has acknowledged everything: there the provider may count less, never more.
    let (mut ours_whole, mut theirs_whole) = (ours.clone(), theirs.clone());
    let (less, more) = (ours_whole.remove(2), theirs_whole.remove(2));
    assert_eq!(figures(&ours_whole), figures(&theirs_whole));
    assert_eq!((&less["job"], &less["price_out"]), (&more["job"], &more["price_out"]));
    assert!(less["tokens"].as_u64() <= more["tokens"].as_u64(), "{less} {more}");
    assert!(theirs.iter().all(|line| line["peer"] == serve.peer.as_str() && line["side"] == "bought"));
    for file in [&sold, &bought] {
        assert_eq!(file.metadata().expect("there").permissions().mode() & 0o777, 0o600);
    }

    let told = run(folder.haggle(&["ledger", bought_text, "--json"]));
    told.exits(0);
    let told = told.json();
    let tokens: u64 = theirs.iter().filter_map(|line| line["tokens"].as_u64()).sum();
    assert_eq!((&told["peers"][0]["jobs"], &told["bought"]["tokens"]), (&4.into(), &tokens.into()));
    assert_eq!((&told["sold"]["owed"], &told["settlement"]), (&"0".into(), &"none".into()));
    let told = run(folder.haggle(&["ledger", sold_text]));
    told.exits(0);
    assert!(told.out.contains("settlement: none") && told.out.contains("in all"), "{}", told.out);
    assert!(told.out.lines().all(|line| line.chars().count() <= 80), "{}", told.out);
}

#[test]
fn a_torn_last_line_is_told_and_cut_off_and_any_other_is_refused() {
    let folder = Folder::new();
    let torn = folder.file("torn.jsonl", "{\"time\":17");
    let torn = torn.to_str().expect("text");
    let read = run(folder.haggle(&["ledger", torn, "--json"]));
    read.says(0, &["never finished (10 bytes)"]);
    assert_eq!(read.json()["torn_bytes"], 10);
    let mut serve = Running::spawn(folder.haggle(&["serve", "--ledger", torn]));
    serve.line();
    serve.signal("TERM");
    serve.over().says(0, &["never finished (10 bytes)", "it is cut off"]);
    assert_eq!(fs::read(torn).expect("there"), b"");

    let bad = folder.file("bad.jsonl", "{\"time\":17}\n");
    run(folder.haggle(&["ledger", bad.to_str().expect("text")])).says(1, &["line 1 is no line of a ledger"]);
    run(folder.haggle(&["ledger", "/nowhere/at/all"])).says(3, &["/nowhere/at/all"]);
    run(folder.haggle(&["serve", "--ledger", "/nowhere/at/all"])).says(3, &["/nowhere/at/all"]);
    run(folder.haggle(&["ledger"])).says(2, &["name a ledger"]);
    let mut by_setting = folder.haggle(&["ledger"]);
    by_setting.env("HAGGLE_LEDGER", bad);
    run(by_setting).says(1, &["line 1"]);
}

#[test]
fn a_person_who_serves_sees_who_asked_and_what_it_brought() {
    let folder = Folder::new();
    let serve = ["serve", "--alias", "tales", "--price-out", "100", "--status-every", "1s"];
    let mut serve = Running::spawn(folder.haggle(&serve));
    let said: Vec<String> = (0..6).map(|_| serve.line()).collect();
    assert!(said[0].contains("haggle-tiny-stories at 0 in, 100 out"), "{said:?}");
    assert!(said[2].contains("tales") && said[3].contains("1 job at once"), "{said:?}");
    assert!(said[4].contains("only this machine can reach it"), "{said:?}");
    let address = said[1].trim();
    run(folder.haggle(&["quote", "--provider", address])).exits(0);
    let ask = ["ask", "--provider", address, "--model", "tales", "--budget", "1", "--seed", "1"];
    run(folder.haggle(&[&ask[..], &["--max-tokens", "20", PROMPT]].concat())).exits(0);
    serve.wait_for_log("reached from this machine");
    serve.wait_for_log("s: asked ");
    serve.signal("TERM");
    let over = serve.over();
    over.exits(0);
    let last = over.err.lines().last().expect("a line");
    for figure in ["asked 2, offered 2", "won 1", "lost 1 (no job 1)", "declined 0", "owed 0.002", "0 running"] {
        assert!(last.contains(figure), "{figure} is not in {last}");
    }

    let mut quiet = Running::spawn(folder.haggle(&["serve", "--quiet"]));
    quiet.line();
    quiet.signal("TERM");
    let over = quiet.over();
    over.exits(0);
    assert!(!over.err.contains("asked"), "{}", over.err);
}
