//! What crosses the wire: each message has its observer, in the file of its name.

mod accepted;
mod ack;
mod award;
mod body;
mod chunk;
mod offer;
mod over;
mod resume;
mod rfq;

use std::collections::BTreeMap;

use haggle_core::{
    JobId, PeerId,
    money::Tariff,
    wire::{self, Message},
};

pub(super) use self::offer::Promise;
use super::{Judge, Rule, features::Needs};
use crate::node::peer_id;

/// What was said on a stream.
#[derive(Clone, Debug, Default)]
pub(super) struct StreamBook {
    attempt: Option<(JobId, u32)>,
    epoch: u32,
    /// SHA-256 of the Award.
    terms: [u8; 32],
    /// What was awarded.
    awarded: Option<(Option<u64>, Tariff)>,
    /// The lowest price that was asked here so far.
    asked: Option<Tariff>,
    /// What the Award needs of the engine.
    needs: Needs,
    unasked: u64,
    body_sent: u64,
    body_credit: u64,
    /// The last Award here was declined: nothing is attached to the stream.
    is_declined: bool,
}

/// What a provider has sent of an attempt, over all its streams.
#[derive(Clone, Debug, Default)]
pub(super) struct AttemptBook {
    window: Option<(u64, u64)>,
    /// Tokens that came with the award: this side never had to take them.
    prefix: u64,
    sent: u64,
    acked: u64,
    /// End and cost of chunks that are not acknowledged, by their first token.
    costs: BTreeMap<u64, (u64, u64)>,
    /// The sum of these costs.
    held: u64,
    /// Hash of the text as it was first sent, by first token and end: a provider that was started anew and awarded
    /// again cuts the same answer into other chunks.
    texts: BTreeMap<(u64, u64), u64>,
    /// The provider echoed the terms of an Award.
    echoed: bool,
    /// How long it says that its first token takes, in ms; and whether it told of the work on it.
    pub(super) eta: u64,
    /// Its requester said that it wants no more of it: it may be forgotten, and computed again if it is wanted after all, as one does
    /// that came back from before its Cancel.
    pub(super) is_cancelled: bool,
    pub(super) works: bool,
    /// The newest epoch that the provider took.
    epoch: u32,
    /// The newest that its requester said.
    said: u32,
    /// One side told the other that it is over.
    is_over: bool,
}

/// A message on its way.
#[derive(Clone, Copy)]
struct Sent {
    stream: u64,
    provider: PeerId,
    /// Who sends it is of the core: what it may not send is a broken rule.
    core: bool,
    /// What a requester sends of a body before it is asked for more.
    unasked: u64,
}

impl Judge {
    /// Bytes that a requester of the core, or a script, sends to a provider.
    pub(crate) fn requester_sent(
        &mut self,
        requester: u32,
        stream: u64,
        provider: PeerId,
        bytes: &[u8],
        core: bool,
        unasked: u64,
    ) {
        if self.is_away {
            return;
        }
        let sent = Sent { stream, provider, core, unasked };
        for frame in self.frames(bytes, core) {
            let Some(message) = self.message(frame, core) else { continue };
            self.cover_message(&message, core);
            if matches!(message, Message::Award(_)) {
                self.cover_actor(provider);
            }
            if !core {
                self.cover_actor(peer_id(requester));
            }
            self.subject = self.attached(stream).map(|(job, _)| job);
            match &message {
                Message::Award(award) => self.award_sent(sent, award, frame),
                Message::Resume { job, attempt, epoch, .. } => self.resume_sent(sent, (*job, *attempt), *epoch),
                Message::Rfq(rfq) => self.rfq_sent(sent, rfq),
                Message::Cancel { job, attempt, .. } => self.is_cancelled(provider, (*job, *attempt)),
                Message::Ack { next, end, .. } => self.ack_sent(sent, *next, *end),
                Message::Body { offset, bytes } => self.body_sent(sent, *offset, bytes),
                _ => {}
            }
            let is_body = matches!(message, Message::Body { .. });
            if core && !is_body && self.tells_prompt(requester, frame) {
                self.fail(Rule::Secrecy, format_args!("a prompt is told to {provider:?} outside of a body"));
            }
        }
        self.subject = None;
    }

