use std::os::unix::fs::PermissionsExt;

use crate::world::{Folder, Node, run};

#[test]
fn files_yield_to_variables_and_variables_to_flags() {
    let folder = Folder::new();
    let file =
        folder.file("haggle.toml", "max_retries = 1\nslots = 2\nqueue = 3\nprice_out = \"0.5\"\n[limits]\njobs = 7\n");
    let file = file.to_str().expect("text");
    let mut config = folder.haggle(&["config", "--json", "--config", file, "--set", "queue=9", "--dht", "false"]);
    config.env("HAGGLE_SLOTS", "5").env("HAGGLE_QUEUE", "6").env("HAGGLE_LIMITS_STREAMS", "8");
    config.env("HAGGLE_ANNOUNCE_ADDRESSES", "/ip4/1.2.3.4/tcp/1, /ip4/1.2.3.4/tcp/2/ws");
    let over = run(config);
    over.exits(0);
    let all = &over.json()["settings"];
    let origin_of_file = format!("file {file}");
    for (path, value, origin) in [
        ("dial_timeout", "\"30s\"", "default"),
        ("first_token", "\"600s\"", "default"),
        ("resume_grace", "\"5s\"", "default"),
        ("resume_timeout", "\"120s\"", "default"),
        ("max_retries", "1", &origin_of_file),
        ("limits.jobs", "7", &origin_of_file),
        ("price_out", "\"0.5\"", &origin_of_file),
        ("slots", "5", "environment HAGGLE_SLOTS"),
        ("limits.streams", "8", "environment HAGGLE_LIMITS_STREAMS"),
        ("enable_mdns", "false", "environment HAGGLE_ENABLE_MDNS"),
        ("queue", "9", "flag --set queue"),
        ("enable_dht", "false", "flag --dht"),
    ] {
        assert_eq!(
            (all[path]["value"].to_string().as_str(), all[path]["origin"].as_str()),
            (value, Some(origin)),
            "{path}"
        );
    }
    assert_eq!(all["announce_addresses"]["value"].as_array().map(Vec::len), Some(2));
    let numbers = folder.file("spans.toml", "drain = \"5s\"\nresume_grace = \"700ms\"\n");
    let mut config = folder.haggle(&["config", "--json", "--config", numbers.to_str().expect("text")]);
    config.env("HAGGLE_DRAIN", "30s").args(["--set", "resume_grace=2s"]);
    let over = run(config);
    over.exits(0);
    assert_eq!(over.json()["settings"]["drain"]["value"], "30s");
    assert_eq!(over.json()["settings"]["resume_grace"]["value"], "2s");
    // What is shown is TOML again, and means the same.
    let shown = run(folder.haggle(&["config", "--config", file]));
    shown.exits(0);
    let again = folder.file("again.toml", &shown.out);
    run(folder.haggle(&["config", "--config", again.to_str().expect("text")])).exits(0);
}

#[test]
fn a_setting_that_cannot_work_is_told_with_its_path_and_origin() {
    let folder = Folder::new();
    for (text, expected) in [
        ("bootstrap_node = []", &["bootstrap_node:", "did you mean bootstrap_nodes?"][..]),
        ("[limits]\njobz = 1", &["limits.jobz:", "did you mean limits.jobs"]),
        ("slots = \"many\"", &["slots:", "\"many\" is none", "a whole number, such as slots = 1"]),
        ("slots = \"4\"", &["slots:", "without quotes: slots = 4"]),
        ("slots = 1.5", &["slots:", "a whole number"]),
        ("slots = 4294967296", &["slots:", "too large"]),
        ("limits.jobs = true", &["limits.jobs:", "a whole number"]),
        ("budget = 0.1", &["budget:", "write it in quotes: budget = \"0.1\""]),
        ("enable_dht = \"true\"", &["enable_dht:", "true or false, without quotes"]),
        ("bootstrap_nodes = \"/ip4/1.2.3.4/tcp/1\"", &["write a list: bootstrap_nodes = [\"/ip4/1.2.3.4/tcp/1\"]"]),
        ("bootstrap_nodes = [1]", &["a list of texts in quotes"]),
        ("[models]\nmodel = \"a\"", &["models.model:", "[[models]], with two brackets"]),
        ("models = \"a\"", &["models:", "[[models]]"]),
        ("[gateway.key]\nname = \"a\"", &["gateway.key.name:", "[[gateway.key]], with two brackets"]),
        ("[[gateway.key]]\nrates = 1", &["gateway.key:", "unknown field `rates`", "`rate`"]),
        ("colour = 1", &["colour:", "`haggle config` shows all"]),
        ("slots = -1", &["slots:"]),
        ("slots = 0", &["slots:", "at least 1"]),
        ("limits = 5", &["limits:", "table"]),
        ("resume_grace = \"0s\"", &["resume_grace:", "longer than 0"]),
        ("resume_grace = 700", &["resume_grace:", "700 has no unit", "\"700s\"", "\"700ms\""]),
        ("budget = \"lots\"", &["budget:", "decimal"]),
        ("dial_timeout = \"soon\"", &["dial_timeout:", "30s"]),
        ("bootstrap_nodes = [\"/ip4/1.2.3.4/tcp/1\"]", &["bootstrap_nodes[0]:", "/p2p/"]),
        ("price_out = \"0.0000001\"", &["price_out:", "6 digits"]),
        ("price_out = \"-1\"", &["price_out:", "negative"]),
        ("slots = ", &["not TOML", "line 1"]),
    ] {
        let file = folder.file("bad.toml", text);
        let file = file.to_str().expect("text");
        let over = run(folder.haggle(&["config", "--config", file]));
        over.says(3, expected);
        over.says(3, &[file]);
    }
    let file = folder.file("models.toml", "[[models]]\nmodel = \"a\"\ncolour = 1").display().to_string();
    run(folder.haggle(&["serve", "--config", &file]))
        .says(3, &["models[0].colour:", "it can have aliases, context,", &file]);
    for (name, value, expected) in [
        ("HAGGLE_ENABLE_DHT", "maybe", &["enable_dht:", "true or false", "HAGGLE_ENABLE_DHT"][..]),
        ("HAGGLE_SLOTS", "x", &["slots:", "whole number"]),
        ("HAGGLE_SLOT", "1", &["HAGGLE_SLOT:", "did you mean HAGGLE_SLOTS"]),
        ("HAGGLE_KEY", "secret", &["HAGGLE_KEY:", "such as a key", "another name"]),
        ("HAGGLE_LISTEN_ADDRESSES", "nonsense", &["listen_addresses[0]:", "multiaddr"]),
    ] {
        let mut config = folder.haggle(&["config"]);
        config.env(name, value);
        run(config).says(3, expected);
    }
    run(folder.haggle(&["config", "--config", "/nowhere/haggle.toml"])).says(3, &["/nowhere/haggle.toml"]);
    run(folder.haggle(&["config", "--set", "slots"])).says(2, &["KEY=VALUE"]);
    run(folder.haggle(&["config", "--set", "slot=1"])).says(3, &["slot:", "did you mean slots"]);
}

