//! What nobody expects.

use std::{
    collections::hash_map::RandomState,
    hash::{BuildHasher, Hasher},
};

/// A number that nobody expects: the standard library draws its hashers' keys from the system.
pub(crate) fn number() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// A name for a request, by which its client can speak of it.
pub(crate) fn request_id() -> String {
    format!("req_{:016x}", number())
}
