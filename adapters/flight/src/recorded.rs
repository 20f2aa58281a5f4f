//! A machine whose steps are written down.

use std::ops::Deref;

use haggle_core::{
    ConfigError, Event, Input, Instant, Limits, Machine, Output, Policy, Provider, ProviderEvent, Refusal, Requester,
    machine::Timeout,
    provider::{self, Service},
    requester,
};
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::{
    recorder::Recorder,
    step::{Bytes, Fact, Line, Step, Who},
};

/// A machine of `haggle-core` that is given its commands as data. With a recorder, every step is written to it; without one, nothing is
/// done but what the machine does. Reads go through to the machine.
#[derive(Debug)]
pub struct Recorded<M> {
    machine: M,
    track: Option<Track>,
    now: Instant,
}

#[derive(Debug)]
struct Track {
    who: Who,
    recorder: Recorder,
    /// Outputs since the last line.
    outs: Outs,
}

impl Recorded<Requester> {
    /// A fresh requester. See [`Requester::new`].
    ///
    /// # Errors
    /// The first setting that can not work.
    pub fn requester(
        policy: Policy,
        limits: Limits,
        seed: [u8; 32],
        recorder: Option<&Recorder>,
    ) -> Result<Self, ConfigError> {
        let track = Track::on(Who::Requester, recorder, || Step::NewRequester {
            policy: policy.clone(),
            limits: limits.clone(),
            seed,
        });
        Ok(Self { machine: Requester::new(policy, limits, seed)?, track, now: Instant::ZERO })
    }

    /// [`Requester::command`].
    ///
    /// # Errors
    /// The machine's.
    pub fn command(&mut self, now: Instant, command: requester::Command) -> Result<requester::Reply, Refusal> {
        let step = self.note(|| Step::Requester(command.clone()));
        self.act(now, step, |machine| machine.command(now, command))
    }
}

impl Recorded<Provider> {
    /// A fresh provider. See [`Provider::new`].
    ///
    /// # Errors
    /// The first setting that can not work.
    pub fn provider(
        service: Service,
        limits: Limits,
        seed: [u8; 32],
        recorder: Option<&Recorder>,
    ) -> Result<Self, ConfigError> {
        let track = Track::on(Who::Provider, recorder, || Step::NewProvider {
            service: service.clone(),
            limits: limits.clone(),
            seed,
        });
        Ok(Self { machine: Provider::new(service, limits, seed)?, track, now: Instant::ZERO })
    }

    /// [`Provider::command`].
    ///
    /// # Errors
    /// The machine's.
    pub fn command(&mut self, now: Instant, command: provider::Command<'_>) -> Result<provider::Reply, Refusal> {
        let step = self.note(|| Step::Provider(command.clone()));
        self.act(now, step, |machine| machine.command(now, command))
    }
}

impl<M> Recorded<M> {
    /// A machine with a past, which no recording can begin with: its steps are not written down.
    pub const fn unrecorded(machine: M) -> Self {
        Self { machine, track: None, now: Instant::ZERO }
    }

    /// Only a recorder with contents is told of steps.
    fn note<'a>(&self, step: impl FnOnce() -> Step<'a>) -> Option<Step<'a>> {
        self.track.as_ref().filter(|track| !track.recorder.is_redacted()).map(|_| step())
    }

    fn act<R: Answer>(&mut self, now: Instant, step: Option<Step<'_>>, act: impl FnOnce(&mut M) -> R) -> R {
        self.now = self.now.max(now);
        let answer = act(&mut self.machine);
        if let (Some(track), Some(step)) = (&mut self.track, step) {
            track.write(now, step, answer.words());
        }
        answer
    }
}

impl<M> Deref for Recorded<M> {
    type Target = M;

    fn deref(&self) -> &M {
        &self.machine
    }
}

impl Machine for Recorded<Requester> {
    type Event<'a> = Event<'a>;

    fn handle_input(&mut self, now: Instant, input: Input<'_>) {
        let step = self.note(|| Step::Fact(Fact::of(&input)));
        self.act(now, step, |machine| machine.handle_input(now, input));
    }

    fn poll_output(&mut self) -> Option<Output<'_, Event<'_>>> {
        let output = self.machine.poll_output();
        if let Some(track) = &mut self.track {
            track.out(self.now, output.as_ref(), requester_event);
        }
        output
    }

    fn poll_timeout(&self) -> Option<Timeout> {
        self.machine.poll_timeout()
    }
}

impl Machine for Recorded<Provider> {
    type Event<'a> = ProviderEvent;

