//! What a provider runs: the [`Engine`] trait and the embedded model.
//!
//! An engine turns a [`Request`] into a [`Generation`], and whoever drives it calls [`Generation::step`] until it
//! ends. Nothing in here reads a clock, starts a thread or opens a socket, so that one blocking thread can step many
//! generations in turn, and a simulator can step them in virtual time.

mod engine;
mod gguf;
mod guard;
mod llama;
mod math;
mod matrix;
mod network;
mod output;
mod sampler;
mod tokenizer;
mod words;

pub use engine::{
    Done, Engine, ExactKind, Exactness, Failure, Generation, Message, ModelInfo, Piece, Prefix, PrefixUse, Prompt,
    Request, Sampling, Started, Step, Stop, Why,
};
pub use gguf::LoadError;
pub use guard::Guarded;
pub use llama::Llama;

/// The name of the model that comes with this crate.
pub const TINY_STORIES: &str = "haggle-tiny-stories";

/// The SHA-256 of its file.
pub const TINY_STORIES_SHA256: [u8; 32] = [
    0x49, 0xaf, 0x2c, 0xd5, 0x67, 0x2c, 0x3a, 0x51, 0x2b, 0x87, 0xc6, 0x37, 0xc6, 0x7d, 0x9b, 0xb0, 0x7d, 0xf9, 0x5f,
    0x08, 0x4e, 0x69, 0xe8, 0x35, 0xf3, 0x99, 0x33, 0xe4, 0xc2, 0x06, 0x1e, 0xdc,
];
