//! Answers as server-sent events.
//!
//! Headers wait for the first token or the refusal, so that a refusal has a status of its own; not for ever, so that no client
//! gives up.

use std::{
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{Future, FutureExt, Stream, select_biased, stream};
use futures_timer::Delay;
use haggle::Receipt;
use hyper::{
    HeaderMap, Response,
    body::Bytes,
    header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue},
};
use serde_json::Value;

use crate::{
    body::{Body, event},
    calls::ToolCall,
    errors::Refused,
    order::Order,
    purchase::{self, Purchase, Step},
    shop::Shop,
};

/// Headers are sent by then, whatever they can say.
const HEADERS_BY: Duration = Duration::from_secs(15);
/// A comment is sent if nothing else was for so long.
const COMMENT_EVERY: Duration = Duration::from_secs(10);

/// How an interface writes the events of an answer.
pub(crate) trait Voice: Send + 'static {
    /// What comes before the first text.
    fn begin(&mut self, purchase: &Purchase, out: &mut String);
    /// More text.
    fn text(&mut self, text: &str, out: &mut String);
    /// What the model thinks; an interface without a place for it leaves it out.
    fn thought(&mut self, _: &str, _: &mut String) {}
    /// Why the model does not answer.
    fn refusal(&mut self, text: &str, out: &mut String) {
        self.text(text, out);
    }
    /// A call of a tool.
    fn call(&mut self, _: &ToolCall, _: &mut String) {}
    /// The end of a complete answer.
    fn end(&mut self, purchase: &Purchase, receipt: &Receipt, out: &mut String);
    /// An answer that will not be complete. Neither a reason to finish nor `[DONE]`: clients would take what they have for the whole.
    fn failed(&mut self, refused: &Refused, out: &mut String) {
        event(&refused.envelope(), out);
    }
}

type Begun = Pin<Box<dyn Future<Output = Result<Purchase, Refused>> + Send>>;

/// Buys, and answers as the tokens come.
pub(crate) async fn respond(shop: Arc<Shop>, order: Order, owner: Option<usize>, voice: impl Voice) -> Response<Body> {
    let mut begun: Begun = Box::pin(purchase::begin(shop, order, owner));
    let talk = select_biased! {
        begun = (&mut begun).fuse() => match begun {
            Ok(purchase) => Talk::Begun(Box::new(purchase)),
            Err(refused) => return refused.response(),
        },
        () = Delay::new(HEADERS_BY).fuse() => Talk::Waiting(begun),
    };
    let mut headers = HeaderMap::new();
    if let Talk::Begun(purchase) = &talk {
        purchase.add_headers(&mut headers);
    }
    let events = Events { talk, voice, quiet: Quiet::new() };
    let mut response =
        of_events(stream::unfold(events, |mut events| async move { Some((events.next().await?, events)) }));
    response.headers_mut().extend(headers);
    response
}

/// An answer whose body is made of events.
pub(crate) fn of_events(events: impl Stream<Item = Bytes> + Send + 'static) -> Response<Body> {
    let mut response = Response::new(Body::stream(events));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    response
}

/// How far a stream is.
enum Talk {
    Waiting(Begun),
    /// There is an answer, and nothing of it was told.
    Begun(Box<Purchase>),
    Going(Box<Purchase>),
    Over,
}

struct Events<V> {
    talk: Talk,
    voice: V,
    quiet: Quiet,
}

impl<V: Voice> Events<V> {
    async fn next(&mut self) -> Option<Bytes> {
        let mut out = String::new();
        while out.is_empty() {
            match std::mem::replace(&mut self.talk, Talk::Over) {
                Talk::Over => return None,
                Talk::Waiting(begun) => self.wait(begun, &mut out).await,
                Talk::Begun(purchase) => {
                    self.voice.begin(&purchase, &mut out);
                    self.talk = Talk::Going(purchase);
                }
                Talk::Going(purchase) => self.go(purchase, &mut out).await,
            }
        }
        self.quiet.broken();
        Some(out.into())
    }

