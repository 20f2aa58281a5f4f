//! A connection as hyper reads and writes it, with the patience that a client is given.

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll, ready},
};

use futures::FutureExt;
use futures_timer::Delay;
use hyper::{
    StatusCode,
    rt::{Read, ReadBufCursor, Write},
};

use crate::{
    config::Patience,
    errors::Refused,
    heads::{self, Fault, Heads},
    runtime::Socket,
};

/// Bytes of a refused request that are dropped, at most.
const MAX_DROPPED: usize = 16 << 20;

const IDLE: u8 = 0;
const HEAD: u8 = 1;
const BUSY: u8 = 2;

/// What a connection is doing, as far as hyper does not tell its socket.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    phase: AtomicU8,
    /// What is wrong with each head that came whole and was not taken yet.
    heads: Mutex<VecDeque<Option<Fault>>>,
}

impl Pace {
    /// A request is there. It is over when the value is dropped. What is wrong with its head.
    pub(crate) fn begin(self: &Arc<Self>) -> (Busy, Option<Fault>) {
        self.phase.store(BUSY, Ordering::Relaxed);
        (Busy(self.clone()), self.heads().pop_front().flatten())
    }

    fn heads(&self) -> MutexGuard<'_, VecDeque<Option<Fault>>> {
        self.heads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_busy(&self) -> bool {
        self.phase.load(Ordering::Relaxed) == BUSY
    }
}

/// A request that is being answered: no patience is counted.
#[derive(Debug)]
pub(crate) struct Busy(Arc<Pace>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.phase.store(IDLE, Ordering::Relaxed);
    }
}

/// A socket for hyper.
pub(crate) struct Connection<S> {
    socket: S,
    pace: Arc<Pace>,
    patience: Patience,
    buffer: Box<[u8]>,
    heads: Heads,
    reading: Option<(u8, Delay)>,
    writing: Option<Delay>,
    /// What is sent in place of hyper's bare status, and how much of it is.
    instead: Option<(Vec<u8>, usize)>,
    /// Nothing more is sent: how long, and for how many bytes, the client is still heard.
    parting: Option<(Delay, usize)>,
}

impl<S: Socket> Connection<S> {
    pub(crate) fn new(socket: S, pace: Arc<Pace>, patience: Patience) -> Self {
        let buffer = vec![0; 16 << 10].into();
        Connection {
            socket,
            pace,
            patience,
            buffer,
            heads: Heads::default(),
            reading: None,
            writing: None,
            instead: None,
            parting: None,
        }
    }

    /// Whether the client has been waited for long enough.
    fn poll_reading(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let phase = self.pace.phase.load(Ordering::Relaxed);
        let patience = match phase {
            BUSY => {
                self.reading = None;
                return Poll::Pending;
            }
            HEAD => self.patience.head,
            _ => self.patience.idle,
        };
        let (_, timer) = match &mut self.reading {
            Some(running) if running.0 == phase => running,
            other => other.insert((phase, Delay::new(patience))),
        };
        ready!(timer.poll_unpin(cx));
        if phase == HEAD && self.writing.is_none() {
            let text = format!("the head of the request did not come within {} seconds", patience.as_secs_f32());
            let refused = Refused::new(StatusCode::REQUEST_TIMEOUT, "head_timeout", text);
            // It has room for this, or the client reads nothing.
            let _ = self.socket.poll_write(cx, &refused.on_the_wire());
        }
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    fn look_at(&mut self, n: usize) {
        let mut heads = self.pace.heads();
        self.heads.look_at(&self.buffer[..n], |fault| heads.push_back(fault));
        if self.heads.is_open() && !self.pace.is_busy() {
            self.pace.phase.store(HEAD, Ordering::Relaxed);
        }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.socket.poll_write(cx, bytes) {
            Poll::Pending => {
                let unread = self.patience.unread;
                let timer = self.writing.get_or_insert_with(|| Delay::new(unread));
                ready!(timer.poll_unpin(cx));
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
            written => {
                self.writing = None;
                written
            }
        }
    }

    /// Drops what a refused client still sends: a socket that is closed before resets the connection, and many a client then sees that
    /// instead of the answer, and asks again.
    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some((timer, left)) = &mut self.parting else { return Poll::Ready(Ok(())) };
        while *left > 0 && timer.poll_unpin(cx).is_pending() {
            match ready!(self.socket.poll_read(cx, &mut self.buffer)) {
                Ok(n) if n > 0 => *left = left.saturating_sub(n),
                _ => break,
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Sends what stands for `n` bytes of hyper's.
    fn poll_instead(&mut self, cx: &mut Context<'_>, n: usize) -> Poll<io::Result<usize>> {
        while let Some((text, mut sent)) = self.instead.take() {
            let written = self.poll_send(cx, &text[sent..]);
            if let Poll::Ready(Ok(more)) = written {
                sent += more;
            }
            if sent < text.len() {
                self.instead = Some((text, sent));
            }
            if ready!(written)? == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
        }
        Poll::Ready(Ok(n))
    }
}

impl<S: Socket> Read for Connection<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, mut to: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let room = to.remaining().min(this.buffer.len());
        match this.socket.poll_read(cx, &mut this.buffer[..room]) {
            Poll::Ready(read) => {
                let n = read?;
                this.look_at(n);
                to.put_slice(&this.buffer[..n]);
                Poll::Ready(Ok(()))
            }
            Poll::Pending => this.poll_reading(cx),
        }
    }
}

impl<S: Socket> Write for Connection<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.instead.is_none() && !this.pace.is_busy() {
            match heads::unread(bytes) {
                Some((0, refused)) => this.instead = Some((refused.on_the_wire(), 0)),
                Some((at, _)) => return this.poll_send(cx, &bytes[..at]),
                None => {}
            }
        }
        if this.instead.is_some() { this.poll_instead(cx, bytes.len()) } else { this.poll_send(cx, bytes) }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A socket keeps nothing back.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.parting.is_none() {
            ready!(this.socket.poll_shutdown(cx))?;
            this.parting = Some((Delay::new(this.patience.parting), MAX_DROPPED));
        }
        if this.heads.is_within_request() { this.poll_rest(cx) } else { Poll::Ready(Ok(())) }
    }
}
