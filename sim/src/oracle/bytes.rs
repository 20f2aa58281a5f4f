//! What crosses the wire: secrecy, credit, windows, acknowledgements.

use std::collections::BTreeMap;

use haggle_core::{
    JobId, PeerId,
    money::Tariff,
    wire::{
        self, Message, Prompt,
        message::{Decline, DeclineReason},
    },
};
use sha2::{Digest, Sha256};

use super::{
    JobSpecFacts, Judge, Rule, cost,
    market::{Promise, lower},
    owed,
};
use crate::{dice::mix, node::peer_id};

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
    /// The newest epoch that the provider took.
    epoch: u32,
    /// The newest that its requester said.
    said: u32,
    /// One side told the other that it is over.
    is_over: bool,
}

/// What a frame of text costs of the window beyond its bytes, as the protocol says.
const CHUNK_COST: u64 = 64;
/// Bytes of a prompt that give it away.
const MARK: usize = 16;

fn hash_of(text: &str) -> u64 {
    text.bytes().fold(text.len() as u64, |hash, byte| mix(hash ^ u64::from(byte)))
}

impl Judge {
    /// Bytes that a requester of the core, or a script, sends to a provider.
    pub(crate) fn requester_sent(
        &mut self,
        node: u32,
        stream: u64,
        to: PeerId,
        bytes: &[u8],
        core: bool,
        unasked: u64,
    ) {
        if self.is_away {
            return;
        }
        for frame in self.frames(bytes, core) {
            let Ok(message) = wire::decode(frame) else { continue };
            self.reach_message(&message, core);
            if matches!(message, Message::Award(_)) {
                self.reach_actor(to);
            }
            if !core {
                self.reach_actor(peer_id(node));
            }
            let book = self.streams.entry(stream).or_default();
            match &message {
                Message::Award(award) => {
                    let attempt = Some((award.job, award.attempt));
                    let (asked, terms) = (book.asked, Sha256::digest(frame).into());
                    let dear =
                        award.offer.is_some() && asked.is_some_and(|asked| lower(asked, award.tariff) != award.tariff);
                    let awarded = Some((award.offer, award.tariff));
                    let epoch = award.epoch;
                    *book = StreamBook { attempt, epoch, terms, awarded, unasked, ..StreamBook::default() };
                    if core && dear {
                        let what = format_args!("{:?} is awarded, {asked:?} was asked before", award.tariff);
                        self.fail(Rule::Terms, what);
                    }
                    let known = self.attempts.entry((to, award.job, award.attempt)).or_default();
                    known.prefix = award.prefix_tokens;
                    known.acked = known.acked.max(award.prefix_tokens);
                    self.says_epoch(to, (award.job, award.attempt), epoch, core);
                }
                Message::Resume { job, attempt, epoch, .. } => {
                    *book = StreamBook { attempt: Some((*job, *attempt)), epoch: *epoch, ..StreamBook::default() };
                    self.says_epoch(to, (*job, *attempt), *epoch, core);
                }
                Message::Rfq(rfq) if core && !rfq.body_bytes.is_multiple_of(256) => {
                    self.fail(Rule::Secrecy, format_args!("the exact size of a prompt is told: {}", rfq.body_bytes));
                }
                Message::Cancel { job, attempt } => {
                    self.attempts.entry((to, *job, *attempt)).or_default().is_over = true;
                }
                Message::Ack { next, end } => {
                    if let Some((job, attempt)) = book.attempt {
                        let known = self.attempts.entry((to, job, attempt)).or_default();
                        known.acked = known.acked.max(*next);
                        known.is_over |= *end;
                    }
                }
                _ => {}
            }
            if !core {
                continue;
            }
            let attempt = self.streams.get(&stream).and_then(|book| book.attempt);
            self.subject = attempt.map(|(job, _)| job);
            match message {
                Message::Award(award) => {
                    let ordered = award.max_tokens - u64::from(award.overlap);
                    self.award_sent(award.job, to, award.tariff, ordered);
                }
                Message::Body { offset, bytes } => {
                    self.body_sent(stream, offset, bytes);
                    continue;
                }
                Message::Ack { next, end } => self.ack_sent(attempt, to, next, end),
                _ => {}
            }
            if self.tells_prompt(node, frame) {
                self.fail(Rule::Secrecy, format_args!("a prompt is told to {to:?} outside of a body"));
            }
        }
        self.subject = None;
    }

    fn ack_sent(&mut self, attempt: Option<(JobId, u32)>, to: PeerId, next: u64, end: bool) {
        let Some((job, number)) = attempt else { return };
        let prefix = self.attempts.get(&(to, job, number)).map_or(0, |known| known.prefix);
        let book = self.jobs.get(&job);
        let consumed = book.map_or(0, |book| book.consumed.saturating_sub(book.stale)).max(prefix);
        // The end's acknowledgement says that all has arrived; nothing depends on the application any more.
        if next > consumed && !end {
            self.fail(Rule::Ack, format_args!("{job:?} acknowledges {next}, {consumed} were consumed"));
        }
    }

