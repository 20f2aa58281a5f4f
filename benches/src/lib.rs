//! One provider and one requester joined by nothing but bytes: what a token costs from `push` to the application.
#![expect(clippy::unwrap_used, reason = "what can not happen here is a failed measurement")]

use haggle_core::{
    AttemptId, Event, Input, Instant, JobId, JobSpec, Limits, Machine, Millis, Model, Output, PeerId, Policy, Provider,
    ProviderEvent, Requester, StreamId,
    provider::{Piece, Service, Serving},
    spec::Failover,
    wire::{
        Prompt,
        message::{Exactness, ModelAdvert},
    },
};

/// A job that streams, with both machines in the state they have in the middle of an answer.
pub struct Pair {
    requester: Requester,
    provider: Provider,
    /// Streams as the requester and as the provider name them.
    streams: Vec<(StreamId, StreamId)>,
    now: Instant,
    job: JobId,
    attempt: Option<AttemptId>,
    /// Tokens that the application was told of, and consumes at the next pump.
    told: u64,
    /// Tokens consumed in all.
    taken: u64,
}

impl Pair {
    /// A pair whose job was found, awarded and accepted over the wire; the provider may push.
    #[must_use]
    pub fn streaming(failover: Failover) -> Self {
        let model = Model::new(b"story").unwrap();
        let advert = ModelAdvert {
            model: model.clone(),
            aliases: Vec::new(),
            context: u32::MAX,
            price_in: 0,
            bytes_per_token: 4,
            price_out: 0,
            eta: Millis(100),
            can_continue: false,
            exactness: Exactness::default(),
            features: None,
            longest: None,
            price_part: None,
        };
        let service = Service { models: vec![Serving { advert, floor_permille: 1000 }], ..Service::default() };
        let mut requester = Requester::new(Policy::default(), Limits::default(), [1; 32]).unwrap();
        let provider = Provider::new(service, Limits::default(), [2; 32]).unwrap();
        let mut spec = JobSpec::new(model, Prompt::Raw("Once upon a time".into()), u64::from(u32::MAX) - 1);
        spec.failover = failover;
        spec.criteria.only = vec![peer()];
        let job = requester.submit(Instant::ZERO, spec).unwrap();
        let mut pair = Self {
            requester,
            provider,
            streams: Vec::new(),
            now: Instant::ZERO,
            job,
            attempt: None,
            told: 0,
            taken: 0,
        };
        while pair.attempt.is_none() {
            pair.pump();
        }
        pair
    }

    /// One token of four bytes travels from the provider's engine to the requester's application, which consumes it.
    pub fn token(&mut self) {
        // 50 tokens a second.
        self.now = self.now.after(Millis(20));
        let piece = Piece { n: 1, text: " and", ids: None, channel: None };
        self.provider.push(self.now, self.attempt.unwrap(), piece).unwrap();
        self.pump();
    }

    /// Handles what is due: an Ack that waited for company, a sign of life. `false`: nothing was.
    pub fn tick(&mut self) -> bool {
        let now = self.now;
        let requester = self.requester.poll_timeout().is_some_and(|due| due.at <= now);
        if requester {
            self.requester.handle_input(now, Input::Timeout);
        }
        let provider = self.provider.poll_timeout().is_some_and(|due| due.at <= now);
        if provider {
            self.provider.handle_input(now, Input::Timeout);
        }
        self.pump();
        requester || provider
    }

    /// Tokens that the application consumed.
    #[must_use]
    pub const fn taken(&self) -> u64 {
        self.taken
    }

    /// Carries out orders on both sides until neither has any.
    fn pump(&mut self) {
        let now = self.now;
        loop {
            let moved = self.pump_provider() | self.pump_requester();
            if self.told > 0 {
                self.requester.consumed(now, self.job, self.told);
                self.taken += self.told;
                self.told = 0;
            } else if !moved {
                break;
            }
        }
    }

    fn pump_requester(&mut self) -> bool {
        let mut moved = false;
        while let Some(output) = self.requester.poll_output() {
            moved = true;
            match output {
                Output::Open { stream, .. } => {
                    let accepted = self.provider.accept_stream(self.now, peer()).unwrap();
                    self.streams.push((stream, accepted));
                }
                Output::Transmit { stream, bytes } => {
                    let other = self.streams.iter().find(|(own, _)| *own == stream).unwrap().1;
                    self.provider.handle_input(self.now, Input::Received(other, bytes));
                }
                Output::Close(stream) | Output::Reset(stream) => {
                    let at = self.streams.iter().position(|(own, _)| *own == stream).unwrap();
                    let (_, other) = self.streams.remove(at);
                    self.provider.handle_input(self.now, Input::StreamClosed(other));
                }
                Output::Event(Event::Tokens { n, .. }) => self.told += u64::from(n),
                Output::Event(Event::Ended { ending, .. }) => panic!("the job ended: {ending:?}"),
                Output::Event(_) | Output::StartQuery { .. } | Output::CancelQuery(_) => {}
            }
        }
        moved
    }

    fn pump_provider(&mut self) -> bool {
        let mut moved = false;
        while let Some(output) = self.provider.poll_output() {
            moved = true;
            match output {
                Output::Transmit { stream, bytes } => {
                    let other = self.streams.iter().find(|(_, own)| *own == stream).unwrap().0;
                    self.requester.handle_input(self.now, Input::Received(other, bytes));
                }
                Output::Event(ProviderEvent::Start { attempt, .. }) => self.attempt = Some(attempt),
                _ => {}
            }
        }
        moved
    }
}

fn peer() -> PeerId {
    PeerId::new(b"the other").unwrap()
}
