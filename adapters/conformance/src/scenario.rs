//! What a scenario is, and what it is given.

use std::{future::Future, pin::Pin};

use haggle_core::{Millis, Model, PeerId};

use crate::{stage::Stage, verdict::Step};

/// One question about a peer, and the conversation that answers it.
pub struct Scenario {
    /// Its name: words with hyphens.
    pub name: &'static str,
    /// What it asks, in a sentence.
    pub about: &'static str,
    /// The rules that it asks for, by their labels in `core/PROTOCOL.md`. What goes wrong on the way there (a frame that is
    /// none, a count that is off) is told by its own label.
    pub rules: &'static [&'static str],
    /// What job the requester has to be given. Providers need none.
    pub needs: Needs,
    pub(crate) play: fn(Scene) -> Playing,
}

/// A conversation under way.
pub(crate) type Playing = Pin<Box<dyn Future<Output = Step>>>;

/// A job to be given to a requester: a prompt, at least 16 tokens, and what is said here.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Needs {
    /// Bytes of the prompt, at least.
    pub prompt_bytes: usize,
    /// The requester has to give the job up of its own accord after about so long.
    pub gives_up_after: Option<Millis>,
    /// It has a budget of at least a unit and may bid, or a budget without bids. Else what is offered costs nothing.
    pub bids: bool,
    /// The job is a request with tools (a body of kind request), and not a prompt.
    pub request: bool,
    /// It knows two providers, both of which are played by the scenario: whoever leaves one may go to the other.
    pub two_providers: bool,
}

impl Needs {
    /// Any prompt.
    pub(crate) const ANY: Self =
        Self { prompt_bytes: 1, gives_up_after: None, bids: false, request: false, two_providers: false };
}

/// Who is asked, and what about.
#[derive(Clone, Debug)]
pub struct Setting {
    /// The peer under test, as whoever opens streams names it.
    pub peer: PeerId,
    /// The model that is asked for; of a provider the first that it advertises, if none is said. The one that a requester
    /// is offered has to be said.
    pub model: Option<Model>,
    /// Where ids come from: fresh for every play, or a peer that remembers names takes one for another.
    pub seed: [u8; 32],
}

impl Setting {
    /// A peer, and its first model.
    #[must_use]
    pub fn new(peer: PeerId, seed: [u8; 32]) -> Self {
        Self { peer, model: None, seed }
    }
}

/// What a conversation is given.
pub(crate) struct Scene {
    pub(crate) stage: Stage,
    pub(crate) model: Option<Model>,
}

impl Scenario {
    pub(crate) const fn new(
        name: &'static str,
        rules: &'static [&'static str],
        about: &'static str,
        play: fn(Scene) -> Playing,
    ) -> Self {
        Self { name, about, rules, needs: Needs::ANY, play }
    }

    pub(crate) const fn needs(self, needs: Needs) -> Self {
        Self { needs, ..self }
    }
}
