//! The smallest adapter there can be: the core over [`std::net::TcpStream`], with threads and without async.
//!
//! **Nothing is encrypted and nobody is authenticated here**: it is for reading, and works on 127.0.0.1 only. All that an
//! adapter has to do is in `Node::run` and `Node::obey`: what happens becomes an input, an order becomes I/O. A stream is
//! a connection of its own; a seller's peer id is the address it listens on, a buyer's is its IP address.

use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    os::fd::OwnedFd,
    sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel},
    thread,
    time::{Duration, Instant as Clock},
};

use haggle_core::{
    Input, Instant, Machine, Output, PeerId, StreamId,
    machine::{QueryOutcome, StreamFailure},
};

/// What stands around a machine: applications, or engines.
pub trait Around<M: Machine> {
    /// Takes an event.
    fn hear(&mut self, event: M::Event<'_>);
    /// Does what there is to do now; true if that was something.
    fn work(&mut self, machine: &mut M, now: Instant) -> bool;
    /// Names a stream that a peer has opened; `None` closes it.
    fn accept(&mut self, machine: &mut M, now: Instant, peer: PeerId) -> Option<StreamId>;
}

type Command<M, A> = Box<dyn FnOnce(&mut Node<M, A>) + Send>;

enum Fact<M: Machine, A> {
    Inbound(PeerId, TcpStream),
    Opened(StreamId, io::Result<TcpStream>),
    Received(StreamId, Vec<u8>),
    Closed(StreamId),
    Command(Command<M, A>),
}

struct Stream {
    /// `None` while it is being dialled.
    socket: Option<TcpStream>,
    /// To its writing thread; `None` once the machine wants no more of it. The core's credit bounds what waits.
    writer: Option<Sender<Vec<u8>>>,
}

/// A machine with its streams, on a thread of its own.
pub struct Node<M: Machine, A> {
    /// The machine.
    pub machine: M,
    /// What stands around it.
    pub around: A,
    /// Set to end the node and its connections, without a word to anybody.
    pub over: bool,
    known: Vec<PeerId>,
    born: Clock,
    streams: BTreeMap<StreamId, Stream>,
    /// A seller's listening socket: shutting it down ends the thread that accepts.
    door: Option<TcpStream>,
    tell: SyncSender<Fact<M, A>>,
    facts: Receiver<Fact<M, A>>,
}

/// Facts that may wait for a busy node; readers wait for room, and through them the peers.
const FACTS: usize = 64;
/// A dial takes no longer, and nobody waits longer without a deadline.
const DIAL: Duration = Duration::from_secs(5);

/// The thread of a node, from outside; dropping it ends the node.
pub struct Handle<M: Machine, A>(SyncSender<Fact<M, A>>);

impl<M: Machine + 'static, A: 'static> Handle<M, A> {
    /// Has the node do something, and returns what came of it; `None` if the node is over.
    pub fn call<T: Send + 'static>(&self, command: impl FnOnce(&mut Node<M, A>) -> T + Send + 'static) -> Option<T> {
        let (answer, answered) = channel();
        let command = move |node: &mut Node<M, A>| drop(answer.send(command(node)));
        self.0.send(Fact::Command(Box::new(command))).ok()?;
        answered.recv().ok()
    }
}

impl<M: Machine, A> Drop for Handle<M, A> {
    /// Ends the node, once it has done what it was told before.
    fn drop(&mut self) {
        let _ = self.0.send(Fact::Command(Box::new(|node| node.over = true)));
    }
}

impl<M: Machine + Send + 'static, A: Around<M> + Send + 'static> Node<M, A> {
    /// Starts a buyer, which finds the peers it knows in every search.
    pub fn buyer(machine: M, around: A, known: Vec<PeerId>) -> Handle<M, A> {
        let (tell, facts) = sync_channel(FACTS);
        let handle = Handle(tell.clone());
        let (born, streams) = (Clock::now(), BTreeMap::new());
        let node = Node { machine, around, over: false, known, born, streams, door: None, tell, facts };
        thread::spawn(move || node.run());
        handle
    }

