use std::time::Duration;

use haggle::Config;

const PEER: &str = "12D3KooWGjMhYhdqWEVgzEmDTUbLFEJ7A1KbyhXMdqqhtY6vMxGB";

fn parse(toml: &str) -> Result<Config, String> {
    toml::from_str(toml).map_err(|error| error.to_string())
}

#[test]
fn defaults_are_the_seeds() {
    let config = parse("").expect("all fields have defaults");
    assert_eq!(config, Config::default());
    assert!(config.enable_dht && config.enable_mdns);
    assert!(config.bootstrap_nodes.is_empty() && config.listen_addresses.is_empty());
    assert_eq!(config.dial_timeout, Duration::from_secs(30));
    assert_eq!(config.request_timeout, Duration::from_secs(60));
    assert_eq!((config.max_retries, config.retry_delay), (3, Duration::from_secs(1)));
    assert_eq!(config.validate(), Ok(()));
}

#[test]
fn a_configuration_survives_being_written() {
    let config = Config {
        bootstrap_nodes: vec![format!("/dns4/example.org/tcp/443/wss/p2p/{PEER}")],
        dial_timeout: Duration::from_millis(1_500),
        max_retries: 0,
        ..Config::default()
    };
    assert_eq!(config.validate(), Ok(()));
    let json = serde_json::to_string(&config).expect("written");
    assert_eq!(serde_json::from_str::<Config>(&json).expect("read"), config);
}

#[test]
fn spans_have_units() {
    for (text, millis) in [("\"250ms\"", 250), ("\"30s\"", 30_000), ("\"2m\"", 120_000), ("\"1h\"", 3_600_000)] {
        assert_eq!(parse(&format!("dial_timeout = {text}")).expect(text).dial_timeout, Duration::from_millis(millis));
    }
    for text in ["\"fast\"", "\"-1s\"", "-1", "\"1y\"", "\"99999999999999999999s\"", "1.5", "true"] {
        assert!(parse(&format!("dial_timeout = {text}")).is_err(), "{text}");
    }
    for text in ["1500", "\"1500\""] {
        let error = parse(&format!("dial_timeout = {text}")).expect_err("seconds, or milliseconds");
        assert!(error.contains("\"1500s\"") && error.contains("\"1500ms\""), "{error}");
    }
}

#[test]
fn unknown_fields_are_refused_by_name() {
    let error = parse("enable_mdsn = false").expect_err("unknown");
    assert!(error.contains("enable_mdsn"), "{error}");
    let error = parse("[limits]\nwindow = 7").expect_err("unknown");
    assert!(error.contains("`window`") && error.contains("line 2"), "{error}");
}

#[test]
fn what_cannot_work_is_named_with_its_path_and_what_to_do() {
    let table = [
        ("max_streams_to_peer = 5000", "max_streams_to_peer", "3576"),
        ("max_pending_connections = 0", "max_pending_connections", "at least 1"),
        (r#"bootstrap_nodes = ["/ip4/1.2.3.4/tcp/1/p2p/@", "nonsense"]"#, "bootstrap_nodes[1]", "multiaddr"),
        (r#"bootstrap_nodes = ["/ip4/1.2.3.4/tcp/4001"]"#, "bootstrap_nodes[0]", "/p2p/"),
        (r#"bootstrap_nodes = ["/ip4/1.2.3.4/tcp/4001/p2p/QmNope"]"#, "bootstrap_nodes[0]", "no peer id"),
        (r#"bootstrap_nodes = ["/ip4/1.2.3.4/udp/4001/quic-v1/p2p/@"]"#, "bootstrap_nodes[0]", "/tcp"),
        (r#"providers = ["/ip4/1.2.3.4/tcp/4001"]"#, "providers[0]", "/p2p/"),
        (r#"providers = ["example.org:4001"]"#, "providers[0]", "write /dns/example.org/tcp/4001/p2p/ and the peer id"),
        (r#"listen_addresses = ["0.0.0.0:4001"]"#, "listen_addresses[0]", "write /ip4/0.0.0.0/tcp/4001"),
        (r#"listen_addresses = ["[::]:4001"]"#, "listen_addresses[0]", "write /ip6/::/tcp/4001"),
        (r#"announce_addresses = ["4001"]"#, "announce_addresses[0]", "one looks like /ip4/203.0.113.7/tcp/4001"),
        (r#"listen_addresses = ["/ip4/0.0.0.0/tcp/0/p2p/@"]"#, "listen_addresses[0]", "leave out"),
        (r#"listen_addresses = ["/dns4/example.org/tcp/0"]"#, "listen_addresses[0]", "announce_addresses"),
        (r#"listen_addresses = ["/ip4/0.0.0.0/tcp/0/wss"]"#, "listen_addresses[0]", "proxy"),
        (r#"announce_addresses = ["/ip4/0.0.0.0/tcp/1"]"#, "announce_addresses[0]", "others can dial"),
        (r#"dial_timeout = "0s""#, "dial_timeout", "longer than 0"),
        (r#"request_timeout = "0s""#, "request_timeout", "longer than 0"),
        (r#"retry_delay = "0ms""#, "retry_delay", "longer than 0"),
        (r#"idle_connection_timeout = "30h""#, "idle_connection_timeout", "1 day"),
        (r#"network = """#, "network", "bytes"),
        (r#"slots = 0"#, "slots", "at least 1"),
        (r#"max_connections = 0"#, "max_connections", "at least 1"),
        ("[limits]\njobs = 0", "limits.jobs", "at least 1"),
    ];
    for (toml, path, advice) in table {
        let config = parse(&toml.replace('@', PEER)).expect(toml);
        let error = config.validate().expect_err(toml);
        assert_eq!(error.path, path, "{error}");
        assert!(error.to_string().contains(advice), "{error}");
    }
}

#[test]
fn what_can_work_is_taken() {
    for toml in [
        r#"bootstrap_nodes = ["/ip4/1.2.3.4/tcp/4001/p2p/@", "/ip6/::1/tcp/4001/ws/p2p/@", "/dns/example.org/tcp/4001/p2p/@"]"#,
        r#"listen_addresses = ["/ip4/0.0.0.0/tcp/0", "/ip6/::/tcp/0/ws"]"#,
        r#"announce_addresses = ["/dns4/example.org/tcp/443/wss", "/ip4/1.2.3.4/tcp/4001/p2p/@"]"#,
        "max_retries = 0",
        "queue = 0",
    ] {
        assert_eq!(parse(&toml.replace('@', PEER)).expect(toml).validate(), Ok(()), "{toml}");
    }
}
