use std::{
    io,
    net::{TcpListener, TcpStream},
    pin::Pin,
    task::{Context, Poll},
};

use async_io::Async;
use futures::{AsyncRead, AsyncWrite};

use super::{Accept, Socket, Sockets};

#[cfg(feature = "smol")]
impl Sockets for haggle::Smol {
    type Listener = Async<TcpListener>;

    fn listener(socket: TcpListener) -> io::Result<Async<TcpListener>> {
        Async::new(socket)
    }
}

#[cfg(feature = "async-std")]
impl Sockets for haggle::AsyncStd {
    type Listener = Async<TcpListener>;

    fn listener(socket: TcpListener) -> io::Result<Async<TcpListener>> {
        Async::new(socket)
    }
}

impl Accept for Async<TcpListener> {
    type Socket = Async<TcpStream>;

    async fn accept(&self) -> io::Result<Async<TcpStream>> {
        let (stream, _) = Async::<TcpListener>::accept(self).await?;
        stream.get_ref().set_nodelay(true)?;
        Ok(stream)
    }
}

impl Socket for Async<TcpStream> {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        AsyncRead::poll_read(Pin::new(self), cx, buffer)
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        AsyncWrite::poll_write(Pin::new(self), cx, bytes)
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_close(Pin::new(self), cx)
    }
}
