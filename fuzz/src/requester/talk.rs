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

/// The text of a run, hashed over its channels.
#[derive(Clone, Default)]
struct Text {
    hash: Sha256,
    channel: Option<Channel>,
}

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
    text: Text,
    /// The text's hash after each chunk: a resumed stream goes on from one of them.
    texts: BTreeMap<u64, Text>,
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
            text: Text::default(),
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
                (self.next, self.text) = (0, Text::default());
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
            70..=84 => Message::Decline(self.decline(cursor, right)),
            85..=129 => Message::Accepted(Accepted {
                eta: None,
                terms: if right { self.terms } else { [1; 32] },
                body_credit: award.as_ref().map_or(0, |award| award.body_bytes).max(cursor.number()),
                window_tokens: award.as_ref().map_or(9, |award| award.window_tokens).saturating_sub(u32::from(!right)),
                window_bytes: award.as_ref().map_or(0, |award| award.window_bytes),
            }),
            130..=209 => return self.chunk(cursor, right),
            210..=212 => Message::Keepalive,
            213..=214 => {
                let phase = [Phase::Queued, Phase::Loading, Phase::Reading, Phase::Thinking][cursor.below(4)];
                let number = cursor.bit().then(|| cursor.number());
                Message::Working { phase, done: number, of: None, eta: number.map(Millis) }
            }
            215..=240 => Message::End(self.end(cursor, right)),
            241..=249 => Message::Resumed { next: if right { self.next } else { cursor.number() } },
            250 => Message::Gone(GoneReason::Unknown),
            251 => Message::Ack { next: cursor.number(), end: cursor.bit(), voucher: None },
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

    fn decline(&self, cursor: &mut Cursor<'_>, right: bool) -> Decline {
        use DeclineReason::*;
        let reason = [Busy, Stale, TooCheap, Context, Settlement][cursor.below(5)];
        let offer = cursor.bit().then(|| self.offer(cursor, right));
        let retry_after = cursor.bit().then(|| Millis(cursor.number()));
        Decline { reason, retry_after, offer, shown: None }
    }

    fn chunk(&mut self, cursor: &mut Cursor<'_>, right: bool) -> Vec<u8> {
        let n = if right { 1 + cursor.below(3) as u32 } else { cursor.number() as u32 };
        let text = "word".repeat(cursor.below(4) + 1);
        let ids = vec![0; 4 * (n as usize % 4)];
        let seq = if cursor.byte() > 3 { self.next } else { cursor.number() };
        let channel = [None, None, None, Some(Channel::Thought), Some(Channel::ToolCall)][cursor.below(5)];
        self.next = seq.saturating_add(u64::from(n));
        if channel != self.text.channel {
            self.text.hash.update([0xff, channel.map_or(0, Channel::number)]);
            self.text.channel = channel;
        }
        self.text.hash.update(&text);
        self.texts.insert(self.next, self.text.clone());
        let ids = cursor.bit().then_some(&ids[..]);
        frame(&Message::Chunk { seq, n, text: &text, ids, channel })
    }

    fn end(&self, cursor: &mut Cursor<'_>, right: bool) -> End {
        use EndReason::*;
        let reasons = [
            Stop, Length, Context, BadRequest, Engine, Shutdown, Cancelled, Violation, TooSlow, ToolCalls, Filtered,
            Settlement,
        ];
        let hash = if right { self.text.hash.clone().finalize().into() } else { [2; 32] };
        let reason = reasons[cursor.below(reasons.len())];
        let (prompt_tokens, tokens) = (cursor.number(), self.next);
        End { reason, prompt_tokens, tokens, hash, thought: None, cached: None, receipt: None }
    }

    fn offer(&self, cursor: &mut Cursor<'_>, right: bool) -> Offer {
        Offer {
            rfq: if right { self.rfq } else { cursor.number() },
            offer: 1 + cursor.number().min(1000),
            tariff: Tariff { fee_in: cursor.number(), price_out: cursor.number() },
            eta: Millis(cursor.number()),
            expires_in: Millis(cursor.number().max(1000)),
            methods: None,
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
        features: None,
        longest: None,
        price_part: None,
    };
    Advert {
        models: vec![entry],
        slots: 1,
        free: u32::from(cursor.bit()),
        queued: u32::from(cursor.byte()),
        methods: None,
    }
}
