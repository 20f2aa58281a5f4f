//! What a provider sells, and its limits: small, so that they are reached.

use haggle_core::{
    Limits, Millis, Model,
    provider::{Service, Serving},
    wire::message::{Exactness, ModelAdvert},
};

use crate::cursor::Cursor;

pub(super) fn serving(price: u64, floor_permille: u32) -> Serving {
    let advert = ModelAdvert {
        model: Model::new(b"m").unwrap(),
        aliases: vec![Model::new(b"alias").unwrap()],
        context: 1000,
        price_in: price,
        bytes_per_token: 4,
        price_out: price,
        eta: Millis(200),
        can_continue: true,
        exactness: Exactness::default(),
        features: None,
        longest: None,
        price_part: None,
    };
    Serving { advert, floor_permille }
}

pub(super) fn service(cursor: &mut Cursor<'_>) -> Service {
    let models = vec![serving(cursor.number(), cursor.below(5) as u32 * 250)];
    Service { models, slots: 1 + cursor.below(2) as u32, queue: cursor.below(3) as u32, ..Service::default() }
}

pub(super) fn limits(cursor: &mut Cursor<'_>) -> Limits {
    let small = Limits {
        streams: 5,
        streams_per_peer: 3,
        offers: 4,
        offers_per_peer: 2,
        jobs_per_peer: 2,
        idle_frames: 5,
        window_tokens: 6,
        ..Limits::default()
    };
    let tight = Limits { window_bytes: 16_512, body_unasked: 10, node_bytes: 100, body_bytes: 60, ..small.clone() };
    [Limits::default(), small, tight][cursor.below(3)].clone()
}
