//! A listening socket, and the addresses it is reached at.

use std::{
    io,
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    pin::Pin,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use async_io::Async;
use futures::{FutureExt, Stream, future};
use if_watch::{IfEvent, smol::IfWatcher};
use libp2p::{
    Multiaddr,
    core::transport::{ListenerId, TransportEvent},
    multiaddr::Protocol,
};

use super::{
    ports::Ports,
    socket::{Event, socket},
};
use crate::timers::Delay;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 1_024;
/// A socket that could not accept, for want of memory or file descriptors, is given so long.
const PAUSE: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(super) struct Listener {
    id: ListenerId,
    socket: Async<TcpListener>,
    at: SocketAddr,
    /// Of a listener on every interface.
    interfaces: Option<IfWatcher>,
    ports: Ports,
    /// The one address of a listener that has one, until it was told.
    untold: Option<IpAddr>,
    pause: Option<Delay>,
    state: State,
    waker: Option<Waker>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    Closing,
    Closed,
}

impl Listener {
    pub(super) fn new(id: ListenerId, at: SocketAddr, ports: Ports) -> io::Result<Self> {
        let socket = socket(at, true)?;
        socket.bind(&at.into())?;
        socket.listen(BACKLOG)?;
        let socket = Async::new_nonblocking(TcpListener::from(socket))?;
        let at = socket.get_ref().local_addr()?;
        let everywhere = at.ip().is_unspecified();
        let interfaces = everywhere.then(IfWatcher::new).transpose()?;
        let untold = (!everywhere).then(|| at.ip());
        if let Some(ip) = untold {
            ports.insert(ip, at.port());
        }
        Ok(Listener { id, socket, at, interfaces, ports, untold, pause: None, state: State::Open, waker: None })
    }

    pub(super) fn id(&self) -> ListenerId {
        self.id
    }

    /// False if it was closed before.
    pub(super) fn close(&mut self) -> bool {
        let open = self.state == State::Open;
        if open {
            self.state = State::Closing;
        }
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
        open
    }

    fn address(&self, ip: IpAddr) -> Multiaddr {
        Multiaddr::from(ip).with(Protocol::Tcp(self.at.port()))
    }

    fn up(&mut self, ip: IpAddr) -> Event {
        self.ports.insert(ip, self.at.port());
        TransportEvent::NewAddress { listener_id: self.id, listen_addr: self.address(ip) }
    }

    fn failed(&mut self, error: io::Error) -> Event {
        self.pause = Some(Delay::new(PAUSE));
        TransportEvent::ListenerError { listener_id: self.id, error }
    }

    /// Interfaces that came or went.
    fn poll_interfaces(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        if let Some(ip) = self.untold.take() {
            return Poll::Ready(self.up(ip));
        }
        loop {
            let Some(interfaces) = &mut self.interfaces else { return Poll::Pending };
            match ready!(interfaces.poll_if_event(cx)) {
                Ok(IfEvent::Up(net)) if net.addr().is_ipv4() == self.at.is_ipv4() => {
                    return Poll::Ready(self.up(net.addr()));
                }
                Ok(IfEvent::Down(net)) if net.addr().is_ipv4() == self.at.is_ipv4() => {
                    self.ports.remove(net.addr(), self.at.port());
                    let listen_addr = self.address(net.addr());
                    return Poll::Ready(TransportEvent::AddressExpired { listener_id: self.id, listen_addr });
                }
                Ok(_) => {}
                Err(error) => {
                    // What is known stays; nothing more will come from a watcher that broke.
                    self.interfaces = None;
                    return Poll::Ready(self.failed(error));
                }
            }
        }
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(Async<TcpStream>, SocketAddr)>> {
        loop {
            match self.socket.get_ref().accept() {
                Ok((stream, from)) => {
                    stream.set_nodelay(true)?;
                    return Poll::Ready(Async::new(stream).map(|stream| (stream, from)));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready!(self.socket.poll_readable(cx))?,
                Err(error) if is_gone(&error) => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    fn incoming(&self, stream: Async<TcpStream>, from: SocketAddr) -> io::Result<Event> {
        let local = stream.get_ref().local_addr()?;
        Ok(TransportEvent::Incoming {
            listener_id: self.id,
            upgrade: future::ok(stream),
            local_addr: self.address(local.ip()),
            send_back_addr: Multiaddr::from(from.ip()).with(Protocol::Tcp(from.port())),
        })
    }
}

/// The peer left between its first packet and our look at it, or a signal came.
fn is_gone(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted)
}

impl Stream for Listener {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let this = &mut *self;
        match this.state {
            State::Closed => return Poll::Ready(None),
            State::Closing => {
                this.state = State::Closed;
                return Poll::Ready(Some(TransportEvent::ListenerClosed { listener_id: this.id, reason: Ok(()) }));
            }
            State::Open => this.waker = Some(cx.waker().clone()),
        }
        if let Some(pause) = &mut this.pause {
            ready!(pause.poll_unpin(cx));
            this.pause = None;
        }
        if let Poll::Ready(event) = this.poll_interfaces(cx) {
            return Poll::Ready(Some(event));
        }
        let accepted = ready!(this.poll_accept(cx)).and_then(|(stream, from)| this.incoming(stream, from));
        Poll::Ready(Some(accepted.unwrap_or_else(|error| this.failed(error))))
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let port = self.at.port();
        match &self.interfaces {
            Some(interfaces) => interfaces.iter().for_each(|net| self.ports.remove(net.addr(), port)),
            None => self.ports.remove(self.at.ip(), port),
        }
    }
}
