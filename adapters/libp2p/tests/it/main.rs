//! The adapter over real sockets on 127.0.0.1.

mod config;
mod key;
mod market;
mod mdns;
mod runtimes;
#[path = "../../../engine/tests/it/server.rs"]
#[expect(dead_code, reason = "the engine's tests use the rest")]
mod server;
mod serving;
mod sessions;
mod suite;
mod trust;
mod upstream;
mod world;

use std::{future::Future, time::Duration};

/// No test may hang: a bound far above what any of them needs.
pub(crate) async fn bounded<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), what).await.expect("the test took too long")
}
