//! The idle time of a server, sold by the program.

use std::fs;

use serde_json::Value;

use crate::{
    server::{Does, MODEL, Server, events, words},
    world::{Folder, Node, Running, run},
};

const KEY: &str = "s3cret-key";

#[test]
fn a_servers_answers_are_sold_and_its_key_shows_nowhere() {
    let server = Server::start_on(0, Does::Writes, Some(KEY));
    let folder = Folder::new();
    let settings = format!("model = \"words\"\nupstream = {:?}\nupstream_key_env = \"SERVER_KEY\"\n", server.url());
    let file = folder.file("haggle.toml", settings).display().to_string();
    let serve = |key: &str| {
        let mut command = folder.haggle(&["serve", "--config", &file, "--price-out", "1000000", "--json", "-vv"]);
        command.env("RUST_LOG", "trace").env("SERVER_KEY", key);
        command
    };
    let mut process = Running::spawn(serve(KEY));
    let said = process.json();
    assert_eq!(said["upstream"]["model"], MODEL);
    assert_eq!((said["slots"].as_u64(), said["upstream"]["context"].as_u64()), (Some(3), Some(2048)), "as it says");
    let address = said["addresses"][0].as_str().expect("an address").to_owned();
    let ask =
        ["ask", "--provider", &address, "--model", "words", "--budget", "20", "--chat", "--max-tokens", "9", "Hi"];
    let over = run(folder.haggle(&ask));
    over.says(0, &["9 written", "owed 9 units"]);
    assert_eq!(over.out, words(9), "a program that captures both outputs gets the answer and nothing else");
    if cfg!(target_os = "linux") {
        let arguments = fs::read(format!("/proc/{}/cmdline", process.id())).expect("arguments");
        assert!(!String::from_utf8_lossy(&arguments).contains(KEY));
    }

    // It goes away while we run: that is told, and nobody is sent there.
    server.does(Does::Refuses(401, None, "{}"));
    run(folder.haggle(&ask)).exits(6);
    process.wait_for_log("cannot be computed now");
    process.signal("TERM");
    let over = process.over();
    over.exits(0);
    assert!(!over.out.contains(KEY) && !over.err.contains(KEY), "{}", over.err);

    let over = run(serve("wr0ng-key"));
    over.says(3, &["401", "check the key", "environment variable SERVER_KEY (--upstream-key-env)"]);
    assert!(!over.err.contains("wr0ng-key"));
    let keyless = run(folder.haggle(&["serve", "--upstream", &server.url(), "--model", "words"]));
    keyless.says(3, &["401", "--upstream-key-env VAR names the environment variable"]);
}

