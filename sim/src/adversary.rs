//! Hostile peers over the real codec: providers that cheat, requesters that pester.

use std::collections::BTreeMap;

use haggle_core::{
    JobId,
    money::{Price, Tariff, fee_in},
    time::Millis,
    wire::{
        self, Message,
        message::{
            Accepted, Advert, Award, BodyKind, Decline, DeclineReason, End, EndReason, Exactness, ModelAdvert, Offer,
            Rfq, Sampling,
        },
    },
};
use sha2::{Digest, Sha256};

use crate::{
    NodeId,
    node::name,
    script::{Heard, Script, Talk},
};

/// How a provider cheats.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cheat {
    /// Not at all: the frame of all others.
    Honest,
    /// Says nothing to Describe.
    Mute,
    /// Closes every stream at once.
    SlamsDoor,
    /// Answers the Award with silence.
    SilentAfterAward,
    /// Accepts, then says nothing.
    SilentAfterAccepted,
    /// Accepts, then sends keepalives for ever.
    Keepalives,
    /// Sends one token, then keepalives for ever.
    Drip,
    /// Writes a token twice.
    Repeats,
    /// Leaves a token out.
    Skips,
    /// Ignores the window.
    OverWindow,
    /// Writes more tokens than ordered.
    TooMany,
    /// Counts more tokens than its text has bytes.
    Miscounts,
    /// Sends as many ids as it likes.
    Ids,
    /// Claims another number of tokens in End.
    LyingUsage,
    /// Claims another text in End.
    LyingHash,
    /// Ends before the first token, and claims tokens.
    EndsEarly,
    /// Closes the stream in mid-answer.
    Leaves,
    /// Sends frames without progress, as fast as it can.
    Floods,
    /// Sends bytes that are no frame.
    Garbage,
    /// Sends a frame of impossible length.
    BadLength,
    /// Echoes other terms in Accepted.
    OtherTerms,
    /// Says that every Award is stale, with a dearer offer.
    AlwaysStale,
    /// Says that it is busy.
    AlwaysBusy,
    /// Raises its ask whenever it is countered.
    Raises,
    /// Sends an Award back.
    Nonsense,
    /// Offers at the largest price there is.
    Dear,
}

/// Every way to cheat.
pub const CHEATS: [Cheat; 26] = [
    Cheat::Honest,
    Cheat::Mute,
    Cheat::SlamsDoor,
    Cheat::SilentAfterAward,
    Cheat::SilentAfterAccepted,
    Cheat::Keepalives,
    Cheat::Drip,
    Cheat::Repeats,
    Cheat::Skips,
    Cheat::OverWindow,
    Cheat::TooMany,
    Cheat::Miscounts,
    Cheat::Ids,
    Cheat::LyingUsage,
    Cheat::LyingHash,
    Cheat::EndsEarly,
    Cheat::Leaves,
    Cheat::Floods,
    Cheat::Garbage,
    Cheat::BadLength,
    Cheat::OtherTerms,
    Cheat::AlwaysStale,
    Cheat::AlwaysBusy,
    Cheat::Raises,
    Cheat::Nonsense,
    Cheat::Dear,
];

/// The text of a cheat's every token.
pub const CHEAT_TOKEN: &str = "ha ";
/// Tokens of a cheat's answer, at most.
pub const CHEAT_LENGTH: u64 = 12;

#[derive(Clone, Default)]
struct Deal {
    max_tokens: u64,
    body_left: u64,
    terms: [u8; 32],
    sent: u64,
    text: String,
    rounds: u32,
}

