//! A network of a test's own.

use std::{env, process::Command};

const INSIDE: &str = "HAGGLE_TEST_INSIDE_A_NETWORK_NAMESPACE";
/// Set where the tests have to run: there it is an error that they cannot.
const REQUIRED: &str = "HAGGLE_TEST_NAMESPACES";

/// One interface with an address of each family, beside the loopback.
pub(crate) const V4: &str = "10.9.9.1";
pub(crate) const V6: &str = "fd00:9::1";
const SETUP: &str = "ip link set lo up && ip link add v0 type veth peer name v1 && ip addr add 10.9.9.1/24 dev v0 \
    && ip addr add fd00:9::1/64 dev v0 nodad && ip link set v0 up && ip link set v1 up && exec \"$0\" \"$@\"";

/// Runs a test once more, in a network namespace. True inside of it.
pub(crate) fn inside(test: &str) -> bool {
    if env::var_os(INSIDE).is_some() {
        return true;
    }
    let namespace = |command: &str| {
        let mut unshare = Command::new("unshare");
        unshare.args(["--map-root-user", "--net", "sh", "-c", command]);
        unshare
    };
    let missing = match namespace("ip link set lo up").output() {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(String::from_utf8_lossy(&output.stderr).into_owned()),
        Err(error) => Some(format!("unshare: {error}")),
    };
    if let Some(why) = missing {
        let why = format!(
            "{test} is not run, it makes a network namespace: {why}\nIt needs Linux with unshare (util-linux) and ip \
             (iproute2), and root's rights or user namespaces (sysctl kernel.unprivileged_userns_clone=1, \
             kernel.apparmor_restrict_unprivileged_userns=0); a container needs --privileged"
        );
        assert!(env::var_os(REQUIRED).is_none(), "{why}");
        eprintln!("{why}");
        return false;
    }
    let status = namespace(SETUP)
        .arg(env::current_exe().expect("this test"))
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, "yes")
        .status()
        .expect("the namespace was possible");
    assert!(status.success(), "{test} failed in its network namespace");
    false
}
