//! Our own provider in memory, honest or with one planted mistake, and a scenario played with it. Time is virtual.

use std::collections::BTreeMap;

use haggle_conformance::{Play, Scenario, Setting, Verdict};
use haggle_core::{
    AttemptId, Input, Instant, Limits, Machine, Millis, Model, Output, PeerId, Provider, ProviderEvent, Refusal,
    StreamId,
    provider::{Piece, Service, Serving},
    wire::{
        Prompt,
        message::{Channel, EndReason, Exactness, Features, ModelAdvert, Phase},
    },
};

use crate::mistake::{Frames, Mistake, Notes, framed, payloads};

pub(crate) fn advert() -> ModelAdvert {
    ModelAdvert {
        model: Model::new(b"story").unwrap(),
        aliases: Vec::new(),
        context: 40_000,
        price_in: 4_000_000,
        bytes_per_token: 4,
        price_out: 1_000_000,
        eta: Millis(100),
        can_continue: true,
        exactness: Exactness::default(),
        features: Some(Features::TOOLS),
        longest: None,
        price_part: None,
    }
}

struct Running {
    written: u64,
    first: u64,
    max_tokens: u64,
    window: u32,
    is_blocked: bool,
    asked: Asked,
}

/// What an engine is to do.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    Text,
    /// A call of a tool, after a thought.
    Call,
    /// Nothing that it could.
    Nonsense,
}