#[test]
fn thoughts_are_paid_for_and_shown_to_who_asks_for_them() {
    let say = |field: &str, text: &str| format!(r#"{{"choices":[{{"delta":{{"{field}":"{text}"}}}}]}}"#);
    let said = [say("reasoning_content", "Let me "), say("reasoning_content", "see."), say("content", "Well.")];
    let server = Server::start(events(said.iter().map(String::as_str).chain(["[DONE]"])));
    let args = ["serve", "--upstream", &server.url(), "--model", "m", "--price-out", "1000000"];
    let serve = Node::start(&[&args[..], &["--features", "tools,json_schema"]].concat());
    let folder = Folder::new();
    let ask =
        ["ask", "--provider", &serve.address, "--model", "m", "--budget", "20", "--chat", "--max-tokens", "9", "Hi"];
    for (more, is_shown) in [(&[][..], false), (&["--thoughts"][..], true)] {
        let over = run(folder.haggle(&[&ask[..], more].concat()));
        over.says(0, &["3 written (2 of them thought)", "owed 3 units"]);
        assert_eq!(over.out, "Well.", "the answer stays alone");
        assert_eq!(over.err.contains("Let me see."), is_shown, "{}", over.err);
    }
    let over = run(folder.haggle(&[&["--json"], &ask[..]].concat()));
    let told: Vec<Value> = over.out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let on = |channel: Value| -> String {
        let tokens = told.iter().filter(|line| line["event"] == "stream:token" && line["channel"] == channel);
        tokens.filter_map(|line| line["text"].as_str()).collect()
    };
    assert_eq!((&*on("thought".into()), &*on(Value::Null)), ("Let me see.", "Well."));
    assert_eq!(told.last().map(|end| end["thought_tokens"].as_u64()), Some(Some(2)));
    let discover = run(folder.haggle(&["--json", "discover", "--provider", &serve.address, "--model", "m"]));
    assert!(discover.out.contains(r#""features":["tools","json_schema"]"#), "as it was given: {}", discover.out);
    let wrong = run(folder.haggle(&[&args[..], &["--features", "tool"]].concat()));
    wrong.says(3, &["features: \"tool\" is not known", "tools"]);
    run(folder.haggle(&["serve", "--features", "tools"])).says(3, &["features: without upstream it means nothing"]);
}

#[test]
fn the_servers_own_words_are_shown_to_who_asks_for_them() {
    let server = Server::start(Does::Refuses(500, None, r#"{"error":{"message":"out of \u001b[31mmemory"}}"#));
    let (folder, url) = (Folder::new(), server.url());
    for shown in [true, false] {
        let mut args = vec!["serve", "--upstream", &url, "--model", "m", "--json"];
        args.extend(shown.then_some("--upstream-errors"));
        let mut process = Running::spawn(folder.haggle(&args));
        let address = process.json()["addresses"][0].as_str().expect("an address").to_owned();
        let ask =
            ["ask", "--provider", &address, "--model", "m", "--set", "max_retries=0", "--budget", "20", "--chat", "Hi"];
        assert!(run(folder.haggle(&ask)).out.is_empty());
        process.signal("TERM");
        let over = process.over();
        assert_eq!(over.err.contains("memory"), shown, "{}", over.err);
        assert!(!over.err.contains('\u{1b}'), "harmless for terminals");
    }
}

#[test]
fn what_cannot_be_sold_is_told_with_what_to_do() {
    let server = Server::start(Does::Writes);
    let (folder, url) = (Folder::new(), server.url());
    let refused = |code, args: &[&str], texts: &[&str]| {
        run(folder.haggle(&[&["serve"], args].concat())).says(code, texts);
    };
    refused(3, &["--upstream", &url], &["--model NAME"]);
    refused(3, &["--upstream-model", "a"], &["upstream_model", "--upstream URL"]);
    refused(3, &["--upstream-errors"], &["upstream_errors", "--upstream URL"]);
    refused(2, &["--upstream", &url, "--model", "m", "--upstream-patience", "0s"], &["longer than 0"]);
    refused(3, &["--upstream", &url, "--model-file", "a.gguf"], &["not both"]);
    refused(
        3,
        &["--upstream", &url, "--model", "m", "--upstream-key-env", "sekret"],
        &["the NAME of an environment variable"],
    );
    let hidden = run(folder.haggle(&["serve", "--upstream", &url, "--model", "m", "--upstream-key-env", "sekret"]));
    assert!(!hidden.err.contains("sekret"), "what is perhaps the key is not shown: {}", hidden.err);
    refused(3, &["--upstream", &url, "--model", "m", "--upstream-dialect", "lama"], &["did you mean llama"]);
    refused(3, &["--upstream", "localhost:1/v1", "--model", "m"], &["as in http://localhost:1/v1"]);
    refused(3, &["--upstream", "me:pass@localhost", "--model", "m"], &["as in http://127.0.0.1"]);
    let other = Server::start(Does::Writes);
    other.lists(404, serde_json::json!({}));
    let root = &other.url()[..other.url().len() - "/v1".len()];
    refused(2, &["--upstream", root, "--model", "m"], &["HTTP 404", &format!("Most end in /v1: {root}/v1")]);
    for end in ["/chat/completions", "/models"] {
        let question = format!("{url}{end}");
        refused(3, &["--upstream", &question, "--model", "m", "--upstream-model", "m"], &[&format!("write {url}\n")]);
    }
    let tls = url.replace("http://", "https://");
    refused(8, &["--upstream", &tls, "--model", "m"], &[&format!("if it speaks no TLS, its address is {url}")]);
    refused(2, &["--model", "llama3.2"], &["\"llama3.2\" is not part of this program", "--upstream", "--model-file"]);
    // What may be there soon is worth another try, which the service's unit makes.
    refused(8, &["--upstream", &url, "--model", "m", "--upstream-model", "b"], &[MODEL, "--upstream-model"]);
    let dead = Server::start(Does::Writes).url();
    refused(8, &["--upstream", &dead, "--model", "m"], &["cannot be reached", &dead]);
    let unit = include_str!("../../deploy/haggle.service");
    let no_more = unit.lines().find_map(|line| line.strip_prefix("RestartPreventExitStatus=")).expect("a setting");
    assert_eq!((no_more, unit.contains("Restart=on-failure\n")), ("2 3", true));
    let mut node = Node::start(&["serve", "--upstream", &url, "--model", "m", "--slots", "7", "--context", "99"]);
    node.process.wait_for_log(&format!("no model \"m\"; its only one, {MODEL:?}, is sold under that name"));
    let seen = run(folder.haggle(&["discover", "--json", "--provider", &node.address, "--model", "m"]));
    seen.exits(0);
    assert!(seen.out.contains("\"context\":99") && seen.out.contains("\"slots\":7"), "{}", seen.out);
}
