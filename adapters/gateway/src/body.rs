//! Bodies of answers.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use futures::{Stream, StreamExt};
use hyper::{
    Response, StatusCode,
    body::{Bytes, Frame, SizeHint},
    header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue},
};
use serde_json::Value;

/// What is ready is joined up to here, so that it leaves in one write.
const MAX_FRAME: usize = 64 << 10;

/// The body of an answer.
pub(crate) enum Body {
    Whole(Option<Bytes>),
    Stream(Pin<Box<dyn Stream<Item = Bytes> + Send>>),
}

impl Body {
    pub(crate) fn stream(stream: impl Stream<Item = Bytes> + Send + 'static) -> Self {
        // What is joined asks once more after the end.
        Body::Stream(Box::pin(stream.fuse()))
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut *self {
            Body::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Body::Stream(stream) => poll_joined(stream, cx).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Body::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Body::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Body::Stream(_) => SizeHint::default(),
        }
    }
}

/// A write for each token would cost many times what the token does.
fn poll_joined(stream: &mut Pin<Box<dyn Stream<Item = Bytes> + Send>>, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
    let first = match stream.poll_next_unpin(cx) {
        Poll::Ready(Some(first)) => first,
        other => return other,
    };
    let mut joined = Vec::from(first);
    while joined.len() < MAX_FRAME {
        let Poll::Ready(Some(next)) = stream.poll_next_unpin(cx) else { break };
        joined.extend_from_slice(&next);
    }
    Poll::Ready(Some(joined.into()))
}

pub(crate) fn json_response(status: StatusCode, value: &Value) -> Response<Body> {
    text_response(status, "application/json", value.to_string())
}

pub(crate) fn text_response(status: StatusCode, kind: &'static str, text: String) -> Response<Body> {
    let mut response = Response::new(Body::Whole(Some(text.into())));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Writes one event.
pub(crate) fn event(value: &Value, out: &mut String) {
    out.push_str("data: ");
    // JSON has no line breaks of its own.
    out.push_str(&value.to_string());
    out.push_str("\n\n");
}

#[cfg(test)]
mod tests {
    use futures::{channel::mpsc, executor::block_on, future, future::poll_fn, stream};
    use hyper::body::Body as _;

    use super::*;

    #[test]
    fn what_is_ready_leaves_in_one_piece_and_what_is_not_is_not_waited_for() {
        let (sender, events) = mpsc::unbounded();
        for event in ["a", "b", "c"] {
            sender.unbounded_send(Bytes::from(event)).expect("it is read");
        }
        let mut body = Body::stream(events);
        let frame = |body: &mut Body| block_on(poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)));
        let data =
            |frame: Option<Result<Frame<Bytes>, _>>| frame.and_then(Result::ok).and_then(|one| one.into_data().ok());
        assert_eq!(data(frame(&mut body)), Some(Bytes::from("abc")));
        sender.unbounded_send(Bytes::from("d")).expect("it is read");
        drop(sender);
        assert_eq!(data(frame(&mut body)), Some(Bytes::from("d")));
        assert_eq!(data(frame(&mut body)), None);
    }

    #[test]
    fn a_frame_has_its_bound() {
        let body = Body::stream(
            stream::iter(vec![Bytes::from(vec![0; 40 << 10]); 4]).chain(stream::once(future::ready(Bytes::from("x")))),
        );
        let mut body = body;
        let mut sizes = Vec::new();
        while let Some(Ok(frame)) = block_on(poll_fn(|cx| Pin::new(&mut body).poll_frame(cx))) {
            sizes.push(frame.into_data().map_or(0, |data| data.len()));
        }
        assert_eq!(sizes, [80 << 10, 80 << 10, 1]);
    }
}