#[test]
fn a_file_to_begin_with_explains_and_sets_nothing() {
    let folder = Folder::new();
    let config = || {
        let over = run(folder.haggle(&["config", "--json"]));
        over.exits(0);
        over.json()["settings"].clone()
    };
    let before = config();
    let written = run(folder.haggle(&["config", "--init"]));
    written.exits(0);
    let file = folder.path().join(".config/haggle/config.toml");
    assert!(written.out.contains(&file.display().to_string()), "{}", written.out);
    assert_eq!(config(), before);
    let text = std::fs::read_to_string(&file).expect("a file");
    assert!(text.contains("#price_out = \"0\"") && text.contains("#budget = \"\""), "{text}");
    std::fs::write(&file, text.replace("#price_out = \"0\"", "price_out = \"2\"")).expect("mine");
    assert_eq!(config()["price_out"]["value"], "2");
    run(folder.haggle(&["config", "--init"])).says(3, &["is there already"]);
    assert_eq!(config()["price_out"]["value"], "2");
}

#[test]
fn shells_and_manuals_are_told_of_every_command() {
    let folder = Folder::new();
    for shell in ["bash", "zsh", "fish"] {
        let over = run(folder.haggle(&["completions", shell]));
        over.exits(0);
        assert!(over.out.contains("max-tokens") && over.out.contains("chat"), "{shell}");
    }
    let man = folder.path().join("man/man1");
    run(folder.haggle(&["man", man.to_str().expect("text")])).exits(0);
    let page = std::fs::read_to_string(man.join("haggle-ask.1")).expect("a page");
    assert!(page.contains("max\\-tokens"), "{page}");
    assert!(man.join("haggle.1").exists() && man.join("haggle-models.1").exists());
}

#[test]
fn a_key_is_made_once_and_for_its_owner_only() {
    let folder = Folder::new();
    let data = folder.path().join("keys");
    let data = data.to_str().expect("text");
    let start = || {
        Node::ready(
            crate::world::Running::spawn(folder.haggle(&["serve", "--json", "--data-dir", data])),
            Folder::new(),
        )
    };
    // One after the other: a key is for one process.
    let first = { start().peer };
    let second = { start().peer };
    assert_eq!(first, second);
    let file = folder.path().join("keys/provider.key");
    assert_eq!(file.metadata().expect("a key").permissions().mode() & 0o777, 0o600);

    let set = |mode| std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).expect("mine");
    set(0o644);
    run(folder.haggle(&["serve", "--data-dir", data])).says(3, &["provider.key", "chmod 600"]);
    std::fs::write(&file, "no key").expect("mine");
    set(0o600);
    run(folder.haggle(&["serve", "--data-dir", data])).says(3, &["provider.key", "not an Ed25519 key file"]);
    let ask = ["ask", "--provider", "/ip4/127.0.0.1/tcp/1/p2p/", "--key", file.to_str().expect("text"), "Hello"];
    let address = format!("{}{first}", ask[2]);
    run(folder.haggle(&["ask", "--provider", &address, "--key", ask[4], "Hello"])).says(3, &["not an Ed25519 key"]);
}

#[test]
fn who_only_buys_needs_no_home() {
    let serve = Node::start(&["serve"]);
    let folder = Folder::new();
    let bare = |args: &[&str]| {
        let mut command = folder.haggle(args);
        command.env_clear().env("HAGGLE_ENABLE_MDNS", "false").current_dir("/");
        run(command)
    };
    let provider = ["--provider", &serve.address];
    bare(&[&["ask", "--max-tokens", "5"][..], &provider, &["Hello"]].concat()).exits(0);
    bare(&[&["discover"][..], &provider].concat()).exits(0);
    bare(&[&["quote"][..], &provider].concat()).exits(0);
    assert!(bare(&["config"]).out.contains("set HOME, XDG_DATA_HOME or --data-dir"));
    // Who sells keeps a key.
    bare(&["serve"]).says(3, &["set HOME, XDG_DATA_HOME or --data-dir"]);
}

#[test]
fn keys_live_in_the_xdg_data_folder() {
    let folder = Folder::new();
    drop(Node::ready(crate::world::Running::spawn(folder.haggle(&["bootstrap", "--json"])), Folder::new()));
    assert!(folder.path().join("data/haggle/bootstrap.key").exists());
}
