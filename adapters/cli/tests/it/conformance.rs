//! The conformance kit over sockets: our own node passes all of it, on both sides.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::world::{Folder, Node, Running, run};

#[test]
fn our_provider_keeps_every_rule_that_the_kit_asks_for() {
    let seller = Node::start(&["serve", "--listen", "/ip4/127.0.0.1/tcp/0", "--dht", "false", "--price-out", "0.5"]);
    let folder = Folder::new();
    let mut process = Running::spawn(folder.haggle(&["conformance", "--peer", &seller.address, "--json"]));
    let mut kept = 0;
    let sum = loop {
        let said = process.json();
        if said["event"] == "conformance" {
            break said;
        }
        assert_eq!(said["verdict"], "kept", "{said}");
        kept += 1;
    };
    assert!(kept >= 60 && sum["kept"] == kept && sum["broken"] == 0 && sum["not_played"] == 0, "{sum}");
    process.over().exits(0);
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
    assert!(verdicts.len() >= 30 && sum["kept"] == verdicts.len(), "{sum}");
    kit.over().exits(0);
}

/// `ask`, with the job that a scenario needs.
fn buyer(folder: &Folder, scenario: &Value) -> Running {
    let address = scenario["address"].as_str().expect("an address");
    let mut args = vec!["ask", "--provider", address, "--model", "conformance", "--max-tokens", "16"];
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
