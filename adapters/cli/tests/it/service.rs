//! A provider as a service: it is reloaded, its ledger is moved away, nobody reads what it says.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::world::{Folder, Node, Running, run};

const PROMPT: &str = "Once upon a time";

/// A free answer.
fn ask(folder: &Folder, address: &str) {
    run(folder.haggle(&["ask", "--provider", address, "--max-tokens", "3", PROMPT])).exits(0);
}

fn lines(file: &Path) -> usize {
    fs::read_to_string(file).map_or(0, |text| text.lines().count())
}

/// The next line of JSON that tells of an event.
fn next(process: &mut Running, event: &str) -> Value {
    loop {
        let said = process.json();
        if said["event"] == event {
            return said;
        }
    }
}

#[test]
fn a_hangup_goes_on_in_a_new_ledger_and_loses_no_line() {
    let folder = Folder::new();
    let (ledger, moved) = (folder.path().join("sold.jsonl"), folder.path().join("sold.jsonl.1"));
    let mut serve = Node::start(&["serve", "--ledger", ledger.to_str().expect("text")]);
    ask(&folder, &serve.address);
    fs::rename(&ledger, &moved).expect("moved");
    ask(&folder, &serve.address);
    serve.process.signal("HUP");
    serve.process.wait_for_log("the settings were read again");
    ask(&folder, &serve.address);
    serve.process.signal("TERM");
    serve.process.over().exits(0);
    assert_eq!((lines(&moved), lines(&ledger)), (2, 1));

    // Where no new one can be made, the one before is kept.
    let below = folder.path().join("below");
    fs::create_dir(&below).expect("a folder");
    let mut serve = Node::start(&["serve", "--ledger", below.join("sold.jsonl").to_str().expect("text")]);
    fs::rename(&below, folder.path().join("away")).expect("moved");
    serve.process.signal("HUP");
    serve.process.wait_for_log("the one before is kept");
    ask(&folder, &serve.address);
    serve.process.signal("TERM");
    serve.process.over().exits(0);
    assert_eq!(lines(&folder.path().join("away/sold.jsonl")), 1);
}

#[test]
fn a_hangup_reads_the_settings_again_and_a_broken_file_changes_nothing() {
    let folder = Folder::new();
    let file = folder.file("haggle.toml", "drain = \"1s\"\nstatus_every = \"0s\"\n");
    let mut serve = Node::start(&["serve", "--config", file.to_str().expect("text")]);
    for (text, says) in
        [("drain = ", "is not TOML"), ("drian = \"2s\"\n", "did you mean drain?"), ("slots = 0", "at least 1")]
    {
        fs::write(&file, text).expect("written");
        serve.process.signal("HUP");
        let failed = next(&mut serve.process, "reload_failed");
        let said = failed["text"].as_str().expect("text");
        assert!(said.contains("stay as they were") && said.contains(says), "{said}");
    }
    fs::write(&file, "drain = \"2s\"\nstatus_every = \"1ms\"\nnetwork = \"other\"\n").expect("written");
    serve.process.signal("HUP");
    let done = next(&mut serve.process, "reloaded");
    assert_eq!(done["detail"]["changed"], serde_json::json!(["drain", "status_every"]));
    assert_eq!(done["detail"]["after_a_restart"], serde_json::json!(["network"]));
    // It says now how business goes, and did not before.
    next(&mut serve.process, "status");
    ask(&folder, &serve.address);
    serve.process.signal("TERM");
    serve.process.over().exits(0);
}

#[test]
fn what_is_told_stops_nothing_if_nobody_reads_it() {
    for args in [&["serve", "--json"][..], &["serve"]] {
        let folder = Folder::new();
        let mut command: Command = folder.haggle(&[args, &["--status-every", "1ms"]].concat());
        let mut serve =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("started");
        let mut out = BufReader::new(serve.stdout.take().expect("piped"));
        let mut said = String::new();
        while !said.contains("/p2p/") {
            assert!(out.read_line(&mut said).expect("text") > 0, "{said}");
        }
        drop((out, serve.stderr.take()));
        let is_address = |c: char| c.is_ascii_alphanumeric() || c == '/' || c == '.';
        let address = said.split(|c| !is_address(c)).find(|part| part.contains("/p2p/")).expect("an address");
        ask(&folder, address);
        ask(&folder, address);
        let term = Command::new("sh").args(["-c", &format!("kill -TERM {}", serve.id())]).status();
        assert!(term.expect("a shell").success());
        assert!(serve.wait().expect("over").success());
    }
}

