//! Talks, driven through pipes.

use std::fs;

use serde_json::{Value, json};

use crate::{
    server::{Does, Server, words},
    world::{Folder, Node, Running, run},
};

/// What the server was asked last: the conversation.
fn conversation(server: &Server) -> Vec<(String, String)> {
    let asked = server.asked().pop().expect("it was asked");
    let text = |of: &Value| of.as_str().expect("a text").to_owned();
    let messages = asked["messages"].as_array().expect("messages").iter();
    messages.map(|message| (text(&message["role"]), text(&message["content"]))).collect()
}

fn said(turns: &[(&str, &str)]) -> Vec<(String, String)> {
    turns.iter().map(|(role, text)| ((*role).to_owned(), (*text).to_owned())).collect()
}

/// A server's answers at 1 unit a token.
fn serve(server: &Server) -> Node {
    Node::start(&["serve", "--upstream", &server.url(), "--model", "m", "--price-out", "1000000"])
}

#[test]
fn a_talk_remembers_is_billed_by_turn_and_has_one_budget() {
    let server = Server::start(Does::Writes);
    let serve = serve(&server);
    let folder = Folder::new();
    let ledger = folder.path().join("bought.jsonl");
    let chat = ["chat", "--provider", &serve.address, "--model", "m", "--max-tokens", "3", "--budget", "8"];
    let more = ["--system", "Be brief.", "--top-p", "0.9", "--ledger", ledger.to_str().expect("text")];
    let mut chat = Running::spawn(folder.haggle(&[&chat[..], &more].concat()));
    chat.say("One");
    assert_eq!(chat.line(), words(3));
    chat.wait_for_log("3 of 8 units for this talk");
    assert_eq!(conversation(&server), said(&[("system", "Be brief."), ("user", "One")]));
    assert_eq!(server.asked()[0]["top_p"], 0.9);
    chat.say("");
    chat.say("Two");
    assert_eq!(chat.line(), words(3));
    chat.wait_for_log("6 of 8 units for this talk");
    let answer = words(3);
    let so_far = said(&[("system", "Be brief."), ("user", "One"), ("assistant", &answer), ("user", "Two")]);
    assert_eq!(conversation(&server), so_far);
    // 2 units are left, and 3 tokens could cost 3: this turn is refused, the talk goes on.
    chat.say("Three");
    chat.wait_for_log("the budget is 2");
    chat.say("/new");
    chat.say("/bye");
    let over = chat.over();
    over.says(5, &["at most 3 units, the only offer", "owed 3 units", "settlement: none"]);
    assert!(!over.err.contains("asked"), "what is the same every time is no news: {}", over.err);
    let bills: Vec<_> = over.err.lines().filter(|line| line.trim_start().starts_with("bill ")).collect();
    assert!(bills.len() == 2 && bills.iter().all(|line| line.chars().count() <= 80), "{bills:#?}");
    assert_eq!(server.asked().len(), 2);
    let booked = fs::read_to_string(ledger).expect("a ledger");
    assert_eq!(booked.lines().count(), 2, "{booked}");
}

#[test]
fn ctrl_c_ends_the_answer_and_not_the_talk() {
    let server = Server::start(Does::Stalls);
    let serve = serve(&server);
    let folder = Folder::new();
    let chat = ["chat", "--provider", &serve.address, "--model", "m", "--max-tokens", "4", "--budget", "99"];
    let mut chat = Running::spawn(folder.haggle(&chat));
    chat.say("One");
    // The answer begins, and never ends.
    chat.wait_for_text("word 0");
    server.does(Does::Writes);
    chat.signal("INT");
    chat.wait_for_log("of 99 units for this talk");
    chat.say("Two");
    chat.wait_for_log("4 written");
    let asked = conversation(&server);
    assert_eq!((asked[0].1.as_str(), asked.last().map(|last| last.1.as_str())), ("One", Some("Two")));
    assert!(asked.len() == 3 && asked[1].0 == "assistant" && asked[1].1.starts_with("word 0"), "{asked:?}");
    chat.say("/new");
    chat.say("Three");
    chat.over().exits(0);
    assert_eq!(conversation(&server), said(&[("user", "Three")]));
    // Where nothing is written, it ends the talk.
    let idle = ["chat", "--json", "--provider", &serve.address, "--model", "m", "--max-tokens", "1", "--budget", "9"];
    let mut idle = Running::spawn(folder.haggle(&idle));
    idle.say("One");
    while idle.json()["event"] != "chat:turn" {}
    idle.signal("INT");
    idle.wait_to_end().exits(130);
    // Who is told to end does, in mid-answer too.
    server.does(Does::Stalls);
    let told = ["chat", "--provider", &serve.address, "--model", "m", "--max-tokens", "4", "--budget", "9"];
    let mut told = Running::spawn(folder.haggle(&told));
    told.say("One");
    told.wait_for_text("word 0");
    told.signal("TERM");
    told.wait_to_end().exits(130);
}

#[test]
fn a_conversation_in_a_file_is_gone_on_with() {
    let server = Server::start(Does::Writes);
    let serve = serve(&server);
    let folder = Folder::new();
    let turns = json!([
        {"role": "user", "content": "One"}, {"role": "assistant", "content": "1"}, {"role": "user", "content": "Two"},
    ]);
    let file = folder.file("messages.json", turns.to_string()).display().to_string();
    let ask = ["ask", "--provider", &serve.address, "--model", "m", "--max-tokens", "2", "--budget", "9"];
    let ask = |more: &[&str]| run(folder.haggle(&[&ask[..], more].concat()));
    ask(&["--messages", &file]).exits(0);
    let whole = [("user", "One"), ("assistant", "1"), ("user", "Two")];
    assert_eq!(conversation(&server), said(&whole));
    ask(&["--messages", &file, "--system", "Be brief.", "Three"]).exits(0);
    let longer = [&[("system", "Be brief.")][..], &whole, &[("user", "Three")]].concat();
    assert_eq!(conversation(&server), said(&longer));
    ask(&["--system", "Be brief.", "Hi"]).exits(0);
    assert_eq!(conversation(&server), said(&[("system", "Be brief."), ("user", "Hi")]));
}
