//! Names of things: peers, models, jobs, streams, queries, offers.

use alloc::{string::String, sync::Arc};
use core::fmt;

/// Bytes in the longest peer id (libp2p's are 34 to 42).
pub const MAX_PEER_BYTES: usize = 64;
/// Bytes in the longest model name.
pub const MAX_MODEL_BYTES: usize = 128;

/// An authenticated peer, as opaque bytes. Where the bytes come from is the adapter's business.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId {
    len: u8,
    bytes: [u8; MAX_PEER_BYTES],
}

impl PeerId {
    /// A peer from its bytes; `None` if there are none or more than [`MAX_PEER_BYTES`].
    #[must_use]
    pub fn new(id: &[u8]) -> Option<Self> {
        let len = u8::try_from(id.len()).ok().filter(|len| (1..=MAX_PEER_BYTES as u8).contains(len))?;
        let mut bytes = [0; MAX_PEER_BYTES];
        bytes[..id.len()].copy_from_slice(id);
        Some(Self { len, bytes })
    }

    /// The bytes it was made of.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The tail: the head of libp2p's ids says only which kind of key it is.
        let bytes = self.as_bytes();
        f.write_str("peer:")?;
        hex(f, &bytes[bytes.len().saturating_sub(6)..])
    }
}

impl<C> minicbor::Encode<C> for PeerId {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.bytes(self.as_bytes())?.ok()
    }
}

impl<'b, C> minicbor::Decode<'b, C> for PeerId {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        Self::new(d.bytes()?).ok_or_else(|| minicbor::decode::Error::message("a peer id has 1 to 64 bytes"))
    }
}

/// A model's name: opaque bytes, 1 to [`MAX_MODEL_BYTES`], compared by equality.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Model(Arc<[u8]>);

impl Model {
    /// A model from its name; `None` if it is empty or too long.
    #[must_use]
    pub fn new(name: &[u8]) -> Option<Self> {
        (1..=MAX_MODEL_BYTES).contains(&name.len()).then(|| Self(name.into()))
    }

    /// The name's bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The name for people: invalid UTF-8 is shown as replacement characters.
    #[must_use]
    pub fn to_text(&self) -> String {
        String::from_utf8_lossy(&self.0).into_owned()
    }
}

/// A name that no model can have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ModelError;

impl fmt::Display for ModelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a model's name has 1 to {MAX_MODEL_BYTES} bytes")
    }
}

impl core::error::Error for ModelError {}

impl TryFrom<&str> for Model {
    type Error = ModelError;

    fn try_from(name: &str) -> Result<Self, ModelError> {
        Self::new(name.as_bytes()).ok_or(ModelError)
    }
}

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_text())
    }
}

impl<C> minicbor::Encode<C> for Model {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.bytes(&self.0)?.ok()
    }
}

impl<'b, C> minicbor::Decode<'b, C> for Model {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        Self::new(d.bytes()?).ok_or_else(|| minicbor::decode::Error::message("model name empty or too long"))
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for Model {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_text())
    }
}

#[cfg(feature = "serde")]
impl<'de> serde::Deserialize<'de> for Model {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Self::new(name.as_bytes()).ok_or_else(|| serde::de::Error::custom("a model name has 1 to 128 bytes"))
    }
}

/// A user's request, unique on this requester and hard to guess for others.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(pub [u8; 16]);

impl fmt::Debug for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("job:")?;
        hex(f, &self.0[..4])
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(f, &self.0)
    }
}

impl<C> minicbor::Encode<C> for JobId {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.bytes(&self.0)?.ok()
    }
}

impl<'b, C> minicbor::Decode<'b, C> for JobId {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        let bytes = d.bytes()?.try_into().map_err(|_| minicbor::decode::Error::message("a job id has 16 bytes"))?;
        Ok(Self(bytes))
    }
}

/// One conversation with a peer. The requester names those it opens, the provider those it accepts; the two spaces are apart.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct StreamId(pub u64);

/// One search for peers that serve a model.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct QueryId(pub u64);

/// A provider's own handle of one attempt that it computes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct AttemptId(pub u64);

#[cfg(feature = "serde")]
mod as_hex {
    //! Ids in text formats: lower-case hexadecimal.

    use alloc::{format, string::String, vec::Vec};

    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    use super::{JobId, PeerId, hex};

    struct Hex<'a>(&'a [u8]);

    impl core::fmt::Display for Hex<'_> {
        fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
            hex(f, self.0)
        }
    }

    fn bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        let digits = text.as_bytes().chunks(2);
        let byte =
            |pair: &[u8]| u8::from_str_radix(core::str::from_utf8(pair).ok()?, 16).ok().filter(|_| pair.len() == 2);
        let bytes: Option<Vec<u8>> = digits.map(byte).collect();
        bytes.ok_or_else(|| D::Error::custom(format!("{text:?} is not hexadecimal")))
    }

    impl Serialize for PeerId {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_str(&Hex(self.as_bytes()))
        }
    }

    impl<'de> Deserialize<'de> for PeerId {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            Self::new(&bytes(deserializer)?).ok_or_else(|| D::Error::custom("a peer id has 1 to 64 bytes"))
        }
    }

    impl Serialize for JobId {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_str(self)
        }
    }

    impl<'de> Deserialize<'de> for JobId {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            let bytes = bytes(deserializer)?.try_into().map_err(|_| D::Error::custom("a job id has 16 bytes"))?;
            Ok(Self(bytes))
        }
    }
}

fn hex(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}