#[test]
fn a_line_says_when_it_was_and_who_is_connected_while_it_drains_too() {
    let (bootstrap, folder) = (Node::start(&["bootstrap"]), Folder::new());
    let serve = ["serve", "--tokens-per-second", "20", "--status-every", "20ms", "--bootstrap", &bootstrap.address];
    let mut serve = Node::start(&serve);
    while next(&mut serve.process, "status")["bootstrap"]["connected"] != 1 {}
    let ask = ["ask", "--provider", &serve.address, "--max-tokens", "900", "--seed", "1", PROMPT];
    let mut ask = Running::spawn(folder.haggle(&ask));
    ask.wait_for_output();
    serve.process.signal("TERM");
    next(&mut serve.process, "draining");
    let status = next(&mut serve.process, "status");
    assert_eq!(status["running"], 1, "{status}");
    assert!(status["time"].as_str().is_some_and(|time| time.ends_with('Z')), "{status}");
    assert!(status["peers"].as_u64() >= Some(2), "{status}");
    serve.process.signal("TERM");
    // The last line is of the time before the end.
    let over = serve.process.over();
    over.exits(0);
    assert_eq!(over.events("status").last().expect("a last line")["bootstrap"]["connected"], 1, "{}", over.out);
}

#[test]
fn a_bootstrap_node_outlives_a_hangup_and_whoever_read_what_it_said() {
    let mut node = Node::start(&["bootstrap"]);
    node.process.signal("HUP");
    node.process.wait_for_log("restart it");
    node.process.signal("TERM");
    node.process.over().exits(0);
}

#[test]
fn one_key_is_for_one_process_and_the_other_is_named() {
    let folder = Folder::new();
    let key = folder.path().join("my.key");
    let key = key.to_str().expect("text");
    let mut serve = Node::start(&["serve", "--key", key]);
    serve.process.wait_for_log(&format!("my.key was not there: made a new key (peer id {})", serve.peer));
    let named = format!("(pid {})", serve.process.id());
    let says = ["my.key", "already", &named, "another key file: --key FILE or --data-dir DIR"];
    run(folder.haggle(&["serve", "--key", key])).says(3, &says);
    run(folder.haggle(&["bootstrap", "--key", key])).says(3, &says);
    run(folder.haggle(&["ask", "--key", key, "--provider", &serve.address, PROMPT])).says(3, &says);
    serve.process.signal("KILL");
    serve.process.over();
    let again = Node::start(&["serve", "--key", key]);
    again.process.signal("TERM");
    let over = again.process.over();
    assert!(!over.err.contains("new key"), "{}", over.err);

    let state = folder.path().join("state");
    let state = state.to_str().expect("text");
    let serve = Node::start(&["serve", "--state", state]);
    let named = format!("(pid {})", serve.process.id());
    run(folder.haggle(&["serve", "--state", state])).says(3, &["another process", &named]);
}

#[test]
fn a_price_that_looks_like_micro_units_is_doubted() {
    let folder = Folder::new();
    for (more, is_doubted) in [(&[][..], true), (&["--yes"][..], false)] {
        let mut serve = Running::spawn(folder.haggle(&[&["serve", "--price-out", "500000"][..], more].concat()));
        serve.line();
        serve.signal("TERM");
        let over = serve.over();
        over.exits(0);
        assert_eq!(over.err.contains("write 0.5"), is_doubted, "{}", over.err);
    }
}

/// What is answered to a request of HTTP: the status, and all of it.
fn http(at: &str, request: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(at).expect("somebody listens");
    stream.write_all(request.as_bytes()).expect("written");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    (status.unwrap_or_else(|| panic!("{answer:?}")), answer)
}

fn get(at: &str, path: &str) -> (u16, String) {
    http(at, &format!("GET {path} HTTP/1.1\r\nHost: {at}\r\n\r\n"))
}

