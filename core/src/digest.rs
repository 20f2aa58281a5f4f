//! A digest of a machine's state: equal states digest equally on every target, whenever they are reached.

use core::hash::{Hash, Hasher};

use sha2::{Digest as _, Sha256};

use crate::{time::Instant, wire::message::Channel};

/// Hashes everything that derives [`Hash`], so that no field can be forgotten. Numbers are written in one byte order;
/// moments, which alone hash themselves as `i128`, are taken relative to `now`.
pub(crate) struct Digester {
    hash: Sha256,
    now: Instant,
}

impl Digester {
    pub(crate) fn new(now: Instant) -> Self {
        Self { hash: Sha256::new(), now }
    }

    pub(crate) fn with(mut self, part: &impl Hash) -> Self {
        part.hash(&mut self);
        self
    }

    pub(crate) fn done(self) -> [u8; 32] {
        self.hash.finalize().into()
    }
}

impl Hasher for Digester {
    fn write(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
    }

    fn write_u16(&mut self, i: u16) {
        self.write(&i.to_le_bytes());
    }

    fn write_u32(&mut self, i: u32) {
        self.write(&i.to_le_bytes());
    }

    fn write_u64(&mut self, i: u64) {
        self.write(&i.to_le_bytes());
    }

    fn write_u128(&mut self, i: u128) {
        self.write(&i.to_le_bytes());
    }

    fn write_usize(&mut self, i: usize) {
        self.write_u64(i as u64);
    }

    fn write_isize(&mut self, i: isize) {
        self.write_u64(i as u64);
    }

    fn write_i128(&mut self, moment: i128) {
        let relative = moment - i128::from(self.now.as_millis());
        self.write(&relative.to_le_bytes());
    }

    /// Not used: the digest has 32 bytes.
    fn finish(&self) -> u64 {
        0
    }
}

/// The running SHA-256 of a run's text, over all channels.
#[derive(Clone, Debug, Default)]
pub(crate) struct TextHash {
    hash: Sha256,
    /// Of the text that came last.
    channel: Option<Channel>,
}

impl TextHash {
    pub(crate) fn update(&mut self, channel: Option<Channel>, text: &str) {
        if channel != self.channel {
            // [X1] No UTF-8 has this byte: text of one channel can not pass for that of two.
            self.hash.update([0xff, channel.map_or(0, Channel::number)]);
            self.channel = channel;
        }
        self.hash.update(text.as_bytes());
    }

    pub(crate) fn value(&self) -> [u8; 32] {
        self.hash.clone().finalize().into()
    }
}

impl Hash for TextHash {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.value().hash(state);
    }
}

/// SHA-256 of bytes in parts.
pub(crate) fn sha256_of(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    parts.iter().for_each(|part| hash.update(part));
    hash.finalize().into()
}

/// SHA-256 of some bytes.
pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Millis;

    #[test]
    fn moments_are_relative_and_the_rest_is_not() {
        let digest = |now: u64, at: u64, n: u64| {
            Digester::new(Instant::from_millis(now)).with(&(Instant::from_millis(at), n)).done()
        };
        assert_eq!(digest(5, 10, 1), digest(105, 110, 1));
        assert_ne!(digest(5, 10, 1), digest(5, 11, 1));
        assert_ne!(digest(5, 10, 1), digest(105, 110, 101));
        assert_eq!(Instant::from_millis(7).since(Instant::from_millis(9)), Millis::ZERO);
    }
}