    fn handle_input(&mut self, now: Instant, input: Input<'_>) {
        let step = self.note(|| Step::Fact(Fact::of(&input)));
        self.act(now, step, |machine| machine.handle_input(now, input));
    }

    fn poll_output(&mut self) -> Option<Output<'_, ProviderEvent>> {
        let output = self.machine.poll_output();
        if let Some(track) = &mut self.track {
            track.out(self.now, output.as_ref(), |event| json!(event));
        }
        output
    }

    fn poll_timeout(&self) -> Option<Timeout> {
        self.machine.poll_timeout()
    }
}

impl Track {
    fn on(who: Who, recorder: Option<&Recorder>, begin: impl FnOnce() -> Step<'static>) -> Option<Self> {
        let mut track = Self { who, recorder: recorder?.clone(), outs: Outs::default() };
        if !track.recorder.is_redacted() {
            track.write(Instant::ZERO, begin(), String::new());
        }
        Some(track)
    }

    /// Writes a step, after the outputs that were taken before it.
    fn write(&mut self, now: Instant, step: Step<'_>, got: String) {
        self.flush(now);
        self.recorder.write(&Line { at: now.as_millis(), who: self.who, step, got });
    }

    fn out<E: Serialize>(&mut self, now: Instant, output: Option<&Output<'_, E>>, shown: impl FnOnce(&E) -> Value) {
        match output {
            None => self.flush(now),
            Some(Output::Event(event)) if self.recorder.is_redacted() => {
                let seen =
                    Line { at: now.as_millis(), who: self.who, step: Step::Seen(shown(event)), got: String::new() };
                self.recorder.write(&seen);
            }
            Some(_) if self.recorder.is_redacted() => {}
            Some(output) => self.outs.add(output),
        }
    }

    fn flush(&mut self, now: Instant) {
        if let Some((count, digest)) = self.outs.take() {
            let step = Step::Out { count, digest: Bytes(digest) };
            self.recorder.write(&Line { at: now.as_millis(), who: self.who, step, got: String::new() });
        }
    }
}

/// A digest of outputs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outs {
    count: u64,
    digest: Sha256,
}

impl Outs {
    pub(crate) fn add<E: Serialize>(&mut self, output: &Output<'_, E>) {
        self.count += 1;
        match output {
            Output::Open { stream, peer } => self.put(1, stream.0, peer.as_bytes()),
            Output::Transmit { stream, bytes } => self.put(2, stream.0, bytes),
            Output::Close(stream) => self.put(3, stream.0, &[]),
            Output::Reset(stream) => self.put(4, stream.0, &[]),
            Output::StartQuery { query, model } => self.put(5, query.0, model.as_bytes()),
            Output::CancelQuery(query) => self.put(6, query.0, &[]),
            // An event without a text form would be a fault of this program, and is equal on both sides.
            Output::Event(event) => self.put(7, 0, &serde_json::to_vec(event).unwrap_or_default()),
        }
    }

    /// How many there were, and their digest; `None` if there were none.
    pub(crate) fn take(&mut self) -> Option<(u64, Vec<u8>)> {
        let Self { count, digest } = std::mem::take(self);
        (count > 0).then(|| (count, digest.finalize()[..16].to_vec()))
    }

    fn put(&mut self, kind: u8, id: u64, bytes: &[u8]) {
        self.digest.update([kind]);
        self.digest.update(id.to_le_bytes());
        self.digest.update((bytes.len() as u64).to_le_bytes());
        self.digest.update(bytes);
    }
}

/// A requester's event without what was written.
fn requester_event(event: &Event<'_>) -> Value {
    match event {
        Event::Tokens { job, peer, seq, n, channel: None, .. } => {
            json!({"tokens": {"job": job, "peer": peer, "seq": seq, "n": n}})
        }
        Event::Tokens { job, peer, seq, n, channel, .. } => {
            json!({"tokens": {"job": job, "peer": peer, "seq": seq, "n": n, "channel": channel}})
        }
        event => json!(event),
    }
}

/// What a command answers, in words that can be compared.
pub(crate) trait Answer {
    fn words(&self) -> String;
}

impl Answer for () {
    fn words(&self) -> String {
        String::new()
    }
}

impl<T: std::fmt::Debug> Answer for Result<T, Refusal> {
    fn words(&self) -> String {
        match self {
            Ok(answer) => format!("{answer:?}"),
            Err(refusal) => format!("refused: {}", refusal.code()),
        }
    }
}
