//! The key of a server.

use std::fmt;

use ureq::http::HeaderValue;

/// A secret that opens the server. It shows nowhere: neither in `Debug` nor in any error.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(pub(super) HeaderValue);

impl Key {
    /// A key, without the spaces around it.
    ///
    /// # Errors
    /// [`NotAKey`] if it is empty or cannot be sent.
    pub fn new(key: &str) -> Result<Self, NotAKey> {
        let key = key.trim();
        if key.is_empty() {
            return Err(NotAKey);
        }
        let mut value = HeaderValue::from_str(&format!("Bearer {key}")).map_err(|_| NotAKey)?;
        value.set_sensitive(true);
        Ok(Self(value))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}

/// What is empty, or cannot be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAKey;

impl fmt::Display for NotAKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the key of the upstream server is empty, or holds what cannot be sent")
    }
}

impl std::error::Error for NotAKey {}
