//! TCP over async-io's reactor, for smol, async-std and any executor that lives with it. libp2p brings sockets for tokio
//! only; WebSocket, Noise and Yamux are its own here too.

mod listener;
mod ports;
mod socket;
mod tcp;

use std::io;

use futures::FutureExt;
use libp2p::identity::Keypair;

use self::tcp::Tcp;
#[cfg(any(feature = "smol", feature = "async-std"))]
use super::MdnsError;
use super::{
    NodeTransport, TransportLimits,
    names::{Names, look_up},
    secure,
};

/// TCP and WebSocket over DNS names, encrypted by Noise and multiplexed by Yamux.
///
/// Names are resolved by the system, on a thread of its own (`blocking`).
///
/// # Errors
/// When the key cannot be used for Noise.
pub fn transport(key: &Keypair, limits: &TransportLimits) -> io::Result<NodeTransport> {
    let tcp = || {
        let resolve = |name: String, port| blocking::unblock(move || look_up(&name, port)).boxed();
        Names::new(Tcp::default(), &limits.dials, resolve)
    };
    secure(tcp(), tcp(), key, limits)
}

#[cfg(any(feature = "smol", feature = "async-std"))]
pub(super) fn no_mdns(runtime: &'static str) -> MdnsError {
    MdnsError::Unsupported { runtime, available: &["tokio"] }
}
