//! What a provider runs: the [`Engine`] trait, the embedded model, and servers that others run.
//!
//! An engine turns a [`Request`] into a [`Generation`], and whoever drives it calls [`Generation::step`] until it
//! ends. No step waits for anything, so that one blocking thread can step many generations in turn. Engines that compute
//! in this process read no clock, open no socket and keep no thread beyond a step: a simulator can step them in virtual
//! time.
//!
//! [`Llama`] is such an engine, with a model in it: [`Llama::tiny_stories`] needs no download. Adapters wrap every
//! generation in [`Guarded`], which also shows the loop that drives one.
//!
#![cfg_attr(feature = "upstream", doc = "[`Upstream`](upstream::Upstream) is another: an OpenAI-compatible server.")]
#![cfg_attr(not(feature = "upstream"), doc = "The feature `upstream` adds another: OpenAI-compatible servers.")]

mod attention;
mod blocks;
mod chat;
mod engine;
mod gguf;
mod guard;
mod llama;
mod math;
mod matrix;
mod network;
mod output;
#[cfg(test)]
#[path = "../tests/it/sample.rs"]
mod sample;
mod sampler;
mod simd;
mod sums;
mod team;
mod tokenizer;
mod words;

#[cfg(feature = "upstream")]
pub mod upstream;

pub use engine::{
    Channel, Done, Engine, ExactKind, Exactness, Failure, Generation, Message, ModelInfo, Outage, Phase, Piece, Prefix,
    PrefixUse, Prompt, Request, Sampling, Started, Step, Stop, Watcher, Why,
};
pub use gguf::LoadError;
pub use guard::Guarded;
pub use llama::Llama;

/// The name of the model that comes with this crate.
pub const TINY_STORIES: &str = "haggle-tiny-stories";

/// The SHA-256 of its file.
pub const TINY_STORIES_SHA256: [u8; 32] = [
    0x5e, 0x6f, 0xc1, 0xf2, 0x42, 0xa2, 0x1d, 0x09, 0xf5, 0xfc, 0x0d, 0x43, 0x4e, 0x63, 0x41, 0x28, 0x82, 0xd6, 0x51,
    0x20, 0x93, 0xde, 0xe4, 0xbd, 0x9d, 0x5a, 0xcd, 0x98, 0x85, 0xdc, 0x51, 0x33,
];
