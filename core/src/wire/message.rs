//! The messages of `/haggle/2`. `core/PROTOCOL.md` says what they mean, `core/protocol.cddl` how they look.
//!
//! A message is `[kind, {field: value}]`; absent optional fields are left out. Field number 20 is reserved for a signature.

use alloc::{string::String, vec::Vec};
use core::fmt;

use minicbor::{Decode, Decoder, Encode, decode::Error};

pub use super::{
    advert::{Advert, Exactness, ExactnessKind, MAX_ALIASES, MAX_MODELS, ModelAdvert},
    features::{Channel, Features, Phase},
    reason::{DeclineReason, EndReason, GoneReason, ReleaseReason},
    settlement::{Choice, MAX_KEY, MAX_METHODS, MAX_RAIL, Method, MethodKind, Receipt, Shown, Voucher},
};
use super::{lists::list, settlement};
use crate::{
    id::{JobId, Model},
    money::Tariff,
    time::Millis,
};

/// Stop strings in an award, at most.
pub const MAX_STOPS: usize = 4;
/// Bytes in a stop string, at most.
pub const MAX_STOP_BYTES: usize = 64;

/// One message of the protocol. Token text is borrowed from the frame.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub enum Message<'a> {
    /// Asks a provider to describe itself.
    #[n(0)]
    Describe,
    /// A provider's description of itself.
    #[n(1)]
    Advert(#[n(0)] Advert),
    /// Request for quote: sizes only, neither prompt nor budget.
    #[n(2)]
    Rfq(#[n(0)] Rfq),
    /// A price that binds its sender until it expires.
    #[n(3)]
    Offer(#[n(0)] Offer),
    /// A bid on an offer.
    #[n(4)]
    Counter(#[n(0)] Counter),
    /// A refusal of an Rfq, a Counter or an Award.
    #[n(5)]
    Decline(#[n(0)] Decline),
    /// The courtesy to a provider that was asked and is not awarded.
    #[n(6)]
    Release(#[n(0)] ReleaseReason),
    /// The choice: the job's header.
    #[n(7)]
    Award(#[n(0)] Award),
    /// A piece of the job's body.
    #[n(8)]
    Body {
        /// Where in the body the bytes belong; pieces come in order.
        #[n(0)]
        offset: u64,
        /// The bytes.
        #[cbor(b(1), with = "minicbor::bytes")]
        bytes: &'a [u8],
    },
    /// The provider takes the job under the awarded terms.
    #[n(9)]
    Accepted(#[n(0)] Accepted),
    /// Tokens.
    #[n(10)]
    Chunk {
        /// Index of the first token, dense from 0 within a run.
        #[n(0)]
        seq: u64,
        /// How many tokens.
        #[n(1)]
        n: u32,
        /// Their text.
        #[b(2)]
        text: &'a str,
        /// Their ids, four little-endian bytes each, if the provider knows them.
        #[cbor(b(3), with = "minicbor::bytes")]
        ids: Option<&'a [u8]>,
        /// What it is, if not the answer's text. A chunk is of one channel.
        #[n(4)]
        channel: Option<Channel>,
    },
    /// The provider lives and works.
    #[n(11)]
    Keepalive,
    /// The answer is over.
    #[n(12)]
    End(#[n(0)] End),
    /// What the requester's application has consumed; moves the window.
    #[n(13)]
    Ack {
        /// The first token not yet consumed.
        #[n(0)]
        next: u64,
        /// The End was received: the provider forgets the job.
        #[n(1)]
        end: bool,
        /// What is paid by now.
        #[n(21)]
        voucher: Option<Voucher>,
    },
    /// The requester wants no more of this attempt.
    #[n(14)]
    Cancel {
        /// The job.
        #[n(0)]
        job: JobId,
        /// Its attempt.
        #[n(1)]
        attempt: u32,
        /// For all tokens accepted; absent: nothing more is owed.
        #[n(21)]
        voucher: Option<Voucher>,
    },
    /// Attaches to a running attempt over a new stream.
    #[n(15)]
    Resume {
        /// The job.
        #[n(0)]
        job: JobId,
        /// Its attempt.
        #[n(1)]
        attempt: u32,
        /// Strictly higher than every earlier epoch of the attempt.
        #[n(2)]
        epoch: u32,
        /// The first token the requester has not taken.
        #[n(3)]
        next: u64,
    },
    /// The stream goes on at `next`.
    #[n(16)]
    Resumed {
        /// The first token that follows.
        #[n(0)]
        next: u64,
    },
    /// There is nothing to resume.
    #[n(17)]
    Gone(#[n(0)] GoneReason),
    /// The provider works, and has no token to tell yet.
    #[n(18)]
    Working {
        /// What the provider does.
        #[n(0)]
        phase: Phase,
        /// How much of it is done, in the phase's own count.
        #[n(1)]
        done: Option<u64>,
        /// Out of how much. Neither is relied on.
        #[n(2)]
        of: Option<u64>,
        /// Expected time to the first token.
        #[n(3)]
        eta: Option<Millis>,
    },
}

impl fmt::Debug for Message<'_> {
    // Without text and bytes: messages are logged.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Describe => f.write_str("Describe"),
            Self::Advert(advert) => advert.fmt(f),
            Self::Rfq(rfq) => rfq.fmt(f),
            Self::Offer(offer) => offer.fmt(f),
            Self::Counter(counter) => counter.fmt(f),
            Self::Decline(decline) => decline.fmt(f),
            Self::Release(reason) => write!(f, "Release({reason:?})"),
            Self::Award(award) => award.fmt(f),
            Self::Body { offset, bytes } => write!(f, "Body {{ offset: {offset}, {} bytes }}", bytes.len()),
            Self::Accepted(accepted) => accepted.fmt(f),
            Self::Chunk { seq, n, text, ids, channel } => {
                let ids = if ids.is_some() { " with ids" } else { "" };
                write!(f, "Chunk {{ seq: {seq}, n: {n}, {} bytes{ids}, {channel:?} }}", text.len())
            }
            Self::Keepalive => f.write_str("Keepalive"),
            Self::End(end) => end.fmt(f),
            Self::Ack { next, end, voucher } => write!(f, "Ack {{ next: {next}, end: {end}, {voucher:?} }}"),
            Self::Cancel { job, attempt, voucher } => {
                write!(f, "Cancel {{ {job:?}, attempt: {attempt}, {voucher:?} }}")
            }
            Self::Resume { job, attempt, epoch, next } => {
                write!(f, "Resume {{ {job:?}, attempt: {attempt}, epoch: {epoch}, next: {next} }}")
            }
            Self::Resumed { next } => write!(f, "Resumed {{ next: {next} }}"),
            Self::Gone(reason) => write!(f, "Gone({reason:?})"),
            Self::Working { phase, done, of, eta } => {
                write!(f, "Working {{ {phase:?}, done: {done:?}, of: {of:?}, eta: {eta:?} }}")
            }
        }
    }
}

/// Request for quote.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Encode, Decode)]
#[cbor(map)]
pub struct Rfq {
    /// A fresh random id; the job's id is not told.
    #[n(0)]
    pub rfq: u64,
    /// The model, by name or alias.
    #[n(1)]
    pub model: Model,
    /// Bytes of the body, rounded up to [`crate::money::BODY_QUANTUM`].
    #[n(2)]
    pub body_bytes: u64,
    /// Tokens to write, at most.
    #[n(3)]
    pub max_tokens: u64,
}

/// A binding price.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Encode, Decode)]
#[cbor(map)]
pub struct Offer {
    /// The Rfq it answers; 0 in a Decline to an Award by posted price.
    #[n(0)]
    pub rfq: u64,
    /// The offer's id, never 0.
    #[n(1)]
    pub offer: u64,
    /// The price.
    #[n(2)]
    pub tariff: Tariff,
    /// Expected time to the first token.
    #[n(3)]
    pub eta: Millis,
    /// How long it binds, counted by its receiver from its arrival.
    #[n(4)]
    pub expires_in: Millis,
    /// How it is paid, 1 to 4 methods; it binds with the price. Absent: not at all.
    #[cbor(n(23), decode_with = "settlement::decode_methods")]
    pub methods: Option<Vec<Method>>,
}

/// A bid on an offer.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Encode, Decode)]
#[cbor(map)]
pub struct Counter {
    /// The Rfq.
    #[n(0)]
    pub rfq: u64,
    /// The offer it answers.
    #[n(1)]
    pub offer: u64,
    /// The price that would be taken.
    #[n(2)]
    pub tariff: Tariff,
}

/// A refusal.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Encode, Decode)]
#[cbor(map)]
pub struct Decline {
    /// Why.
    #[n(0)]
    pub reason: DeclineReason,
    /// Not to be asked again before.
    #[n(1)]
    pub retry_after: Option<Millis>,
    /// With `Stale` and `TooCheap`: the price that would be taken now.
    #[n(2)]
    pub offer: Option<Offer>,
    /// With `Settlement`: the last voucher that the provider holds.
    #[n(21)]
    pub shown: Option<Shown>,
}

/// The header of a job.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Encode, Decode)]
#[cbor(map)]
pub struct Award {
    /// The job.
    #[n(0)]
    pub job: JobId,
    /// Which award of the job this is, from 1.
    #[n(1)]
    pub attempt: u32,
    /// The stream's epoch within the attempt, from 1.
    #[n(2)]
    pub epoch: u32,
    /// The model, by name or alias.
    #[n(3)]
    pub model: Model,
    /// The offer that is taken; absent: the posted price.
    #[n(4)]
    pub offer: Option<u64>,
    /// Its terms, repeated.
    #[n(5)]
    pub tariff: Tariff,
    /// Tokens to write, at most.
    #[n(6)]
    pub max_tokens: u64,
    /// What the body is.
    #[n(7)]
    pub kind: BodyKind,
    /// Bytes of the body: the prompt, then the prefix's text, then its ids.
    #[n(8)]
    pub body_bytes: u64,
    /// SHA-256 of the body.
    #[cbor(n(9), with = "minicbor::bytes")]
    pub body_hash: [u8; 32],
    /// Of the body, the bytes after the prompt that are text already delivered, to be continued. 0 for a new run.
    #[n(10)]
    pub prefix_bytes: u64,
    /// Tokens in the prefix.
    #[n(11)]
    pub prefix_tokens: u64,
    /// Of the tokens to be written, the first ones that the requester has already: evidence of equal bytes, at most 8,
    /// not owed.
    #[n(12)]
    pub overlap: u32,
    /// How to sample.
    #[n(13)]
    pub sampling: Sampling,
    /// Texts that end the answer, at most [`MAX_STOPS`].
    #[cbor(n(14), decode_with = "decode_stops")]
    pub stop: Vec<String>,
    /// The window: tokens not yet consumed, at most.
    #[n(15)]
    pub window_tokens: u32,
    /// The window: cost of chunks not yet consumed, at most, in bytes.
    #[n(16)]
    pub window_bytes: u32,
    /// Of the body, the last bytes that are the ids of the prefix's tokens, four little-endian bytes each.
    #[n(17)]
    pub prefix_id_bytes: Option<u64>,
    /// What the job needs of the engine beyond text; absent: nothing.
    #[n(18)]
    pub features: Option<Features>,
    /// With `choice`, and only then: the total so far, which proves that the channel is the sender's.
    #[n(21)]
    pub voucher: Option<Voucher>,
    /// How it is paid; absent: not at all.
    #[n(23)]
    pub choice: Option<Choice>,
}

/// What a body is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Encode, Decode)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[cbor(index_only)]
pub enum BodyKind {
    /// Canonical CBOR: an array of `[role, content]` pairs.
    #[n(0)]
    Chat,
    /// UTF-8 text that the model continues.
    #[n(1)]
    #[default]
    Raw,
    /// Token ids, four little-endian bytes each.
    #[n(2)]
    Tokens,
    /// One JSON object, the engine's to read: a request with all that it can hold. Never continued.
    #[n(3)]
    Request,
}

/// How tokens are drawn; integers, because floats differ between machines.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Encode, Decode)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
#[cbor(map)]
pub struct Sampling {
    /// Temperature in thousandths; 0 is greedy.
    #[n(0)]
    pub temperature_milli: u32,
    /// Only the most likely `top_k` tokens; 0 is all.
    #[n(1)]
    pub top_k: u32,
    /// Only the most likely tokens that make up this many thousandths of probability; 1000 is all.
    #[n(2)]
    pub top_p_milli: u32,
    /// Draws are keyed by this seed and the token's position.
    #[n(3)]
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Self { temperature_milli: 800, top_k: 0, top_p_milli: 1000, seed: 0 }
    }
}

/// The provider takes the job.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Encode, Decode)]
#[cbor(map)]
pub struct Accepted {
    /// SHA-256 of the Award's frame payload.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub terms: [u8; 32],
    /// Body bytes that may be sent in all: the credit for the rest.
    #[n(1)]
    pub body_credit: u64,
    /// The window in force: at most what the Award asked for.
    #[n(2)]
    pub window_tokens: u32,
    /// The window in force, in bytes.
    #[n(3)]
    pub window_bytes: u32,
    /// Expected time to the first token, if the job has to wait for a slot.
    #[n(4)]
    pub eta: Option<Millis>,
}

/// The end of an answer.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Encode, Decode)]
#[cbor(map)]
pub struct End {
    /// Why it ended.
    #[n(0)]
    pub reason: EndReason,
    /// Tokens read, as the engine counted them; 0 if it can not tell.
    #[n(1)]
    pub prompt_tokens: u64,
    /// Tokens written by this attempt, the overlap included.
    #[n(2)]
    pub tokens: u64,
    /// SHA-256 of the run's text, the prefix included.
    #[cbor(n(3), with = "minicbor::bytes")]
    pub hash: [u8; 32],
    /// Of the tokens written, those that were thought, if the engine tells.
    #[n(4)]
    pub thought: Option<u64>,
    /// Of the tokens read, those that the engine had already, if it tells.
    #[n(5)]
    pub cached: Option<u64>,
    /// The provider's signature under all of this.
    #[n(22)]
    pub receipt: Option<Receipt>,
}

fn decode_stops<'b, C>(d: &mut Decoder<'b>, ctx: &mut C) -> Result<Vec<String>, Error> {
    list(d, ctx, MAX_STOPS)
}
