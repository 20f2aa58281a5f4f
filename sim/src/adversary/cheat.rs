//! Providers that cheat.

use std::collections::BTreeMap;

use haggle_core::{
    money::{Price, Tariff, fee_in},
    time::Millis,
    wire::{
        self, Message,
        message::{
            Accepted, Advert, Award, Counter, Decline, DeclineReason, End, EndReason, Exactness, Features, ModelAdvert,
            Offer, Phase, Rfq,
        },
    },
};
use sha2::{Digest, Sha256};

use crate::{
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
    /// Accepts, then says for ever that it loads its model.
    Loads,
    /// Sends one token, then keepalives for ever.
    Drip,
    /// Writes a token every 25 s, with a sign of life in between.
    Trickles,
    /// Takes nothing, promises to begin at once, and then says for ever that it lives.
    Baits,
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
    /// Says of every job that the request makes no sense.
    Accuses,
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
pub const CHEATS: [Cheat; 30] = [
    Cheat::Honest,
    Cheat::Mute,
    Cheat::SlamsDoor,
    Cheat::SilentAfterAward,
    Cheat::SilentAfterAccepted,
    Cheat::Keepalives,
    Cheat::Loads,
    Cheat::Drip,
    Cheat::Trickles,
    Cheat::Baits,
    Cheat::Repeats,
    Cheat::Skips,
    Cheat::OverWindow,
    Cheat::TooMany,
    Cheat::Miscounts,
    Cheat::Ids,
    Cheat::LyingUsage,
    Cheat::LyingHash,
    Cheat::EndsEarly,
    Cheat::Accuses,
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

impl Deal {
    /// Tokens of the answer.
    fn wanted(&self) -> u64 {
        self.max_tokens.min(CHEAT_LENGTH)
    }
}

/// A provider of a model at these prices that cheats.
pub fn cheat(model: &str, price_in: Price, price_out: Price, cheat: Cheat) -> impl Script + use<> {
    let model = model.to_owned();
    let mut deals: BTreeMap<u64, Deal> = BTreeMap::new();
    move |talk: &mut Talk<'_>, heard: Heard<'_>| {
        let (price_in, price_out) = match cheat {
            Cheat::Dear => (price_in, u64::MAX),
            Cheat::Baits => (0, 0),
            _ => (price_in, price_out),
        };
        match heard {
            Heard::Opened if cheat == Cheat::SlamsDoor => talk.close(),
            Heard::Closed => {
                deals.remove(&talk.stream());
            }
            Heard::Message(Message::Describe) if cheat != Cheat::Mute => {
                talk.send(&Message::Advert(advert(&model, price_in, price_out)));
            }
            Heard::Message(Message::Rfq(rfq)) => talk.send(&Message::Offer(offer(&rfq, price_in, price_out))),
            Heard::Message(Message::Counter(counter)) => talk.send(&Message::Offer(counter_offer(&counter, cheat))),
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
        // It says that it can do everything.
        features: Some(Features(u32::MAX)),
        longest: None,
        price_part: None,
    };
    Advert { models: vec![model], slots: 8, free: 8, queued: 0, methods: None }
}

fn offer(rfq: &Rfq, price_in: Price, price_out: Price) -> Offer {
    let tariff = Tariff { fee_in: fee_in(price_in, 4, rfq.body_bytes).unwrap_or(u64::MAX), price_out };
    Offer { rfq: rfq.rfq, offer: rfq.rfq.max(1), tariff, eta: Millis(5), expires_in: Millis(60_000), methods: None }
}

fn counter_offer(counter: &Counter, cheat: Cheat) -> Offer {
    let mut tariff = counter.tariff;
    if cheat == Cheat::Raises {
        tariff.price_out = tariff.price_out.saturating_mul(3);
    }
    let offer = counter.offer.wrapping_add(1).max(1);
    Offer { rfq: counter.rfq, offer, tariff, eta: Millis(5), expires_in: Millis(60_000), methods: None }
}

fn take(talk: &mut Talk<'_>, deals: &mut BTreeMap<u64, Deal>, deal: Deal, award: &Award, cheat: Cheat) {
    match cheat {
        Cheat::AlwaysBusy => {
            talk.send(&Message::Decline(Decline {
                reason: DeclineReason::Busy,
                retry_after: None,
                offer: None,
                shown: None,
            }));
            return;
        }
        Cheat::AlwaysStale => {
            let price_out = award.tariff.price_out.saturating_add(1);
            let tariff = Tariff { price_out, ..award.tariff };
            let id = award.offer.unwrap_or(0).saturating_add(1);
            let offer = Offer { rfq: 0, offer: id, tariff, eta: Millis(5), expires_in: Millis(60_000), methods: None };
            let decline = Decline { reason: DeclineReason::Stale, retry_after: None, offer: Some(offer), shown: None };
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
    if breaks_off(talk, deal, cheat) {
        return;
    }
    match cheat {
        Cheat::Repeats if deal.sent == 3 => chunk(talk, deal, (2, 1), CHEAT_TOKEN),
        Cheat::Skips if deal.sent == 3 => chunk(talk, deal, (4, 1), CHEAT_TOKEN),
        _ => {}
    }
    let wanted = deal.wanted();
    if deal.sent < wanted {
        next_chunk(talk, deal, CHEAT_TOKEN);
        return talk.wake(5);
    }
    let mut hash: [u8; 32] = Sha256::digest(deal.text.as_bytes()).into();
    if cheat == Cheat::LyingHash {
        hash[0] ^= 1;
    }
    let tokens = if cheat == Cheat::LyingUsage { deal.sent + 1 } else { deal.sent };
    let reason = if deal.max_tokens == wanted { EndReason::Length } else { EndReason::Stop };
    talk.send(&Message::End(End {
        reason,
        prompt_tokens: 1,
        tokens,
        hash,
        thought: None,
        cached: None,
        receipt: None,
    }));
}

/// What a cheat does instead of an answer; `false`: it goes on as if it were honest.
fn breaks_off(talk: &mut Talk<'_>, deal: &mut Deal, cheat: Cheat) -> bool {
    match cheat {
        Cheat::SilentAfterAccepted => {}
        Cheat::Keepalives | Cheat::Baits => keep_alive(talk, deal, &Message::Keepalive),
        Cheat::Loads => {
            // It may be any time, it says.
            let eta = Some(Millis(u64::MAX));
            keep_alive(talk, deal, &Message::Working { phase: Phase::Loading, done: None, of: None, eta });
        }
        Cheat::Trickles => trickle(talk, deal),
        Cheat::Drip if deal.sent > 0 => keep_alive(talk, deal, &Message::Keepalive),
        Cheat::OverWindow => {
            let text = "x".repeat(4000);
            (0..deal.max_tokens.min(100)).for_each(|_| next_chunk(talk, deal, &text));
        }
        Cheat::TooMany => (0..=deal.max_tokens.min(5000)).for_each(|_| next_chunk(talk, deal, CHEAT_TOKEN)),
        Cheat::Miscounts => chunk(talk, deal, (0, 9), CHEAT_TOKEN),
        Cheat::Ids => {
            let ids = Some(&[1, 2, 3, 4, 5, 6, 7, 8][..]);
            talk.send(&Message::Chunk { seq: deal.sent, n: 1, text: CHEAT_TOKEN, ids, channel: None });
        }
        Cheat::EndsEarly => {
            let end = End {
                reason: EndReason::Stop,
                prompt_tokens: 1,
                tokens: deal.wanted(),
                hash: [0; 32],
                thought: None,
                cached: None,
                receipt: None,
            };
            talk.send(&Message::End(end));
        }
        Cheat::Accuses => {
            let end = End {
                reason: EndReason::BadRequest,
                prompt_tokens: 0,
                tokens: 0,
                hash: [0; 32],
                thought: None,
                cached: None,
                receipt: None,
            };
            talk.send(&Message::End(end));
        }
        Cheat::Leaves if deal.sent == 3 => talk.close(),
        Cheat::Floods => flood(talk, deal),
        _ => return false,
    }
    true
}

/// Every fifth sign of life comes with a token.
fn trickle(talk: &mut Talk<'_>, deal: &mut Deal) {
    if deal.rounds.is_multiple_of(5) && deal.sent < deal.max_tokens {
        next_chunk(talk, deal, CHEAT_TOKEN);
    }
    keep_alive(talk, deal, &Message::Keepalive);
}

fn next_chunk(talk: &mut Talk<'_>, deal: &mut Deal, text: &str) {
    let seq = deal.sent;
    chunk(talk, deal, (seq, 1), text);
}

fn chunk(talk: &mut Talk<'_>, deal: &mut Deal, (seq, n): (u64, u32), text: &str) {
    talk.send(&Message::Chunk { seq, n, text, ids: None, channel: None });
    deal.sent += u64::from(n);
    deal.text.push_str(text);
}

fn flood(talk: &mut Talk<'_>, deal: &mut Deal) {
    (0..200).for_each(|_| talk.send(&Message::Keepalive));
    deal.rounds += 1;
    if deal.rounds < 50 {
        talk.wake(1);
    }
}

/// A sign of life every 5 s, for longer than any job lasts: the end of a stream may never be heard.
fn keep_alive(talk: &mut Talk<'_>, deal: &mut Deal, sign: &Message<'_>) {
    talk.send(sign);
    deal.rounds += 1;
    if deal.rounds < 200 {
        talk.wake(5000);
    }
}
