use haggle::Config;

use crate::{bounded, namespace, world::*};

/// Multicast must not leave the machine.
#[test]
fn nodes_on_one_local_network_find_each_other() {
    let network = "ip link add v0 type veth peer name v1 && ip addr add 10.9.9.1/24 dev v0 && ip link set v0 up \
                   && ip link set v1 up";
    if namespace::inside("mdns::nodes_on_one_local_network_find_each_other", network) {
        tokio::runtime::Runtime::new().expect("a runtime").block_on(bounded(buy_without_an_address()));
    }
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
