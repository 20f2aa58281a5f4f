//! Requests that are sent again with the same `Idempotency-Key`: bought once, answered the same.
//!
//! Whoever sends such a key means to come back, so an answer with one goes on when its client leaves. One that owes nothing and is
//! no answer is not kept: the next attempt is a new one.

use std::{
    collections::HashMap,
    future::{Future, poll_fn},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Poll, Waker},
    time::{Duration, Instant},
};

use futures::stream;
use haggle::runtime::Task;
use hyper::{
    HeaderMap, Response, StatusCode,
    body::{Body as _, Bytes},
    header::{HeaderName, HeaderValue},
};
use sha2::{Digest, Sha256};

use crate::{
    body::{Body, event},
    errors::Refused,
};

/// An answer is kept for so long.
const KEPT: Duration = Duration::from_secs(10 * 60);
/// Answers that are kept at once.
const MAX_ANSWERS: usize = 256;
/// Bytes of an answer, at most.
const MAX_BYTES: usize = 16 << 20;
/// Bytes of a key.
const MAX_KEY: usize = 255;

/// Whose key, and the key.
type Name = (Option<usize>, String);

#[derive(Default)]
pub(crate) struct Repeats(Mutex<HashMap<Name, Entry>>);

struct Entry {
    /// What was asked.
    digest: [u8; 32],
    began: Instant,
    tape: Arc<Tape>,
}

/// An answer as it comes, for all who read it.
#[derive(Default)]
struct Tape(Mutex<Recorded>);

#[derive(Default)]
struct Recorded {
    head: Option<(StatusCode, HeaderMap)>,
    bytes: Vec<u8>,
    is_over: bool,
    readers: Vec<Waker>,
}

/// The key of a request that has one.
pub(crate) fn key(headers: &HeaderMap) -> Result<Option<String>, Refused> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    let text = value.to_str().ok().filter(|text| (1..=MAX_KEY).contains(&text.len()));
    let must = || Refused::value("Idempotency-Key", format!("must be 1 to {MAX_KEY} characters of ASCII"));
    text.map(|text| Some(text.to_owned())).ok_or_else(must)
}

pub(crate) fn digest(path: &str, body: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update(path).chain_update([0]).chain_update(body).finalize().into()
}

/// The answer that was given under this name, or `answer`, which is then given to all who ask under it.
pub(crate) async fn once(
    repeats: &Arc<Repeats>,
    spawn: &(dyn Fn(Task) + Send + Sync),
    name: Name,
    digest: [u8; 32],
    answer: impl Future<Output = Response<Body>> + Send + 'static,
) -> Result<Response<Body>, Refused> {
    let tape = Arc::<Tape>::default();
    if let Some(known) = repeats.enter(&name, digest, &tape)? {
        let mut response = known.play().await;
        response.headers_mut().insert(HeaderName::from_static("idempotent-replayed"), HeaderValue::from_static("true"));
        return Ok(response);
    }
    let (record, of) = (tape.clone(), repeats.clone());
    spawn(Box::pin(async move {
        let answer = answer.await;
        let owes = matches!(answer.status(), StatusCode::OK | StatusCode::FAILED_DEPENDENCY);
        if !owes {
            of.lock().remove(&name);
        }
        record.record(answer).await;
    }));
    Ok(tape.play().await)
}

impl Repeats {
    fn lock(&self) -> MutexGuard<'_, HashMap<Name, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known under this name; else `tape` is, from now on.
    fn enter(&self, name: &Name, digest: [u8; 32], tape: &Arc<Tape>) -> Result<Option<Arc<Tape>>, Refused> {
        let mut all = self.lock();
        all.retain(|_, entry| entry.began.elapsed() < KEPT || !entry.tape.lock().is_over);
        if let Some(entry) = all.get(name) {
            if entry.digest != digest {
                let text = "this Idempotency-Key was sent with another request; a new request needs a new key";
                return Err(Refused::new(StatusCode::CONFLICT, "idempotency_key_reused", text).without_retry());
            }
            return Ok(Some(entry.tape.clone()));
        }
        if all.len() >= MAX_ANSWERS {
            let text = format!("{MAX_ANSWERS} answers are kept for keys that were sent with them, which is the limit");
            return Err(Refused::new(StatusCode::TOO_MANY_REQUESTS, "too_many_keys", text).retry_after(KEPT / 10));
        }
        all.insert(name.clone(), Entry { digest, began: Instant::now(), tape: tape.clone() });
        Ok(None)
    }
}

impl Tape {
    fn lock(&self) -> MutexGuard<'_, Recorded> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Recorded)) {
        let mut recorded = self.lock();
        change(&mut recorded);
        recorded.readers.drain(..).for_each(Waker::wake);
    }

    /// Takes an answer down.
    async fn record(&self, response: Response<Body>) {
        let (head, mut body) = response.into_parts();
        self.change(|to| to.head = Some((head.status, head.headers)));
        let mut left = MAX_BYTES;
        while let Some(Ok(frame)) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
            let Ok(data) = frame.into_data() else { continue };
            if data.len() > left {
                let text = format!("an answer that is kept for its key has at most {MAX_BYTES} bytes");
                let mut out = String::new();
                event(&Refused::new(StatusCode::OK, "answer_too_long", text).envelope(), &mut out);
                self.change(|to| to.bytes.extend_from_slice(out.as_bytes()));
                break;
            }
            left -= data.len();
            self.change(|to| to.bytes.extend_from_slice(&data));
        }
        self.change(|to| to.is_over = true);
    }

    async fn play(self: Arc<Self>) -> Response<Body> {
        let (status, headers) = poll_fn(|cx| {
            let mut recorded = self.lock();
            match recorded.head.clone() {
                Some(head) => Poll::Ready(head),
                None => recorded.wait(cx.waker()),
            }
        })
        .await;
        let pieces = stream::unfold((self, 0), |(tape, at)| async move {
            let piece = poll_fn(|cx| {
                let mut recorded = tape.lock();
                match recorded.bytes.get(at..).filter(|rest| !rest.is_empty()) {
                    Some(rest) => Poll::Ready(Some(Bytes::copy_from_slice(rest))),
                    None if recorded.is_over => Poll::Ready(None),
                    None => recorded.wait(cx.waker()),
                }
            });
            let piece = piece.await?;
            let at = at + piece.len();
            Some((piece, (tape, at)))
        });
        let mut response = Response::new(Body::stream(pieces));
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        response
    }
}

impl Recorded {
    fn wait<T>(&mut self, waker: &Waker) -> Poll<T> {
        self.readers.retain(|other| !other.will_wake(waker));
        self.readers.push(waker.clone());
        Poll::Pending
    }
}
