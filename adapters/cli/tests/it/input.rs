use std::net::TcpListener;

use crate::world::{Folder, Node, Running, run};

#[test]
fn without_arguments_there_is_help_and_every_command_has_some() {
    let folder = Folder::new();
    let over = run(folder.haggle(&[]));
    over.exits(0);
    assert!(over.out.contains("Usage: haggle") && over.out.contains("haggle demo"), "{}", over.out);
    for command in ["serve", "bootstrap", "discover", "models", "quote", "ask", "chat", "demo", "config", "man"] {
        let over = run(folder.haggle(&[command, "--help"]));
        over.exits(0);
        assert!(over.out.contains("Usage: haggle"), "{}", over.out);
        let wide = over.out.lines().find(|line| line.chars().count() > 80);
        assert_eq!(wide, None, "{command}: what is no terminal is taken for one of 80 columns");
        assert_eq!(run(folder.haggle(&["help", command])).out.lines().next(), over.out.lines().next());
    }
    let ask = run(folder.haggle(&["ask", "--help"])).out;
    for heading in ["The answer:", "Money:", "If something goes wrong:", "Which providers:", "The network:"] {
        assert!(ask.lines().any(|line| line == heading), "{heading} is not in {ask}");
    }
    let codes = run(folder.haggle(&["ask", "--help"])).out;
    for code in ["0 ", "2 ", "3 ", "4 ", "5 ", "6 ", "7 ", "8 ", "130 "] {
        assert!(codes.lines().any(|line| line.trim_start().starts_with(code)), "{code} is not in {codes}");
    }
}

#[test]
fn what_cannot_work_is_refused_before_anything_is_asked() {
    let folder = Folder::new();
    let address = "/ip4/127.0.0.1/tcp/1/p2p/12D3KooWGY9BExaYRvYc9FfbeH4huQhdRGSdATwSbqph3q22GTbr";
    let table: [(&[&str], i32, &[&str]); 30] = [
        (&["ask", "Hello"], 3, &["nobody to ask", "--bootstrap", "--provider", "--mdns"]),
        (&["discover"], 3, &["nobody to ask"]),
        (&["quote"], 3, &["nobody to ask"]),
        (&["ask", "--provider", "nonsense", "Hello"], 3, &["providers[0]", "multiaddr", "--provider"]),
        (&["ask", "--provider", "/ip4/127.0.0.1/tcp/1", "Hello"], 3, &["providers[0]", "add /p2p/"]),
        (&["ask", "--provider", "/ip4/1.2.3.4/tcp/1/p2p/xyz", "Hello"], 3, &["no peer id"]),
        (&["ask", "--bootstrap", "/ip4/1.2.3.4/udp/1", "Hello"], 3, &["bootstrap_nodes[0]"]),
        (&["serve", "--listen", "/ip4/127.0.0.1"], 3, &["listen_addresses[0]", "/tcp"]),
        (&["serve", "--listen", "0.0.0.0:4001"], 3, &["--listen", "write /ip4/0.0.0.0/tcp/4001 "]),
        (&["serve", "--model", "haggle-tiny-story"], 2, &["haggle-tiny-story", "did you mean haggle-tiny-stories?"]),
        (&["serve", "--price-in", "-1"], 2, &["--price-in", "negative"]),
        (&["serve", "--price-out", "0.1234567"], 2, &["--price-out", "6 digits"]),
        (&["ask", "--provider", address, "--max-tokens", "0", "Hello"], 2, &["--max-tokens", "at least 1"]),
        (&["ask", "--provider", address, "--budget", "lots", "Hello"], 2, &["--budget", "decimal"]),
        (&["ask", "--provider", address, "--patience", "121s", "Hello"], 2, &["--patience", "at most 2m"]),
        (&["ask", "--provider", address, "--deadline", "0s", "Hello"], 2, &["--deadline", "longer than 0"]),
        (&["ask", "--provider", address, "--deadline", "30", "Hello"], 2, &["--deadline", "30s", "30ms"]),
        (&["serve", "--drain", "30"], 2, &["--drain", "30s", "30ms"]),
        (&["ask", "--provider", address, "--prefer", "me", "Hello"], 2, &["--prefer", "follows /p2p/", "12D3KooW"]),
        (&["ask", "--provider", address, "--haggle", "0.9", "Hello"], 2, &["--haggle", "0.9 of the offer is 900"]),
        (&["ask", "--provider", address, "--top-p", "1.5", "Hello"], 2, &["--top-p", "at most 1"]),
        (&["ask", "--provider", address, "--messages", "/nowhere.json"], 2, &["/nowhere.json"]),
        (&["serve", "--model-file", "x", "--alias", "*"], 2, &["x"]),
        (&["serve", "--alias", "*"], 3, &["\"*\"", "cannot be a model's name"]),
        (&["man", "/proc/nowhere"], 2, &["/proc/nowhere"]),
        (&["help", "chess"], 2, &["chess"]),
        (&["ask", "--provider", address, "--haggle", "1000", "Hello"], 2, &["--haggle", "999"]),
        (
            &["ask", "--provider", address, "--failover", "maybe", "Hello"],
            2,
            &["--failover", "continue, restart, continue-or-restart, never"],
        ),
        (&["serv"], 2, &["serv", "'serve'"]),
        (&["demo", "--runtime", "glommio"], 2, &["--runtime", "tokio, smol, async-std"]),
    ];
    for (args, code, texts) in table {
        run(folder.haggle(args)).says(code, texts);
    }
    // Flags that repeat take one value each and never the prompt.
    let over = run(folder.haggle(&["ask", "--stop", "a", "--stop", "b", "--provider", address, "Hello", "there"]));
    over.says(2, &["there"]);
    let empty = run(folder.haggle(&["ask", "--provider", address, ""]));
    empty.says(2, &["the prompt is empty"]);
    let mut binary = Running::spawn(folder.haggle(&["ask", "--provider", address]));
    binary.write(&[0xff, 0xfe]);
    binary.over().says(2, &["UTF-8"]);
}

