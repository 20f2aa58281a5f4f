use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures::{AsyncRead, AsyncWrite};
use libp2p::Stream;

use super::gate::{OutboundSlot, Slot};

/// A stream to a peer whose key was proved.
///
/// The end of the stream (`Ok(0)`) says only that the peer or the connection is gone: Yamux tells no difference between
/// an orderly close, a reset and a lost connection.
#[derive(Debug)]
pub struct SessionStream {
    stream: Stream,
    /// Inbound streams only.
    slot: Option<Slot>,
    /// Outbound streams only.
    _outbound: Option<OutboundSlot>,
}

impl SessionStream {
    pub(super) fn outbound(stream: Stream, slot: OutboundSlot) -> Self {
        SessionStream { stream, slot: None, _outbound: Some(slot) }
    }

    pub(super) fn inbound(stream: Stream, slot: Slot) -> Self {
        SessionStream { stream, slot: Some(slot), _outbound: None }
    }
}

impl AsyncRead for SessionStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let n = ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
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
