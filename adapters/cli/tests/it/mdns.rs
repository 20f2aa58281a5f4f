//! Local discovery, in a network of the test's own.

use std::process::Command;

use crate::world::{Folder, Node, Running, run};

/// What it takes to be alone: an interface that can multicast, and no way out. Kernels have one kind or the other.
const NETWORK: &str = "ip link set lo up
    ip link add alone0 type dummy || { ip link add alone0 type veth peer name alone1 && ip link set alone1 up; } || exit
    ip addr add 10.99.0.1/24 dev alone0 && ip link set alone0 multicast on up && ip route add default dev alone0 \\
        && echo ready && exec cat";

/// A network namespace, held by a process that waits for the end of its stdin.
fn namespace(folder: &Folder) -> Result<(Running, Vec<String>), String> {
    let mut reasons = String::new();
    for flags in [&["--net"][..], &["--user", "--map-root-user", "--net"]] {
        let mut shell = Command::new("unshare");
        folder.prepare(&mut shell);
        shell.args(flags).args(["sh", "-c", NETWORK]);
        let mut holder = Running::try_spawn(shell).map_err(|error| format!("unshare: {error}"))?;
        match holder.try_line() {
            Some(line) if line == "ready" => {
                let mut enter = vec!["nsenter".to_owned(), "--target".into(), holder.id(), "--net".into()];
                if flags.len() > 1 {
                    enter.extend(["--user".into(), "--preserve-credentials".into()]);
                }
                return Ok((holder, enter));
            }
            _ => reasons.push_str(&holder.over().err),
        }
    }
    Err(reasons)
}

#[test]
fn a_provider_on_the_local_network_is_found_by_mdns() {
    let folder = Folder::new();
    let (_holder, enter) = match namespace(&folder) {
        Ok(namespace) => namespace,
        Err(why) => return eprintln!("skipped: this machine permits no network namespace: {why}"),
    };
    let inside = |args: &[&str]| {
        let mut command = Command::new(&enter[0]);
        folder.prepare(&mut command);
        command
            .args(&enter[1..])
            .arg(env!("CARGO_BIN_EXE_haggle"))
            .args(args)
            .args(["--mdns", "true", "--dht", "false"]);
        command
    };
    let serve = Running::spawn(inside(&["serve", "--json", "--listen", "/ip4/10.99.0.1/tcp/0"]));
    let serve = Node::ready(serve, Folder::new());
    let over = run(inside(&["ask", "--max-tokens", "10", "Once upon a time"]));
    over.says(0, &["award", "10 written", &serve.peer[serve.peer.len() - 8..]]);
}