#[test]
fn a_number_and_a_prompt_are_told_as_they_are_written() {
    let folder = Folder::new();
    let table: [(&[&str], &[&str]); 10] = [
        (&["gateway", "--listen", "8484"], &["--listen", "write IP:PORT, such as 127.0.0.1:8484"]),
        (&["serve", "--floor", "0.8"], &["--floor", "0 to 1000", "0.8 of the price is 800"]),
        (&["serve", "--floor", "2000"], &["--floor", "0 to 1000"]),
        (&["serve", "--slots", "two"], &["--slots", "write a whole number"]),
        (&["serve", "--context", "8k"], &["--context", "write a whole number", "8192"]),
        (&["serve", "--tokens-per-second", "9999999999"], &["--tokens-per-second", "too large"]),
        (&["ask", "--seed", "abc", "Hello"], &["--seed", "write a whole number"]),
        (&["ask", "--top-k", "1.5", "Hello"], &["--top-k", "write a whole number"]),
        (&["ask", "Once", "upon", "a", "time"], &["'upon'", "in quotes: \"Once upon a time\""]),
        (&["demo", "Once", "upon"], &["'upon'", "in quotes"]),
    ];
    for (args, texts) in table {
        run(folder.haggle(args)).says(2, texts);
    }
    assert!(!run(folder.haggle(&["serve", "upon"])).err.contains("quotes"), "who sells has no prompt");
    assert!(!run(folder.haggle(&["ask", "--upon", "Hello"])).err.contains("quotes"), "a flag is no part of a prompt");
    let told = run(folder.haggle(&["ask", "--json", "Once", "upon"]));
    let message = told.events("error")[0]["error"]["message"].to_string();
    assert!(message.contains("in quotes") && !message.contains("Usage"), "{message}");
}

#[test]
fn places_that_cannot_be_used_are_told_with_another() {
    let folder = Folder::new();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let metrics = taken.local_addr().expect("an address").to_string();
    run(folder.haggle(&["serve", "--metrics", &metrics])).says(3, &[&metrics, "choose another port"]);
    let file = folder.file("state", "a text").display().to_string();
    run(folder.haggle(&["serve", "--state", &file])).says(3, &[&file, "is no folder"]);
    run(folder.haggle(&["serve", "--record", "/proc/nowhere"])).says(3, &["/proc/nowhere", "choose another place"]);
    run(folder.haggle(&["serve", "--ledger", "/proc/nowhere"])).says(3, &["/proc/nowhere"]);
    let help = run(folder.haggle(&["ask", "--help"])).out;
    let three = help.split("  3    ").nth(1).and_then(|rest| rest.split("  4    ").next()).expect("an exit code");
    assert!(three.contains("a ledger or\n       recording that cannot be opened"), "{three}");
}

