//! The handle below all others: how a node is asked for something.

use std::sync::Arc;

use futures::{
    SinkExt,
    channel::{mpsc, oneshot},
};

use crate::{Error, command::Command, shared::Shared};

/// Commands that may wait; a handle waits for room.
const COMMANDS: usize = 64;

/// As long as there is one, the node runs.
#[derive(Clone, Debug)]
pub(crate) struct Handle {
    commands: mpsc::Sender<Command>,
    pub(crate) shared: Arc<Shared>,
}

impl Handle {
    /// A handle, and where what is asked for arrives.
    pub(crate) fn new(shared: Arc<Shared>) -> (Self, mpsc::Receiver<Command>) {
        let (commands, asked) = mpsc::channel(COMMANDS);
        (Handle { commands, shared }, asked)
    }

    /// # Errors
    /// The node was stopped.
    pub(crate) async fn send(&self, command: Command) -> Result<(), Error> {
        self.commands.clone().send(command).await.map_err(|_| Error::Stopped)?;
        self.shared.time_source.stir();
        Ok(())
    }

    /// Sends, and waits for what the reply says.
    ///
    /// # Errors
    /// The node was stopped.
    pub(crate) async fn wait<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        self.send(command(reply)).await?;
        self.shared.time_source.wait(answer).await.map_err(|_| Error::Stopped)
    }

    /// As [`wait`](Self::wait), for what can be refused.
    pub(crate) async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, Error>>) -> Command,
    ) -> Result<T, Error> {
        self.wait(command).await?
    }
}
