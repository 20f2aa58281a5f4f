//! What a provider says of itself.

use alloc::vec::Vec;

use minicbor::{Decode, Decoder, Encode, decode::Error};

use super::{
    features::Features,
    lists::list,
    settlement::{self, Method},
};
use crate::{id::Model, money::Price, time::Millis};

/// Models in one advert, at most.
pub const MAX_MODELS: usize = 16;
/// Aliases of one model, at most: an advert as large as can be still fits one frame.
pub const MAX_ALIASES: usize = 5;

/// What a provider says of itself.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, Encode, Decode)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cbor(map)]
pub struct Advert {
    /// The models it serves, at most [`MAX_MODELS`].
    #[cbor(n(0), decode_with = "decode_models")]
    pub models: Vec<ModelAdvert>,
    /// Jobs it computes at once.
    #[n(1)]
    pub slots: u32,
    /// Of these, how many are free.
    #[n(2)]
    pub free: u32,
    /// Jobs that wait for a slot.
    #[n(3)]
    pub queued: u32,
    /// How it is paid, 1 to 4 methods; absent: not at all.
    #[cbor(n(23), decode_with = "settlement::decode_methods")]
    pub methods: Option<Vec<Method>>,
}

/// One model of an advert, with its posted price.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Encode, Decode)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cbor(map)]
pub struct ModelAdvert {
    /// The model's name.
    #[n(0)]
    pub model: Model,
    /// Other names it answers to, at most [`MAX_ALIASES`].
    #[cbor(n(1), decode_with = "decode_aliases")]
    pub aliases: Vec<Model>,
    /// Tokens of prompt and answer together, at most.
    #[n(2)]
    pub context: u32,
    /// Posted price of reading.
    #[n(3)]
    pub price_in: Price,
    /// Body bytes counted as one token for `price_in`.
    #[n(4)]
    pub bytes_per_token: u32,
    /// Posted price of writing.
    #[n(5)]
    pub price_out: Price,
    /// Expected time to the first token.
    #[n(6)]
    pub eta: Millis,
    /// Whether an answer that another provider began can be continued.
    #[n(7)]
    pub can_continue: bool,
    /// What the provider promises of equal bytes.
    #[n(8)]
    pub exactness: Exactness,
    /// What its engine can do beyond prompts of text, if it takes [requests](super::message::BodyKind::Request) at all; absent: it does not.
    #[n(9)]
    pub features: Option<Features>,
    /// Tokens of the longest answer, if that is less than the context.
    #[n(10)]
    pub longest: Option<u32>,
    /// Price of a part of the prompt that is not text, instead of its bytes.
    #[n(11)]
    pub price_part: Option<Price>,
}

/// How far the same request gives the same bytes elsewhere.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Encode, Decode)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cbor(map)]
pub struct Exactness {
    /// Which requests it holds for.
    #[n(0)]
    pub kind: ExactnessKind,
    /// Engine, numerics, weights and quantisation, hashed: equal classes write equal bytes.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub class: [u8; 32],
}

/// Which requests an exactness class holds for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Encode, Decode)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[cbor(index_only)]
pub enum ExactnessKind {
    /// None: the provider promises nothing.
    #[n(0)]
    #[default]
    None,
    /// Requests at temperature 0.
    #[n(1)]
    Greedy,
    /// Every request, by its sampling seed.
    #[n(2)]
    Seeded,
}

fn decode_models<'b, C>(d: &mut Decoder<'b>, ctx: &mut C) -> Result<Vec<ModelAdvert>, Error> {
    list(d, ctx, MAX_MODELS)
}

fn decode_aliases<'b, C>(d: &mut Decoder<'b>, ctx: &mut C) -> Result<Vec<Model>, Error> {
    list(d, ctx, MAX_ALIASES)
}
