//! A requester, wherever it lives: in a driver, or in a simulated world.

use haggle_core::{
    Instant, PeerId, Refusal, Requester,
    peers::Reliability,
    requester::{Command, Reply},
};
use haggle_flight::Recorded;

/// A requester at this moment.
pub(crate) trait RequesterApi {
    /// Has it do what the core's command says.
    fn command(&mut self, command: Command) -> Result<Reply, Refusal>;

    fn reliability(&self, peer: &PeerId) -> Option<Reliability>;
}

/// The requester of a driver, and what its clock shows.
pub(super) struct LocalRequester<'a>(pub(super) &'a mut Recorded<Requester>, pub(super) Instant);

impl RequesterApi for LocalRequester<'_> {
    fn command(&mut self, command: Command) -> Result<Reply, Refusal> {
        self.0.command(self.1, command)
    }

    fn reliability(&self, peer: &PeerId) -> Option<Reliability> {
        self.0.reliability(self.1, peer)
    }
}
