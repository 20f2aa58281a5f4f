//! The conformance kit over sockets: our own node passes all of it, on both sides.

use std::{collections::BTreeMap, io::BufRead, thread};

use serde_json::{Value, json};

use crate::{
    gateway::{base_url, chat},
    server::{Server, events},
    world::{Folder, Node, Running, run},
};

#[test]
fn our_provider_keeps_every_rule_that_the_kit_asks_for() {
    let seller = Node::start(&["serve", "--listen", "/ip4/127.0.0.1/tcp/0", "--dht", "false", "--price-out", "0.5"]);
    let (kept, unplayed) = asked(&seller, &[]);
    assert!(kept >= 70, "{kept}");
    assert_eq!(unplayed, REQUESTS, "its engine takes no requests");
}

/// What is asked of those who take requests.
const REQUESTS: [&str; 3] = ["request-that-is-none", "tools", "resume-among-channels"];

#[test]
fn our_provider_of_a_server_keeps_every_rule_of_requests() {
    let call = |call: &str| format!(r#"{{"choices":[{{"delta":{{"tool_calls":[{{"index":0,{call}}}]}}}}]}}"#);
    let said = [
        r#"{"choices":[{"delta":{"reasoning_content":"So "}}]}"#.to_owned(),
        r#"{"choices":[{"delta":{"reasoning_content":"then."}}]}"#.to_owned(),
        call(r#""id":"a","type":"function","function":{"name":"weather","arguments":""}"#),
        call(r#""function":{"arguments":"{\"city\":"}"#),
        call(r#""function":{"arguments":"\"Paris\"}"}"#),
        r#"{"choices":[{"delta":{},"finish_reason":"tool_calls"}]}"#.to_owned(),
    ];
    let server = Server::start(events(said.iter().map(String::as_str).chain(["[DONE]"])));
    let serve = ["serve", "--upstream", &server.url(), "--model", "m", "--dht", "false", "--features", "tools"];
    let seller = Node::start(&[&serve[..], &["--price-out", "1"]].concat());
    let more = ["request", "features-that-it-lacks", "request-out-of-bounds"];
    let (kept, unplayed) = asked(&seller, &[&REQUESTS[..], &more].concat());
    assert_eq!((kept, unplayed), (6, Vec::new()));
}

/// Asks a provider, all or some; how many scenarios were kept, and which were not played.
fn asked(seller: &Node, only: &[&str]) -> (usize, Vec<String>) {
    let folder = Folder::new();
    let mut args = vec!["conformance", "--peer", &seller.address, "--json"];
    only.iter().for_each(|name| args.extend(["--only", name]));
    let mut process = Running::spawn(folder.haggle(&args));
    let (mut kept, mut unplayed) = (0, Vec::new());
    let sum = loop {
        let said = process.json();
        match said["verdict"].as_str() {
            Some("kept") => kept += 1,
            Some("not played") => unplayed.push(said["scenario"].as_str().expect("a name").to_owned()),
            None => break said,
            _ => panic!("{said}"),
        }
    };
    assert!(sum["kept"] == kept && sum["broken"] == 0 && sum["not_played"] == unplayed.len(), "{sum}");
    process.over().exits(0);
    (kept, unplayed)
}

#[test]
fn our_requester_keeps_every_rule_that_the_kit_asks_for() {
    let folder = Folder::new();
    let mut kit = Running::spawn(folder.haggle(&["conformance", "--serve", "--json"]));
    let mut buyers = Vec::new();
    let mut verdicts: BTreeMap<String, Value> = BTreeMap::new();
    let sum = loop {
        let said = kit.json();
        match said["event"].as_str() {
            Some("listening") => buyers.push(buyer(&folder, &said)),
            Some("verdict") => drop(verdicts.insert(said["scenario"].to_string(), said)),
            _ => break said,
        }
    };
    let wrong: Vec<&Value> = verdicts.values().filter(|said| said["verdict"] != "kept").collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(verdicts.len() >= 50 && sum["kept"] == verdicts.len(), "{sum}");
    kit.over().exits(0);
}

/// `ask`, with the job that a scenario needs; requests come through a gateway.
fn buyer(folder: &Folder, scenario: &Value) -> Running {
    let address = scenario["address"].as_str().expect("an address");
    let mut args = vec!["ask", "--provider", address, "--model", "conformance", "--max-tokens", "16"];
    if let Some(other) = scenario["other_address"].as_str() {
        args.extend(["--provider", other]);
    }
    if scenario["request"] == true {
        args.retain(|arg| !["--model", "conformance", "--max-tokens", "16"].contains(arg));
        args[0] = "gateway";
        args.extend(["--listen", "127.0.0.1:0", "--json", "--budget", "1"]);
        let mut gateway = Running::spawn(folder.haggle(&args));
        let url = base_url(&mut gateway);
        let tool = json!({"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}});
        let asks = json!({"model": "conformance", "max_tokens": 16, "tools": [tool]});
        // It is answered in its own time.
        thread::spawn(move || drop(chat(&url, asks).lines().last()));
        return gateway;
    }
    if scenario["bids"] == true {
        args.extend(["--budget", "10", "--haggle", "800"]);
    }
    if scenario["gives_up_after_ms"].is_u64() {
        // Who asks once is gone when its time is up; who talks is still there to say it again.
        args[0] = "chat";
        let mut talks = Running::spawn(folder.haggle(&[&args[..], &["--deadline", "3s"]].concat()));
        talks.say("Once");
        return talks;
    }
    let mut asks = Running::spawn(folder.haggle(&args));
    let bytes = scenario["prompt_bytes"].as_u64().expect("a size");
    asks.write("Once ".repeat(1 + usize::try_from(bytes).expect("small") / 5).as_bytes());
    asks
}

#[test]
fn a_rule_that_is_broken_is_named() {
    let folder = Folder::new();
    let mut kit = Running::spawn(folder.haggle(&["conformance", "--serve", "--only", "raised-price", "--json"]));
    let scenario = kit.json();
    // It does not bid, though it was to.
    let _buyer = buyer(&folder, &serde_json::json!({"address": scenario["address"], "prompt_bytes": 1}));
    assert_eq!(kit.json()["verdict"], "not played");
    kit.over().exits(0);
    run(folder.haggle(&["conformance", "--peer", "/ip4/127.0.0.1/tcp/1"])).says(2, &["--peer", "/p2p/"]);
    run(folder.haggle(&["conformance", "--serve", "--only", "raised-prise"])).says(2, &["raised-price", "--list"]);
    let listed = run(folder.haggle(&["conformance", "--list"]));
    assert!(listed.out.contains("third-counter") && listed.exits(0).is_empty(), "{}", listed.out);
}
