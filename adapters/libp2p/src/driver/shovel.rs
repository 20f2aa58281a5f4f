//! One task per stream that moves bytes and decides nothing.

use std::{
    future::Future,
    io, mem,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use futures::{AsyncRead, AsyncWrite, FutureExt, channel::mpsc};
use futures_timer::Delay;

/// Bytes that wait for a stream. The driver appends, the stream's task takes all at once: what arrives while a write is
/// under way leaves together with the next one.
#[derive(Debug, Default)]
pub(crate) struct Outbox(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    bytes: Vec<u8>,
    end: Option<End>,
    task: Option<Waker>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// After what waits was sent.
    Close,
    /// At once.
    Reset,
}

/// The core's credit keeps every stream far below this; a stream that reaches it is cut.
const MAX_WAITING: usize = 4 << 20;

impl Outbox {
    /// False if so much waits already that the stream has to be cut.
    pub(crate) fn push(&self, bytes: &[u8]) -> bool {
        let mut waiting = self.lock();
        if waiting.bytes.len() + bytes.len() > MAX_WAITING {
            return false;
        }
        waiting.bytes.extend_from_slice(bytes);
        wake(waiting);
        true
    }

    pub(crate) fn close(&self) {
        self.end(End::Close);
    }

    pub(crate) fn reset(&self) {
        self.end(End::Reset);
    }

    /// Leaves a waker for whatever comes next.
    fn watch(&self, cx: &mut Context<'_>) -> Option<End> {
        let mut waiting = self.lock();
        waiting.task = Some(cx.waker().clone());
        waiting.end
    }

    /// Takes all that waits and leaves an empty buffer, whose memory is used again unless it is large.
    fn take(&self, mut empty: Vec<u8>) -> Vec<u8> {
        empty.clear();
        empty.shrink_to(READ);
        mem::replace(&mut self.lock().bytes, empty)
    }

    fn end(&self, end: End) {
        let mut waiting = self.lock();
        waiting.end = Some(end);
        wake(waiting);
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wake(mut waiting: MutexGuard<'_, Waiting>) {
    let task = waiting.task.take();
    drop(waiting);
    if let Some(task) = task {
        task.wake();
    }
}

/// What a stream's task tells the driver.
#[derive(Debug)]
pub(crate) enum FromStream<K> {
    /// Bytes came.
    Received(K, Vec<u8>),
    /// The stream is over. The last word of the task.
    Closed(K),
}

/// Yamux hands out at most this much at a time.
const READ: usize = 16 * 1024;
/// A closed stream may still send what waits for so long.
const LINGER: Duration = Duration::from_secs(10);

/// Moves bytes between a stream and the driver until either ends it. Back-pressure both ways: it reads only what the
/// driver has room for, and the outbox is emptied only as fast as the stream takes it.
pub(crate) struct Shovel<K, S> {
    key: K,
    stream: S,
    outbox: Arc<Outbox>,
    inbox: mpsc::Sender<FromStream<K>>,
    writing: Vec<u8>,
    written: usize,
    unflushed: bool,
    /// Set when the driver has closed the stream and only what waits is still sent.
    linger: Option<Delay>,
    read: Box<[u8; READ]>,
    /// Shared by all tasks; let go when the end is decided and only has to be told.
    alive: Option<Arc<()>>,
}

impl<K: Copy + Unpin, S: AsyncRead + AsyncWrite + Unpin> Shovel<K, S> {
    pub(crate) fn new(
        key: K,
        stream: S,
        outbox: Arc<Outbox>,
        inbox: mpsc::Sender<FromStream<K>>,
        alive: Arc<()>,
    ) -> Self {
        Shovel {
            key,
            stream,
            outbox,
            inbox,
            writing: Vec::new(),
            written: 0,
            unflushed: false,
            linger: None,
            read: Box::new([0; READ]),
            alive: Some(alive),
        }
    }

    /// Ready when there is nothing more to write, ever: the stream is closed, or broke.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            while self.written < self.writing.len() {
                let n = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.writing[self.written..]))?;
                if n == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                self.written += n;
                self.unflushed = true;
            }
            (self.written, self.writing) = (0, self.outbox.take(mem::take(&mut self.writing)));
            if !self.writing.is_empty() {
                continue;
            }
            if self.linger.is_some() {
                return Pin::new(&mut self.stream).poll_close(cx);
            }
            if !self.unflushed {
                return Poll::Pending;
            }
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            self.unflushed = false;
        }
    }

    /// Ready when nothing more comes.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if ready!(self.inbox.poll_ready(cx)).is_err() {
                return Poll::Ready(());
            }
            match ready!(Pin::new(&mut self.stream).poll_read(cx, &mut self.read[..])) {
                Ok(0) | Err(_) => return Poll::Ready(()),
                Ok(n) => {
                    let told = self.inbox.start_send(FromStream::Received(self.key, self.read[..n].to_vec()));
                    if told.is_err() {
                        return Poll::Ready(());
                    }
                }
            }
        }
    }
}

impl<K: Copy + Unpin, S: AsyncRead + AsyncWrite + Unpin> Future for Shovel<K, S> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        if this.alive.is_some() {
            let end = this.outbox.watch(cx);
            if end.is_some() && this.linger.is_none() {
                this.linger = Some(Delay::new(LINGER));
            }
            let written = end == Some(End::Reset) || this.poll_write(cx).is_ready();
            let overdue = this.linger.as_mut().is_some_and(|linger| linger.poll_unpin(cx).is_ready());
            // A stream that the driver closed is not listened to.
            let heard_out = end.is_none() && !written && this.poll_read(cx).is_ready();
            if !(written || overdue || heard_out) {
                return Poll::Pending;
            }
            this.alive = None;
        }
        if ready!(this.inbox.poll_ready(cx)).is_ok() {
            let _ = this.inbox.start_send(FromStream::Closed(this.key));
        }
        Poll::Ready(())
    }
}
