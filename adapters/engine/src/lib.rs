//! What a provider runs: the [`Engine`] trait and the embedded model.
//!
//! An engine turns a [`Request`] into a [`Generation`], and whoever drives it calls [`Generation::step`] until it
//! ends. Nothing in here reads a clock, starts a thread or opens a socket, so that one blocking thread can step many
//! generations in turn, and a simulator can step them in virtual time.

mod engine;
mod guard;

pub use engine::{
    Done, Engine, ExactKind, Exactness, Failure, Generation, Message, ModelInfo, Piece, Prefix, PrefixUse, Prompt,
    Request, Sampling, Started, Step, Stop, Why,
};
pub use guard::Guarded;