#[test]
fn programs_are_told_of_a_mistake_too() {
    let folder = Folder::new();
    let told = run(folder.haggle(&["ask", "--json", "--deadline", "30", "Hello"]));
    told.says(2, &["--deadline"]);
    let error = &told.events("error")[0]["error"];
    assert_eq!((&error["code"], &error["exit"]), (&"usage".into(), &2.into()));
    assert!(error["message"].as_str().is_some_and(|text| text.contains("30s")), "{error}");
}

#[test]
fn a_file_that_holds_no_conversation_is_told() {
    let folder = Folder::new();
    let address = "/ip4/127.0.0.1/tcp/1/p2p/12D3KooWGY9BExaYRvYc9FfbeH4huQhdRGSdATwSbqph3q22GTbr";
    for (messages, told) in [
        ("", "JSON list"),
        ("[]", "it is empty"),
        ("[{\"role\": \"user\"}]", "content"),
        ("[{\"role\": \"user\", \"content\": \"Hi\", \"name\": \"Ann\"}]", "name"),
        ("[{\"role\": \"tool\", \"content\": \"Hi\"}]", "no model knows the role \"tool\""),
    ] {
        let file = folder.file("messages.json", messages).display().to_string();
        run(folder.haggle(&["ask", "--provider", address, "--messages", &file])).says(2, &["messages.json", told]);
    }
}

#[test]
fn a_port_in_use_is_told_with_its_address() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = format!("/ip4/127.0.0.1/tcp/{}", taken.local_addr().expect("an address").port());
    let folder = Folder::new();
    for command in ["serve", "bootstrap"] {
        run(folder.haggle(&[command, "--listen", &address])).says(3, &[&address, "choose another port"]);
    }
}

#[test]
fn a_model_nobody_serves_is_told_with_the_names_that_were_seen() {
    let serve = Node::start(&["serve", "--alias", "bedtime-tales"]);
    let folder = Folder::new();
    let ask = |model: &str| run(folder.haggle(&["ask", "--provider", &serve.address, "--model", model, "Hello"]));
    ask("haggle-tiny-storys").says(4, &["haggle-tiny-storys", "did you mean haggle-tiny-stories?"]);
    ask("bedtime-tale").says(4, &["did you mean bedtime-tales?"]);
    ask("bedtime-tales").exits(0);
}

#[test]
fn another_peer_at_the_address_is_told() {
    let (serve, other) = (Node::start(&["serve"]), Node::start(&["serve"]));
    let wrong = serve.address.replace(&serve.peer, &other.peer);
    let folder = Folder::new();
    run(folder.haggle(&["ask", "--provider", &wrong, "Hello"])).says(4, &["another peer answers", "correct the id"]);
    let gone = other.address.clone();
    drop(other);
    run(folder.haggle(&["ask", "--provider", &gone, "Hello"])).says(4, &["can not be reached", "check the address"]);
}

#[test]
fn a_prompt_that_does_not_fit_is_told() {
    let serve = Node::start(&["serve"]);
    let folder = Folder::new();
    let ask = |bytes: usize| {
        let mut ask = Running::spawn(folder.haggle(&["ask", "--provider", &serve.address]));
        ask.write("zq".repeat(bytes / 2).as_bytes());
        ask.over()
    };
    let far = ask(8_000);
    far.says(2, &["context", "8000 bytes", "room for 1024 tokens", "--max-tokens orders 256: shorten the prompt"]);
    assert!(!far.err.contains("lower --max-tokens"), "{}", far.err);
    ask(3 << 20).says(2, &["3145728 bytes", "2097152", "shorten"]);
    let mut short = Running::spawn(folder.haggle(&["ask", "--provider", &serve.address, "--max-tokens", "5", "-"]));
    short.write(b"Once upon a time");
    short.over().says(0, &["5 written"]);
}

#[test]
#[cfg(not(feature = "smol"))]
fn a_build_without_a_runtime_says_which_has_it() {
    let folder = Folder::new();
    let over = run(folder.haggle(&["demo", "--runtime", "smol"]));
    over.exits(2);
    assert!(over.err.contains("no smol runtime") && over.err.contains("--features smol"), "{}", over.err);
}