    fn award_sent(&mut self, job: JobId, to: PeerId, tariff: Tariff, max_tokens: u64) {
        let Some(book) = self.jobs.get(&job) else { return };
        let Some(spec) = &book.spec else { return };
        let owed: u128 =
            book.lines.iter().filter(|line| line.tokens > 0).map(|line| owed(line.tariff, line.tokens)).sum();
        let total = owed + cost(tariff, max_tokens);
        let budget = spec.budget;
        if total > budget {
            self.fail(Rule::Budget, format_args!("{job:?} awards {to:?} for {total} of {budget}"));
        }
    }

    fn body_sent(&mut self, stream: u64, offset: u64, bytes: &[u8]) {
        let book = self.streams.entry(stream).or_default();
        let in_order = book.body_sent == offset;
        book.body_sent += bytes.len() as u64;
        let (sent, credit) = (book.body_sent, book.body_credit.max(book.unasked));
        let Some((job, _)) = book.attempt else {
            return self.fail(Rule::Secrecy, "a body is sent where nothing was awarded");
        };
        let spec = self.jobs.get(&job).and_then(|book| book.spec.as_ref());
        let Some(JobSpecFacts { prompt: Prompt::Raw(text), .. }) = spec else { return };
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        // Behind the prompt comes what was delivered.
        let rest = text.as_bytes().get(start..).unwrap_or_default();
        let same = bytes.starts_with(&rest[..rest.len().min(bytes.len())]);
        if !in_order || !same || sent > credit {
            self.fail(
                Rule::Body,
                format_args!("{job:?}: {sent} bytes of body sent, credit {credit}, as asked: {same}"),
            );
        }
    }

    fn tells_prompt(&self, node: u32, frame: &[u8]) -> bool {
        let open = self.open.range((node, JobId([0; 16]))..=(node, JobId([255; 16])));
        open.filter_map(|(_, job)| self.jobs.get(job)?.spec.as_ref()).any(|spec| match &spec.prompt {
            Prompt::Raw(text) if text.len() >= MARK => {
                let (head, tail) = (&text.as_bytes()[..MARK], &text.as_bytes()[text.len() - MARK..]);
                frame.windows(MARK).any(|window| window == head || window == tail)
            }
            _ => false,
        })
    }

    /// Bytes that a provider of the core, or a script, sends.
    pub(crate) fn provider_sent(&mut self, stream: u64, from: PeerId, bytes: &[u8], core: bool) {
        if self.is_away {
            return;
        }
        for frame in self.frames(bytes, core) {
            let Ok(message) = wire::decode(frame) else { continue };
            self.reach_message(&message, core);
            self.asks(stream, from, &message);
            let book = self.streams.entry(stream).or_default();
            book.is_declined |= matches!(message, Message::Decline(_)) && book.attempt.is_some();
            let Some((job, attempt)) = book.attempt else { continue };
            self.subject = Some(job);
            match message {
                Message::Accepted(accepted) => {
                    book.body_credit = accepted.body_credit;
                    let (epoch, echoed, awarded) = (book.epoch, book.terms == accepted.terms, book.awarded);
                    if core && epoch == 1 {
                        self.takes(from, awarded);
                    }
                    self.attaches(from, (job, attempt), epoch, core);
                    let forgot = !core || self.forgetful.contains(&from);
                    let known = self.attempts.entry((from, job, attempt)).or_default();
                    let again = known.sent > known.prefix && accepted.body_credit > 0 && !forgot;
                    let window = (u64::from(accepted.window_tokens), u64::from(accepted.window_bytes));
                    known.window.get_or_insert(window);
                    known.echoed |= echoed;
                    if again {
                        self.fail(Rule::Recovery, format_args!("{job:?}: {from:?} computes attempt {attempt} again"));
                    }
                }
                Message::End(_) | Message::Gone(_) | Message::Decline(_) => {
                    self.attempts.entry((from, job, attempt)).or_default().is_over = true;
                }
                Message::Resumed { .. } => {
                    let epoch = book.epoch;
                    self.attaches(from, (job, attempt), epoch, core);
                }
                Message::Chunk { seq, n, text, ids } => {
                    let known = self.attempts.entry((from, job, attempt)).or_default();
                    known.texts.entry((seq, seq + u64::from(n))).or_insert_with(|| hash_of(text));
                    let acked = known.acked;
                    while let Some(first) = known.texts.first_entry()
                        && first.key().1 <= acked
                    {
                        first.remove();
                    }
                    if !core {
                        continue;
                    }
                    let cost = text.len() as u64 + ids.map_or(0, <[u8]>::len) as u64 + CHUNK_COST;
                    let end = seq + u64::from(n);
                    let before = known.costs.insert(seq, (end, cost)).map_or(0, |(_, cost)| cost);
                    known.held = known.held + cost - before;
                    known.sent = known.sent.max(end);
                    let acked = known.acked;
                    while let Some(first) = known.costs.first_entry()
                        && first.get().0 <= acked
                    {
                        known.held -= first.remove().1;
                    }
                    let held = known.held;
                    let ahead = known.sent.saturating_sub(acked);
                    if !known.window.is_some_and(|(tokens, bytes)| ahead <= tokens && held <= bytes) {
                        let window = known.window;
                        self.fail(Rule::Window, format_args!("{ahead} tokens, {held} bytes ahead; window {window:?}"));
                    }
                }
                _ => {}
            }
        }
        self.subject = None;
    }

