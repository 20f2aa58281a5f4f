//! A provider, a bootstrap node and a requester, each on a machine of its own as far as the network goes: three network
//! namespaces in a row, of which the middle one forwards. The link fails, and addresses change, in mid-answer.
//!
//! These tests take up to a minute, most of which they wait:
//! `cargo test -p haggle-cli --features smol,async-std --test it -- --ignored --test-threads 4 --nocapture moves`

use std::{
    process::Command,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    matrix::{Play, RUNTIMES},
    namespace::inside,
    server::{Does, Server},
    world::{Folder, Node, Over, PATIENCE, Running, run},
};

/// Where others reach each, and what a new address is.
const SELLER: &str = "10.9.1.2";
const BUYER: &str = "10.9.2.2";

/// The three, this process being where the provider is.
struct Machines {
    middle: Running,
    buyer: Running,
}

impl Machines {
    fn start(folder: &Folder) -> Self {
        let machine = || {
            let mut shell = Command::new("unshare");
            folder.prepare(&mut shell);
            shell.args(["--net", "sh", "-c", "ip link set lo up && echo ready && exec cat"]);
            let mut holder = Running::spawn(shell);
            assert_eq!(holder.line(), "ready");
            holder
        };
        let machines = Machines { middle: machine(), buyer: machine() };
        let (middle, buyer) = (machines.middle.id(), machines.buyer.id());
        sh(&format!("ip link add s0 type veth peer name m0 netns {middle}"));
        machines.on_middle(&format!("ip link add m1 type veth peer name b0 netns {buyer}"));
        machines.on_middle(
            "ip addr add 10.9.1.1/24 dev m0 && ip addr add 10.9.2.1/24 dev m1 && ip link set m0 up && ip link set m1 up \
             && echo 1 > /proc/sys/net/ipv4/ip_forward",
        );
        sh(&format!("ip addr add {SELLER}/24 dev s0 && ip link set s0 up && ip route add default via 10.9.1.1"));
        machines.on_buyer(&format!(
            "ip addr add {BUYER}/24 dev b0 && ip link set b0 up && ip route add default via 10.9.2.1"
        ));
        machines
    }

    fn on_middle(&self, command: &str) {
        sh(&format!("nsenter --target {} --net sh -c '{command}'", self.middle.id()));
    }

    fn on_buyer(&self, command: &str) {
        sh(&format!("nsenter --target {} --net sh -c '{command}'", self.buyer.id()));
    }
}

