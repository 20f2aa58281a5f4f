//! Requesters that pester.

use std::collections::BTreeMap;

use haggle_core::{
    JobId,
    money::{Price, Tariff, fee_in},
    wire::{
        Message,
        message::{Award, BodyKind, Rfq, Sampling},
    },
};
use sha2::{Digest, Sha256};

use crate::{
    NodeId,
    node::name,
    script::{Heard, Script, Talk},
};

/// How a requester pesters a provider.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pest {
    /// Opens streams and says nothing.
    Silent,
    /// Sends an Award's header, then nothing.
    AwardThenNothing,
    /// Sends bodies that nobody asked for.
    UnaskedBodies,
    /// Sends an Award and as much body as it can, whatever the credit.
    OverCredit,
    /// Sends another body than awarded.
    OtherBody,
    /// Asks for adverts as fast as it can.
    DescribeFlood,
    /// Asks for quotes as fast as it can.
    RfqFlood,
    /// Takes jobs and never acknowledges.
    NeverAcks,
    /// Acknowledges what was never sent.
    AcksBeyond,
    /// Sends bytes that are no frame.
    Garbage,
    /// Cancels and resumes what is not there.
    Ghosts,
    /// Takes a job and leaves before its first token, again and again.
    HitAndRun,
    /// Resumes its own job under an epoch that is not newer.
    OldEpoch,
    /// Awards its own job again under an epoch that is not newer.
    OldAward,
    /// Awards an offer for half of its fee.
    Underpays,
    /// Awards an offer long after it expired.
    LateAward,
}

/// Every way to pester.
pub const PESTS: [Pest; 16] = [
    Pest::Silent,
    Pest::AwardThenNothing,
    Pest::UnaskedBodies,
    Pest::OverCredit,
    Pest::OtherBody,
    Pest::DescribeFlood,
    Pest::RfqFlood,
    Pest::NeverAcks,
    Pest::AcksBeyond,
    Pest::Garbage,
    Pest::Ghosts,
    Pest::HitAndRun,
    Pest::OldEpoch,
    Pest::OldAward,
    Pest::Underpays,
    Pest::LateAward,
];

/// A requester that pesters a provider of a model at these posted prices, over `streams` streams.
pub fn pest(
    target: NodeId,
    model: &str,
    price_in: Price,
    price_out: Price,
    streams: u32,
    pest: Pest,
) -> impl Script + use<> {
    let model = model.to_owned();
    let mut rounds = 0_u32;
    let mut known = None;
    let mut offered = BTreeMap::new();
    move |talk: &mut Talk<'_>, heard: Heard<'_>| match heard {
        Heard::Start => (0..streams).for_each(|_| talk.open(target)),
        Heard::Closed if pest == Pest::HitAndRun && rounds < 20 => {
            rounds += 1;
            talk.open(target);
        }
        Heard::Opened if known.is_some() => {
            if let Some((stream, next)) = known.take() {
                repeat(talk, &model, (price_in, price_out), stream, next, pest);
            }
        }
        Heard::Message(Message::Offer(offer)) if pest == Pest::Underpays => {
            let tariff = Tariff { fee_in: offer.tariff.fee_in / 2, ..offer.tariff };
            award_offer(talk, &model, offer.offer, tariff);
        }
        Heard::Message(Message::Offer(offer)) if pest == Pest::LateAward => {
            offered.insert(talk.stream(), (offer.offer, offer.tariff));
            talk.wake(offer.expires_in.0.saturating_add(1000));
        }
        Heard::Woken => {
            if let Some((offer, tariff)) = offered.remove(&talk.stream()) {
                award_offer(talk, &model, offer, tariff);
            }
        }
        Heard::Message(Message::Accepted(_)) if pest == Pest::OldAward && rounds < 20 => {
            (rounds, known) = (rounds + 1, Some((talk.stream(), 0)));
            talk.open(target);
        }
        Heard::Message(Message::Chunk { seq, n, .. }) if pest == Pest::OldEpoch && rounds < 20 => {
            (rounds, known) = (rounds + 1, Some((talk.stream(), seq + u64::from(n))));
            talk.open(target);
        }
        Heard::Opened => pester(talk, &model, price_in, price_out, pest),
        Heard::Message(Message::Accepted(_)) if pest == Pest::HitAndRun && rounds < 20 => {
            rounds += 1;
            talk.close();
            talk.open(target);
        }
        Heard::Message(Message::Chunk { seq, .. }) if pest == Pest::AcksBeyond => {
            talk.send(&Message::Ack { next: seq + 1_000_000, end: false, voucher: None });
        }
        _ => {}
    }
}

