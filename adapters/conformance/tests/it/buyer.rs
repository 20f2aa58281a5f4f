//! Our own requester in memory, honest or with one planted mistake, and a scenario played with it. Time is virtual.

use std::collections::BTreeMap;

use haggle_conformance::{Play, Scenario, Setting, Verdict};
use haggle_core::{
    Event, Input, Instant, JobSpec, Limits, Machine, Model, Output, PeerId, Policy, Requester, StreamId,
    spec::Haggle,
    wire::{Prompt, message::Features},
};

use crate::mistake::{Frames, Mistake, Notes, framed, payloads};

const REQUEST: &str = r#"{"messages":[{"role":"user","content":"Paris?"}],"tools":[]}"#;

struct World {
    requester: Requester,
    mistake: Mistake,
    notes: Notes,
    now: Instant,
    /// By the requester's name of it, the play's.
    streams: BTreeMap<StreamId, StreamId>,
    frames: Frames,
}

/// Plays a scenario with our own requester, which is given the job that the scenario needs.
pub(crate) fn play(scenario: &Scenario, mistake: Mistake) -> Verdict {
    let mut limits = Limits::default();
    (mistake.limits)(&mut limits);
    let mut world = World {
        requester: Requester::new(Policy::default(), limits, [2; 32]).unwrap(),
        mistake,
        notes: Notes::default(),
        now: Instant::from_millis(1_000),
        streams: BTreeMap::new(),
        frames: Frames::default(),
    };
    let (peer, model) = (PeerId::new(b"seller").unwrap(), Model::new(b"story").unwrap());
    let setting = Setting { model: Some(model.clone()), ..Setting::new(PeerId::new(b"buyer").unwrap(), [3; 32]) };
    let mut play = Play::new(scenario, setting, world.now);
    let prompt = "Once ".repeat(1 + scenario.needs.prompt_bytes / 5);
    let mut spec = JobSpec { deadline: scenario.needs.gives_up_after, ..JobSpec::new(model, Prompt::Raw(prompt), 16) };
    spec.criteria.only = vec![peer];
    if scenario.needs.two_providers {
        spec.criteria.only.push(PeerId::new(b"other").unwrap());
    }
    if scenario.needs.request {
        spec.prompt = Prompt::Request(REQUEST.into());
        spec.criteria.require = Some(Features::TOOLS);
    }
    if scenario.needs.bids {
        (spec.budget, spec.haggle) = (Some(1_000_000), Haggle::Bid(800));
    }
    world.requester.submit(world.now, spec).unwrap();
    for _ in 0..20_000 {
        let spoke = world.requester_speaks(&mut play) | world.play_speaks(&mut play);
        match play.verdict() {
            Some(verdict) if !spoke => return verdict,
            _ if !spoke => world.wait(&mut play),
            _ => {}
        }
    }
    panic!("{} does not end", scenario.name);
}

impl World {
    fn requester_speaks(&mut self, play: &mut Play) -> bool {
        let mut spoke = false;
        let (mut opened, mut taken) = (Vec::new(), Vec::new());
        while let Some(output) = self.requester.poll_output() {
            spoke = true;
            match output {
                Output::Open { stream, .. } => {
                    self.streams.insert(stream, play.accept_stream(self.now));
                    opened.push(stream);
                }
                Output::Transmit { stream, bytes } => {
                    let Some(theirs) = self.streams.get(&stream).copied() else { continue };
                    let mut said = Vec::new();
                    for payload in payloads(bytes) {
                        let out = (self.mistake.says)(&mut self.notes, stream, &payload);
                        said.extend(out.into_iter().flat_map(|payload| framed(&payload)));
                    }
                    play.handle_input(self.now, Input::Received(theirs, &said));
                }
                Output::Close(stream) | Output::Reset(stream) => {
                    if let Some(theirs) = self.streams.remove(&stream).filter(|_| !self.mistake.stays) {
                        play.handle_input(self.now, Input::StreamClosed(theirs));
                    }
                }
                Output::Event(Event::Tokens { job, n, .. }) => taken.push((job, u64::from(n))),
                _ => {}
            }
        }
        opened.into_iter().for_each(|stream| self.requester.handle_input(self.now, Input::StreamOpened(stream)));
        taken.into_iter().for_each(|(job, tokens)| self.requester.consumed(self.now, job, tokens));
        spoke
    }

    fn play_speaks(&mut self, play: &mut Play) -> bool {
        let mut spoke = false;
        while let Some(output) = play.poll_output() {
            spoke = true;
            let find = |theirs: StreamId| self.streams.iter().find(|(_, other)| **other == theirs).map(|(own, _)| *own);
            match output {
                Output::Transmit { stream, bytes } => {
                    let Some(own) = find(stream) else { continue };
                    let said = self.frames.hear(self.mistake, &mut self.notes, own, bytes);
                    self.requester.handle_input(self.now, Input::Received(own, &said));
                }
                Output::Close(stream) | Output::Reset(stream) => {
                    let Some(own) = find(stream) else { continue };
                    self.streams.remove(&own);
                    self.requester.handle_input(self.now, Input::StreamClosed(own));
                }
                _ => {}
            }
        }
        spoke
    }

    fn wait(&mut self, play: &mut Play) {
        let due = self.requester.poll_timeout().into_iter().chain(play.poll_timeout()).map(|due| due.at).min();
        self.now = self.now.max(due.expect("somebody waits for something"));
        self.requester.handle_input(self.now, Input::Timeout);
        play.handle_input(self.now, Input::Timeout);
    }
}
