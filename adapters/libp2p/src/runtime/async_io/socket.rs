//! A socket as both sides of the transport use it, and what they say.

use std::{
    io,
    net::{SocketAddr, TcpStream},
};

use async_io::Async;
use futures::future::Ready;
use libp2p::core::transport::TransportEvent;
use socket2::{Domain, Protocol, Socket, Type};

pub(super) type Event = TransportEvent<Ready<io::Result<Async<TcpStream>>>, io::Error>;

/// A socket that sends at once what it is given.
pub(super) fn socket(at: SocketAddr, shares_port: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(at), Type::STREAM, Some(Protocol::TCP))?;
    if at.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_tcp_nodelay(true)?;
    socket.set_reuse_address(true)?;
    #[cfg(all(unix, not(any(target_os = "solaris", target_os = "illumos"))))]
    if shares_port {
        socket.set_reuse_port(true)?;
    }
    #[cfg(not(all(unix, not(any(target_os = "solaris", target_os = "illumos")))))]
    let _ = shares_port;
    socket.set_nonblocking(true)?;
    Ok(socket)
}
