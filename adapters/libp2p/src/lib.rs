//! Haggle over libp2p: find machines that serve a language model, agree a price, stream the answer.

mod address;
mod bucket;
pub mod discovery;
pub mod groups;
pub mod key;
pub mod runtime;
pub mod sessions;
