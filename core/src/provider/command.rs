//! What an application, an engine and an adapter ask of their provider, as data: for whoever records, replays, queues or
//! carries commands. A new command is a variant here, its words, and the method that carries it out.

use alloc::{borrow::Cow, vec::Vec};
use core::fmt;

use crate::{
    id::{AttemptId, Model, PeerId, StreamId},
    refusal::Refusal,
    time::{Instant, Millis},
    wire::message::{Channel, EndReason, Phase},
};

use super::{Piece, Provider, Serving};

/// Everything that can be asked of a [`Provider`]; each is a method of it, too, where limits and errors are told.
/// Shown as text ([`fmt::Display`], [`fmt::Debug`]) it holds nothing of an answer.
#[derive(Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Command<'a> {
    /// [`Provider::accept_stream`]; answered with [`Reply::Stream`].
    AcceptStream(PeerId),
    /// [`Provider::started`].
    Started {
        /// Of which attempt.
        attempt: AttemptId,
        /// Tokens in the prompt.
        prompt_tokens: u64,
        /// Of these, those that the engine had already, if it tells.
        #[cfg_attr(feature = "serde", serde(default))]
        cached: Option<u64>,
    },
    /// [`Provider::working`].
    Working {
        /// On which attempt.
        attempt: AttemptId,
        /// What its engine does.
        phase: Phase,
    },
    /// [`Provider::push`]; answered with [`Reply::Room`]. Made of a piece by [`Command::push`], it borrows the text.
    Push {
        /// Of which attempt.
        attempt: AttemptId,
        /// [`Piece::n`].
        n: u32,
        /// [`Piece::text`].
        text: Cow<'a, str>,
        /// [`Piece::ids`].
        ids: Option<Cow<'a, [u8]>>,
        /// [`Piece::channel`].
        channel: Option<Channel>,
    },
    /// [`Provider::finish`].
    Finish {
        /// Which attempt.
        attempt: AttemptId,
        /// How it ended.
        reason: EndReason,
    },
    /// [`Provider::set_models`].
    SetModels(Vec<Serving>),
    /// [`Provider::set_slots`].
    SetSlots {
        /// Jobs computed at once.
        slots: u32,
        /// Jobs that wait for a slot.
        queue: u32,
    },
    /// [`Provider::set_outage`].
    SetOutage {
        /// The served model's own name.
        model: Model,
        /// How long it is expected to last; `None` takes it back.
        lasts: Option<Millis>,
    },
    /// [`Provider::drain`].
    Drain {
        /// How long jobs that run go on.
        patience: Millis,
    },
    /// [`Provider::shut_down`].
    ShutDown,
    /// [`Provider::close`].
    Close,
}

/// What a [`Command`] answers when it is not refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Reply {
    /// It is done.
    Done,
    /// The stream was admitted under this name.
    Stream(StreamId),
    /// There is room for so many further tokens.
    Room(u32),
}

impl<'a> Command<'a> {
    /// The command to send a piece.
    #[must_use]
    pub fn push(attempt: AttemptId, piece: Piece<'a>) -> Self {
        let Piece { n, text, ids, channel } = piece;
        Self::Push { attempt, n, text: Cow::Borrowed(text), ids: ids.map(Cow::Borrowed), channel }
    }
}

impl Provider {
    /// Does what a command says, as its method does.
    ///
    /// # Errors
    /// The method's; a [`crate::ConfigError`] as [`Refusal::Setting`].
    pub fn command(&mut self, now: Instant, command: Command<'_>) -> Result<Reply, Refusal> {
        match command {
            Command::AcceptStream(peer) => return self.accept_stream(now, peer).map(Reply::Stream),
            Command::Started { attempt, prompt_tokens, cached } => self.started(attempt, prompt_tokens, cached),
            Command::Working { attempt, phase } => self.working(now, attempt, phase),
            Command::Push { attempt, n, text, ids, channel } => {
                let piece = Piece { n, text: &text, ids: ids.as_deref(), channel };
                return self.push(now, attempt, piece).map(Reply::Room);
            }
            Command::Finish { attempt, reason } => self.finish(now, attempt, reason)?,
            Command::SetModels(models) => self.set_models(models).map_err(Refusal::Setting)?,
            Command::SetSlots { slots, queue } => self.set_slots(now, slots, queue).map_err(Refusal::Setting)?,
            Command::SetOutage { model, lasts } => self.set_outage(now, &model, lasts),
            Command::Drain { patience } => self.drain(now, patience),
            Command::ShutDown => self.shut_down(now),
            Command::Close => self.close(now),
        }
        Ok(Reply::Done)
    }
}