#[test]
fn who_watches_over_it_is_told_when_nobody_should_be_sent_here() {
    let (bootstrap, folder) = (Node::start(&["bootstrap"]), Folder::new());
    let serve = ["serve", "--tokens-per-second", "20", "--metrics", "127.0.0.1:0", "--bootstrap", &bootstrap.address];
    let mut serve = Running::spawn(folder.haggle(&[&serve[..], &["--json", "--quiet"]].concat()));
    let said = serve.json();
    let (at, address) = (said["metrics"].as_str().expect("where"), said["addresses"][0].as_str().expect("an address"));
    next(&mut serve, "peer:connect");
    assert_eq!((get(at, "/health").0, get(at, "/ready").0), (200, 200));
    let (status, metrics) = get(at, "/metrics");
    assert_eq!(status, 200);
    assert!(metrics.contains("haggle_ready 1\n") && metrics.contains("haggle_peers_connected 1\n"), "{metrics}");

    bootstrap.process.signal("KILL");
    next(&mut serve, "peer:disconnect");
    let (status, why) = get(at, "/ready");
    assert!(status == 503 && why.contains("no bootstrap node"), "{why}");
    assert_eq!(get(at, "/health").0, 200);

    let mut ask = Running::spawn(folder.haggle(&["ask", "--provider", address, "--max-tokens", "900", PROMPT]));
    ask.wait_for_output();
    serve.signal("TERM");
    next(&mut serve, "draining");
    let (status, why) = get(at, "/ready");
    assert!(status == 503 && why.contains("draining"), "{why}");
    assert!(get(at, "/metrics").1.contains("haggle_draining 1\n"));

    for (request, status) in [
        ("GET /nothing HTTP/1.1\r\n\r\n".to_owned(), 404),
        ("POST /metrics HTTP/1.1\r\n\r\n".to_owned(), 405),
        ("\0\r\n\r\n".to_owned(), 405),
        (format!("GET /{} HTTP/1.1\r\n", "x".repeat(9_000)), 431),
    ] {
        assert_eq!(http(at, &request).0, status, "{:.40}", request);
    }
    let (_, head) = http(at, "HEAD /health HTTP/1.1\r\n\r\n");
    assert!(head.ends_with("\r\n\r\n") && head.contains("Content-Length: 6\r\n"), "{head}");
    serve.signal("TERM");
    serve.over().exits(0);

    run(folder.haggle(&["serve", "--metrics", "here"])).says(3, &["metrics:", "IP:PORT"]);
    run(folder.haggle(&["bootstrap", "--metrics", "192.0.2.1:1"])).says(3, &["metrics:", "listened on"]);
    bootstrap.process.signal("KILL");
}

#[test]
fn a_node_that_runs_tells_its_own_user_how_it_is() {
    let folder = Folder::new();
    let mut serve = Running::spawn(folder.haggle(&["serve", "--json", "--price-out", "2"]));
    let mut bootstrap = Running::spawn(folder.haggle(&["bootstrap", "--json"]));
    let said = (serve.json(), bootstrap.json());
    ask_paid(&folder, said.0["addresses"][0].as_str().expect("an address"));
    next(&mut serve, "p2p:dialled");
    let told = run(folder.haggle(&["status", "--json"]));
    told.exits(0);
    let told = told.json();
    let of =
        |peer: &Value| told["nodes"].as_array().and_then(|all| all.iter().find(|node| node["peer"] == *peer)).cloned();
    let (seller, entry) = (of(&said.0["peer"]).expect("it runs"), of(&said.1["peer"]).expect("it runs"));
    assert_eq!((&seller["ready"], &seller["models"][0]["price_out"]), (&true.into(), &"2".into()), "{seller}");
    assert!(seller["reached_from"].as_str().is_some_and(|from| from.contains("this machine")), "{seller}");
    assert_eq!((&seller["totals"]["won"], &entry["models"]), (&1.into(), &serde_json::json!([])), "{seller} {entry}");
    let text = run(folder.haggle(&["status"]));
    text.exits(0);
    assert!(text.out.contains("sells haggle-tiny-stories at 0 in, 2 out"), "{}", text.out);

    let run_folder = folder.path().join("data/haggle/run");
    let mode = |path: &Path| path.metadata().expect("there").permissions().mode() & 0o777;
    assert_eq!(mode(&run_folder), 0o700);
    let sockets: Vec<_> = fs::read_dir(&run_folder).expect("there").map(|entry| entry.expect("one").path()).collect();
    assert!(sockets.len() == 2 && sockets.iter().all(|socket| mode(socket) == 0o600), "{sockets:?}");
    // One that was killed leaves its socket behind, and is not there for all that.
    serve.signal("KILL");
    serve.over();
    bootstrap.signal("TERM");
    bootstrap.over().exits(0);
    assert_eq!(fs::read_dir(&run_folder).expect("there").count(), 1);
    run(folder.haggle(&["status"])).says(4, &["no node of yours runs", "--data-dir"]);
}

fn ask_paid(folder: &Folder, address: &str) {
    run(folder.haggle(&["ask", "--provider", address, "--budget", "1", "--max-tokens", "3", PROMPT])).exits(0);
}
