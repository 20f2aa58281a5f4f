use std::time::Instant;

use serde_json::Value;

use crate::{
    relay::relay_to,
    world::{Folder, Node, Over, PATIENCE, Running, run},
};

const PROMPT: &str = "Once upon a time";

/// Asks until somebody is found: what was announced takes a moment to arrive, and until then the search truly is empty.
pub(crate) fn once_found(folder: &Folder, args: &[&str]) -> Over {
    let until = Instant::now() + PATIENCE;
    loop {
        let over = run(folder.haggle(args));
        if over.code != Some(4) || Instant::now() > until {
            return over;
        }
    }
}

#[test]
fn a_provider_is_found_through_a_third_node_only() {
    for suffix in ["", "/ws"] {
        let listen = format!("/ip4/127.0.0.1/tcp/0{suffix}");
        let bootstrap = Node::start(&["bootstrap", "--listen", &listen]);
        let serve = Node::start(&["serve", "--listen", &listen, "--bootstrap", &bootstrap.address, "--alias", "tales"]);
        assert_eq!(serve.address.contains("/ws/p2p/"), suffix == "/ws", "{}", serve.address);
        let folder = Folder::new();
        let by_dht = ["ask", "--bootstrap", &bootstrap.address, "--model", "tales", "--seed", "5"];
        let over = once_found(&folder, &[&by_dht[..], &["--max-tokens", "20", PROMPT]].concat());
        over.says(0, &["asked", "offer", "award", "the only offer", "20 written", "0 units", "settlement: none"]);
        assert!(!over.out.is_empty());
        let tail = &serve.peer[serve.peer.len() - 8..];
        assert!(over.err.contains(tail), "{tail} is not in {}", over.err);

        // The same seed, by the provider's own address: the same answer.
        let again = ["ask", "--provider", &serve.address, "--seed", "5", "--max-tokens", "20", PROMPT];
        let again = run(folder.haggle(&again));
        again.exits(0);
        assert_eq!(again.out, over.out);
    }
}

#[test]
fn three_prices_the_cheapest_wins_and_the_prompt_reaches_nobody_else() {
    let serves = ["90", "40", "55"].map(|price| Node::start(&["serve", "--price-in", "1", "--price-out", price]));
    let relays = serves.each_ref().map(relay_to);
    let folder = Folder::new();
    let prompt = "the little girl went to the beach and the little boy went to the garden. ".repeat(35);
    let mut args = vec!["ask", "--json", "--explain", "--budget", "1", "--seed", "1", "--max-tokens", "30"];
    relays.iter().for_each(|(address, _)| args.extend(["--provider", address]));
    args.push(&prompt);
    let over = run(folder.haggle(&args));
    over.exits(0);
    let winner = &serves[1].peer;
    assert_eq!(over.events("job:asked").len(), 3);
    assert_eq!(over.events("job:offered").len(), 3);
    let awarded = &over.events("job:awarded")[0];
    assert_eq!((&awarded["offer"]["peer"], &awarded["reason"]), (&Value::from(winner.as_str()), &"cheapest".into()));
    assert_eq!(awarded["offer"]["price_out"], "40");
    assert!(!text(&over).is_empty());
    let ended = &over.events("job:ended")[0];
    // 2,555 bytes are quoted as 2,560: 640 tokens read at 1, then what was written at 40.
    let written = ended["bill"]["tokens"].as_u64().expect("a number");
    assert_eq!(ended["bill"]["owed"], format!("0.{:05}", 64 + 4 * written).trim_end_matches('0'));
    assert_eq!(ended["bill"]["settlement"], "none");
    let weighed = over.events("job:weighed");
    let fared = |step: &Value| -> Vec<(String, String)> {
        let field = |of: &Value, name: &str| of[name].as_str().expect("a text").to_owned();
        let candidates = step["candidates"].as_array().expect("a list");
        candidates.iter().map(|one| (field(one, "peer"), field(one, "verdict"))).collect()
    };
    assert_eq!((&weighed[0]["step"], &weighed[1]["step"]), (&"asking".into(), &"choosing".into()));
    assert!(fared(&weighed[0]).iter().all(|(_, verdict)| verdict == "asked"));
    let best_first = [1, 2, 0].map(|at: usize| serves[at].peer.clone());
    assert_eq!(
        fared(&weighed[1]),
        best_first.into_iter().zip(["awarded", "beaten", "beaten"].map(String::from)).collect::<Vec<_>>()
    );
    for ((_, captured), serve) in relays.iter().zip(&serves) {
        let sent = captured.to_provider.lock().expect("not poisoned").len();
        // Nothing is compressed on the way: fewer bytes than the prompt has cannot hold it.
        assert_eq!(
            sent > prompt.len(),
            serve.peer == *winner,
            "{sent} bytes were sent, the prompt has {}",
            prompt.len()
        );
    }
}

