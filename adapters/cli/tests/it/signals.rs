use crate::world::{Folder, Node, Running, run};

const PROMPT: &str = "Once upon a time";

/// A provider that is slow enough to be met in mid-answer.
fn slow(tokens_per_second: &str) -> Node {
    Node::start(&["serve", "--price-out", "100", "--slots", "4", "--tokens-per-second", tokens_per_second])
}

/// A job whose first token has come.
fn asking(folder: &Folder, serve: &Node, tokens: &str) -> Running {
    let ask = ["ask", "--provider", &serve.address, "--budget", "1", "--seed", "1", "--max-tokens", tokens, PROMPT];
    let mut ask = Running::spawn(folder.haggle(&ask));
    ask.wait_for_output();
    ask
}

#[test]
fn a_provider_killed_in_mid_answer_is_told_with_tokens_and_owed() {
    let (serve, folder) = (slow("20"), Folder::new());
    let ask = ["ask", "--json", "--provider", &serve.address, "--budget", "1", "--max-tokens", "900"];
    let mut ask = Running::spawn(folder.haggle(&[&ask[..], &["--patience", "2s", "--seed", "1", PROMPT]].concat()));
    while ask.json()["event"] != "stream:token" {}
    serve.process.signal("KILL");
    let over = ask.over();
    over.says(7, &["interrupted", "tokens were delivered", "units are owed"]);
    let error = &over.events("error")[0]["error"];
    let ended = &over.events("job:ended")[0];
    let tokens: u64 = over.events("stream:token").iter().filter_map(|event| event["n"].as_u64()).sum();
    assert!(tokens > 0);
    assert_eq!((&error["tokens_delivered"], &ended["bill"]["tokens"]), (&tokens.into(), &tokens.into()));
    assert_eq!(error["billed"], ended["bill"]["owed"]);
    assert_ne!(error["billed"], "0");
    assert_eq!((&ended["outcome"], &ended["reason"]), (&"interrupted".into(), &"lost".into()), "{ended}");
    assert!(ended["text"].as_str().is_some_and(|text| text.contains("connection was lost")), "{ended}");
}

#[test]
fn ctrl_c_cancels_at_the_provider_and_tells_what_is_owed() {
    let (mut serve, folder) = (slow("20"), Folder::new());
    let ask = asking(&folder, &serve, "900");
    ask.signal("INT");
    let over = ask.over();
    over.says(130, &["the job was cancelled", "tokens were delivered", "units are owed", "settlement: none"]);
    assert!(!over.out.is_empty());
    serve.process.wait_for_log("reason=Cancelled");
}

#[test]
fn the_first_signal_drains_a_provider() {
    for signal in ["TERM", "INT"] {
        let (mut serve, folder) = (slow("100"), Folder::new());
        let ask = asking(&folder, &serve, "100");
        serve.process.signal(signal);
        serve.process.wait_for_log("taking no new jobs");
        let late = ["ask", "--provider", &serve.address, "--budget", "1", PROMPT];
        run(folder.haggle(&late)).says(6, &["it takes no new jobs"]);
        ask.over().says(0, &["100 written"]);
        serve.process.over().exits(0);
    }
}

#[test]
fn the_second_signal_ends_a_providers_jobs_typed() {
    let (mut serve, folder) = (slow("20"), Folder::new());
    let ask = asking(&folder, &serve, "900");
    serve.process.signal("TERM");
    serve.process.wait_for_log("taking no new jobs");
    serve.process.signal("TERM");
    serve.process.over().exits(0);
    ask.over().says(7, &["stopped serving", "tokens were delivered"]);
}

#[test]
fn a_reader_that_leaves_ends_the_job() {
    for json in ["", "--json"] {
        let (mut serve, folder) = (slow("50"), Folder::new());
        let ledger = folder.path().join("bought.jsonl");
        let script = format!(
            "{} ask {json} --provider {} --budget 1 --max-tokens 900 --ledger {} '{PROMPT}' | {}",
            env!("CARGO_BIN_EXE_haggle"),
            serve.address,
            ledger.display(),
            // The fifth line of JSON is later than the first token.
            if json.is_empty() { "head -c 1" } else { "head -n 5" },
        );
        let mut shell = std::process::Command::new("sh");
        folder.prepare(&mut shell);
        shell.env("HAGGLE_ENABLE_MDNS", "false").args(["-c", &script]);
        let over = run(shell);
        over.says(0, &["nobody reads the output", "units; settlement: none"]);
        serve.process.wait_for_log("served");
        let booked = std::fs::read_to_string(ledger).expect("a ledger");
        let booked: serde_json::Value = serde_json::from_str(booked.trim()).expect("one line");
        let owed = booked["owed"].as_str().expect("a sum");
        assert!(owed != "0" && over.err.contains(&format!("owed {owed} units")), "{booked} {}", over.err);
    }
}

#[test]
fn a_buyer_that_was_killed_gives_its_slot_to_the_one_that_waits() {
    let slow = ["serve", "--price-out", "100", "--slots", "1", "--tokens-per-second", "5", "--drain", "1ms"];
    let (serve, folder) = (Node::start(&slow), Folder::new());
    // Its 900 tokens alone would take three minutes.
    let first = asking(&folder, &serve, "900");
    let ask = ["ask", "--json", "--provider", &serve.address, "--budget", "1", "--max-tokens", "5", PROMPT];
    let mut second = Running::spawn(folder.haggle(&ask));
    while second.json()["event"] != "job:awarded" {}
    first.signal("KILL");
    let over = second.over();
    over.exits(0);
    assert_eq!(over.events("job:ended")[0]["bill"]["tokens"], 5);
    serve.process.signal("TERM");
    serve.process.over().says(0, &["reason=Unacknowledged(Shutdown)"]);
}
