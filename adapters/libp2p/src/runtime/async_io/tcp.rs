//! Dialling, and the transport that libp2p sees.

use std::{
    io,
    net::{IpAddr, SocketAddr, TcpStream},
    pin::Pin,
    task::{Context, Poll},
};

use async_io::Async;
use futures::{
    FutureExt, StreamExt,
    future::{BoxFuture, Ready},
    stream::SelectAll,
};
use libp2p::{
    Multiaddr, Transport,
    core::transport::{DialOpts, ListenerId, PortUse, TransportError},
    multiaddr::Protocol,
};

use super::{
    listener::Listener,
    ports::Ports,
    socket::{Event, socket},
};

/// TCP between IP addresses.
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
        let Some(at) = target(&address) else {
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
        let to = target(&address).filter(|to| to.port() != 0 && !to.ip().is_unspecified());
        let Some(to) = to else { return Err(TransportError::MultiaddrNotSupported(address)) };
        let from = (opts.port_use == PortUse::Reuse).then(|| self.ports.for_dialling(to.ip())).flatten();
        Ok(connect(to, from).boxed())
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Event> {
        match self.listeners.poll_next_unpin(cx) {
            Poll::Ready(Some(event)) => Poll::Ready(event),
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }
}

/// `None` for whatever is not exactly an IP address and a TCP port, perhaps followed by a peer id.
fn target(address: &Multiaddr) -> Option<SocketAddr> {
    let mut parts = address.iter();
    let (host, port) = (parts.next()?, parts.next()?);
    let rest = (parts.next(), parts.next());
    let (Protocol::Tcp(port), (None | Some(Protocol::P2p(_)), None)) = (port, rest) else { return None };
    let ip: IpAddr = match host {
        Protocol::Ip4(ip) => ip.into(),
        Protocol::Ip6(ip) => ip.into(),
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_ip_address_and_a_port_are_a_target() {
        let of = |text: &str| target(&text.parse().expect("an address"));
        assert_eq!(of("/ip4/192.0.2.1/tcp/7"), Some("192.0.2.1:7".parse().expect("a place")));
        assert_eq!(of("/ip6/::1/tcp/7"), Some("[::1]:7".parse().expect("a place")));
        for other in ["/ip4/192.0.2.1", "/ip4/192.0.2.1/udp/7", "/ip4/192.0.2.1/tcp/7/ws", "/tcp/7", "/dns4/a/tcp/7"] {
            assert_eq!(of(other), None, "{other}");
        }
    }
}
