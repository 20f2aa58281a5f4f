//! A connection on which a peer has no more streams than there is a use for.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures::{AsyncRead, AsyncWrite};
use libp2p::core::muxing::{StreamMuxer, StreamMuxerEvent};

/// Resets each stream that a peer opens beside so many others.
#[derive(Debug)]
pub(super) struct Capped<M> {
    muxer: M,
    max: usize,
    /// Counts the peer's streams that live.
    live: Arc<()>,
}

impl<M> Capped<M> {
    pub(super) fn new(muxer: M, max: usize) -> Self {
        Capped { muxer, max, live: Arc::new(()) }
    }
}

impl<M: StreamMuxer + Unpin> StreamMuxer for Capped<M>
where
    M::Substream: Unpin,
{
    type Substream = Stream<M::Substream>;
    type Error = M::Error;

    fn poll_inbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Self::Substream, M::Error>> {
        loop {
            let stream = ready!(Pin::new(&mut self.muxer).poll_inbound(cx))?;
            if Arc::strong_count(&self.live) <= self.max {
                return Poll::Ready(Ok(Stream { stream, _live: Some(self.live.clone()) }));
            }
            drop(stream);
        }
    }

    fn poll_outbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Self::Substream, M::Error>> {
        let stream = ready!(Pin::new(&mut self.muxer).poll_outbound(cx))?;
        Poll::Ready(Ok(Stream { stream, _live: None }))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), M::Error>> {
        Pin::new(&mut self.muxer).poll_close(cx)
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<StreamMuxerEvent, M::Error>> {
        Pin::new(&mut self.muxer).poll(cx)
    }
}

#[derive(Debug)]
pub(super) struct Stream<S> {
    stream: S,
    _live: Option<Arc<()>>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Stream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Stream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buffer)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, buffers)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(cx)
    }
}
