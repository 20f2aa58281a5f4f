//! Peer ids: opaque bytes for the core, multihashes for libp2p.

/// A peer as the core names it. Every libp2p id fits: identity hashes are of at most 42 bytes, others of 34.
pub fn to_core(peer: &libp2p::PeerId) -> Option<haggle_core::PeerId> {
    haggle_core::PeerId::new(&peer.to_bytes())
}

/// A peer as libp2p names it; `None` for bytes that are no multihash.
pub fn to_libp2p(peer: &haggle_core::PeerId) -> Option<libp2p::PeerId> {
    libp2p::PeerId::from_bytes(peer.as_bytes()).ok()
}