/// In words, for people who read what happened.
impl fmt::Display for Command<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AcceptStream(peer) => write!(f, "is offered a stream by {peer:?}"),
            Self::Started { prompt_tokens, .. } => write!(f, "is told that {prompt_tokens} tokens were read"),
            Self::Working { phase, .. } => write!(f, "is told that its engine {phase}"),
            Self::Push { n, text, .. } => write!(f, "is given {n} tokens, {} bytes", text.len()),
            Self::Finish { reason, .. } => write!(f, "is told that the engine ended: {reason:?}"),
            Self::SetModels(models) => write!(f, "is told to serve {} models", models.len()),
            Self::SetSlots { slots, queue } => {
                write!(f, "is told to compute {slots} jobs at once, and to let {queue} wait")
            }
            Self::SetOutage { model, lasts: None } => write!(f, "is told that {} is well", model.to_text()),
            Self::SetOutage { model, lasts: Some(lasts) } => {
                write!(f, "is told that {} is out for {} ms", model.to_text(), lasts.0)
            }
            Self::Drain { patience } => {
                write!(f, "is told to take no new jobs, and to end the others within {} ms", patience.0)
            }
            Self::ShutDown => f.write_str("is told to end all jobs"),
            Self::Close => f.write_str("is told that nothing can be said any more"),
        }
    }
}

impl fmt::Debug for Command<'_> {
    // Without what was written: commands are logged.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Command({self})")
    }
}

#[cfg(test)]
mod tests {
    use alloc::{format, vec};

    use super::*;
    use crate::{
        Input, JobId, Limits, Machine, digest,
        money::Tariff,
        provider::Service,
        wire::{
            self, Message,
            message::{Award, BodyKind, ModelAdvert, Sampling},
        },
    };

    const BODY: &[u8] = b"Once";

    fn serving() -> Serving {
        let advert = ModelAdvert {
            model: Model::new(b"m").unwrap(),
            aliases: Vec::new(),
            context: 4096,
            price_in: 0,
            bytes_per_token: 4,
            price_out: 0,
            eta: Millis(500),
            can_continue: true,
            exactness: Default::default(),
            features: None,
            longest: None,
            price_part: None,
        };
        Serving { advert, floor_permille: 1000 }
    }

    fn provider() -> Provider {
        let service = Service { models: vec![serving()], ..Service::default() };
        Provider::new(service, Limits::default(), [7; 32]).unwrap()
    }

    fn award() -> Vec<u8> {
        awarded(1)
    }

    fn awarded(job: u8) -> Vec<u8> {
        let award = Award {
            job: JobId([job; 16]),
            attempt: 1,
            epoch: 1,
            offer: None,
            model: Model::new(b"m").unwrap(),
            tariff: Tariff::default(),
            max_tokens: 10,
            kind: BodyKind::Raw,
            body_bytes: BODY.len() as u64,
            body_hash: digest::sha256(BODY),
            prefix_bytes: 0,
            prefix_tokens: 0,
            prefix_id_bytes: None,
            overlap: 0,
            sampling: Sampling::default(),
            stop: Vec::new(),
            window_tokens: 1024,
            window_bytes: 128 << 10,
            features: None,
            voucher: None,
            choice: None,
        };
        let mut bytes = Vec::new();
        wire::encode_frame(&Message::Award(award), &mut bytes);
        wire::encode_frame(&Message::Body { offset: 0, bytes: BODY }, &mut bytes);
        bytes
    }

    /// What a provider says, as text.
    fn drain(provider: &mut Provider) -> Vec<alloc::string::String> {
        core::iter::from_fn(|| provider.poll_output().map(|output| format!("{output:?}"))).collect()
    }

