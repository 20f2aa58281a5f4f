//! Engines of a program's own in a simulated network: computed at once, and then paced by virtual time.

use std::{collections::VecDeque, sync::Arc};

use haggle_core::{Model, event::Work, wire::message::EndReason};
use haggle_engine::{Engine, Generation, Guarded, Piece, Step};
use haggle_sim::{Torn, Words, Writer, Writing, Written};

use crate::driver::{
    engines::{end_after, end_of, request},
    pieces,
};

/// Tokens evaluated in one step.
const STEP: u32 = 8;
/// Steps without anything to tell after which a computation counts as waiting.
const SILENT_STEPS: u32 = 100_000;

/// The engines of one node.
#[derive(Clone)]
pub(super) struct Shop(pub(super) Vec<(Model, Arc<dyn Engine>)>);

struct Attempt {
    generation: Guarded,
    window: u32,
    parts: VecDeque<Piece>,
    end: Option<EndReason>,
}

/// An attempt that never began.
struct Ended(EndReason);

impl Writer for Shop {
    fn start(&mut self, work: &Work) -> Box<dyn Writing> {
        let Some((_, engine)) = self.0.iter().find(|(model, _)| *model == work.model) else {
            return Box::new(Ended(EndReason::Engine));
        };
        match Guarded::start(&**engine, request(work.clone())) {
            Ok(generation) => {
                Box::new(Attempt { generation, window: work.window_tokens, parts: VecDeque::new(), end: None })
            }
            Err(failure) => Box::new(Ended(end_after(&failure))),
        }
    }

    fn fork(&self) -> Box<dyn Writer> {
        Box::new(self.clone())
    }
}

impl Writing for Attempt {
    fn write(&mut self) -> Written {
        for _ in 0..SILENT_STEPS {
            if let Some(part) = self.parts.pop_front() {
                let channel = pieces::channel(&part);
                let ids = part.ids.map(|ids| ids.iter().flat_map(|id| id.to_le_bytes()).collect());
                return Written::Words(Words { n: part.n, text: part.text, ids, channel });
            }
            if let Some(reason) = self.end {
                return Written::End(reason);
            }
            match self.generation.step(STEP) {
                Step::Working => {}
                Step::Waiting => break,
                Step::Started(started) => return Written::Started(started.prompt_tokens.into()),
                Step::Piece(piece) if pieces::fits(&piece, self.window) => self.parts.push_back(piece),
                Step::Piece(piece) => self.parts.extend(pieces::split(piece, self.window)),
                Step::Done(done) => {
                    self.end = Some(end_of(done.stop));
                    // Some engines know only now how many they were.
                    return Written::Started(done.prompt_tokens.into());
                }
                Step::Failed(failure) => self.end = Some(end_after(&failure)),
            }
        }
        Written::Nothing
    }

    fn fork(&self) -> Box<dyn Writing> {
        Box::new(Torn)
    }
}

impl Writing for Ended {
    fn write(&mut self) -> Written {
        Written::End(self.0)
    }

    fn fork(&self) -> Box<dyn Writing> {
        Box::new(Ended(self.0))
    }
}
