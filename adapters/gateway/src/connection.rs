//! A connection as hyper reads and writes it, with the patience that a client is given.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use futures::FutureExt;
use futures_timer::Delay;
use hyper::rt::{Read, ReadBufCursor, Write};

use crate::runtime::Socket;

/// Bytes of a request's head, at most.
pub(crate) const MAX_HEAD: usize = 64 << 10;
/// Lines of a request's head, at most.
pub(crate) const MAX_LINES: usize = 100;
/// A head that was begun is complete by then.
const HEAD_PATIENCE: Duration = Duration::from_secs(10);
/// A connection on which nobody asks anything is kept so long.
const IDLE_PATIENCE: Duration = Duration::from_secs(60);
/// A client that reads nothing of what it asked for is left.
const WRITE_PATIENCE: Duration = Duration::from_secs(60);

const IDLE: u8 = 0;
const HEAD: u8 = 1;
const BUSY: u8 = 2;

/// What a connection is doing, as far as hyper does not tell its socket.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    phase: AtomicU8,
    /// The head that came last says in two ways how long its body is.
    is_ambiguous: AtomicBool,
}

impl Pace {
    /// A request is there. It is over when the value is dropped. True if its head is ambiguous.
    pub(crate) fn begin(self: &Arc<Self>) -> (Busy, bool) {
        self.phase.store(BUSY, Ordering::Relaxed);
        (Busy(self.clone()), self.is_ambiguous.swap(false, Ordering::Relaxed))
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
    buffer: Box<[u8]>,
    head: Vec<u8>,
    reading: Option<(u8, Delay)>,
    writing: Option<Delay>,
}

impl<S: Socket> Connection<S> {
    pub(crate) fn new(socket: S, pace: Arc<Pace>) -> Self {
        let buffer = vec![0; 16 << 10].into();
        Connection { socket, pace, buffer, head: Vec::new(), reading: None, writing: None }
    }

    /// Whether the client has been waited for long enough.
    fn poll_reading(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let phase = self.pace.phase.load(Ordering::Relaxed);
        let patience = match phase {
            BUSY => {
                self.reading = None;
                return Poll::Pending;
            }
            HEAD => HEAD_PATIENCE,
            _ => IDLE_PATIENCE,
        };
        let (_, timer) = match &mut self.reading {
            Some(running) if running.0 == phase => running,
            other => other.insert((phase, Delay::new(patience))),
        };
        ready!(timer.poll_unpin(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    /// Looks at a head as it comes. hyper takes one of two lengths and forgets that there were two, which may be how a request is
    /// smuggled past whoever took the other.
    fn look_at(&mut self, n: usize) {
        if self.pace.phase.load(Ordering::Relaxed) == BUSY {
            return;
        }
        if self.pace.phase.swap(HEAD, Ordering::Relaxed) != HEAD {
            self.head.clear();
        }
        let room = MAX_HEAD.saturating_sub(self.head.len()).min(n);
        let looked_at = self.head.len().saturating_sub(3);
        self.head.extend_from_slice(&self.buffer[..room]);
        if let Some(end) = self.head[looked_at..].windows(4).position(|four| four == b"\r\n\r\n") {
            self.pace.is_ambiguous.store(is_ambiguous(&self.head[..looked_at + end]), Ordering::Relaxed);
            self.head = Vec::new();
        }
    }
}

fn is_ambiguous(head: &[u8]) -> bool {
    let names = |name: &str| {
        let named = move |line: &&[u8]| {
            line.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name.as_bytes()))
                && line[name.len()..].trim_ascii_start().starts_with(b":")
        };
        head.split(|byte| *byte == b'\n').filter(named).count()
    };
    names("transfer-encoding") > 0 && names("content-length") > 0
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
        match this.socket.poll_write(cx, bytes) {
            Poll::Pending => {
                let timer = this.writing.get_or_insert_with(|| Delay::new(WRITE_PATIENCE));
                ready!(timer.poll_unpin(cx));
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
            written => {
                this.writing = None;
                written
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A socket keeps nothing back.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_lengths_are_seen_however_they_are_written() {
        for head in [
            "POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked",
            "POST / HTTP/1.1\r\ntransfer-encoding : chunked\r\nCONTENT-LENGTH:5",
        ] {
            assert!(is_ambiguous(head.as_bytes()), "{head:?}");
        }
        for head in [
            "POST / HTTP/1.1\r\nContent-Length: 5",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nX-Content-Length: 5",
        ] {
            assert!(!is_ambiguous(head.as_bytes()), "{head:?}");
        }
    }
}
