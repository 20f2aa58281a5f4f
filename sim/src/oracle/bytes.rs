//! What crosses the wire: secrecy, credit, windows, acknowledgements.

use std::collections::BTreeMap;

use haggle_core::{
    JobId, PeerId,
    money::Tariff,
    wire::{self, Message, Prompt},
};

use super::{JobSpecFacts, Judge, Rule, cost, owed};

#[derive(Clone, Debug, Default)]
pub(super) struct StreamBook {
    attempt: Option<(JobId, u32)>,
    unasked: u64,
    body_sent: u64,
    body_credit: u64,
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
}

/// What a frame of text costs of the window beyond its bytes, as the protocol says.
const CHUNK_COST: u64 = 64;
/// Bytes of a prompt that give it away.
const MARK: usize = 16;

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
        for frame in self.frames(bytes, core) {
            let Ok(message) = wire::decode(frame) else { continue };
            let book = self.streams.entry(stream).or_default();
            match &message {
                Message::Award(award) => {
                    let attempt = Some((award.job, award.attempt));
                    *book = StreamBook { attempt, unasked, ..StreamBook::default() };
                    let known = self.attempts.entry((to, award.job, award.attempt)).or_default();
                    known.prefix = award.prefix_tokens;
                    known.acked = known.acked.max(award.prefix_tokens);
                }
                Message::Resume { job, attempt, .. } => {
                    *book = StreamBook { attempt: Some((*job, *attempt)), ..StreamBook::default() };
                }
                Message::Ack { next, .. } => {
                    if let Some((job, attempt)) = book.attempt {
                        let known = self.attempts.entry((to, job, attempt)).or_default();
                        known.acked = known.acked.max(*next);
                    }
                }
                _ => {}
            }
            if !core {
                continue;
            }
            let attempt = book.attempt;
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
        for frame in self.frames(bytes, core) {
            let Ok(message) = wire::decode(frame) else { continue };
            let book = self.streams.entry(stream).or_default();
            let Some((job, attempt)) = book.attempt else { continue };
            self.subject = Some(job);
            match message {
                Message::Accepted(accepted) => {
                    book.body_credit = accepted.body_credit;
                    let known = self.attempts.entry((from, job, attempt)).or_default();
                    let window = (u64::from(accepted.window_tokens), u64::from(accepted.window_bytes));
                    known.window.get_or_insert(window);
                }
                Message::Chunk { seq, n, text, ids } if core => {
                    let known = self.attempts.entry((from, job, attempt)).or_default();
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
