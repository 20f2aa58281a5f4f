//! What the application is told, as it waits to be drained.

use alloc::{string::String, vec::Vec};

use crate::{
    event::Event,
    id::{JobId, PeerId},
    wire::message::Channel,
};

/// An event as it waits in the queue: token text waits in [`TokenBuffer`], so that a token costs no allocation.
#[derive(Clone, Debug)]
pub(super) enum QueuedEvent {
    Event(Event<'static>),
    Tokens { job: JobId, peer: PeerId, seq: u64, n: u32, text: usize, ids: Option<usize>, channel: Option<Channel> },
}

/// Text and ids of tokens that wait to be drained. The window of every job bounds it.
#[derive(Clone, Debug, Default)]
pub(super) struct TokenBuffer {
    text: String,
    text_at: usize,
    ids: Vec<u8>,
    ids_at: usize,
}

impl TokenBuffer {
    pub(super) fn keep(&mut self, text: &str, ids: Option<&[u8]>) {
        if self.text_at == self.text.len() {
            self.text.clear();
            self.ids.clear();
            (self.text_at, self.ids_at) = (0, 0);
        }
        self.text.push_str(text);
        self.ids.extend_from_slice(ids.unwrap_or_default());
    }

    /// Makes the application's event of a queued one.
    pub(super) fn event(&mut self, told: QueuedEvent) -> Event<'_> {
        match told {
            QueuedEvent::Event(event) => event,
            QueuedEvent::Tokens { job, peer, seq, n, text, ids, channel } => {
                let (text_at, ids_at) = (self.text_at, self.ids_at);
                self.text_at += text;
                self.ids_at += ids.unwrap_or(0);
                let text = self.text.get(text_at..self.text_at).unwrap_or_default();
                let ids = ids.and_then(|_| self.ids.get(ids_at..self.ids_at));
                Event::Tokens { job, peer, seq, n, text, ids, channel }
            }
        }
    }
}
