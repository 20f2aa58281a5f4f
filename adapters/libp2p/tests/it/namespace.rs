//! A network of a test's own.

use std::{
    env,
    process::{Command, Stdio},
};

const INSIDE: &str = "HAGGLE_TEST_INSIDE_A_NETWORK_NAMESPACE";
/// Set where these tests have to run: there it is an error that they cannot.
const REQUIRED: &str = "HAGGLE_TEST_NAMESPACES";
const MISSING: &str = "is not run: it makes a network namespace, and cannot here. It needs Linux with the programs unshare \
    and nsenter (util-linux) and ip (iproute2), and root's rights or user namespaces \
    (sysctl kernel.unprivileged_userns_clone=1, kernel.apparmor_restrict_unprivileged_userns=0); a container needs \
    --privileged";

/// Runs a test once more, in a network namespace in which nothing but the loopback is there before `setup`, commands of a
/// shell, has run. True inside of it.
pub(crate) fn inside(test: &str, setup: &str) -> bool {
    if env::var_os(INSIDE).is_some() {
        return true;
    }
    match flags() {
        Ok(flags) => {
            let mut unshare = Command::new("unshare");
            unshare.args(flags).args(["sh", "-c", &format!("ip link set lo up && {setup} && exec \"$0\" \"$@\"")]);
            unshare.arg(env::current_exe().expect("this test"));
            unshare.args(["--exact", test, "--nocapture", "--include-ignored"]).env(INSIDE, "yes");
            let status = unshare.stdin(Stdio::null()).status().expect("it was possible");
            assert!(status.success(), "{test} failed in its network namespace");
        }
        Err(why) => {
            assert!(env::var_os(REQUIRED).is_none(), "{test} {MISSING}\n{why}");
            eprintln!("{test} {MISSING}\n{why}");
        }
    }
    false
}

/// How a namespace is made here: as root, or as the root of a user namespace.
fn flags() -> Result<&'static [&'static str], String> {
    let mut why = String::new();
    for flags in [&["--net"][..], &["--user", "--map-root-user", "--net"]] {
        match Command::new("unshare").args(flags).args(["ip", "link", "set", "lo", "up"]).output() {
            Ok(tried) if tried.status.success() => return Ok(flags),
            Ok(tried) => why.push_str(&String::from_utf8_lossy(&tried.stderr)),
            Err(error) => return Err(format!("unshare: {error}")),
        }
    }
    Err(why)
}