    async fn wait(&mut self, mut begun: Begun, out: &mut String) {
        select_biased! {
            begun = (&mut begun).fuse() => match begun {
                Ok(purchase) => self.talk = Talk::Begun(Box::new(purchase)),
                Err(refused) => self.voice.failed(&refused, out),
            },
            () = self.quiet.over().fuse() => {
                out.push_str(": haggle looking for a provider\n\n");
                self.talk = Talk::Waiting(begun);
            }
        }
    }

    async fn go(&mut self, mut purchase: Box<Purchase>, out: &mut String) {
        let step = select_biased! {
            step = purchase.next().fuse() => Some(step),
            () = self.quiet.over().fuse() => None,
        };
        match step {
            None => out.push_str(": haggle waiting for the provider\n\n"),
            Some(Ok(Step::Note(note))) => comment(&note, out),
            Some(Ok(Step::Text(text))) => self.voice.text(&text, out),
            Some(Ok(Step::Thought(text))) => self.voice.thought(&text, out),
            Some(Ok(Step::Refusal(text))) => self.voice.refusal(&text, out),
            Some(Ok(Step::Call(call))) => self.voice.call(&call, out),
            Some(Ok(Step::Ended(receipt))) => {
                comment(&format!("owed {}", crate::units::units(receipt.bill.owed)), out);
                return self.voice.end(&purchase, &receipt, out);
            }
            Some(Err(refused)) => return self.voice.failed(&refused, out),
        }
        self.talk = Talk::Going(purchase);
    }
}

/// For those who look: clients skip comments.
fn comment(text: &str, out: &mut String) {
    debug_assert!(!text.contains(['\r', '\n']), "a comment is one line");
    out.push_str(": haggle ");
    out.push_str(text);
    out.push_str("\n\n");
}

/// How long nothing was said. One timer, set anew only when it has rung.
struct Quiet {
    since: Instant,
    timer: Delay,
}

impl Quiet {
    fn new() -> Self {
        Quiet { since: Instant::now(), timer: Delay::new(COMMENT_EVERY) }
    }

    fn broken(&mut self) {
        self.since = Instant::now();
    }

    async fn over(&mut self) {
        loop {
            (&mut self.timer).await;
            let left = COMMENT_EVERY.saturating_sub(self.since.elapsed());
            self.timer.reset(if left.is_zero() { COMMENT_EVERY } else { left });
            if left.is_zero() {
                return;
            }
        }
    }
}

/// All that was said in an answer.
#[derive(Default)]
pub(crate) struct Said {
    pub(crate) text: String,
    pub(crate) thought: String,
    pub(crate) refusal: String,
    pub(crate) calls: Vec<ToolCall>,
}

/// Buys, and waits for the whole answer.
pub(crate) async fn whole(
    shop: Arc<Shop>,
    order: Order,
    owner: Option<usize>,
    render: impl FnOnce(&Purchase, Said, &Receipt) -> Value,
) -> Result<Response<Body>, Refused> {
    let mut purchase = purchase::begin(shop, order, owner).await?;
    let mut said = Said::default();
    loop {
        match purchase.next().await {
            Ok(Step::Note(_)) => {}
            Ok(Step::Text(more)) => said.text.push_str(&more),
            Ok(Step::Thought(more)) => said.thought.push_str(&more),
            Ok(Step::Refusal(more)) => said.refusal.push_str(&more),
            Ok(Step::Call(call)) => said.calls.push(call),
            Ok(Step::Ended(receipt)) => {
                let answer = render(&purchase, said, &receipt);
                let mut response = crate::body::json_response(hyper::StatusCode::OK, &answer);
                purchase.add_headers(response.headers_mut());
                return Ok(response);
            }
            Err(refused) => return Err(refused.with_text(said.text)),
        }
    }
}
