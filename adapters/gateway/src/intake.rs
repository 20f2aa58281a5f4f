//! Bodies of requests, within their bounds.

use std::{pin::Pin, time::Duration};

use futures::{Future, FutureExt, future::poll_fn, select_biased};
use futures_timer::Delay;
use hyper::{
    StatusCode,
    body::{Body as _, Incoming},
};

use crate::{config::Patience, errors::Refused};

/// No request is longer; images come as text in it.
const MAX_BODY: usize = 4 << 20;

/// Reads a request's body.
pub(crate) async fn read(body: Incoming, patience: &Patience) -> Result<Vec<u8>, Refused> {
    within(patience.body, "the body did not come", whole(body, patience.body_gap)).await?
}

async fn whole(mut body: Incoming, gap: Duration) -> Result<Vec<u8>, Refused> {
    // What says that it is too long is not read at all.
    if body.size_hint().lower() > MAX_BODY as u64 {
        return Err(too_long());
    }
    let mut bytes = Vec::with_capacity(body.size_hint().lower() as usize);
    let mut next = async || {
        let frame = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx));
        within(gap, "nothing of the body came", frame).await
    };
    while let Some(frame) = next().await? {
        let frame = frame.map_err(|_| Refused::new(StatusCode::BAD_REQUEST, "broken_body", "the body broke off"))?;
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() + data.len() > MAX_BODY {
            return Err(too_long());
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
}

async fn within<T>(patience: Duration, what: &str, future: impl Future<Output = T>) -> Result<T, Refused> {
    let mut future = Box::pin(future.fuse());
    select_biased! {
        done = future => Ok(done),
        () = Delay::new(patience).fuse() => {
            let text = format!("{what} within {} seconds", patience.as_secs_f32());
            Err(Refused::new(StatusCode::REQUEST_TIMEOUT, "body_timeout", text).closing())
        }
    }
}

fn too_long() -> Refused {
    let text = format!("a request has at most {MAX_BODY} bytes");
    Refused::new(StatusCode::PAYLOAD_TOO_LARGE, "request_too_large", text).closing()
}