    /// Starts a seller on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// When there is no such port.
    pub fn seller(machine: M, around: A) -> io::Result<(Handle<M, A>, PeerId)> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let me = PeerId::new(listener.local_addr()?.to_string().as_bytes()).ok_or(io::ErrorKind::Unsupported)?;
        let handle = Node::buyer(machine, around, Vec::new());
        let tell = handle.0.clone();
        let door = TcpStream::from(OwnedFd::from(listener.try_clone()?));
        handle.call(|node| node.door = Some(door));
        thread::spawn(move || {
            while let Ok((socket, from)) = listener.accept() {
                let Some(peer) = PeerId::new(from.ip().to_string().as_bytes()) else { continue };
                let _ = tell.send(Fact::Inbound(peer, socket));
            }
            // Nobody reaches a seller that accepts no more.
            let _ = tell.send(Fact::Command(Box::new(|node| node.over = true)));
        });
        Ok((handle, me))
    }

    /// The machine's clock.
    pub fn now(&self) -> Instant {
        Instant::from_millis(u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    /// Cuts every connection, as a failing network would.
    pub fn cut(&self) {
        for socket in self.streams.values().filter_map(|stream| stream.socket.as_ref()) {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    fn run(mut self) {
        while !self.over {
            let mut busy = true;
            while busy {
                let now = self.now();
                busy = self.obey() | self.around.work(&mut self.machine, now);
            }
            let due = self.machine.poll_timeout().map(|due| due.at.as_millis().saturating_sub(self.now().as_millis()));
            let fact = self.facts.recv_timeout(due.map_or(DIAL, Duration::from_millis));
            let now = self.now();
            let wanted = |stream: &Stream| stream.writer.is_some();
            match fact {
                // The node itself could always tell: nobody else is ever the last.
                Err(_) => self.machine.handle_input(now, Input::Timeout),
                Ok(Fact::Command(command)) => command(&mut self),
                Ok(Fact::Inbound(peer, socket)) => {
                    if let Some(id) = self.around.accept(&mut self.machine, now, peer) {
                        self.streams.insert(id, open(id, self.tell.clone(), || Ok(socket)));
                    }
                }
                Ok(Fact::Opened(id, Ok(socket))) => match self.streams.get_mut(&id) {
                    Some(stream) => {
                        stream.socket = Some(socket);
                        self.machine.handle_input(now, Input::StreamOpened(id));
                    }
                    None => drop(socket.shutdown(Shutdown::Both)),
                },
                Ok(Fact::Opened(id, Err(_))) => {
                    self.streams.remove(&id);
                    self.machine.handle_input(now, Input::StreamFailed(id, StreamFailure::Unreachable));
                }
                Ok(Fact::Received(id, bytes)) if self.streams.get(&id).is_some_and(wanted) => {
                    self.machine.handle_input(now, Input::Received(id, &bytes));
                }
                Ok(Fact::Received(..)) => {}
                Ok(Fact::Closed(id)) => {
                    if self.streams.remove(&id).is_some_and(|stream| wanted(&stream)) {
                        self.machine.handle_input(now, Input::StreamClosed(id));
                    }
                }
            }
        }
        // Nobody comes in any more; then those who are in are thrown out.
        if let Some(door) = self.door.take() {
            let _ = door.shutdown(Shutdown::Both);
        }
        self.cut();
    }

    /// Carries out what the machine orders; true if that was something.
    fn obey(&mut self) -> bool {
        let (mut queries, mut busy) = (Vec::new(), false);
        while let Some(output) = self.machine.poll_output() {
            busy = true;
            match output {
                Output::Open { stream, peer } => {
                    self.streams.insert(stream, open(stream, self.tell.clone(), move || dial(peer)));
                }
                Output::Transmit { stream, bytes } => {
                    if let Some(writer) = self.streams.get(&stream).and_then(|stream| stream.writer.as_ref()) {
                        let _ = writer.send(bytes.to_vec());
                    }
                }
                Output::Close(stream) => drop(self.streams.get_mut(&stream).and_then(|stream| stream.writer.take())),
                Output::Reset(stream) => {
                    if let Some(socket) = self.streams.remove(&stream).and_then(|stream| stream.socket) {
                        let _ = socket.shutdown(Shutdown::Both);
                    }
                }
                Output::StartQuery { query, .. } => queries.push(query),
                Output::CancelQuery(_) => {}
                Output::Event(event) => self.around.hear(event),
            }
        }
        for query in queries {
            self.machine.handle_input(self.now(), Input::PeersFound(query, &self.known));
            self.machine.handle_input(self.now(), Input::QueryDone(query, QueryOutcome::Complete));
        }
        busy
    }
}

fn dial(peer: PeerId) -> io::Result<TcpStream> {
    let at: Option<SocketAddr> = std::str::from_utf8(peer.as_bytes()).ok().and_then(|at| at.parse().ok());
    TcpStream::connect_timeout(&at.filter(|at| at.ip().is_loopback()).ok_or(io::ErrorKind::Unsupported)?, DIAL)
}

/// A stream with a thread that connects and reads, and one that writes.
fn open<M: Machine + 'static, A: Send + 'static>(
    id: StreamId,
    tell: SyncSender<Fact<M, A>>,
    connect: impl FnOnce() -> io::Result<TcpStream> + Send + 'static,
) -> Stream {
    let (writer, written) = channel::<Vec<u8>>();
    thread::spawn(move || {
        let (mut reads, mut writes) = match connect().and_then(|s| Ok((s.try_clone()?, s.try_clone()?, s))) {
            Err(error) => return drop(tell.send(Fact::Opened(id, Err(error)))),
            Ok((reads, writes, socket)) => {
                let _ = tell.send(Fact::Opened(id, Ok(socket)));
                (reads, writes)
            }
        };
        thread::spawn(move || {
            let _ =
                (written.into_iter().try_for_each(|bytes| writes.write_all(&bytes)), writes.shutdown(Shutdown::Write));
        });
        let mut buffer = [0; 16 << 10];
        while let Ok(n @ 1..) = reads.read(&mut buffer) {
            let _ = tell.send(Fact::Received(id, buffer[..n].to_vec()));
        }
        let _ = tell.send(Fact::Closed(id));
    });
    Stream { socket: None, writer: Some(writer) }
}
