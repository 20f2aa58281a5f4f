//! What is known of other peers: who serves what, and how far each is trusted.

pub(crate) mod bans;
pub(crate) mod breaker;
mod decay;
pub(crate) mod directory;
pub(crate) mod latency;
pub(crate) mod score;
pub(crate) mod table;

pub use self::{
    bans::{BanCause, BanRecord},
    breaker::Circuit,
    latency::Counts,
    score::{Severity, Standing},
    table::{Lift, Reliability},
};