    /// Bytes that a provider of the core, or a script, sends.
    pub(crate) fn provider_sent(&mut self, stream: u64, provider: PeerId, bytes: &[u8], core: bool) {
        if self.is_away {
            return;
        }
        let sent = Sent { stream, provider, core, unasked: 0 };
        for frame in self.frames(bytes, core) {
            let Some(message) = self.message(frame, core) else { continue };
            self.cover_message(&message, core);
            let attempt = self.attached(stream);
            self.subject = attempt.map(|(job, _)| job);
            match (&message, attempt) {
                (Message::Offer(offer), _) => self.offer_sent(sent, offer),
                (Message::Decline(decline), attempt) => self.decline_sent(sent, attempt, decline),
                (Message::Accepted(accepted), Some(attempt)) => self.accepted_sent(sent, attempt, accepted),
                (Message::Chunk { seq, n, text, ids, channel }, Some(attempt)) => {
                    self.chunk_sent(sent, attempt, (*seq, *n), (text, *ids), *channel);
                }
                (Message::Working { .. }, Some(attempt)) => self.working_sent(sent, attempt),
                (Message::End(_) | Message::Gone(_), Some(attempt)) => self.is_over(provider, attempt),
                (Message::Resumed { .. }, Some(attempt)) => self.resumed_sent(sent, attempt),
                _ => {}
            }
        }
        self.subject = None;
    }

    /// What is done for a first token is told before there is one.
    // [C7]
    fn working_sent(&mut self, sent: Sent, (job, attempt): (JobId, u32)) {
        let known = self.attempts.entry((sent.provider, job, attempt)).or_default();
        known.works = true;
        // Who forgot what it wrote begins anew.
        if sent.core && known.sent > known.prefix && !self.forgetful.contains(&sent.provider) {
            self.fail(Rule::Patience, format_args!("{job:?}: {:?} works on what it has written", sent.provider));
        }
    }

    /// The message in a frame. The core sends none that a peer refuses.
    fn message<'a>(&mut self, frame: &'a [u8], core: bool) -> Option<Message<'a>> {
        let message = wire::decode(frame);
        if core && let Err(error) = &message {
            self.fail(Rule::Frames, format_args!("what is sent is no message: {error}"));
        }
        message.ok()
    }

    /// Which attempt a stream belongs to.
    fn attached(&self, stream: u64) -> Option<(JobId, u32)> {
        self.streams.get(&stream)?.attempt
    }

    /// A provider of the core resets a stream; `honest`: its requester is of the core too. One that is awarded may be
    /// silent for too long, or be fenced by a newer one; any other is reset only for what breaks the protocol.
    pub(crate) fn provider_resets(&mut self, stream: u64, from: PeerId, honest: bool) {
        let is_attached = self.streams.get(&stream).is_some_and(|book| book.attempt.is_some() && !book.is_declined);
        if honest && !is_attached && !self.is_noisy {
            self.fail(Rule::Blame, format_args!("{from:?} resets the stream of a peer that kept the protocol"));
        }
    }

    pub(crate) fn stream_gone(&mut self, stream: u64) {
        self.streams.remove(&stream);
    }

    /// Payloads of whole frames.
    fn frames<'a>(&mut self, mut bytes: &'a [u8], core: bool) -> Vec<&'a [u8]> {
        let mut frames = Vec::new();
        while let [high, low, rest @ ..] = bytes {
            let len = usize::from(u16::from_be_bytes([*high, *low]));
            let Some(frame) = rest.get(..len) else { break };
            frames.push(frame);
            bytes = &rest[len..];
        }
        if core && !bytes.is_empty() {
            self.fail(Rule::Frames, "a transmission is not whole frames");
        }
        frames
    }
}