/// A provider of a model at these prices that cheats.
pub fn cheat(model: &str, price_in: Price, price_out: Price, cheat: Cheat) -> impl Script + use<> {
    let model = model.to_owned();
    let mut deals: BTreeMap<u64, Deal> = BTreeMap::new();
    move |talk: &mut Talk<'_>, heard: Heard<'_>| {
        let price_out = if cheat == Cheat::Dear { u64::MAX } else { price_out };
        match heard {
            Heard::Opened if cheat == Cheat::SlamsDoor => talk.close(),
            Heard::Closed => {
                deals.remove(&talk.stream());
            }
            Heard::Message(Message::Describe) if cheat != Cheat::Mute => {
                talk.send(&Message::Advert(advert(&model, price_in, price_out)));
            }
            Heard::Message(Message::Rfq(rfq)) => talk.send(&Message::Offer(offer(&rfq, price_in, price_out))),
            Heard::Message(Message::Counter(counter)) => {
                let mut tariff = counter.tariff;
                if cheat == Cheat::Raises {
                    tariff.price_out = tariff.price_out.saturating_mul(3);
                }
                let (expires_in, eta) = (Millis(60_000), Millis(5));
                let offer =
                    Offer { rfq: counter.rfq, offer: counter.offer.wrapping_add(1).max(1), tariff, eta, expires_in };
                talk.send(&Message::Offer(offer));
            }
            Heard::Message(message @ Message::Award(_)) => {
                let mut payload = Vec::new();
                wire::encode(&message, &mut payload);
                let Message::Award(award) = message else { return };
                let terms = Sha256::digest(&payload).into();
                let deal = Deal { max_tokens: award.max_tokens, body_left: award.body_bytes, terms, ..Deal::default() };
                take(talk, &mut deals, deal, &award, cheat);
            }
            Heard::Message(Message::Body { bytes, .. }) => {
                let Some(deal) = deals.get_mut(&talk.stream()) else { return };
                deal.body_left = deal.body_left.saturating_sub(bytes.len() as u64);
                if deal.body_left == 0 && cheat != Cheat::SilentAfterAward {
                    talk.wake(5);
                }
            }
            Heard::Woken => {
                if let Some(deal) = deals.get_mut(&talk.stream()) {
                    go_on(talk, deal, cheat);
                }
            }
            _ => {}
        }
    }
}

fn advert(model: &str, price_in: Price, price_out: Price) -> Advert {
    let model = ModelAdvert {
        model: name(model),
        aliases: Vec::new(),
        context: 1 << 20,
        price_in,
        bytes_per_token: 4,
        price_out,
        eta: Millis(5),
        can_continue: false,
        exactness: Exactness::default(),
    };
    Advert { models: vec![model], slots: 8, free: 8, queued: 0 }
}

fn offer(rfq: &Rfq, price_in: Price, price_out: Price) -> Offer {
    let tariff = Tariff { fee_in: fee_in(price_in, 4, rfq.body_bytes).unwrap_or(u64::MAX), price_out };
    Offer { rfq: rfq.rfq, offer: rfq.rfq.max(1), tariff, eta: Millis(5), expires_in: Millis(60_000) }
}

fn take(talk: &mut Talk<'_>, deals: &mut BTreeMap<u64, Deal>, deal: Deal, award: &Award, cheat: Cheat) {
    match cheat {
        Cheat::AlwaysBusy => {
            talk.send(&Message::Decline(Decline { reason: DeclineReason::Busy, retry_after: None, offer: None }));
            return;
        }
        Cheat::AlwaysStale => {
            let price_out = award.tariff.price_out.saturating_add(1);
            let tariff = Tariff { price_out, ..award.tariff };
            let id = award.offer.unwrap_or(0).saturating_add(1);
            let offer = Offer { rfq: 0, offer: id, tariff, eta: Millis(5), expires_in: Millis(60_000) };
            let decline = Decline { reason: DeclineReason::Stale, retry_after: None, offer: Some(offer) };
            talk.send(&Message::Decline(decline));
            return;
        }
        Cheat::Nonsense => talk.send(&Message::Award(award.clone())),
        Cheat::Garbage => talk.raw(vec![0, 3, 0xff, 0xff, 0xff]),
        Cheat::BadLength => talk.raw(vec![0xff, 0xff, 1, 2, 3]),
        Cheat::SilentAfterAward => {}
        _ => {
            let mut terms = deal.terms;
            if cheat == Cheat::OtherTerms {
                terms[0] ^= 1;
            }
            let (window_tokens, window_bytes) = (award.window_tokens, award.window_bytes);
            talk.send(&Message::Accepted(Accepted {
                eta: None,
                terms,
                body_credit: award.body_bytes,
                window_tokens,
                window_bytes,
            }));
        }
    }
    deals.insert(talk.stream(), deal);
}

