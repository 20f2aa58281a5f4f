//! A server that does nothing but send an answer's bytes: hyper over tokio, and one thread that writes for all, as an engine does.

use std::{
    collections::VecDeque,
    convert::Infallible,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    task::{Context, Poll, ready},
    thread,
    time::Duration,
};

use futures::{StreamExt, channel::mpsc};
use haggle::{Tokio, runtime::Runtime};
use hyper::{
    Request, Response,
    body::{Body, Bytes, Frame, Incoming},
    rt::{Read, ReadBufCursor, Write},
    server::conn::http1,
    service::service_fn,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
};

use crate::{
    market::{MODEL, Pace},
    now, stamp,
};

/// As long as an engine of a node waits.
const WAIT: Duration = Duration::from_millis(5);
/// Tokens that are written before one is taken.
const AHEAD: usize = 64;

struct Order {
    due: Duration,
    pause: Duration,
    left: u64,
    to: mpsc::Sender<Bytes>,
}

pub(crate) fn start(runtime: Tokio) -> SocketAddr {
    let (orders, ordered) = channel();
    thread::spawn(move || write(&ordered));
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    let address = socket.local_addr().unwrap();
    let spawner = runtime.clone();
    runtime.spawn(Box::pin(async move {
        let listener = TcpListener::from_std(socket).unwrap();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            let orders = orders.clone();
            spawner.spawn(Box::pin(async move {
                let service = service_fn(move |request| answer(request, orders.clone()));
                let _ = http1::Builder::new().serve_connection(Io(stream), service).await;
            }));
        }
    }));
    address
}

async fn answer(mut request: Request<Incoming>, orders: Sender<Order>) -> Result<Response<Chunks>, Infallible> {
    let mut body = Vec::new();
    while let Some(Ok(frame)) = std::future::poll_fn(|cx| Pin::new(request.body_mut()).poll_frame(cx)).await {
        body.extend(frame.into_data().unwrap_or_default());
    }
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    let (due, pause) = Pace::of(body["messages"][0]["content"].as_str().unwrap());
    let (to, events) = mpsc::channel(AHEAD);
    orders.send(Order { due, pause, left: body["max_tokens"].as_u64().unwrap(), to }).unwrap();
    Ok(Response::builder().header("content-type", "text/event-stream").body(Chunks(events.fuse())).unwrap())
}

fn event(token: &str) -> Bytes {
    format!(
        "data: {{\"id\":\"chatcmpl-00000000000000000000000000000000\",\"object\":\"chat.completion.chunk\",\
         \"created\":1700000000,\"model\":\"{MODEL}\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{token}\"}},\
         \"logprobs\":null,\"finish_reason\":null}}]}}\n\n"
    )
    .into()
}

/// Writes for all in turn.
fn write(ordered: &Receiver<Order>) {
    let mut live: VecDeque<Order> = VecDeque::new();
    loop {
        let mut worked = false;
        for _ in 0..live.len() {
            let Some(mut order) = live.pop_front() else { break };
            if order.due <= now() {
                match order.to.try_send(event(&stamp())) {
                    Ok(()) => (order.due, order.left, worked) = (order.due + order.pause, order.left - 1, true),
                    Err(full) if full.is_full() => {}
                    Err(_) => order.left = 0,
                }
            }
            if order.left > 0 {
                live.push_back(order);
            }
        }
        match ordered.recv_timeout(if worked { Duration::ZERO } else { WAIT }) {
            Ok(order) => live.push_back(order),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// What is there leaves in one piece.
struct Chunks(futures::stream::Fuse<mpsc::Receiver<Bytes>>);

impl Body for Chunks {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some(first) = ready!(self.0.poll_next_unpin(cx)) else { return Poll::Ready(None) };
        let mut joined = Vec::from(first);
        while let Poll::Ready(Some(more)) = self.0.poll_next_unpin(cx) {
            joined.extend_from_slice(&more);
        }
        Poll::Ready(Some(Ok(Frame::data(joined.into()))))
    }
}

/// A socket for hyper.
struct Io(TcpStream);

impl Read for Io {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, mut to: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let mut buffer = [0; 8 << 10];
        let room = to.remaining().min(buffer.len());
        let mut read = ReadBuf::new(&mut buffer[..room]);
        ready!(Pin::new(&mut self.0).poll_read(cx, &mut read))?;
        to.put_slice(read.filled());
        Poll::Ready(Ok(()))
    }
}

impl Write for Io {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
