//! The one queue of orders, in causal order, and the bytes that wait to be sent.

use alloc::{
    collections::{BTreeMap, VecDeque},
    vec::Vec,
};

use crate::{
    id::{Model, PeerId, QueryId, StreamId},
    machine::Output,
    wire::{self, Message},
};

/// Buffers keep this much; a body's buffer is given back.
const LENT_CAPACITY: usize = 64 << 10;

/// Orders that wait to be drained.
///
/// A stream's bytes are kept apart from the queue and leave together: what is written between two drains is concatenated.
#[derive(Clone, Debug)]
pub(crate) struct Outbox<E> {
    queue: VecDeque<Order<E>>,
    /// Bytes by stream; a stream is in the queue once as long as it has some.
    waiting: BTreeMap<StreamId, Vec<u8>>,
    /// What the last order lent out.
    lent: Vec<u8>,
    lent_model: Option<Model>,
}

#[derive(Clone, Debug)]
enum Order<E> {
    Open(StreamId, PeerId),
    Transmit(StreamId),
    Close(StreamId),
    Reset(StreamId),
    StartQuery(QueryId, Model),
    CancelQuery(QueryId),
    Event(E),
}

impl<E> Outbox<E> {
    pub(crate) const fn new() -> Self {
        Self { queue: VecDeque::new(), waiting: BTreeMap::new(), lent: Vec::new(), lent_model: None }
    }

    pub(crate) fn event(&mut self, event: E) {
        self.queue.push_back(Order::Event(event));
    }

    pub(crate) fn open(&mut self, stream: StreamId, peer: PeerId) {
        self.queue.push_back(Order::Open(stream, peer));
    }

    /// Cuts a message into a frame and queues it.
    pub(crate) fn send(&mut self, stream: StreamId, message: &Message<'_>) {
        wire::encode_frame(message, self.buffer(stream));
    }

    /// Queues frames that were cut before.
    pub(crate) fn send_again(&mut self, stream: StreamId, frames: &[u8]) {
        if !frames.is_empty() {
            self.buffer(stream).extend_from_slice(frames);
        }
    }

    /// What waits on a stream, to be added to.
    fn buffer(&mut self, stream: StreamId) -> &mut Vec<u8> {
        let bytes = self.waiting.entry(stream).or_default();
        if bytes.is_empty() {
            self.queue.push_back(Order::Transmit(stream));
        }
        bytes
    }

    /// Ends a stream after what waits for it.
    pub(crate) fn close(&mut self, stream: StreamId) {
        self.queue.push_back(Order::Close(stream));
    }

    /// Ends a stream at once; what waits for it is dropped.
    pub(crate) fn reset(&mut self, stream: StreamId) {
        self.forget(stream);
        self.queue.push_back(Order::Reset(stream));
    }

    /// The stream is gone: what waits for it can go nowhere.
    pub(crate) fn forget(&mut self, stream: StreamId) {
        self.waiting.remove(&stream);
    }

    pub(crate) fn start_query(&mut self, query: QueryId, model: Model) {
        self.queue.push_back(Order::StartQuery(query, model));
    }

    pub(crate) fn cancel_query(&mut self, query: QueryId) {
        self.queue.push_back(Order::CancelQuery(query));
    }

    /// The next order; `tell` makes the application's event of what was queued.
    pub(crate) fn poll<'a, T>(&'a mut self, tell: impl FnOnce(E) -> T) -> Option<Output<'a, T>> {
        loop {
            return Some(match self.queue.pop_front()? {
                Order::Open(stream, peer) => Output::Open { stream, peer },
                Order::Transmit(stream) => {
                    let Some(bytes) = self.waiting.get_mut(&stream).filter(|bytes| !bytes.is_empty()) else {
                        continue;
                    };
                    // Swapped, not moved: both buffers keep their capacity for the next tokens.
                    core::mem::swap(bytes, &mut self.lent);
                    bytes.clear();
                    bytes.shrink_to(LENT_CAPACITY);
                    Output::Transmit { stream, bytes: &self.lent }
                }
                Order::Close(stream) => {
                    self.waiting.remove(&stream);
                    Output::Close(stream)
                }
                Order::Reset(stream) => Output::Reset(stream),
                Order::StartQuery(query, model) => Output::StartQuery { query, model: self.lent_model.insert(model) },
                Order::CancelQuery(query) => Output::CancelQuery(query),
                Order::Event(event) => Output::Event(tell(event)),
            });
        }
    }
}