/// What a call looks like, piece by piece.
const CALL: [(&str, Channel); 5] = [
    (" so", Channel::Thought),
    (" then", Channel::Thought),
    (r#"{"index":0,"id":"a","name":"weather","arguments":""}"#, Channel::ToolCall),
    (r#"{"index":0,"arguments":"{\"city\":"}"#, Channel::ToolCall),
    (r#"{"index":0,"arguments":"\"Paris\"}"}"#, Channel::ToolCall),
];

/// What the Award says already.
const SAID: [&str; 4] = ["model", "stream", "max_tokens", "seed"];

fn asked(prompt: &Prompt, takes_any: bool) -> Asked {
    let Prompt::Request(json) = prompt else { return Asked::Text };
    let Ok(serde_json::Value::Object(fields)) = serde_json::from_str(json) else { return Asked::Nonsense };
    // No key twice, and not deep: neither is in what is written anew.
    let is_plain = serde_json::to_string(&fields).unwrap().len() == json.len() && !json.contains("[[[[");
    match fields {
        _ if takes_any => Asked::Text,
        fields if !is_plain || SAID.iter().any(|said| fields.contains_key(*said)) => Asked::Nonsense,
        fields if fields.contains_key("tools") => Asked::Call,
        _ => Asked::Text,
    }
}

struct World {
    provider: Provider,
    mistake: Mistake,
    notes: Notes,
    now: Instant,
    /// By the play's name of it, the provider's.
    streams: BTreeMap<StreamId, StreamId>,
    frames: Frames,
    jobs: BTreeMap<AttemptId, Running>,
}

/// Plays a scenario with our own provider.
pub(crate) fn play(scenario: &Scenario, mistake: Mistake) -> Verdict {
    let models = vec![Serving { advert: advert(), floor_permille: 500 }];
    let service = Service { models, slots: mistake.slots, ..Service::default() };
    let mut world = World {
        provider: Provider::new(service, Limits::default(), [1; 32]).unwrap(),
        mistake,
        notes: Notes::default(),
        now: Instant::from_millis(1_000),
        streams: BTreeMap::new(),
        frames: Frames::default(),
        jobs: BTreeMap::new(),
    };
    let mut play = Play::new(scenario, Setting::new(PeerId::new(b"seller").unwrap(), [3; 32]), world.now);
    for _ in 0..100_000 {
        let spoke = world.play_speaks(&mut play);
        let answered = world.provider_speaks(&mut play);
        if let (Some(verdict), false, false) = (play.verdict(), spoke, answered) {
            return verdict;
        }
        if !spoke && !answered && !world.compute() {
            world.wait(&mut play);
        }
    }
    panic!("{} does not end", scenario.name);
}

impl World {
    fn play_speaks(&mut self, play: &mut Play) -> bool {
        let mut spoke = false;
        let mut opened = Vec::new();
        while let Some(output) = play.poll_output() {
            spoke = true;
            match output {
                Output::Open { stream, .. } => opened.push(stream),
                Output::Transmit { stream, bytes } => {
                    let bytes = bytes.to_vec();
                    self.open(play, &mut opened);
                    self.hear(stream, &bytes);
                }
                Output::Close(stream) | Output::Reset(stream) => {
                    self.open(play, &mut opened);
                    if let Some(theirs) = self.streams.remove(&stream) {
                        self.provider.handle_input(self.now, Input::StreamClosed(theirs));
                    }
                }
                _ => {}
            }
        }
        self.open(play, &mut opened);
        spoke
    }

    fn open(&mut self, play: &mut Play, opened: &mut Vec<StreamId>) {
        for stream in std::mem::take(opened) {
            let is_stranger = play.is_strangers(stream) && !self.mistake.knows_no_peers;
            let name: &[u8] = if is_stranger { b"stranger" } else { b"buyer" };
            match self.provider.accept_stream(self.now, PeerId::new(name).unwrap()) {
                Ok(theirs) => {
                    self.streams.insert(stream, theirs);
                    play.handle_input(self.now, Input::StreamOpened(stream));
                }
                Err(_) => play.handle_input(self.now, Input::StreamClosed(stream)),
            }
        }
    }

    fn hear(&mut self, stream: StreamId, bytes: &[u8]) {
        let said = self.frames.hear(self.mistake, &mut self.notes, stream, bytes);
        if let Some(theirs) = self.streams.get(&stream) {
            self.provider.handle_input(self.now, Input::Received(*theirs, &said));
        }
    }

    fn provider_speaks(&mut self, play: &mut Play) -> bool {
        let mut spoke = false;
        while let Some(output) = self.provider.poll_output() {
            spoke = true;
            let find = |theirs: StreamId| self.streams.iter().find(|(_, other)| **other == theirs).map(|(own, _)| *own);
            match output {
                Output::Transmit { stream, bytes } => {
                    let Some(own) = find(stream) else { continue };
                    let mut said = Vec::new();
                    for payload in payloads(bytes) {
                        let out = (self.mistake.says)(&mut self.notes, own, &payload);
                        said.extend(out.into_iter().flat_map(|payload| framed(&payload)));
                    }
                    play.handle_input(self.now, Input::Received(own, &said));
                }
                Output::Close(stream) | Output::Reset(stream) => {
                    let Some(own) = find(stream) else { continue };
                    if !self.mistake.stays {
                        self.streams.remove(&own);
                        play.handle_input(self.now, Input::StreamClosed(own));
                    }
                }
                Output::Event(ProviderEvent::Start { attempt, work }) => {
                    let (max_tokens, window) = (work.max_tokens, work.window_tokens);
                    let first = work.prefix_tokens;
                    let asked = asked(&work.prompt, self.mistake.takes_any_request);
                    self.provider.working(self.now, attempt, Phase::Reading);
                    self.jobs
                        .insert(attempt, Running { written: 0, first, max_tokens, window, is_blocked: false, asked });
                }
                Output::Event(ProviderEvent::Stop { attempt }) => drop(self.jobs.remove(&attempt)),
                Output::Event(ProviderEvent::Room { attempt, .. }) => {
                    if let Some(job) = self.jobs.get_mut(&attempt) {
                        job.is_blocked = false;
                    }
                }
                _ => {}
            }
        }
        spoke
    }

    /// The engine writes a piece of each job that has room.
    fn compute(&mut self) -> bool {
        let mut worked = false;
        for (attempt, job) in &mut self.jobs {
            if job.is_blocked {
                continue;
            }
            worked = true;
            let Some((n, text, channel)) = job.next() else {
                self.provider.finish(self.now, *attempt, job.ends()).unwrap();
                job.is_blocked = true;
                continue;
            };
            match self.provider.push(self.now, *attempt, Piece { n, text: &text, ids: None, channel }) {
                Ok(_) => job.written += u64::from(n),
                Err(Refusal::NoRoom) => job.is_blocked = true,
                Err(refusal) => panic!("{refusal:?}"),
            }
        }
        worked
    }

    fn wait(&mut self, play: &mut Play) {
        let due = self.provider.poll_timeout().into_iter().chain(play.poll_timeout()).map(|due| due.at).min();
        self.now = self.now.max(due.expect("somebody waits for something"));
        self.provider.handle_input(self.now, Input::Timeout);
        play.handle_input(self.now, Input::Timeout);
    }
}

impl Running {
    /// The next piece: its tokens, its text, its channel.
    fn next(&self) -> Option<(u32, String, Option<Channel>)> {
        let left = self.max_tokens - self.written;
        match self.asked {
            Asked::Nonsense => None,
            Asked::Call => {
                let (text, channel) = CALL.get(usize::try_from(self.written).unwrap())?;
                (left > 0).then(|| (1, (*text).to_owned(), Some(*channel)))
            }
            // Some pieces have two tokens, so that not every token is where a chunk begins.
            Asked::Text => {
                let seq = self.first + self.written;
                let n = if self.window >= 4 && left >= 2 && self.written % 3 == 1 { 2 } else { 1 };
                (left > 0).then(|| (n, format!(" w{seq}"), None))
            }
        }
    }

    fn ends(&self) -> EndReason {
        match self.asked {
            Asked::Nonsense => EndReason::BadRequest,
            Asked::Call if self.written == CALL.len() as u64 => EndReason::ToolCalls,
            _ => EndReason::Length,
        }
    }
}
