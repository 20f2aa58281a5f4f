//! Connections, and what they are served by.

use std::{
    convert::Infallible,
    io,
    net::TcpListener,
    pin::{Pin, pin},
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll},
    time::Duration,
};

use futures::{FutureExt, channel::mpsc, select_biased};
use futures_timer::Delay;
use hyper::{
    Version,
    body::{Bytes, Frame, SizeHint},
    header::{CONNECTION, HeaderValue, TRANSFER_ENCODING},
    server::conn::http1,
    service::service_fn,
};

use crate::{
    body::Body,
    connection::{Busy, Connection, Pace},
    heads::{MAX_HEAD, MAX_LINES},
    route,
    runtime::{Accept, Sockets},
    shop::Shop,
};

/// A socket that could not accept, for want of memory or file descriptors, is given so long.
const PAUSE: Duration = Duration::from_millis(100);

/// Accepts until the gateway is stopped. `alive` is dropped when the last connection is over.
pub(crate) async fn accept<R: Sockets>(
    shop: Arc<Shop>,
    socket: TcpListener,
    alive: mpsc::Sender<()>,
) -> io::Result<()> {
    let listener = R::listener(socket)?;
    loop {
        let accepted = select_biased! {
            _ = shop.stopping.clone() => return Ok(()),
            accepted = pin!(listener.accept().fuse()) => accepted,
        };
        match accepted {
            Ok(socket) if shop.open.load(Ordering::Relaxed) < shop.config.max_connections => {
                shop.open.fetch_add(1, Ordering::Relaxed);
                let (serving, alive) = (shop.clone(), alive.clone());
                (shop.spawn)(Box::pin(async move {
                    serve::<R>(serving.clone(), socket).await;
                    serving.open.fetch_sub(1, Ordering::Relaxed);
                    drop(alive);
                }));
            }
            // Whoever is too much is closed at once, before a byte of theirs is read.
            Ok(_) => tracing::warn!("as many connections as allowed are open; one more was closed"),
            Err(error) => {
                tracing::debug!(%error, "a connection was not accepted");
                Delay::new(PAUSE).await;
            }
        }
    }
}

async fn serve<R: Sockets>(shop: Arc<Shop>, socket: <R::Listener as Accept>::Socket) {
    let pace = Arc::new(Pace::default());
    let stopping = shop.stopping.clone();
    let connection = Connection::new(socket, pace.clone(), shop.config.patience);
    let service = service_fn(move |request| {
        let (shop, (busy, fault)) = (shop.clone(), pace.begin());
        let closes = request.headers().contains_key(TRANSFER_ENCODING) || request.version() == Version::HTTP_10;
        async move {
            let mut response = route::answer(shop, request, fault).await;
            if closes {
                // What could be hidden behind a body without a length is not looked at.
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(response.map(|body| Kept { body, _busy: busy }))
        }
    });
    let mut builder = http1::Builder::new();
    builder.max_buf_size(MAX_HEAD).max_header_size(MAX_HEAD).max_headers(MAX_LINES).header_read_timeout(None);
    let mut served = pin!(builder.serve_connection(connection, service));
    let ended = select_biased! {
        ended = served.as_mut().fuse() => Some(ended),
        _ = stopping.fuse() => None,
    };
    if let Some(ended) = ended {
        return log(ended);
    }
    served.as_mut().graceful_shutdown();
    log(served.await);
}

fn log(ended: hyper::Result<()>) {
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection broke");
    }
}

/// A body that knows when its request is over.
struct Kept {
    body: Body,
    _busy: Busy,
}

impl hyper::body::Body for Kept {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
