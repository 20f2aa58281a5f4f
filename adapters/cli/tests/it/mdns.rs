//! Local discovery, in a network of the test's own.

use crate::{
    namespace,
    world::{Folder, Node, run},
};

/// What it takes to be alone: an interface that can multicast, and no way out. Kernels have one kind or the other.
const NETWORK: &str = "{ ip link add alone0 type dummy \
    || { ip link add alone0 type veth peer name alone1 && ip link set alone1 up; }; } && ip addr add 10.99.0.1/24 dev alone0 \
    && ip link set alone0 multicast on up && ip route add default dev alone0";

#[test]
fn a_provider_on_the_local_network_is_found_by_mdns() {
    if !namespace::inside("mdns::a_provider_on_the_local_network_is_found_by_mdns", NETWORK) {
        return;
    }
    let local = ["--mdns", "true", "--dht", "false"];
    let serve = Node::start(&[&["serve", "--listen", "/ip4/10.99.0.1/tcp/0"][..], &local].concat());
    let over = run(Folder::new().haggle(&[&["ask", "--max-tokens", "10"][..], &local, &["Once upon a time"]].concat()));
    over.says(0, &["award", "10 written", &serve.peer[serve.peer.len() - 8..]]);
}
