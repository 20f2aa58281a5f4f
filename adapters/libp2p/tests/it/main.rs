//! The adapter over real sockets on 127.0.0.1.

mod config;
mod dials;
mod finding;
mod key;
#[cfg(target_os = "linux")]
mod load;
mod market;
mod mdns;
mod namespace;
mod runtimes;
#[path = "../../../engine/tests/it/server.rs"]
#[expect(dead_code, reason = "the engine's tests use the rest")]
mod server;
mod serving;
mod sessions;
#[cfg(target_os = "linux")]
mod slow;
mod sockets;
mod state;
mod suite;
mod testing;
mod trust;
mod upstream;
mod world;

use std::{env, future::Future, process::Command, time::Duration};

/// No test may hang: a bound far above what any of them needs.
pub(crate) async fn bounded<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), what).await.expect("the test took too long")
}

/// Runs a test in a process of its own, where it can count what belongs to a whole process.
pub(crate) fn alone(name: &str, test: impl FnOnce()) {
    const INSIDE: &str = "HAGGLE_TEST_ALONE_IN_ITS_PROCESS";
    if env::var_os(INSIDE).is_some() {
        return test();
    }
    let me = env::current_exe().expect("this test");
    let status = Command::new(me).args(["--exact", name, "--nocapture"]).env(INSIDE, "yes").status();
    assert!(status.expect("a process").success());
}
