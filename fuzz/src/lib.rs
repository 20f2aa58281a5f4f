//! The bodies of the fuzz targets. Each takes any bytes and panics when a law of the core is broken.
//!
//! `cargo test -p haggle-fuzz` replays the committed corpus through them; `cargo +nightly fuzz run requester --features
//! fuzzing` searches for more.
#![expect(clippy::unwrap_used, reason = "a panic is the finding")]

mod cursor;
mod provider;
mod requester;
mod tap;
mod wire;

pub use provider::provider;
pub use requester::requester;
pub use wire::{decode, deframe, prompt};
