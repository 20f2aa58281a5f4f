use std::{
    convert::Infallible,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures::{
    AsyncRead, AsyncWrite, FutureExt,
    channel::oneshot,
    future::{FusedFuture, Shared},
};
use libp2p::Stream;

use super::gate::{OutboundSlot, Slot};

/// Ready when a connection is gone.
pub(super) type Gone = Shared<oneshot::Receiver<Infallible>>;

/// The life of a connection: dropped with it.
#[derive(Debug)]
pub(super) struct Life {
    _end: oneshot::Sender<Infallible>,
    gone: Gone,
}

impl Life {
    pub(super) fn new() -> Self {
        let (end, gone) = oneshot::channel();
        Life { _end: end, gone: gone.shared() }
    }

    pub(super) fn gone(&self) -> Gone {
        self.gone.clone()
    }
}

/// A stream to a peer whose key was proved.
///
/// The end of the stream (`Ok(0)`) says only that the peer or the connection is gone: Yamux tells no difference between
/// an orderly close, a reset and a lost connection.
#[derive(Debug)]
pub struct SessionStream {
    stream: Stream,
    gone: Gone,
    /// Inbound streams only.
    slot: Option<Slot>,
    /// Outbound streams only.
    _outbound: Option<OutboundSlot>,
}

impl SessionStream {
    pub(super) fn outbound(stream: Stream, gone: Gone, slot: OutboundSlot) -> Self {
        SessionStream { stream, gone, slot: None, _outbound: Some(slot) }
    }

    pub(super) fn inbound(stream: Stream, gone: Gone, slot: Slot) -> Self {
        SessionStream { stream, gone, slot: Some(slot), _outbound: None }
    }
}

impl AsyncRead for SessionStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut read = Pin::new(&mut self.stream).poll_read(cx, buf);
        // Yamux tells its streams nothing when this side closes the connection, be it because the other is dead.
        if read.is_pending() && (self.gone.is_terminated() || self.gone.poll_unpin(cx).is_ready()) {
            // The last bytes may have come in between.
            read = Pin::new(&mut self.stream).poll_read(cx, buf);
            if read.is_pending() {
                return Poll::Ready(Ok(0));
            }
        }
        let n = ready!(read)?;
        if n > 0
            && let Some(slot) = &mut self.slot
        {
            slot.bore_fruit();
        }
        Poll::Ready(Ok(n))
    }
}

impl AsyncWrite for SessionStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(cx)
    }
}