    /// In the end: whoever was left had been told, or had said so itself.
    pub(crate) fn check_fences(&mut self) {
        let left = self.attempts.iter().filter(|(_, known)| known.echoed && !known.is_over);
        let told = |job: &JobId| self.jobs.get(job).is_some_and(|book| !book.died);
        let left: Vec<_> = left.map(|(name, _)| *name).filter(|(_, job, _)| told(job)).collect();
        for (peer, job, attempt) in left {
            self.fail(Rule::Fence, format_args!("{job:?}: {peer:?} is not told that attempt {attempt} is over"));
        }
    }

    /// Notes the prices that a provider asks for, and how long they bind.
    fn asks(&mut self, stream: u64, from: PeerId, message: &Message<'_>) {
        let (offer, anew) = match message {
            Message::Offer(offer) => (offer, false),
            Message::Decline(Decline { offer: Some(offer), reason, .. }) => (offer, *reason == DeclineReason::Stale),
            _ => return,
        };
        let book = self.streams.entry(stream).or_default();
        let asked = book.asked.filter(|_| !anew).map_or(offer.tariff, |asked| lower(asked, offer.tariff));
        book.asked = Some(asked);
        let (tariff, expires_in) = (offer.tariff, offer.expires_in.0);
        let promise = Promise { tariff, made: self.now, expires_in, until: u64::MAX };
        self.offers.insert((from, offer.offer), promise);
    }

    /// A provider of the core accepts: what it offered, and only as long as that bound.
    fn takes(&mut self, from: PeerId, awarded: Option<(Option<u64>, Tariff)>) {
        let Some((Some(offer), tariff)) = awarded else { return };
        let Some(promise) = self.offers.get(&(from, offer)).copied() else {
            return self.fail(Rule::Terms, format_args!("{from:?} accepts an offer that it did not make"));
        };
        if promise.tariff != tariff {
            self.fail(Rule::Terms, format_args!("{from:?} accepts {tariff:?}, it offered {:?}", promise.tariff));
        }
        if !self.is_skewed && self.now > promise.made.saturating_add(promise.expires_in) {
            self.fail(Rule::Offers, format_args!("{from:?} accepts an offer that expired"));
        }
    }

    /// A requester says which epoch of an attempt begins: one that it never said before, not even before a crash.
    fn says_epoch(&mut self, to: PeerId, (job, attempt): (JobId, u32), epoch: u32, core: bool) {
        let known = self.attempts.entry((to, job, attempt)).or_default();
        let newest = known.said;
        known.said = newest.max(epoch);
        if core && epoch <= newest {
            self.fail(Rule::Epoch, format_args!("{job:?}: epoch {epoch} of attempt {attempt} begins, it had {newest}"));
        }
    }

    /// A provider attaches an attempt to the stream.
    fn attaches(&mut self, from: PeerId, (job, attempt): (JobId, u32), epoch: u32, core: bool) {
        let known = self.attempts.entry((from, job, attempt)).or_default();
        let newest = known.epoch;
        known.epoch = newest.max(epoch);
        if core && epoch <= newest {
            self.fail(Rule::Epoch, format_args!("{job:?} attaches to epoch {epoch}, it had {newest} already"));
        }
    }

    /// What is agreed echoes the award.
    pub(super) fn echoed(&mut self, job: JobId, attempt: u32, peer: PeerId) {
        if !self.attempts.get(&(peer, job, attempt)).is_some_and(|known| known.echoed) {
            self.fail(Rule::Terms, format_args!("{job:?}: {peer:?} accepted other terms than were awarded"));
        }
    }

    /// Whether the provider sent tokens up to `end` with this text. Of a chunk that begins with evidence only the rest is told.
    pub(super) fn was_sent(&self, job: JobId, attempt: u32, peer: PeerId, end: u64, text: &str) -> bool {
        let Some(known) = self.attempts.get(&(peer, job, attempt)) else { return false };
        let (prefix, texts) = (known.prefix, &known.texts);
        let mut sent = texts.range(..(end, 0)).rev().filter(|((_, own_end), _)| *own_end == end);
        sent.any(|((start, _), hash)| *hash == hash_of(text) || *start < prefix + 16)
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
