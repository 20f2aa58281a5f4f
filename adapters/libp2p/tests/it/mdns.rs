use std::process::Command;

use haggle::Config;

use crate::{bounded, world::*};

const INSIDE: &str = "HAGGLE_TEST_INSIDE_A_NETWORK_NAMESPACE";
const SETUP: &str = "ip link set lo up && ip link add v0 type veth peer name v1 && ip addr add 10.9.9.1/24 dev v0 \
                     && ip link set v0 up && ip link set v1 up && exec \"$0\" \"$@\"";

/// Multicast must not leave the machine: the test runs once more, in a network namespace of its own.
#[test]
fn nodes_on_one_local_network_find_each_other() {
    if std::env::var_os(INSIDE).is_some() {
        return tokio::runtime::Runtime::new().expect("a runtime").block_on(bounded(buy_without_an_address()));
    }
    let namespace = |command: &str| {
        let mut unshare = Command::new("unshare");
        unshare.args(["--map-root-user", "--net", "sh", "-c", command]);
        unshare
    };
    let possible = namespace("ip link show lo").output().is_ok_and(|output| output.status.success());
    if !possible {
        eprintln!("not run: this machine gives no network namespaces (unshare --net, ip)");
        return;
    }
    let me = std::env::current_exe().expect("this test");
    let status = namespace(SETUP)
        .arg(me)
        .args(["--exact", "mdns::nodes_on_one_local_network_find_each_other", "--nocapture"])
        .env(INSIDE, "yes")
        .status()
        .expect("the namespace was possible");
    assert!(status.success());
}

async fn buy_without_an_address() {
    let config = Config {
        enable_mdns: true,
        enable_dht: false,
        listen_addresses: vec!["/ip4/10.9.9.1/tcp/0".into()],
        ..local()
    };
    let provider = start(builder(config).sell(sale(Script::new(Does::Writes)))).await;
    let requester = start(builder(Config { enable_mdns: true, enable_dht: false, ..local() })).await;
    let job = requester.submit(spec("Hello", 5)).await.expect("taken");
    assert_eq!(job.answer().await.expect("answered").text, words(5));
    assert_eq!(requester.connected_peers(), [provider.peer_id()]);
}
