//! Listens to what a machine orders: the streams it may write to, and the frames it writes.

use std::collections::{BTreeMap, BTreeSet};

use haggle_core::{
    StreamId,
    wire::{self, Deframer, Message},
};

/// The streams of one machine, as its adapter sees them.
#[derive(Default)]
pub(crate) struct Tap {
    open: BTreeMap<StreamId, Deframer>,
    /// All that were ever open: a name is not used twice.
    known: BTreeSet<StreamId>,
}

impl Tap {
    pub(crate) fn open(&mut self, stream: StreamId) {
        assert!(self.known.insert(stream), "{stream:?} is used twice");
        self.open.insert(stream, Deframer::default());
    }

    /// The machine, or the network, ended a stream.
    pub(crate) fn close(&mut self, stream: StreamId) {
        self.open.remove(&stream);
    }

    pub(crate) fn streams(&self) -> Vec<StreamId> {
        self.open.keys().copied().collect()
    }

    /// Every frame that was sent is whole, in bounds and canonical, and on an open stream.
    pub(crate) fn transmit(&mut self, stream: StreamId, mut bytes: &[u8], mut each: impl FnMut(&[u8], Message<'_>)) {
        assert!(!bytes.is_empty(), "nothing was sent on {stream:?}");
        let Some(deframer) = self.open.get_mut(&stream) else {
            panic!("bytes were sent on {stream:?}, which is not open");
        };
        while let Some(payload) = deframer.next(&mut bytes).unwrap() {
            each(payload, wire::decode(payload).unwrap());
        }
        assert_eq!(deframer.held(), 0, "half a frame was sent");
    }
}

/// A message as a frame.
pub(crate) fn frame(message: &Message<'_>) -> Vec<u8> {
    let mut payload = Vec::new();
    wire::encode(message, &mut payload);
    let mut frame = (payload.len() as u16).to_be_bytes().to_vec();
    frame.append(&mut payload);
    frame
}
