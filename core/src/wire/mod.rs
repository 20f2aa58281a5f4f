//! The wire: messages, their canonical encoding, and frames. The only place that parses bytes from peers.

mod advert;
mod bounds;
mod codec;
mod deframer;
mod features;
mod lists;
pub mod message;
mod prompt;
mod reason;
mod settlement;

pub use bounds::{CHUNK_COST, MAX_BIDS, MAX_OVERLAP, MAX_WINDOW_BYTES, MAX_WINDOW_TOKENS, MIN_WINDOW_BYTES};
pub use codec::{DecodeError, decode, encode, encode_frame};
pub(crate) use codec::{Unwritten, check_shape};
pub use deframer::{Deframer, FrameError};
pub use message::Message;
pub use prompt::{ChatMessage, MAX_MESSAGES, MAX_ROLE, Prompt, PromptError};

use sha2::{Digest, Sha256};

use crate::id::Model;

/// The protocol's id, negotiated by multistream. Any change of the messages is a new id.
// [T2]
pub const PROTOCOL: &str = "/haggle/2";
/// Bytes in a frame's payload, at most.
pub const MAX_FRAME: usize = 16 * 1024;
/// Bytes of text in one Chunk, at most.
pub const MAX_CHUNK_TEXT: usize = 8 * 1024;
/// Bytes of token ids in one Chunk, at most.
pub const MAX_CHUNK_IDS: usize = 4 * 1024;
/// Bytes of one Body piece: what leaves room for the frame's own fields.
pub const MAX_BODY_PIECE: usize = 12 * 1024;

/// The name under which providers of any model are found in the DHT. No model has it.
pub const ANY_MODEL: &str = "*";

/// The key under which providers of a model are found in the DHT of a network.
// [D1]
#[must_use]
pub fn dht_key(network: &str, model: &Model) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(b"haggle/1/model/");
    hash.update(network.as_bytes());
    hash.update([0]);
    hash.update(model.as_bytes());
    hash.finalize().into()
}
