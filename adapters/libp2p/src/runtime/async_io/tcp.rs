//! Dialling, and the transport that libp2p sees.

use std::{
    io,
    net::{SocketAddr, TcpStream},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use async_io::Async;
use futures::{
    FutureExt, StreamExt,
    future::{BoxFuture, Ready, select_ok},
    stream::SelectAll,
};
use libp2p::{
    Multiaddr, Transport,
    core::transport::{DialOpts, ListenerId, PortUse, TransportError},
};

use super::{
    dns::Target,
    listener::Listener,
    ports::Ports,
    socket::{Event, socket},
};
use crate::timers::Delay;

/// The next address of a name is tried this long after the one before it.
const STAGGER: Duration = Duration::from_millis(250);

/// TCP with names.
#[derive(Debug, Default)]
pub(super) struct Tcp {
    ports: Ports,
    listeners: SelectAll<Listener>,
}

impl Transport for Tcp {
    type Output = Async<TcpStream>;
    type Error = io::Error;
    type ListenerUpgrade = Ready<io::Result<Async<TcpStream>>>;
    type Dial = BoxFuture<'static, io::Result<Async<TcpStream>>>;

    fn listen_on(&mut self, id: ListenerId, address: Multiaddr) -> Result<(), TransportError<io::Error>> {
        let Some(Target::Ip(at)) = Target::of(&address) else {
            return Err(TransportError::MultiaddrNotSupported(address));
        };
        let listener = Listener::new(id, at, self.ports.clone()).map_err(TransportError::Other)?;
        self.listeners.push(listener);
        Ok(())
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.listeners.iter_mut().find(|listener| listener.id() == id).is_some_and(Listener::close)
    }

    fn dial(&mut self, address: Multiaddr, opts: DialOpts) -> Result<Self::Dial, TransportError<io::Error>> {
        let target = Target::of(&address).filter(|target| match target {
            Target::Ip(at) => at.port() != 0 && !at.ip().is_unspecified(),
            Target::Name { port, .. } => *port != 0,
        });
        let Some(target) = target else { return Err(TransportError::MultiaddrNotSupported(address)) };
        let ports = (opts.port_use == PortUse::Reuse).then(|| self.ports.clone());
        Ok(dial(target, ports).boxed())
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Event> {
        match self.listeners.poll_next_unpin(cx) {
            Poll::Ready(Some(event)) => Poll::Ready(event),
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }
}

async fn dial(target: Target, ports: Option<Ports>) -> io::Result<Async<TcpStream>> {
    let tries = target.resolve().await?.into_iter().zip(0_u32..).map(|(to, n)| {
        let from = ports.as_ref().and_then(|ports| ports.for_dialling(to.ip()));
        async move {
            if n > 0 {
                Delay::new(STAGGER * n).await;
            }
            connect(to, from).await
        }
        .boxed()
    });
    select_ok(tries).await.map(|(stream, _)| stream)
}

async fn connect(to: SocketAddr, from: Option<SocketAddr>) -> io::Result<Async<TcpStream>> {
    match connect_from(to, from).await {
        // From this port there is a connection to that place already.
        Err(error) if from.is_some() && is_taken(&error) => connect_from(to, None).await,
        connected => connected,
    }
}

fn is_taken(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::AddrNotAvailable | io::ErrorKind::AddrInUse)
}

async fn connect_from(to: SocketAddr, from: Option<SocketAddr>) -> io::Result<Async<TcpStream>> {
    let socket = socket(to, from.is_some())?;
    if let Some(from) = from {
        socket.bind(&from.into())?;
    }
    match socket.connect(&to.into()) {
        Err(error) if !is_under_way(&error) => return Err(error),
        _ => {}
    }
    let stream = Async::new_nonblocking(TcpStream::from(socket))?;
    stream.writable().await?;
    match stream.get_ref().take_error()? {
        Some(error) => Err(error),
        None => Ok(stream),
    }
}

fn is_under_way(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EINPROGRESS) || error.kind() == io::ErrorKind::WouldBlock
}