fn pester(talk: &mut Talk<'_>, model: &str, price_in: Price, price_out: Price, pest: Pest) {
    let body = vec![b'p'; 200];
    let large = vec![b'q'; 12 * 1024];
    let award = |size: u64, body: &[u8]| own_award(talk.stream(), model, (price_in, price_out), size, body);
    match pest {
        Pest::Silent => {}
        Pest::AwardThenNothing => talk.send(&award(1 << 20, &body)),
        Pest::UnaskedBodies => {
            (0..200).for_each(|index| talk.send(&Message::Body { offset: index * 12 * 1024, bytes: &large }));
        }
        Pest::OverCredit => {
            talk.send(&award(2 << 20, &large));
            (0..150).for_each(|index| talk.send(&Message::Body { offset: index * 12 * 1024, bytes: &large }));
        }
        Pest::OtherBody => {
            talk.send(&award(200, b"something else"));
            talk.send(&Message::Body { offset: 0, bytes: &body });
        }
        Pest::DescribeFlood => (0..5000).for_each(|_| talk.send(&Message::Describe)),
        Pest::RfqFlood => (0..5000).for_each(|rfq| {
            talk.send(&Message::Rfq(Rfq { rfq, model: name(model), body_bytes: 256, max_tokens: 10 }));
        }),
        Pest::NeverAcks | Pest::AcksBeyond | Pest::HitAndRun | Pest::OldEpoch | Pest::OldAward => {
            talk.send(&award(200, &body));
            talk.send(&Message::Body { offset: 0, bytes: &body });
        }
        Pest::Underpays | Pest::LateAward => {
            talk.send(&Message::Rfq(Rfq { rfq: 7, model: name(model), body_bytes: 256, max_tokens: 4000 }));
        }
        Pest::Garbage => talk.raw(vec![0, 9, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 0, 0]),
        Pest::Ghosts => {
            let job = JobId([9; 16]);
            talk.send(&Message::Cancel { job, attempt: 1, voucher: None });
            talk.send(&Message::Resume { job, attempt: 1, epoch: 2, next: 3 });
            talk.send(&Message::Ack { next: u64::MAX, end: true, voucher: None });
        }
    }
}

/// The award of a pest's job on a stream.
fn own_award(stream: u64, model: &str, prices: (Price, Price), size: u64, body: &[u8]) -> Message<'static> {
    let mut job = [7; 16];
    job[..8].copy_from_slice(&stream.to_le_bytes());
    let tariff = Tariff { fee_in: fee_in(prices.0, 4, size).unwrap_or(u64::MAX), price_out: prices.1 };
    Message::Award(Award {
        job: JobId(job),
        attempt: 1,
        epoch: 1,
        model: name(model),
        offer: None,
        tariff,
        max_tokens: 4000,
        kind: BodyKind::Raw,
        body_bytes: size,
        body_hash: Sha256::digest(body).into(),
        prefix_bytes: 0,
        prefix_tokens: 0,
        overlap: 0,
        sampling: Sampling::default(),
        stop: Vec::new(),
        window_tokens: 64,
        window_bytes: 32 << 10,
        prefix_id_bytes: None,
        features: None,
        voucher: None,
        choice: None,
    })
}

/// Says over another stream what was said already: nothing may come of it.
fn repeat(talk: &mut Talk<'_>, model: &str, prices: (Price, Price), stream: u64, next: u64, pest: Pest) {
    let body = vec![b'p'; 200];
    let award = own_award(stream, model, prices, 200, &body);
    let Message::Award(Award { job, attempt, epoch, .. }) = award else { return };
    match pest {
        Pest::OldAward => talk.send(&award),
        _ => talk.send(&Message::Resume { job, attempt, epoch, next }),
    }
}

/// Awards an offer under terms of the pest's own.
fn award_offer(talk: &mut Talk<'_>, model: &str, offer: u64, tariff: Tariff) {
    let body = vec![b'p'; 200];
    if let Message::Award(award) = own_award(talk.stream(), model, (0, 0), 200, &body) {
        talk.send(&Message::Award(Award { offer: Some(offer), tariff, ..award }));
        talk.send(&Message::Body { offset: 0, bytes: &body });
    }
}
