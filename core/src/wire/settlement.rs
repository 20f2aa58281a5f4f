//! How an attempt is paid, as it crosses the wire: methods that are taken, the one that is chosen, vouchers and receipts.
//!
//! The core compares rails and keys as bytes; only an adapter of their kind reads them.

use alloc::vec::Vec;
use core::fmt;

use minicbor::{Decode, Decoder, Encode, decode::Error};

use super::lists::list;

/// Methods of one Advert or Offer, at most.
pub const MAX_METHODS: usize = 4;
/// Bytes of a rail, at most.
pub const MAX_RAIL: usize = 96;
/// Bytes of a key, at most.
pub const MAX_KEY: usize = 64;

/// A kind of settlement.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Encode, Decode)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[cbor(index_only)]
pub enum MethodKind {
    /// Nothing is paid: the bill is bookkeeping.
    #[n(0)]
    None,
    /// Credit between two who know each other; statements are signed with the node's own key.
    #[n(1)]
    Tab,
    /// A payment channel; vouchers can be redeemed by whoever holds them.
    #[n(2)]
    Channel,
}

/// A way to be paid that a provider takes.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Encode, Decode)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cbor(map)]
pub struct Method {
    /// Which kind.
    #[n(0)]
    pub kind: MethodKind,
    /// On which rail: a unit, or a contract. At most 96 bytes.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub rail: Vec<u8>,
    /// The fee is paid before the first token.
    #[n(2)]
    pub upfront: bool,
}

/// The method that an Award is paid by, with the channel's name.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Encode, Decode)]
#[cbor(map)]
pub struct Choice {
    /// Which kind; never none: that is a choice left out.
    #[n(0)]
    pub kind: MethodKind,
    /// The rail as it was listed.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub rail: Vec<u8>,
    /// As it was listed.
    #[n(2)]
    pub upfront: bool,
    /// The channel's name; empty for a tab. At most 64 bytes.
    #[cbor(n(3), with = "minicbor::bytes")]
    pub key: Vec<u8>,
}

/// What its signer promises in all, and for how many tokens of this attempt.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(map)]
pub struct Voucher {
    /// In all, in the channel's or tab's own count.
    #[n(0)]
    pub amount: u64,
    /// New tokens of this attempt that are paid with it.
    #[n(1)]
    pub tokens: u64,
    /// By the payer.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub signature: [u8; 64],
}

/// The last voucher that a provider holds, shown to a payer who knows of another one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(map)]
pub struct Shown {
    /// In all.
    #[n(0)]
    pub amount: u64,
    /// Hash of what it was for.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub note: [u8; 32],
    /// By the payer.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub signature: [u8; 64],
}

/// A provider's signature under what it wrote.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct Receipt(#[cbor(n(0), with = "minicbor::bytes")] pub [u8; 64]);

/// The methods of an Advert or Offer. Only asked for where the field is there.
pub(super) fn decode_methods<'b, C>(d: &mut Decoder<'b>, ctx: &mut C) -> Result<Option<Vec<Method>>, Error> {
    list(d, ctx, MAX_METHODS).map(Some)
}

impl Method {
    pub(super) fn is_in_bounds(&self) -> bool {
        self.rail.len() <= MAX_RAIL
    }
}

/// One to four, at most one of a kind and rail.
pub(super) fn are_in_bounds(methods: &[Method]) -> bool {
    let unique = |(at, method): (usize, &Method)| {
        let earlier = methods.get(..at).unwrap_or_default();
        earlier.iter().all(|other| (other.kind, &other.rail) != (method.kind, &method.rail))
    };
    (1..=MAX_METHODS).contains(&methods.len())
        && methods.iter().all(Method::is_in_bounds)
        && methods.iter().enumerate().all(unique)
}

impl Choice {
    pub(super) fn is_in_bounds(&self) -> bool {
        self.kind != MethodKind::None && self.rail.len() <= MAX_RAIL && self.key.len() <= MAX_KEY
    }
}

// Without signatures: messages are logged, and a voucher is money to whoever holds it.
impl fmt::Debug for Voucher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Voucher {{ amount: {}, tokens: {} }}", self.amount, self.tokens)
    }
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Shown {{ amount: {} }}", self.amount)
    }
}

impl fmt::Debug for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Receipt")
    }
}