fn go_on(talk: &mut Talk<'_>, deal: &mut Deal, cheat: Cheat) {
    let wanted = deal.max_tokens.min(CHEAT_LENGTH);
    let chunk = |talk: &mut Talk<'_>, deal: &mut Deal, seq: u64, n: u32, text: &str| {
        talk.send(&Message::Chunk { seq, n, text, ids: None });
        deal.sent += u64::from(n);
        deal.text.push_str(text);
    };
    match cheat {
        Cheat::SilentAfterAccepted => return,
        Cheat::Keepalives => return keep_alive(talk, deal),
        Cheat::Drip if deal.sent > 0 => return keep_alive(talk, deal),
        Cheat::Repeats if deal.sent == 3 => {
            chunk(talk, deal, 2, 1, CHEAT_TOKEN);
        }
        Cheat::Skips if deal.sent == 3 => {
            chunk(talk, deal, 4, 1, CHEAT_TOKEN);
        }
        Cheat::OverWindow => {
            let text = "x".repeat(4000);
            for _ in 0..deal.max_tokens.min(100) {
                let seq = deal.sent;
                chunk(talk, deal, seq, 1, &text);
            }
            return;
        }
        Cheat::TooMany => {
            for _ in 0..=deal.max_tokens.min(5000) {
                let seq = deal.sent;
                chunk(talk, deal, seq, 1, CHEAT_TOKEN);
            }
            return;
        }
        Cheat::Miscounts => {
            chunk(talk, deal, 0, 9, CHEAT_TOKEN);
            return;
        }
        Cheat::Ids => {
            let seq = deal.sent;
            talk.send(&Message::Chunk { seq, n: 1, text: CHEAT_TOKEN, ids: Some(&[1, 2, 3, 4, 5, 6, 7, 8]) });
            return;
        }
        Cheat::EndsEarly => {
            talk.send(&Message::End(End { reason: EndReason::Stop, prompt_tokens: 1, tokens: wanted, hash: [0; 32] }));
            return;
        }
        Cheat::Leaves if deal.sent == 3 => return talk.close(),
        Cheat::Floods => {
            for _ in 0..200 {
                talk.send(&Message::Keepalive);
            }
            deal.rounds += 1;
            if deal.rounds < 50 {
                talk.wake(1);
            }
            return;
        }
        _ => {}
    }
    if deal.sent < wanted {
        let seq = deal.sent;
        chunk(talk, deal, seq, 1, CHEAT_TOKEN);
        return talk.wake(5);
    }
    let mut hash: [u8; 32] = Sha256::digest(deal.text.as_bytes()).into();
    if cheat == Cheat::LyingHash {
        hash[0] ^= 1;
    }
    let tokens = if cheat == Cheat::LyingUsage { deal.sent + 1 } else { deal.sent };
    let reason = if deal.max_tokens == wanted { EndReason::Length } else { EndReason::Stop };
    talk.send(&Message::End(End { reason, prompt_tokens: 1, tokens, hash }));
}

/// A sign of life every 5 s, for longer than any job lasts: the end of a stream may never be heard.
fn keep_alive(talk: &mut Talk<'_>, deal: &mut Deal) {
    talk.send(&Message::Keepalive);
    deal.rounds += 1;
    if deal.rounds < 200 {
        talk.wake(5000);
    }
}

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
            talk.send(&Message::Ack { next: seq + 1_000_000, end: false });
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
            talk.send(&Message::Cancel { job, attempt: 1 });
            talk.send(&Message::Resume { job, attempt: 1, epoch: 2, next: 3 });
            talk.send(&Message::Ack { next: u64::MAX, end: true });
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
