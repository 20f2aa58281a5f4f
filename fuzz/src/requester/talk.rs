//! A stream as its provider sees it: what was heard on it, and what it may say.

use std::collections::BTreeMap;

use haggle_core::{
    JobId, Millis, PeerId,
    money::Tariff,
    wire::{Message, message::*},
};
use sha2::{Digest, Sha256};

use super::model;
use crate::{cursor::Cursor, tap::frame};

/// What a provider knows of a stream.
#[derive(Clone)]
pub(super) struct Talk {
    pub(super) peer: PeerId,
    /// As long as it is not, the order to open it is answered even if the peer is gone.
    pub(super) opened: bool,
    rfq: u64,
    award: Option<Award>,
    terms: [u8; 32],
    next: u64,
    text: Sha256,
    /// The text's hash after each chunk: a resumed stream goes on from one of them.
    texts: BTreeMap<u64, Sha256>,
}

impl Talk {
    pub(super) fn new(peer: PeerId) -> Self {
        Self {
            peer,
            opened: false,
            rfq: 1,
            award: None,
            terms: [0; 32],
            next: 0,
            text: Sha256::new(),
            texts: BTreeMap::new(),
        }
    }

    /// Takes note of what the requester wrote. A body follows an award: the prompt goes to nobody else.
    /// `cut` is the stream that a resumed one goes on from.
    pub(super) fn hear(&mut self, payload: &[u8], message: &Message<'_>, cut: Option<Self>) {
        match message {
            Message::Rfq(rfq) => self.rfq = rfq.rfq,
            Message::Award(award) => {
                self.terms = Sha256::digest(payload).into();
                self.award = Some(award.clone());
                (self.next, self.text) = (0, Sha256::new());
            }
            Message::Body { .. } => assert!(self.award.is_some(), "a prompt without an award"),
            Message::Describe | Message::Counter(_) | Message::Release(_) | Message::Ack { .. } => {}
            Message::Resume { next, .. } => {
                let cut = cut.expect("a job is resumed that was never awarded");
                self.next = *next;
                self.text = cut.texts.get(next).cloned().unwrap_or_default();
                (self.award, self.texts) = (cut.award, cut.texts);
            }
            Message::Cancel { .. } => {}
            other => panic!("a requester sent {other:?}"),
        }
    }

    pub(super) fn is_for(&self, job: JobId) -> bool {
        self.award.as_ref().is_some_and(|award| award.job == job)
    }

    /// Some bytes of a provider: often what fits, sometimes anything.
    pub(super) fn say(&mut self, cursor: &mut Cursor<'_>) -> Vec<u8> {
        let right = cursor.byte() > 15;
        let award = self.award.clone();
        frame(&match cursor.byte() {
            0..=39 => Message::Advert(advert(cursor)),
            40..=69 => Message::Offer(self.offer(cursor, right)),
            70..=84 => {
                let reasons =
                    [DeclineReason::Busy, DeclineReason::Stale, DeclineReason::TooCheap, DeclineReason::Context];
                let reason = reasons[cursor.below(4)];
                let offer = cursor.bit().then(|| self.offer(cursor, right));
                Message::Decline(Decline { reason, retry_after: cursor.bit().then(|| Millis(cursor.number())), offer })
            }
            85..=129 => Message::Accepted(Accepted {
                eta: None,
                terms: if right { self.terms } else { [1; 32] },
                body_credit: award.as_ref().map_or(0, |award| award.body_bytes).max(cursor.number()),
                window_tokens: award.as_ref().map_or(9, |award| award.window_tokens).saturating_sub(u32::from(!right)),
                window_bytes: award.as_ref().map_or(0, |award| award.window_bytes),
            }),
            130..=209 => {
                let n = if right { 1 + cursor.below(3) as u32 } else { cursor.number() as u32 };
                let text = "word".repeat(cursor.below(4) + 1);
                let ids = vec![0; 4 * (n as usize % 4)];
                let seq = if cursor.byte() > 3 { self.next } else { cursor.number() };
                self.next = seq.saturating_add(u64::from(n));
                self.text.update(&text);
                self.texts.insert(self.next, self.text.clone());
                let ids = cursor.bit().then_some(&ids[..]);
                return frame(&Message::Chunk { seq, n, text: &text, ids });
            }
            210..=214 => Message::Keepalive,
            215..=240 => {
                use EndReason::*;
                let reasons = [Stop, Length, Context, BadRequest, Engine, Shutdown, Cancelled, Violation, TooSlow];
                let hash = if right { self.text.clone().finalize().into() } else { [2; 32] };
                let reason = reasons[cursor.below(9)];
                Message::End(End { reason, prompt_tokens: cursor.number(), tokens: self.next, hash })
            }
            241..=249 => Message::Resumed { next: if right { self.next } else { cursor.number() } },
            250 => Message::Gone(GoneReason::Unknown),
            251 => Message::Ack { next: cursor.number(), end: cursor.bit() },
            252..=253 => {
                let len = 1 + cursor.below(40);
                let mut bytes = vec![0, len as u8];
                bytes.extend_from_slice(cursor.bytes(len));
                return bytes;
            }
            _ => {
                let len = cursor.below(20);
                return cursor.bytes(len).to_vec();
            }
        })
    }

    fn offer(&self, cursor: &mut Cursor<'_>, right: bool) -> Offer {
        Offer {
            rfq: if right { self.rfq } else { cursor.number() },
            offer: 1 + cursor.number().min(1000),
            tariff: Tariff { fee_in: cursor.number(), price_out: cursor.number() },
            eta: Millis(cursor.number()),
            expires_in: Millis(cursor.number().max(1000)),
        }
    }
}

fn advert(cursor: &mut Cursor<'_>) -> Advert {
    let entry = ModelAdvert {
        model: model(cursor),
        aliases: vec![],
        context: 1000,
        price_in: cursor.number(),
        bytes_per_token: 4,
        price_out: cursor.number(),
        eta: Millis(cursor.number()),
        can_continue: false,
        exactness: Exactness::default(),
    };
    Advert { models: vec![entry], slots: 1, free: u32::from(cursor.bit()), queued: u32::from(cursor.byte()) }
}