    #[test]
    fn a_command_does_what_its_method_does() {
        let (mut one, mut other) = (provider(), provider());
        let at = Instant::from_millis(5);
        let stream = one.accept_stream(at, PeerId::new(b"p").unwrap()).unwrap();
        let accept = Command::AcceptStream(PeerId::new(b"p").unwrap());
        assert_eq!(other.command(at, accept), Ok(Reply::Stream(stream)));
        one.handle_input(at, Input::Received(stream, &award()));
        other.handle_input(at, Input::Received(stream, &award()));
        let attempt = *one.jobs.keys().next().unwrap();
        let same = |one: &mut Provider, other: &mut Provider| {
            assert_eq!(one.digest(at), other.digest(at));
            assert_eq!(drain(one), drain(other));
        };
        one.started(attempt, 3, Some(2));
        assert_eq!(other.command(at, Command::Started { attempt, prompt_tokens: 3, cached: Some(2) }), Ok(Reply::Done));
        one.working(at, attempt, Phase::Loading);
        let working = Command::Working { attempt, phase: Phase::Loading };
        assert_eq!(format!("{working}"), "is told that its engine loads the model");
        assert_eq!(other.command(at, working), Ok(Reply::Done));
        same(&mut one, &mut other);
        let piece = Piece { n: 2, text: "a secret", ids: Some(&[1, 0, 0, 0, 2, 0, 0, 0]), channel: None };
        let room = one.push(at, attempt, piece).unwrap();
        let push = Command::push(attempt, piece);
        let shown = format!("{push} {push:?}");
        assert!(shown.contains("8 bytes") && !shown.contains("secret"), "{shown}");
        assert_eq!(other.command(at, push), Ok(Reply::Room(room)));
        same(&mut one, &mut other);
        let model = Model::new(b"m").unwrap();
        one.set_outage(at, &model, Some(Millis(9)));
        assert_eq!(other.command(at, Command::SetOutage { model, lasts: Some(Millis(9)) }), Ok(Reply::Done));
        assert_eq!(other.names(), []);
        same(&mut one, &mut other);
        one.set_models(Vec::new()).unwrap();
        assert_eq!(other.command(at, Command::SetModels(Vec::new())), Ok(Reply::Done));
        let refused = one.set_models(vec![Serving { floor_permille: 1001, ..serving() }]).unwrap_err();
        let models = vec![Serving { floor_permille: 1001, ..serving() }];
        assert_eq!(other.command(at, Command::SetModels(models)), Err(Refusal::Setting(refused)));
        same(&mut one, &mut other);
        one.finish(at, attempt, EndReason::Stop).unwrap();
        let finish = Command::Finish { attempt, reason: EndReason::Stop };
        assert_eq!(other.command(at, finish.clone()), Ok(Reply::Done));
        assert_eq!(other.command(at, finish), Err(Refusal::UnknownAttempt));
        same(&mut one, &mut other);
        one.drain(at, Millis(50));
        assert_eq!(other.command(at, Command::Drain { patience: Millis(50) }), Ok(Reply::Done));
        same(&mut one, &mut other);
        one.shut_down(at);
        assert_eq!(other.command(at, Command::ShutDown), Ok(Reply::Done));
        assert!(other.is_drained() && other.open_jobs() == 1);
        same(&mut one, &mut other);
        one.close(at);
        assert_eq!(other.command(at, Command::Close), Ok(Reply::Done));
        assert_eq!(other.open_jobs(), 0);
        same(&mut one, &mut other);
    }

    #[test]
    fn more_slots_start_what_waits_and_fewer_end_nothing() {
        let mut provider = provider();
        let peer = PeerId::new(b"p").unwrap();
        let started = |provider: &mut Provider| drain(provider).iter().filter(|said| said.contains("Start")).count();
        for job in 1..=3 {
            let stream = provider.accept_stream(Instant::ZERO, peer).unwrap();
            provider.handle_input(Instant::ZERO, Input::Received(stream, &awarded(job)));
        }
        assert_eq!((started(&mut provider), provider.taken_slots()), (1, 1));
        let slots = |slots, queue| Command::SetSlots { slots, queue };
        assert_eq!(provider.command(Instant::ZERO, slots(2, 0)), Ok(Reply::Done));
        assert_eq!((started(&mut provider), provider.taken_slots()), (1, 2));
        assert_eq!(provider.unended_jobs(), 3, "who waits already is not sent away");
        assert_eq!(provider.command(Instant::ZERO, slots(1, 0)), Ok(Reply::Done));
        assert_eq!((provider.taken_slots(), provider.unended_jobs()), (2, 3));
        let before = provider.digest(Instant::ZERO);
        assert!(matches!(provider.command(Instant::ZERO, slots(0, 0)), Err(Refusal::Setting(_))));
        assert!(matches!(provider.command(Instant::ZERO, slots(1, 5_000)), Err(Refusal::Setting(_))));
        assert_eq!(provider.digest(Instant::ZERO), before);
    }
}
