//! The adapter over real sockets on 127.0.0.1.

mod config;
mod key;
mod market;
mod mdns;
mod runtimes;
mod sessions;
mod trust;
mod world;

use std::{future::Future, time::Duration};

/// No test may hang: a bound far above what any of them needs.
pub(crate) async fn bounded<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), what).await.expect("the test took too long")
}