#[test]
fn a_budget_below_the_cheapest_offer_is_refused_with_its_price() {
    let serve = Node::start(&["serve", "--price-in", "10", "--price-out", "2000"]);
    let folder = Folder::new();
    let ask = |budget: &[&str]| {
        let ask = ["ask", "--json", "--provider", &serve.address, "--max-tokens", "100"];
        run(folder.haggle(&[&ask[..], budget, &[PROMPT]].concat()))
    };
    // 256 bytes are 64 tokens at 10, and 100 at 2000.
    let over = ask(&["--budget", "0.1"]);
    over.says(5, &["0.20064 units", "0.1", "--budget"]);
    assert!(over.events("job:awarded").is_empty(), "nothing is awarded");
    assert_eq!(over.events("error")[0]["error"]["code"], "over_budget");
    ask(&[]).says(5, &["only free providers are taken", "--budget 0.20064"]);
    ask(&["--budget", "0.200639"]).exits(5);
    ask(&["--budget", "0.20064"]).exits(0);
}

#[test]
fn bids_lower_the_price_down_to_the_providers_floor() {
    let serve = Node::start(&["serve", "--price-out", "1000", "--floor", "700"]);
    let folder = Folder::new();
    let ask = ["ask", "--json", "--provider", &serve.address, "--max-tokens", "10", "--budget", "1"];
    let over = run(folder.haggle(&[&ask[..], &["--haggle", "700", PROMPT]].concat()));
    over.exits(0);
    assert_eq!(over.events("job:negotiated")[0]["price_out"], "850");
    let quote = ["quote", "--json", "--provider", &serve.address, "--haggle", "900"];
    assert_eq!(run(folder.haggle(&quote)).json()["offers"][0]["price_out"], "900");
}

#[test]
fn discover_and_quote_tell_prices_and_obey_their_criteria() {
    let bootstrap = Node::start(&["bootstrap"]);
    let serve = |price| Node::start(&["serve", "--bootstrap", &bootstrap.address, "--price-out", price]);
    let (cheap, dear) = (serve("1.5"), serve("20"));
    let folder = Folder::new();
    let find = |command: &str, more: &[&str]| {
        once_found(&folder, &[&[command, "--json", "--bootstrap", &bootstrap.address], more].concat())
    };
    let until = Instant::now() + PATIENCE;
    let found = loop {
        let found = find("discover", &[]).json();
        if found["providers"].as_array().is_some_and(|all| all.len() == 2) || Instant::now() > until {
            break found;
        }
    };
    assert_eq!(found["outcome"], "complete");
    let peers = |found: &Value| -> Vec<String> {
        let all = found["providers"].as_array().or(found["offers"].as_array()).expect("a list");
        all.iter().filter_map(|one| Some(one["peer"].as_str()?.to_owned())).collect()
    };
    assert_eq!(peers(&found), [cheap.peer.clone(), dear.peer.clone()], "the best price first");
    assert_eq!((&found["providers"][0]["price_out"], &found["providers"][0]["context"]), (&"1.5".into(), &1024.into()));
    assert_eq!(peers(&find("discover", &["--max-price-out", "2"]).json()), std::slice::from_ref(&cheap.peer));
    assert_eq!(peers(&find("discover", &["--limit", "1", "--prefer", &dear.peer]).json()).len(), 1);
    assert_eq!(
        peers(&find("discover", &["--exclude", &cheap.peer, "--refresh"]).json()),
        std::slice::from_ref(&dear.peer)
    );
    let offers = find("quote", &["--max-tokens", "1000", "--prompt-bytes", "100"]).json();
    assert_eq!(peers(&offers), [cheap.peer.clone(), dear.peer.clone()]);
}

