//! The bodies of the fuzz targets. Each takes any bytes and panics when a law is broken.
//!
//! `cargo test -p haggle-fuzz` replays the committed corpus through them; `cargo +nightly fuzz run requester --features
//! fuzzing` searches for more.
#![expect(clippy::unwrap_used, reason = "a panic is the finding")]

mod cursor;
mod foreign;
mod gguf;
mod provider;
mod requester;
mod snapshot;
mod tap;
mod upstream;
mod wire;

pub use foreign::foreign;
pub use gguf::gguf;
pub use provider::provider;
pub use requester::requester;
pub use snapshot::snapshot;
pub use upstream::upstream;
pub use wire::{decode, deframe, prompt};
