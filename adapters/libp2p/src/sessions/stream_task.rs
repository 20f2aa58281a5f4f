//! One task per stream that moves bytes and decides nothing: for drivers of machines, the own one and others.

use std::{
    future::Future,
    io, mem,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use futures::{AsyncRead, AsyncWrite, FutureExt, channel::mpsc};

use crate::timers::Delay;

/// Bytes that wait for a stream, 4 MiB at most. The driver appends, the stream's task takes all at once: what arrives while a write is
/// under way leaves together with the next one.
#[derive(Debug, Default)]
pub struct SendBuffer(Mutex<Waiting>);

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

impl SendBuffer {
    /// False if so much waits already that the stream has to be cut.
    pub fn push(&self, bytes: &[u8]) -> bool {
        let mut waiting = self.lock();
        if waiting.bytes.len() + bytes.len() > MAX_WAITING {
            return false;
        }
        waiting.bytes.extend_from_slice(bytes);
        wake(waiting);
        true
    }

    /// Ends the stream after what waits was sent.
    pub fn close(&self) {
        self.end(End::Close);
    }

    /// Ends the stream at once, with what waits.
    pub fn reset(&self) {
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
pub enum FromStream<K> {
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
/// driver has room for, and what waits to be sent is emptied only as fast as the stream takes it.
pub struct StreamTask<K, S> {
    key: K,
    stream: S,
    send_buffer: Arc<SendBuffer>,
    inbox: mpsc::Sender<FromStream<K>>,
    writing: Vec<u8>,
    written: usize,
    unflushed: bool,
    /// Set when the driver has closed the stream: what waits is still sent, then the peer is given time to take it.
    linger: Option<Delay>,
    /// This side has said all it had to say.
    closed: bool,
    read: Box<[u8; READ]>,
    /// Shared by all tasks; let go when the end is decided and only has to be told.
    alive: Option<Arc<()>>,
}

impl<K: Copy + Unpin, S: AsyncRead + AsyncWrite + Unpin> StreamTask<K, S> {
    /// A task to be spawned. What it tells comes under `key`; `alive` is held for as long as it runs.
    pub fn new(
        key: K,
        stream: S,
        send_buffer: Arc<SendBuffer>,
        inbox: mpsc::Sender<FromStream<K>>,
        alive: Arc<()>,
    ) -> Self {
        StreamTask {
            key,
            stream,
            send_buffer,
            inbox,
            writing: Vec::new(),
            written: 0,
            unflushed: false,
            linger: None,
            closed: false,
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
            (self.written, self.writing) = (0, self.send_buffer.take(mem::take(&mut self.writing)));
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

    /// Ready when all that waited is written and the peer has closed its side too.
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.closed {
            ready!(self.poll_write(cx))?;
            self.closed = true;
        }
        while ready!(Pin::new(&mut self.stream).poll_read(cx, &mut self.read[..]))? > 0 {}
        Poll::Ready(Ok(()))
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

impl<K: Copy + Unpin, S: AsyncRead + AsyncWrite + Unpin> Future for StreamTask<K, S> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        if this.alive.is_some() {
            let end = this.send_buffer.watch(cx);
            if end.is_some() && this.linger.is_none() {
                this.linger = Some(Delay::new(LINGER));
            }
            let over = match end {
                Some(End::Reset) => true,
                // Whoever closes hears the other side out: Yamux throws away what arrives together with the end of a
                // connection, and a peer that ends its side has taken ours.
                Some(End::Close) => {
                    let overdue = this.linger.as_mut().is_some_and(|linger| linger.poll_unpin(cx).is_ready());
                    overdue || this.poll_close(cx).is_ready()
                }
                None => this.poll_write(cx).is_ready() || this.poll_read(cx).is_ready(),
            };
            if !over {
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

#[cfg(test)]
mod tests {
    use futures::{StreamExt, task::noop_waker};

    use super::*;

    /// A stream whose other end the test plays.
    #[derive(Default)]
    struct Fake {
        /// Bytes that may be written before the stream is full.
        room: usize,
        sent: Vec<u8>,
        writes: usize,
        flushes: usize,
        closed: bool,
        to_read: Vec<u8>,
        ended: bool,
    }

    #[derive(Clone, Default)]
    struct Handle(Arc<Mutex<Fake>>);

    impl Handle {
        fn with<T>(&self, what: impl FnOnce(&mut Fake) -> T) -> T {
            what(&mut self.0.lock().expect("not poisoned"))
        }
    }

    impl AsyncRead for Handle {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
            self.with(|fake| {
                let n = fake.to_read.len().min(buf.len());
                buf[..n].copy_from_slice(&fake.to_read[..n]);
                fake.to_read.drain(..n);
                if n == 0 && !fake.ended { Poll::Pending } else { Poll::Ready(Ok(n)) }
            })
        }
    }

    impl AsyncWrite for Handle {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            self.with(|fake| {
                let n = fake.room.min(buf.len());
                fake.room -= n;
                fake.sent.extend_from_slice(&buf[..n]);
                fake.writes += usize::from(n > 0);
                if n == 0 { Poll::Pending } else { Poll::Ready(Ok(n)) }
            })
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.with(|fake| fake.flushes += 1);
            Poll::Ready(Ok(()))
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.with(|fake| fake.closed = true);
            Poll::Ready(Ok(()))
        }
    }

    struct Bench {
        stream_task: StreamTask<u8, Handle>,
        stream: Handle,
        send_buffer: Arc<SendBuffer>,
        received: mpsc::Receiver<FromStream<u8>>,
        alive: Arc<()>,
    }

    impl Bench {
        fn new(room: usize) -> Self {
            let (stream, send_buffer, alive) = (Handle::default(), Arc::new(SendBuffer::default()), Arc::new(()));
            stream.with(|fake| fake.room = room);
            let (inbox, received) = mpsc::channel(0);
            let stream_task = StreamTask::new(7, stream.clone(), send_buffer.clone(), inbox, alive.clone());
            Bench { stream_task, stream, send_buffer, received, alive }
        }

        fn poll(&mut self) -> Poll<()> {
            self.stream_task.poll_unpin(&mut Context::from_waker(&noop_waker()))
        }
    }

    #[test]
    fn what_arrives_while_the_stream_is_busy_leaves_in_one_write() {
        let mut bench = Bench::new(0);
        assert!(bench.send_buffer.push(b"first "));
        assert!(bench.poll().is_pending());
        (0..1_000).for_each(|n: u32| assert!(bench.send_buffer.push(&n.to_be_bytes())));
        bench.stream.with(|fake| fake.room = 1 << 20);
        assert!(bench.poll().is_pending());
        let (writes, flushes) = bench.stream.with(|fake| (fake.writes, fake.flushes));
        assert_eq!((writes, flushes), (2, 1), "the first, all the others, one flush");
        let expected: Vec<u8> = b"first ".iter().copied().chain((0..1_000_u32).flat_map(u32::to_be_bytes)).collect();
        assert!(bench.stream.with(|fake| fake.sent == expected));
    }

    #[test]
    fn closing_sends_what_waits_and_resetting_does_not() {
        let mut bench = Bench::new(1 << 20);
        bench.send_buffer.push(b"last words");
        bench.send_buffer.close();
        assert!(bench.poll().is_pending(), "the peer has not taken it yet");
        assert!(bench.stream.with(|fake| fake.closed && fake.sent == b"last words"));
        bench.stream.with(|fake| (fake.to_read, fake.ended) = (b"unheard".to_vec(), true));
        assert!(bench.poll().is_ready());

        let mut bench = Bench::new(0);
        bench.send_buffer.push(b"never");
        assert!(bench.poll().is_pending());
        bench.send_buffer.reset();
        assert!(bench.poll().is_ready(), "though the stream is stalled");
        assert_eq!(Arc::strong_count(&bench.alive), 1);
        assert!(matches!(bench.received.next().now_or_never(), Some(Some(FromStream::Closed(7)))));
    }

    #[test]
    fn the_peers_end_is_told_after_its_last_bytes() {
        let mut bench = Bench::new(0);
        bench.stream.with(|fake| (fake.to_read, fake.ended) = (b"the end".to_vec(), true));
        assert!(bench.poll().is_pending());
        let first = bench.received.next().now_or_never();
        assert!(matches!(first, Some(Some(FromStream::Received(7, bytes))) if bytes == b"the end"));
        assert!(bench.poll().is_ready());
        assert!(matches!(bench.received.next().now_or_never(), Some(Some(FromStream::Closed(7)))));
    }

    #[test]
    fn a_driver_that_takes_nothing_is_sent_little_and_a_flood_is_cut() {
        let mut bench = Bench::new(0);
        bench.stream.with(|fake| fake.to_read = vec![1; 10 * READ]);
        assert!(bench.poll().is_pending());
        assert!(bench.stream.with(|fake| fake.to_read.len()) >= 8 * READ, "the rest stays in the stream");
        let mut got = 0;
        while let Some(Some(FromStream::Received(7, bytes))) = bench.received.next().now_or_never() {
            got += bytes.len();
            assert!(bench.poll().is_pending());
        }
        assert_eq!(got, 10 * READ);
        let chunk = vec![0; 1 << 20];
        assert_eq!((0..10).filter(|_| bench.send_buffer.push(&chunk)).count(), 4);
    }
}