fn sh(command: &str) {
    let output = Command::new("sh").args(["-c", command]).output().expect("a shell");
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The command, on the machine of a process.
fn on(holder: &Running, command: &Command) -> Command {
    let mut entered = Command::new("nsenter");
    entered.args(["--target", &holder.id(), "--net"]).arg(command.get_program()).args(command.get_args());
    entered.env_clear();
    for (name, value) in command.get_envs() {
        value.map(|value| entered.env(name, value));
    }
    entered
}

/// 2,000 tokens, which something happens to after a quarter of them.
fn answer(seller: &str, buyer: &str, what_happens: impl FnOnce(&Machines)) -> Over {
    let folder = Folder::new();
    let machines = Machines::start(&folder);
    let server = Server::start(Does::Writes);
    let seed_folder = Folder::new();
    let seed = ["bootstrap", "--runtime", buyer, "--listen", "/ip4/0.0.0.0/tcp/4001", "--json"];
    let seed = Node::ready(Running::spawn(on(&machines.middle, &seed_folder.haggle(&seed))), seed_folder);
    let seed_at = |ip: &str| format!("/ip4/{ip}/tcp/4001/p2p/{}", seed.peer);
    let (for_seller, for_buyer) = (seed_at("10.9.1.1"), seed_at("10.9.2.1"));
    let serve = ["serve", "--runtime", seller, "--listen", "/ip4/0.0.0.0/tcp/4002", "--bootstrap", &for_seller];
    let what = ["--upstream", &server.url(), "--model", "words", "--context", "20000", "--tokens-per-second", "300"];
    let serve = Node::start(&[&serve[..], &what, &["--price-out", "1000", "--floor", "700"]].concat());
    until_found(&folder, &machines, &for_buyer, buyer);
    let ask = ["ask", "--json", "--runtime", buyer, "--bootstrap", &for_buyer, "--model", "words"];
    let job = ["--budget", "100", "--haggle", "700", "--max-tokens", "2000", "--chat", "Words, please"];
    let mut running = Running::spawn(on(&machines.buyer, &folder.haggle(&[&ask[..], &job].concat())));
    let mut event = running.json();
    while event["seq"].as_u64().is_none_or(|seq| seq < 500) || event["event"] != "stream:token" {
        event = running.json();
    }
    let struck = Instant::now();
    what_happens(&machines);
    while event["event"] != "job:ended" {
        event = running.json();
        if event["event"] != "stream:token" {
            println!("{:.1?}: {event}", struck.elapsed());
        }
    }
    let over = running.over();
    println!("{seller} -> {buyer}: {:.1?} after it happened", struck.elapsed());
    if over.code != Some(0) {
        serve.process.signal("TERM");
        println!("{}", serve.process.over().err);
    }
    Play { seller, buyer, transport: "", tokens: 2_000 }.is_complete(&over);
    // Who comes new finds it, too.
    until_found(&folder, &machines, &for_buyer, buyer);
    over
}

fn until_found(folder: &Folder, machines: &Machines, seed: &str, runtime: &str) {
    let until = Instant::now() + PATIENCE;
    let discover = ["discover", "--runtime", runtime, "--bootstrap", seed, "--model", "words", "--refresh"];
    while run(on(&machines.buyer, &folder.haggle(&discover))).code != Some(0) {
        assert!(Instant::now() < until, "the provider was not found");
    }
}

fn cuts(over: &Over) -> Vec<Value> {
    over.events("job:cut")
}

#[test]
#[ignore = "makes network namespaces"]
fn a_link_that_is_down_for_five_seconds_costs_time_only() {
    if !inside("moves::a_link_that_is_down_for_five_seconds_costs_time_only", "true") {
        return;
    }
    answer(RUNTIMES[0], RUNTIMES[RUNTIMES.len() - 1], |_| {
        sh("ip link set s0 down");
        std::thread::sleep(Duration::from_secs(5));
        sh("ip link set s0 up && ip route add default via 10.9.1.1");
    });
}

fn seller_moves(_: &Machines) {
    sh(&format!(
        "ip addr del {SELLER}/24 dev s0 && ip addr add 10.9.1.3/24 dev s0 && ip route add default via 10.9.1.1"
    ));
}

#[test]
#[ignore = "makes network namespaces"]
fn a_provider_with_another_address_is_found_again() {
    if !inside("moves::a_provider_with_another_address_is_found_again", "true") {
        return;
    }
    let over = answer(RUNTIMES[0], RUNTIMES[0], seller_moves);
    assert!(!cuts(&over).is_empty());
}

#[test]
#[ignore = "makes network namespaces"]
fn so_is_one_on_another_runtime() {
    if !inside("moves::so_is_one_on_another_runtime", "true") {
        return;
    }
    let over = answer(RUNTIMES[RUNTIMES.len() / 2], RUNTIMES[RUNTIMES.len() - 1], seller_moves);
    assert!(!cuts(&over).is_empty());
}

#[test]
#[ignore = "makes network namespaces"]
fn a_requester_with_another_address_goes_on() {
    if !inside("moves::a_requester_with_another_address_goes_on", "true") {
        return;
    }
    let over = answer(RUNTIMES[RUNTIMES.len() - 1], RUNTIMES[0], |machines| {
        machines.on_buyer(&format!(
            "ip addr del {BUYER}/24 dev b0 && ip addr add 10.9.2.3/24 dev b0 && ip route add default via 10.9.2.1"
        ));
    });
    assert!(!cuts(&over).is_empty());
}
