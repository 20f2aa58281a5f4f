//! Peer ids: opaque bytes for the core, multihashes for libp2p.

/// How the bytes of a simulated peer's id begin: it is a name as it is, no key. That of a real peer holds a key or its hash,
/// and the peer has to prove that the key is its own.
const SIMULATED: &[u8] = b"\0\x0fnode-";

/// Whether an id is one of a simulated network. No real peer can have it.
pub fn is_simulated(peer: &libp2p::PeerId) -> bool {
    peer.to_bytes().starts_with(SIMULATED)
}

/// A peer as the core names it. Every libp2p id fits: identity hashes are of at most 42 bytes, others of 34.
pub fn to_core(peer: &libp2p::PeerId) -> Option<haggle_core::PeerId> {
    let bytes = peer.to_bytes();
    #[cfg(feature = "testing")]
    if is_simulated(peer) {
        return haggle_core::PeerId::new(bytes.get(2..)?);
    }
    haggle_core::PeerId::new(&bytes)
}

/// A peer as libp2p names it; `None` for bytes that are no multihash.
pub fn to_libp2p(peer: &haggle_core::PeerId) -> Option<libp2p::PeerId> {
    #[cfg(feature = "testing")]
    if haggle_sim::NodeId::of(*peer).is_some() {
        return libp2p::PeerId::from_bytes(&[&SIMULATED[..2], peer.as_bytes()].concat()).ok();
    }
    libp2p::PeerId::from_bytes(peer.as_bytes()).ok()
}
