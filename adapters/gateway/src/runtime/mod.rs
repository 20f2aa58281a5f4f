//! What the gateway needs of an async runtime beyond what its node has: sockets that are accepted.

#[cfg(any(feature = "smol", feature = "async-std"))]
mod async_io;
#[cfg(feature = "tokio")]
mod tokio;

use std::{
    future::Future,
    io,
    net::TcpListener,
    task::{Context, Poll},
};

use haggle::runtime::Runtime;

/// A runtime on whose sockets a gateway can listen.
pub trait Sockets: Runtime {
    /// A listening socket.
    type Listener: Accept;

    /// Takes over a socket that listens. Called inside of a task of the runtime.
    ///
    /// # Errors
    /// What the system says.
    fn listener(socket: TcpListener) -> io::Result<Self::Listener>;
}

/// A listening socket.
pub trait Accept: Send + Sync + 'static {
    /// A connection.
    type Socket: Socket;

    /// The next connection. Dropping the future loses none.
    fn accept(&self) -> impl Future<Output = io::Result<Self::Socket>> + Send;
}

/// A connection, as little of it as HTTP needs.
pub trait Socket: Send + Unpin + 'static {
    /// Reads what is there; 0 is the end.
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>>;

    /// Writes what there is room for.
    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>>;

    /// Says that nothing more will be written.
    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
}