#[test]
fn nobody_there_is_told_truthfully_and_soon() {
    let bootstrap = Node::start(&["bootstrap"]);
    let folder = Folder::new();
    let commands: [&[&str]; 3] = [&["discover"], &["quote"], &["ask", PROMPT]];
    let told = |command: &[&str], address: &str| {
        let begun = Instant::now();
        let over = run(folder.haggle(&[command, &["--json", "--bootstrap", address]].concat()));
        let took = begun.elapsed();
        assert!(took.as_secs() < 12, "{command:?} took {took:?}");
        over
    };
    for command in commands {
        let over = told(command, &bootstrap.address);
        over.says(4, &["nobody serves the model"]);
        let error = &over.events("error")[0]["error"];
        assert_eq!(
            (&error["outcome"], &error["exit"], &error["retry_safe"]),
            (&"empty".into(), &4.into(), &true.into())
        );
    }
    let address = bootstrap.address.clone();
    drop(bootstrap);
    std::thread::scope(|scope| {
        for command in commands {
            let (told, address) = (&told, &address);
            scope.spawn(move || {
                let over = told(command, address);
                over.says(
                    4,
                    &["haggle: bootstrap node", "found in time: bootstrap node", "does not answer", "check that"],
                );
                assert_eq!(over.events("error")[0]["error"]["outcome"], "timed_out");
            });
        }
    });
}

/// The answer as it was streamed.
fn text(over: &Over) -> String {
    over.events("stream:token").iter().filter_map(|event| event["text"].as_str()).collect()
}

#[test]
fn who_goes_on_after_a_loss_is_the_askers_choice() {
    for (failover, code) in [("never", 7), ("restart", 0)] {
        let serves =
            ["40", "55"].map(|price| Node::start(&["serve", "--price-out", price, "--tokens-per-second", "50"]));
        let mut args =
            vec!["ask", "--json", "--budget", "1", "--seed", "1", "--max-tokens", "60", "--patience", "300ms"];
        serves.iter().for_each(|serve| args.extend(["--provider", &serve.address]));
        args.extend(["--failover", failover, PROMPT]);
        let folder = Folder::new();
        let mut ask = Running::spawn(folder.haggle(&args));
        while ask.json()["event"] != "stream:token" {}
        let [lost, _other] = serves;
        drop(lost);
        let over = ask.over();
        over.exits(code);
        let bill = &over.events("job:ended")[0]["bill"]["lines"];
        assert_eq!(bill.as_array().map(Vec::len), Some(if failover == "never" { 1 } else { 2 }), "{bill}");
        let taken_over: Vec<Value> =
            over.events("job:taken-over").into_iter().map(|event| event["how"].clone()).collect();
        assert_eq!(taken_over, if failover == "never" { vec![] } else { vec![Value::from("restarted")] });
    }
}

#[test]
fn the_demo_shows_a_whole_market() {
    let folder = Folder::new();
    let over = run(folder.haggle(&["demo"]));
    over.exits(0);
    let texts = ["bootstrap", "Hare", "Fox", "Snail", "offer", "award", "the cheapest of 3", "plug is pulled"];
    for text in texts.into_iter().chain(["takes over", "tokens read again", "owed", "settlement: none"]) {
        assert!(over.out.contains(text), "{text:?} is not in {}", over.out);
    }
    assert!(over.out.contains("Once upon a time"), "{}", over.out);
    assert!(!over.out.contains('\x1b'), "no colours where there is no terminal");
    let quiet = run(folder.haggle(&["demo", "--no-failure"]));
    quiet.exits(0);
    assert!(!quiet.out.contains("plug"), "{}", quiet.out);
}

#[test]
fn the_demo_loses_a_provider_and_not_a_letter() {
    let folder = Folder::new();
    let over = run(folder.haggle(&["demo", "--json", "The dog"]));
    over.exits(0);
    assert_eq!(over.events("demo:node").len(), 5);
    assert!(over.events("job:offered").len() >= 3);
    let lost = &over.events("demo:lost")[0];
    let taken_over = over.events("job:taken-over");
    assert_eq!((taken_over.len(), &taken_over[0]["how"]), (1, &"exact".into()));
    let ended = &over.events("job:ended")[0];
    assert_eq!(ended["outcome"], "finished");
    let Some([first, second]) = ended["bill"]["lines"].as_array().map(Vec::as_slice) else { panic!("{ended}") };
    assert_eq!(first["peer"], lost["peer"]);
    assert_eq!(second["peer"], taken_over[0]["peer"]);
    assert_ne!(first["peer"], second["peer"]);
    assert_eq!((&first["reread"], &first["tokens"]), (&0.into(), &taken_over[0]["seq"]));
    assert!(second["reread"].as_u64() > Some(0), "{second}");

    let undisturbed = run(folder.haggle(&["demo", "--json", "--no-failure", "The dog"]));
    undisturbed.exits(0);
    assert!(undisturbed.events("demo:lost").is_empty());
    assert_eq!(undisturbed.events("job:ended")[0]["bill"]["lines"].as_array().map(Vec::len), Some(1));
    assert_eq!(text(&over), text(&undisturbed));
}
