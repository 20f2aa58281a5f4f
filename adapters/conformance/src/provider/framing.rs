//! Bytes, frames, and what is no message.

use haggle_core::wire::{self, Message};

use super::buyer::Buyer;
use crate::{
    line::{Line, frame, framed},
    verdict::{Step, demand},
};

pub(super) async fn describe(buyer: Buyer) -> Step {
    let line = buyer.line();
    for _ in 0..3 {
        line.lives("C4", "a Describe").await?;
    }
    let known = buyer.model.context > 0;
    demand("B1", known, || "a model without a context".into())
}

pub(super) async fn bytes_one_by_one(buyer: Buyer) -> Step {
    let line = buyer.line();
    for byte in frame(&Message::Rfq(buyer.rfq(16))) {
        line.send(&[byte]);
        buyer.stage.pause(haggle_core::Millis(1)).await;
    }
    line.offer("F3").await.map(|_| ())
}

pub(super) async fn frames_in_one_packet(buyer: Buyer) -> Step {
    let line = buyer.line();
    let describe = frame(&Message::Describe);
    let (half, rest) = describe.split_at(3);
    line.send(&[&describe[..], &describe, &frame(&Message::Rfq(buyer.rfq(16))), half].concat());
    for _ in 0..2 {
        let frame = line.frame("F3", "an Advert").await?;
        demand("F3", matches!(frame.message(), Message::Advert(_)), || format!("{:?} first", frame.message()))?;
    }
    line.offer("F3").await?;
    line.send(rest);
    let frame = line.frame("F3", "an Advert").await?;
    demand("F3", matches!(frame.message(), Message::Advert(_)), || format!("{:?} last", frame.message()))
}

pub(super) async fn empty_frame(buyer: Buyer) -> Step {
    refused(&buyer, "F2", &[0, 0]).await
}

pub(super) async fn frame_too_long(buyer: Buyer) -> Step {
    // The two bytes are enough.
    refused(&buyer, "F2", &16_385_u16.to_be_bytes()).await
}

pub(super) async fn long_number(buyer: Buyer) -> Step {
    refused(&buyer, "E1", &framed(b"\x82\x18\x00\xa0")).await?;
    refused(&buyer, "E1", &framed(b"\x82\x00\xb8\x00")).await
}

pub(super) async fn indefinite(buyer: Buyer) -> Step {
    refused(&buyer, "E1", &framed(b"\x9f\x00\xa0\xff")).await?;
    refused(&buyer, "E1", &framed(b"\x82\x00\xbf\xff")).await
}

/// The usual Rfq with two fields exchanged, and with one of them twice.
pub(super) async fn keys(buyer: Buyer) -> Step {
    let rfq = rfq(&buyer);
    let (before, last) = rfq.split_at(rfq.len() - 2);
    demand("E2", last == b"\x03\x10", || "an Rfq that ends otherwise".into())?;
    // Its first field is moved to the end.
    let exchanged = [&before[..5], &before[15..], last, &before[5..15]].concat();
    refused(&buyer, "E2", &framed(&exchanged)).await?;
    let mut twice = [before, last, last].concat();
    twice[4] = 0xa5;
    refused(&buyer, "E2", &framed(&twice)).await
}

pub(super) async fn null(buyer: Buyer) -> Step {
    let rfq = rfq(&buyer);
    let mut with_null = [&rfq[..], b"\x04\xf6"].concat();
    with_null[4] = 0xa5;
    refused(&buyer, "E1", &framed(&with_null)).await
}

pub(super) async fn unknown(buyer: Buyer) -> Step {
    refused(&buyer, "E3", &framed(b"\x82\x00\xa1\x00\x00")).await?;
    refused(&buyer, "E3", &framed(b"\x82\x13\xa0")).await?;
    // A reason of Release that there is not.
    refused(&buyer, "E3", &framed(b"\x82\x06\xa1\x00\x05")).await
}

pub(super) async fn reserved(buyer: Buyer) -> Step {
    let rfq = rfq(&buyer);
    let mut signed = [&rfq[..], b"\x14\x41\x00"].concat();
    signed[4] = 0xa5;
    refused(&buyer, "E3", &framed(&signed)).await
}

pub(super) async fn trailing(buyer: Buyer) -> Step {
    refused(&buyer, "E4", &framed(b"\x82\x00\xa0\x00")).await?;
    refused(&buyer, "E4", &framed(b"\x82\x00\xa0\x82\x00\xa0")).await
}

pub(super) async fn deep(buyer: Buyer) -> Step {
    let deep = [&b"\x82\x00\xa1\x00"[..], &[0x81; 4_000], b"\x00"].concat();
    refused(&buyer, "E4", &framed(&deep)).await
}

pub(super) async fn announced(buyer: Buyer) -> Step {
    let rfq = rfq(&buyer);
    let announced = [&rfq[..15], b"\x01\x5a\xff\xff\xff\xff"].concat();
    refused(&buyer, "E5", &framed(&announced)).await
}

/// An Rfq of 16 tokens whose id has all its eight bytes.
fn rfq(buyer: &Buyer) -> Vec<u8> {
    let mut rfq = buyer.rfq(16);
    rfq.rfq |= 1 << 63;
    let mut payload = Vec::new();
    wire::encode(&Message::Rfq(rfq), &mut payload);
    payload
}

/// Says what is a violation on a line of its own: it is reset, nothing is answered, and others go on.
async fn refused(buyer: &Buyer, rule: &'static str, bytes: &[u8]) -> Step {
    let line = Line::open(&buyer.stage);
    line.send(bytes);
    line.over(rule, "a violation", |_| false).await
}
