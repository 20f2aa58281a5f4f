//! TCP over async-io's reactor, for smol, async-std and any executor that lives with it. libp2p brings sockets for tokio
//! only; WebSocket, Noise and Yamux are its own here too.

mod dns;
mod listener;
mod ports;
mod socket;
mod tcp;

use std::io;

use libp2p::identity::Keypair;

use self::tcp::Tcp;
#[cfg(any(feature = "smol", feature = "async-std"))]
use super::MdnsError;
use super::{NodeTransport, TransportLimits, secure};

/// TCP and WebSocket over DNS names, encrypted by Noise and multiplexed by Yamux.
///
/// Names are resolved by the system, on a thread of its own (`blocking`).
///
/// # Errors
/// When the key cannot be used for Noise.
pub fn transport(key: &Keypair, limits: &TransportLimits) -> io::Result<NodeTransport> {
    secure(Tcp::default(), Tcp::default(), key, limits)
}

#[cfg(any(feature = "smol", feature = "async-std"))]
pub(super) fn no_mdns(runtime: &'static str) -> MdnsError {
    MdnsError::Unsupported { runtime, available: &["tokio"] }
}
