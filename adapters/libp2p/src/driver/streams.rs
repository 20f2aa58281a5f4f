//! The streams of both machines: which are being opened, and where the bytes of each wait.

use std::{collections::BTreeMap, sync::Arc};

use futures::channel::mpsc;
use haggle_core::{StreamId, machine::StreamFailure};
use libp2p::PeerId;

use crate::{
    runtime::Task,
    sessions::{self, FromStream, OpenError, OpenId, SendBuffer, SessionStream, StreamTask},
};

/// Which machine a stream belongs to, and its name there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    Requester(StreamId),
    Provider(StreamId),
}

/// How tasks are started.
pub type Spawn = Arc<dyn Fn(Task) + Send + Sync>;

pub(super) struct Streams {
    spawn: Spawn,
    /// Streams that a machine knows, open or being opened.
    live: BTreeMap<Key, Arc<SendBuffer>>,
    opening: BTreeMap<OpenId, Opening>,
    /// Shared with every task that runs.
    tasks: Arc<()>,
    inbox: mpsc::Sender<FromStream<Key>>,
    received: mpsc::Receiver<FromStream<Key>>,
}

struct Opening {
    key: Key,
    send_buffer: Arc<SendBuffer>,
}

impl Streams {
    pub(super) fn new(spawn: Spawn) -> Self {
        // Each sender has one place of its own: a task waits until the driver took its last bytes.
        let (inbox, received) = mpsc::channel(0);
        Streams { spawn, live: BTreeMap::new(), opening: BTreeMap::new(), tasks: Arc::default(), inbox, received }
    }

    /// Opens a stream; what is transmitted until then waits.
    ///
    /// # Errors
    /// Why it cannot even be tried.
    pub(super) fn open(&mut self, key: Key, peer: PeerId, sessions: &mut sessions::Behaviour) -> Result<(), OpenError> {
        let open = sessions.open(peer)?;
        let send_buffer = Arc::new(SendBuffer::default());
        self.live.insert(key, send_buffer.clone());
        self.opening.insert(open, Opening { key, send_buffer });
        Ok(())
    }

    /// The stream is open. Its name, if a machine still wants it; what was told to be sent is sent in any case.
    pub(super) fn opened(&mut self, open: OpenId, stream: SessionStream) -> Option<Key> {
        let Opening { key, send_buffer } = self.opening.remove(&open)?;
        self.run(key, stream, send_buffer);
        self.live.contains_key(&key).then_some(key)
    }

    pub(super) fn open_failed(&mut self, open: OpenId) -> Option<Key> {
        let Opening { key, .. } = self.opening.remove(&open)?;
        self.live.remove(&key).map(|_| key)
    }

    /// Takes up a stream that a peer opened.
    pub(super) fn accept(&mut self, key: Key, stream: SessionStream) {
        let send_buffer = Arc::new(SendBuffer::default());
        self.live.insert(key, send_buffer.clone());
        self.run(key, stream, send_buffer);
    }

    fn run(&self, key: Key, stream: SessionStream, send_buffer: Arc<SendBuffer>) {
        (self.spawn)(Box::pin(StreamTask::new(key, stream, send_buffer, self.inbox.clone(), self.tasks.clone())));
    }

    /// False if the stream had to be cut: more waits than any credit allows.
    pub(super) fn transmit(&mut self, key: Key, bytes: &[u8]) -> bool {
        let Some(send_buffer) = self.live.get(&key) else { return true };
        let taken = send_buffer.push(bytes);
        if !taken {
            send_buffer.reset();
            self.live.remove(&key);
        }
        taken
    }

    pub(super) fn close(&mut self, key: Key) {
        if let Some(send_buffer) = self.live.remove(&key) {
            send_buffer.close();
        }
    }

    pub(super) fn reset(&mut self, key: Key, sessions: &mut sessions::Behaviour) {
        let Some(send_buffer) = self.live.remove(&key) else { return };
        send_buffer.reset();
        let open = self.opening.iter().find(|(_, opening)| opening.key == key).map(|(open, _)| *open);
        if let Some(open) = open {
            self.opening.remove(&open);
            sessions.cancel(open);
        }
    }

    /// What the streams' tasks say.
    pub(super) fn received(&mut self) -> &mut mpsc::Receiver<FromStream<Key>> {
        &mut self.received
    }

    /// True while a machine knows the stream.
    pub(super) fn is_live(&self, key: Key) -> bool {
        self.live.contains_key(&key)
    }

    pub(super) fn closed(&mut self, key: Key) {
        self.live.remove(&key);
    }

    /// Streams whose tasks still move bytes, or will.
    pub(super) fn tasks(&self) -> usize {
        Arc::strong_count(&self.tasks) - 1 + self.opening.len()
    }

    pub(super) fn close_all(&mut self) {
        for send_buffer in std::mem::take(&mut self.live).into_values() {
            send_buffer.close();
        }
    }
}

/// A failed open in the words of the core.
pub(super) fn failure(error: &OpenError) -> StreamFailure {
    match error {
        OpenError::TimedOut => StreamFailure::TimedOut,
        OpenError::WrongPeer(_) | OpenError::Myself => StreamFailure::WrongPeer,
        OpenError::Unsupported => StreamFailure::Unsupported,
        OpenError::Busy | OpenError::Denied(_) => StreamFailure::Refused,
        OpenError::NoAddress | OpenError::Unreachable(_) | OpenError::ConnectionLost(_) => StreamFailure::Unreachable,
    }
}
