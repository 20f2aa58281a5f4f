//! Engines of one's own, in place of the scripted one.

use haggle_core::{
    event::Work,
    wire::message::{Channel, EndReason},
};

/// An engine of one's own. It computes at once whatever it is asked for; the node's [`crate::EngineScript`] says how much
/// virtual time that took.
pub trait Writer: Send {
    /// Begins an attempt.
    fn start(&mut self, work: &Work) -> Box<dyn Writing>;
    /// A copy for a fork of the world.
    fn fork(&self) -> Box<dyn Writer>;
}

/// An attempt in an engine of one's own. Dropping it cancels it.
pub trait Writing: Send {
    /// What comes next. Not called again after [`Written::End`].
    fn write(&mut self) -> Written;
    /// A copy for a fork of the world. What cannot be copied ends there: see [`Torn`].
    fn fork(&self) -> Box<dyn Writing>;
}

/// What an engine came to in one step.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Written {
    /// Nothing yet: it is asked again in 5 ms.
    Nothing,
    /// The prompt has been read, so many tokens.
    Started(u64),
    /// The next tokens: no more than the window of the attempt, and no text longer than a chunk's.
    Words(Words),
    /// The answer ends.
    End(EndReason),
}

/// A part of an answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Words {
    /// How many tokens, at least 1.
    pub n: u32,
    /// Their text, never empty.
    pub text: String,
    /// Their ids, 4 bytes each, if they are known.
    pub ids: Option<Vec<u8>>,
    /// What it is, if not the answer's text.
    pub channel: Option<Channel>,
}

/// An attempt that was lost with a fork: it ends as if the engine had failed.
#[derive(Clone, Copy, Debug)]
pub struct Torn;

impl Writing for Torn {
    fn write(&mut self) -> Written {
        Written::End(EndReason::Engine)
    }

    fn fork(&self) -> Box<dyn Writing> {
        Box::new(Self)
    }
}

impl Clone for Box<dyn Writer> {
    fn clone(&self) -> Self {
        self.fork()
    }
}

impl Clone for Box<dyn Writing> {
    fn clone(&self) -> Self {
        self.fork()
    }
}

impl std::fmt::Debug for Box<dyn Writing> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Writing")
    }
}
