//! What a message says beyond that something failed: each time what is there instead, and the flag that asks for it.

use crate::{
    market::once_found,
    server::{Does, Server},
    world::{Folder, Node, Over, Running, run},
};

/// Who sells anything is found under one name, and shown in tables no wider than a terminal.
fn all_that_is_sold(folder: &Folder, by_dht: &[&str], serve: &Node) {
    let models = once_found(folder, &[&["models"][..], by_dht].concat());
    models.exits(0);
    for part in ["haggle-tiny-stories, smollm2-135m, tales", "0.25", "12.5", "1024", "1 of 1"] {
        assert!(models.out.contains(part), "{part} is not in {}", models.out);
    }
    let end = &serve.peer[serve.peer.len() - 8..];
    assert!(models.out.contains(end), "{end} is not in {}", models.out);
    assert!(models.out.lines().all(|line| line.chars().count() <= 80), "{}", models.out);
    for command in ["discover", "quote"] {
        let table = run(folder.haggle(&[&[command][..], by_dht].concat()));
        table.exits(0);
        assert!(table.out.contains("12.5") && table.out.contains(end), "{}", table.out);
        assert!(table.out.lines().all(|line| line.chars().count() <= 80), "{}", table.out);
    }
    let listed = run(folder.haggle(&[&["models", "--json"][..], by_dht].concat())).json();
    assert_eq!((&listed["network"], &listed["models"][0]["peer"]), (&"main".into(), &serve.peer.as_str().into()));
    assert_eq!(listed["models"][0]["price_out"], "12.5");
}

#[test]
fn a_model_nobody_serves_is_told_with_those_of_the_network() {
    let bootstrap = Node::start(&["bootstrap"]);
    let serve = ["serve", "--bootstrap", &bootstrap.address, "--alias", "smollm2-135m", "--alias", "tales"];
    let serve = Node::start(&[&serve[..], &["--price-in", "0.25", "--price-out", "12.5"]].concat());
    let folder = Folder::new();
    let by_dht = ["--bootstrap", &bootstrap.address];

    all_that_is_sold(&folder, &by_dht, &serve);
    let wrong = |command: &str, more: &[&str]| run(folder.haggle(&[&[command][..], more].concat()));
    for command in ["ask", "quote", "discover"] {
        let wrong =
            wrong(command, &[&by_dht[..], &["--model", "smollm-135m"], ASKS[usize::from(command == "ask")]].concat());
        wrong.says(4, &["nobody serves the model", "\"smollm-135m\"", "did you mean smollm2-135m?", "--model NAME"]);
    }
    let far = ["--model", "gpt", "Hello"];
    wrong("ask", &[&by_dht[..], &far].concat())
        .says(4, &["what is sold here: haggle-tiny-stories, smollm2-135m, tales."]);
    wrong("ask", &[&["--provider", &serve.address][..], &far].concat())
        .says(4, &["what was asked sells haggle-tiny-stories"]);
    // What does not fit is told beside what there is.
    let dear = ["--provider", &serve.address, "--max-price-out", "12", "--min-context", "5000", "Hello"];
    let there = ["from 12.5 a million on (--max-price-out 12)", "room for 1024 tokens (--min-context 5000)"];
    wrong("ask", &dear).says(4, &there);
    let excluded = ["--provider", &serve.address, "--exclude", &serve.peer, "Hello"];
    wrong("ask", &excluded).says(4, &["--exclude leaves 1 out"]);
    // A bootstrap node is no provider, and its address is for it alone.
    wrong("ask", &["--provider", &bootstrap.address, "Hello"])
        .says(4, &["answers, but sells nothing", "--bootstrap ADDR"]);
    let other = bootstrap.address.replace(&bootstrap.peer, &serve.peer);
    let mistaken = wrong("ask", &["--bootstrap", &other, "Hello"]);
    let told = [&format!("haggle: {}", bootstrap.peer), "not bootstrap node", "correct the id"];
    mistaken.says(4, &told);
    let own = bootstrap.address.replace(&bootstrap.peer, &own_id(&folder));
    let key = folder.path().join("own.key").display().to_string();
    let itself = ["serve", "--json", "--bootstrap", &own, "--key", &key];
    Running::spawn(folder.haggle(&itself)).wait_for_log("is this node itself");
    wrong("models", &["--bootstrap", &other, "--deadline", "9s"]).says(4, &told);
    let mut lost = Node::start(&["serve", "--bootstrap", &other]);
    while lost.process.json()["code"] != "bootstrap_unreachable" {}
    lost.process.wait_for_log("correct the id");
    // Of another network nothing is known here.
    let other = [&by_dht[..], &["--network", "mian", "Hello"]].concat();
    wrong("ask", &other).says(4, &["nobody sells anything in the network \"mian\"", "--network NAME"]);
    wrong("models", &[&by_dht[..], &["--network", "mian"]].concat()).says(4, &["\"mian\"", "--network"]);
    // Who has set a budget once need not say it again.
    let ask = ["ask", "--provider", &serve.address, "--max-tokens", "9", "Hello"];
    run(folder.haggle(&ask)).exits(5);
    let mut budget = folder.haggle(&ask);
    budget.env("HAGGLE_BUDGET", "1");
    run(budget).exits(0);
}

