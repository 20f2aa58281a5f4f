//! A provider under test, and a peer that says whatever a test wants.

use haggle_core::{
    AttemptId, Input, Instant, Limits, Machine, Millis, Output, PeerId, Provider, ProviderEvent, Refusal, StreamId,
    provider::{Piece, Service},
    wire::{
        self, Message,
        message::{Award, EndReason},
    },
};

use super::{PROMPT, at, peer, service};

/// What a peer sees of a provider.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Seen {
    /// A message, as `Debug` shows it.
    Said(StreamId, Vec<u8>),
    Closed(StreamId),
    Reset(StreamId),
}

pub(super) struct Seller {
    pub(super) provider: Provider,
    pub(super) now: Instant,
    seen: Vec<Seen>,
    pub(super) started: Vec<AttemptId>,
    pub(super) stopped: Vec<AttemptId>,
    pub(super) buyer: PeerId,
}

impl Seller {
    pub(super) fn new() -> Self {
        Self::with(service(), Limits::default())
    }

    pub(super) fn with(service: Service, limits: Limits) -> Self {
        let provider = Provider::new(service, limits, [1; 32]).unwrap();
        let now = at(1_000);
        Self { provider, now, seen: Vec::new(), started: Vec::new(), stopped: Vec::new(), buyer: peer("buyer") }
    }

    pub(super) fn open(&mut self) -> StreamId {
        self.provider.accept_stream(self.now, self.buyer).unwrap()
    }

    /// Says a message; what is heard in answer is forgotten unless it is asked for.
    pub(super) fn say(&mut self, stream: StreamId, message: &Message<'_>) {
        let mut frame = vec![0, 0];
        // Not `encode_frame`: it asserts what a peer may be wrong about.
        wire::encode(message, &mut frame);
        let len = u16::try_from(frame.len() - 2).unwrap();
        frame[..2].copy_from_slice(&len.to_be_bytes());
        self.send(stream, &frame);
    }

    pub(super) fn send(&mut self, stream: StreamId, bytes: &[u8]) {
        self.provider.handle_input(self.now, Input::Received(stream, bytes));
        self.drain();
    }

    pub(super) fn award(&mut self, stream: StreamId, award: &Award) {
        self.say(stream, &Message::Award(award.clone()));
    }

    pub(super) fn body(&mut self, stream: StreamId, bytes: &[u8]) {
        self.say(stream, &Message::Body { offset: 0, bytes });
    }

    /// Opens a stream, awards, sends the prompt. The engine has it.
    pub(super) fn running(&mut self, award: &Award) -> (StreamId, AttemptId) {
        let stream = self.open();
        self.award(stream, award);
        self.body(stream, PROMPT);
        let attempt = *self.started.last().expect("the job started");
        (stream, attempt)
    }

    pub(super) fn push(&mut self, attempt: AttemptId, text: &str) -> Result<u32, Refusal> {
        self.piece(attempt, Piece { n: 1, text, ids: None, channel: None })
    }

    pub(super) fn piece(&mut self, attempt: AttemptId, piece: Piece<'_>) -> Result<u32, Refusal> {
        let room = self.provider.push(self.now, attempt, piece);
        self.drain();
        room
    }

    pub(super) fn finish(&mut self, attempt: AttemptId, reason: EndReason) {
        self.provider.finish(self.now, attempt, reason).unwrap();
        self.drain();
    }

    pub(super) fn cut(&mut self, stream: StreamId) {
        self.provider.handle_input(self.now, Input::StreamClosed(stream));
        self.drain();
    }

    /// Lets time pass, with every deadline at its moment.
    pub(super) fn wait(&mut self, span: Millis) {
        let until = self.now.after(span);
        while let Some(due) = self.provider.poll_timeout().filter(|due| due.at <= until) {
            self.now = self.now.max(due.at);
            self.provider.handle_input(self.now, Input::Timeout);
            self.drain();
            let next = self.provider.poll_timeout();
            assert!(next.is_none_or(|due| due.at > self.now), "what was seen to is due again: {next:?}");
        }
        self.now = until;
    }

    /// What a stream has carried since this was last asked, and how it ended.
    pub(super) fn heard(&mut self, on: StreamId) -> Heard {
        let mut heard = Heard::default();
        self.seen.retain(|seen| {
            let is_its = match seen {
                Seen::Said(stream, payload) if *stream == on => {
                    heard.payloads.push(payload.clone());
                    true
                }
                Seen::Closed(stream) if *stream == on => {
                    heard.is_closed = true;
                    true
                }
                Seen::Reset(stream) if *stream == on => {
                    heard.is_reset = true;
                    true
                }
                _ => false,
            };
            !is_its
        });
        heard
    }

    fn drain(&mut self) {
        while let Some(output) = self.provider.poll_output() {
            match output {
                Output::Transmit { stream, bytes } => {
                    self.seen.extend(payloads(bytes).into_iter().map(|payload| Seen::Said(stream, payload)));
                }
                Output::Close(stream) => self.seen.push(Seen::Closed(stream)),
                Output::Reset(stream) => self.seen.push(Seen::Reset(stream)),
                Output::Event(ProviderEvent::Start { attempt, .. }) => self.started.push(attempt),
                Output::Event(ProviderEvent::Stop { attempt }) => self.stopped.push(attempt),
                _ => {}
            }
        }
    }
}

/// What one stream carried.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Heard {
    payloads: Vec<Vec<u8>>,
    pub(super) is_closed: bool,
    pub(super) is_reset: bool,
}

impl Heard {
    pub(super) fn messages(&self) -> Vec<Message<'_>> {
        self.payloads.iter().map(|payload| wire::decode(payload).expect("a machine writes what can be read")).collect()
    }

    /// The one message that came.
    pub(super) fn one(&self) -> Message<'_> {
        let messages = self.messages();
        assert_eq!(messages.len(), 1, "{messages:?}, closed: {}, reset: {}", self.is_closed, self.is_reset);
        messages.into_iter().next().unwrap()
    }

    /// A violation: reset, and nothing answered.
    pub(super) fn is_violation(&self) -> bool {
        self.is_reset && self.payloads.is_empty()
    }
}

/// The payloads of whole frames.
pub(super) fn payloads(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut payloads = Vec::new();
    while let [high, low, rest @ ..] = bytes {
        let (payload, rest) = rest.split_at(usize::from(u16::from_be_bytes([*high, *low])));
        payloads.push(payload.to_vec());
        bytes = rest;
    }
    payloads
}
