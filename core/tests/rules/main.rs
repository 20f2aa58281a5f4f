//! The rules of `PROTOCOL.md`, one conversation each: what one side says, and what the machine on the other answers.
//!
//! A test names the rule that it holds (`[A4]`), and `tests/house` that no rule is left out. Nothing here depends on the
//! simulator: a peer is a list of messages.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a conversation that can not be held has failed")]

mod answers;
mod asking;
mod award;
mod bounds;
mod buyer;
mod channels;
mod choosing;
mod conversations;
mod damage;
mod eta;
mod giving_up;
mod haggling;
mod leaving;
mod places;
mod refusals;
mod resuming;
mod seller;
mod streaming;
mod taking;

use haggle_core::{
    Instant, JobId, Limits, Millis, Model, PeerId,
    provider::{Service, Serving},
    wire::message::{Award, BodyKind, Exactness, ModelAdvert, Sampling},
};
use sha2::{Digest, Sha256};

const JOB: JobId = JobId([7; 16]);
const PROMPT: &[u8] = b"Once upon a time";
const PRICE_IN: u64 = 4_000_000;
const PRICE_OUT: u64 = 1_000_000;

fn model() -> Model {
    Model::new(b"story").unwrap()
}

fn peer(name: &str) -> PeerId {
    PeerId::new(name.as_bytes()).unwrap()
}

fn at(millis: u64) -> Instant {
    Instant::from_millis(millis)
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

fn advert() -> ModelAdvert {
    ModelAdvert {
        model: model(),
        aliases: Vec::new(),
        context: 1024,
        price_in: PRICE_IN,
        bytes_per_token: 4,
        price_out: PRICE_OUT,
        eta: Millis(100),
        can_continue: true,
        exactness: Exactness::default(),
        features: None,
        longest: None,
        price_part: None,
    }
}

/// One model; bidders get it for no less than half.
fn service() -> Service {
    Service { models: vec![Serving { advert: advert(), floor_permille: 500 }], ..Service::default() }
}

/// The posted price of [`PROMPT`], taken without an offer.
fn award() -> Award {
    let limits = Limits::default();
    Award {
        job: JOB,
        attempt: 1,
        epoch: 1,
        model: model(),
        offer: None,
        tariff: haggle_core::money::Tariff { fee_in: 256, price_out: PRICE_OUT },
        max_tokens: 30,
        kind: BodyKind::Raw,
        body_bytes: PROMPT.len() as u64,
        body_hash: sha256(PROMPT),
        prefix_bytes: 0,
        prefix_tokens: 0,
        overlap: 0,
        sampling: Sampling::default(),
        stop: Vec::new(),
        window_tokens: limits.window_tokens,
        window_bytes: limits.window_bytes,
        prefix_id_bytes: None,
        features: None,
        voucher: None,
        choice: None,
    }
}
