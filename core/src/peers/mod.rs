//! What is known of other peers.

pub(crate) mod directory;
