//! What is known of other peers: who serves what, and how far each is trusted.

pub mod bans;
pub mod breaker;
mod decay;
pub(crate) mod directory;
pub mod latency;
pub mod score;
pub mod table;
