//! `haggle gateway`, as programs meet it. How it answers is tested where it lives, and by real clients in CI.

use std::{
    io::{BufRead, BufReader, Write},
    net::TcpStream,
};

use serde_json::{Value, json};

use crate::world::{Folder, Node, Running};

/// The first line that tells where clients are answered.
pub(crate) fn base_url(running: &mut Running) -> String {
    loop {
        let told = running.json();
        if told["event"] == "ready" {
            return told["base_url"].as_str().expect("a URL").to_owned();
        }
    }
}

/// Sends a chat. What comes is read line by line.
pub(crate) fn chat(url: &str, more: Value) -> BufReader<TcpStream> {
    asked(url, "", more)
}

fn asked(url: &str, headers: &str, more: Value) -> BufReader<TcpStream> {
    let at = url.trim_start_matches("http://").trim_end_matches("/v1");
    let mut body = json!({
        "model": "haggle-tiny-stories", "messages": [{"role": "user", "content": "Once upon a time"}], "max_tokens": 60,
    });
    body.as_object_mut().expect("an object").extend(more.as_object().cloned().unwrap_or_default());
    let body = body.to_string();
    let mut stream = TcpStream::connect(at).expect("it listens");
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\n{headers}Content-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(&[head.as_bytes(), body.as_bytes()].concat()).expect("it reads");
    BufReader::new(stream)
}

fn line(answer: &mut BufReader<TcpStream>) -> String {
    let mut line = String::new();
    assert!(answer.read_line(&mut line).expect("a line") > 0, "it ended");
    line
}

fn status(answer: &mut BufReader<TcpStream>) -> String {
    line(answer).split(' ').nth(1).unwrap_or_default().to_owned()
}

#[test]
fn the_demo_keeps_its_market_open_behind_a_gateway() {
    let folder = Folder::new();
    let mut demo = Running::spawn(folder.haggle(&["demo", "--json", "--gateway=127.0.0.1:0"]));
    let url = base_url(&mut demo);
    assert_eq!(status(&mut chat(&url, json!({"max_tokens": 5}))), "200");
    demo.signal("INT");
    demo.over().exits(130);
}

#[test]
fn what_a_killed_gateway_spent_today_is_spent() {
    let serve = Node::start(&["serve", "--price-out", "100", "--set", "tokens_per_second=20"]);
    let folder = Folder::new();
    let state = folder.path().join("state");
    let start = |folder: &Folder| {
        let args =
            ["--provider", &serve.address, "--state", state.to_str().expect("text"), "--budget-per-day", "0.009"];
        Running::spawn(folder.haggle(&[&["gateway", "--json", "--listen", "127.0.0.1:0"], &args[..]].concat()))
    };
    let mut killed = start(&folder);
    let mut answer = chat(&base_url(&mut killed), json!({"stream": true}));
    assert_eq!(status(&mut answer), "200");
    while !line(&mut answer).starts_with("data: ") {}
    killed.signal("KILL");
    drop(killed.wait_to_end());
    let mut again = start(&folder);
    let url = base_url(&mut again);
    assert_eq!(status(&mut chat(&url, json!({"max_tokens": 60}))), "402");
    again.signal("TERM");
    again.over().exits(0);
}

#[test]
fn keys_of_a_file_are_bound_as_it_says() {
    let serve = Node::start(&["serve"]);
    let folder = Folder::new();
    let secret = folder.file("secret", "# of the editor\nsecret-editor\n");
    let key = format!("name = \"editor\"\nkey_file = {:?}\nrate = 1\nmodels = [\"haggle-tiny-stories\"]", secret);
    let start = |more: &str| {
        let file = folder.file("keys.toml", format!("[[gateway.key]]\n{key}\n{more}\n")).display().to_string();
        let args = ["gateway", "--json", "--listen", "127.0.0.1:0", "--provider", &serve.address, "--config", &file];
        folder.haggle(&args)
    };
    for (more, told) in [
        ("key_env = \"ALSO\"", "gateway.key[0]: say where the key is"),
        ("budget_per_day = \"1\"", "needs --state"),
        (&format!("[[gateway.key]]\n{key}"), "two keys have the name"),
        ("[[gateway.key]]\nkey_env = \"NONE\"", "gateway.key[1].name:"),
        ("[[gateway.key]]\nname = \"b\"\nkey_env = \"NONE-OF-THIS-NAME\"", "gateway.key[1].key_env"),
    ] {
        Running::spawn(start(more)).over().says(3, &[told]);
    }
    let mut gateway = Running::spawn(start(""));
    let url = base_url(&mut gateway);
    assert_eq!(status(&mut chat(&url, json!({}))), "401");
    let ask = |more| status(&mut asked(&url, "Authorization: Bearer secret-editor\r\n", more));
    assert_eq!(ask(json!({"max_tokens": 5})), "200");
    assert_eq!(ask(json!({"max_tokens": 5})), "429");
    gateway.signal("TERM");
    gateway.over().exits(0);
}
