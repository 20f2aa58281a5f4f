//! What arrives on a stream: bytes become messages, one after the other.

use core::mem;

use crate::{
    event::Violation,
    id::StreamId,
    wire::{self, Deframer, Message},
};

/// A machine that is spoken to on streams.
pub(crate) trait Inbound {
    /// The beginning of a frame that came on the stream; `None` if the stream is over.
    fn deframer(&mut self, stream: StreamId) -> Option<&mut Deframer>;

    /// Takes a message; `payload` is its bytes.
    fn on_frame(&mut self, stream: StreamId, payload: &[u8], message: Message<'_>) -> Result<(), Violation>;

    /// Takes what arrived. With the first violation nothing more is read: whoever calls ends the stream.
    fn receive(&mut self, stream: StreamId, mut bytes: &[u8]) -> Result<(), Violation> {
        // Taken out of its stream for the time: messages borrow from it.
        let mut deframer = self.deframer(stream).map(mem::take).unwrap_or_default();
        // A handler may have ended the stream: what follows on it is not read.
        while let Some(place) = self.deframer(stream) {
            let Some(payload) = deframer.next(&mut bytes)? else {
                *place = deframer;
                break;
            };
            let message = wire::decode(payload)?;
            self.on_frame(stream, payload, message)?;
        }
        Ok(())
    }
}