/// The peer id of the key that is made for it in `own.key`.
fn own_id(folder: &Folder) -> String {
    let key = folder.path().join("own.key").display().to_string();
    let node = Node::ready(Running::spawn(folder.haggle(&["serve", "--json", "--key", &key])), Folder::new());
    node.peer.clone()
}

const ASKS: [&[&str]; 2] = [&[], &["Hello"]];

#[test]
fn the_default_model_is_told_where_it_is_not_sold() {
    let server = Server::start(Does::Writes);
    let sells = ["serve", "--upstream", &server.url(), "--model", "llama3.2", "--context", "1000"];
    let serve = Node::start(&[&sells[..], &["--upstream-patience", "5m", "--status-every", "1h"]].concat());
    let folder = Folder::new();
    let ask =
        |more: &[&str]| run(folder.haggle(&[&["ask", "--provider", &serve.address][..], more, &["Hello"]].concat()));
    ask(&[]).says(4, &["haggle-tiny-stories", "where --model says no other", "what was asked sells llama3.2."]);
    // What was ordered does not fit, and how much does.
    let order = ["--model", "llama3.2", "--chat", "--max-tokens", "99999"];
    ask(&order).says(6, &["room for 1000 tokens", "--max-tokens orders 99999"]);
}

#[test]
fn a_name_without_an_address_is_told() {
    let folder = Folder::new();
    // No name has so long a part: nobody is asked for it.
    let host = format!("{}.example", "x".repeat(64));
    let address = format!("/dns4/{host}/tcp/1/p2p/12D3KooWGY9BExaYRvYc9FfbeH4huQhdRGSdATwSbqph3q22GTbr");
    let ask = run(folder.haggle(&["ask", "--provider", &address, "Hello"]));
    ask.says(4, &["can not be reached", "no address is known for the name xxx"]);
}

#[test]
fn an_answer_without_a_word_is_told_and_what_was_not_told_is_no_number() {
    let server = Server::start(Does::Says(&[" ", "\n"]));
    let serve = Node::start(&["serve", "--upstream", &server.url(), "--model", "m"]);
    let folder = Folder::new();
    let ask = |more: &[&str]| {
        run(folder.haggle(&[&["ask", "--provider", &serve.address, "--model", "m"][..], more, &["Hi"]].concat()))
    };
    ask(&["--chat"]).says(0, &["there is nothing to read in the answer", "--max-tokens"]);
    ask(&[]).says(0, &["there is nothing to read in the answer", "--chat"]);
    server.does(Does::Says(&["word"]));
    let over = ask(&["--chat"]);
    over.says(0, &["says: first token in "]);
    assert!(!over.err.contains("nothing to read"), "{}", over.err);
    server.does(Does::NeverCloses);
    let untold = ask(&["--chat", "--max-tokens", "3"]);
    untold.says(0, &["tokens read: not told, 3 written"]);
    let untold = ask(&["--json", "--chat", "--max-tokens", "3"]);
    let ended = &untold.events("job:ended")[0];
    assert!(ended["prompt_tokens"].is_null() && ended["bill"]["tokens"] == 3, "{ended}");
}

/// Two that sell what servers write which cannot go on with another's answer; the first is lost in mid-answer.
fn lost_in_mid_answer(failover: &[&str]) -> (Over, [String; 2]) {
    let servers = [Server::start(Does::Stalls), Server::start(Does::Stalls)];
    let serve = |at: usize, price: &str| {
        let sells = ["serve", "--model", "m", "--upstream-dialect", "openai", "--price-out", price];
        Node::start(&[&sells[..], &["--upstream", &servers[at].url()]].concat())
    };
    let serves = [serve(0, "1"), serve(1, "2")];
    let mut ask = vec!["ask", "--json", "--budget", "1", "--model", "m", "--chat", "--patience", "300ms"];
    serves.iter().for_each(|serve| ask.extend(["--provider", &serve.address]));
    let folder = Folder::new();
    let mut asking = Running::spawn(folder.haggle(&[&ask[..], failover, &["Hi"]].concat()));
    while asking.json()["event"] != "stream:token" {}
    servers[1].does(Does::Writes);
    let peers = serves.each_ref().map(|serve| serve.peer.clone());
    let [first, _second] = serves;
    drop(first);
    (asking.over(), peers)
}

#[test]
fn who_could_begin_anew_is_named_where_nobody_can_go_on() {
    let (over, [_, second]) = lost_in_mid_answer(&[]);
    over.says(7, &[&second[second.len() - 8..], "cannot go on with what another wrote", "--failover restart"]);
    for anew in ["restart", "continue-or-restart"] {
        let (over, _) = lost_in_mid_answer(&["--failover", anew]);
        over.exits(0);
    }
    let (over, _) = lost_in_mid_answer(&["--failover", "never"]);
    over.says(7, &["its failover lets nobody else go on: --failover continue, or restart"]);
}
