//! Peers that do not run the core: hand-written conversations over the real codec, honest or hostile.

use haggle_core::wire::{self, Message};

use crate::net::Buffers;

/// What a scripted peer hears.
#[derive(Clone, PartialEq, Debug)]
#[expect(clippy::large_enum_variant, reason = "one is made for each message, and none is kept")]
pub enum Heard<'a> {
    /// The world began (or the node restarted): the moment to open streams.
    Start,
    /// A stream is open, whoever dialled.
    Opened,
    /// A stream that was ordered could not be opened.
    Failed,
    /// A message arrived.
    Message(Message<'a>),
    /// Bytes that are no message.
    Garbage,
    /// Bytes as they arrived, for a script that reads no messages.
    Bytes(&'a [u8]),
    /// The stream is over.
    Closed,
    /// The time asked for by [`Talk::wake`] has come.
    Woken,
}

/// What a scripted peer can do.
#[derive(Debug)]
pub struct Talk<'a> {
    pub(crate) now: u64,
    pub(crate) stream: u64,
    pub(crate) orders: &'a mut Vec<Say>,
    pub(crate) spare: &'a mut Buffers,
}

#[derive(Clone, Debug)]
pub(crate) enum Say {
    Open(u32),
    Bytes(u64, Vec<u8>),
    Close(u64),
    Reset(u64),
    Wake(u64, u64),
}

impl Talk<'_> {
    /// The virtual time in ms.
    #[must_use]
    pub const fn now(&self) -> u64 {
        self.now
    }

    /// The stream that was heard; 0 if none was.
    #[must_use]
    pub const fn stream(&self) -> u64 {
        self.stream
    }

    /// Sends a message on the stream that was heard.
    pub fn send(&mut self, message: &Message<'_>) {
        // Not `encode_frame`: it refuses to write what a peer would refuse to read, and that is what a script is for.
        let mut bytes = vec![0, 0];
        wire::encode(message, &mut bytes);
        let len = (bytes.len() - 2).min(usize::from(u16::MAX)) as u16;
        bytes[..2].copy_from_slice(&len.to_be_bytes());
        self.raw(bytes);
    }

    /// Sends any bytes on the stream that was heard.
    pub fn raw(&mut self, bytes: Vec<u8>) {
        self.orders.push(Say::Bytes(self.stream, bytes));
    }

    /// Sends a copy of some bytes on a stream of this node.
    pub fn send_on(&mut self, stream: u64, bytes: &[u8]) {
        let bytes = self.spare.copy(bytes);
        self.orders.push(Say::Bytes(stream, bytes));
    }

    /// Closes the stream that was heard after what was sent.
    pub fn close(&mut self) {
        self.orders.push(Say::Close(self.stream));
    }

    /// Drops the stream that was heard, with what is on its way.
    pub fn reset(&mut self) {
        self.orders.push(Say::Reset(self.stream));
    }

    /// Opens a stream to a node; `Opened` or `Failed` is heard on it.
    pub fn open(&mut self, node: crate::NodeId) {
        self.orders.push(Say::Open(node.0));
    }

    /// Asks for `Woken` on the stream that was heard, in `after` ms.
    pub fn wake(&mut self, after: u64) {
        self.orders.push(Say::Wake(self.stream, after));
    }
}

/// A scripted peer. Every `Clone` closure `FnMut(&mut Talk, Heard)` is one; its captured state is forked with the world.
pub trait Script: Send {
    /// Reacts to what is heard.
    fn hear(&mut self, talk: &mut Talk<'_>, heard: Heard<'_>);
    /// A copy with its state.
    fn fork(&self) -> Box<dyn Script>;
    /// Whether it hears bytes as they arrive instead of messages. Asked once; no rule of the protocol is checked then.
    fn reads_bytes(&self) -> bool {
        false
    }
}

impl Clone for Box<dyn Script> {
    fn clone(&self) -> Self {
        self.fork()
    }
}

impl<F> Script for F
where
    F: FnMut(&mut Talk<'_>, Heard<'_>) + Clone + Send + 'static,
{
    fn hear(&mut self, talk: &mut Talk<'_>, heard: Heard<'_>) {
        self(talk, heard);
    }

    fn fork(&self) -> Box<dyn Script> {
        Box::new(self.clone())
    }
}
