//! Which path does what.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use haggle::{Model, Receipt};
use hyper::{
    HeaderMap, Method, Request, Response, StatusCode,
    body::Incoming,
    header::{HeaderName, HeaderValue},
};
use serde_json::{Value, json};

use crate::{
    body::{Body, json_response, text_response},
    catalog, chat, completions,
    errors::Refused,
    failure, fresh,
    heads::Fault,
    intake, live,
    order::Order,
    owner, page,
    purchase::Purchase,
    repeats, responses,
    shop::Shop,
    stream::{self, Said, Voice},
};

/// Answers a request. Every answer has an id, and an envelope if it is an error.
pub(crate) async fn answer(shop: Arc<Shop>, request: Request<Incoming>, fault: Option<Fault>) -> Response<Body> {
    let (mut response, page) = match (fault, shop.owner.whence(request.headers(), request.uri())) {
        (Some(fault), _) => (fault.refused().response(), None),
        (None, Err(refused)) => (refused.response(), None),
        (None, Ok(page)) => (checked(shop, request).await.unwrap_or_else(|refused| refused.response()), page),
    };
    let headers = response.headers_mut();
    if let Some(page) = page {
        owner::let_read(headers, page);
    }
    if let Ok(id) = HeaderValue::try_from(fresh::request_id()) {
        headers.insert(HeaderName::from_static("x-request-id"), id);
    }
    response
}

async fn checked(shop: Arc<Shop>, request: Request<Incoming>) -> Result<Response<Body>, Refused> {
    let (method, headers) = (request.method(), request.headers());
    if let Some(told) = owner::preflight(method, headers) {
        return Ok(told);
    }
    let path = request.uri().path().to_owned();
    match path.as_str() {
        // It holds nothing of anybody's: what it shows it asks for, with a key where one is needed.
        "/" => return get(method).map(|()| page::page()),
        "/healthz" => return get(method).map(|()| json_response(StatusCode::OK, &json!({"status": "ok"}))),
        "/readyz" => return get(method).and_then(|()| ready(&shop)),
        _ => {}
    }
    let owner = shop.owner.who(headers)?;
    match path.as_str() {
        "/v1/chat/completions" | "/v1/completions" | "/v1/responses" => order(shop, request, owner).await,
        "/metrics" => get(method).map(|()| shop.counted()),
        "/v1/haggle/live" => get(method).and_then(|()| live::watch(shop, owner)),
        "/v1/models" => get(method).map(|()| shop.clone())?.models().await,
        path => named(&shop, method, path, owner).await,
    }
}

/// What is ordered by a body, on one of three paths.
async fn order(shop: Arc<Shop>, request: Request<Incoming>, owner: Option<usize>) -> Result<Response<Body>, Refused> {
    if *request.method() != Method::POST {
        return Err(Refused::method("POST"));
    }
    shop.owner.rights(owner).map_or(Ok(()), |rights| rights.ask(Instant::now()))?;
    let (head, body) = request.into_parts();
    let is_retry = |count: &HeaderValue| count.as_bytes() != b"0";
    if head.headers.get("x-stainless-retry-count").is_some_and(is_retry) {
        shop.metrics.retried();
    }
    let key = repeats::key(&head.headers)?;
    let bytes = intake::read(body, &shop.config.patience).await?;
    let Some(key) = key else { return buy(shop, head.uri.path(), &head.headers, &bytes, owner).await };
    let (buyer, digest) = (shop.clone(), repeats::digest(head.uri.path(), &bytes));
    let answer = async move {
        let bought = buy(buyer, head.uri.path(), &head.headers, &bytes, owner).await;
        bought.unwrap_or_else(|refused| refused.response())
    };
    repeats::once(&shop.repeats, &*shop.spawn, (owner, key), digest, answer).await
}

async fn buy(
    shop: Arc<Shop>,
    path: &str,
    headers: &HeaderMap,
    bytes: &[u8],
    owner: Option<usize>,
) -> Result<Response<Body>, Refused> {
    match path {
        "/v1/chat/completions" => {
            let order = chat::read(bytes, headers)?;
            let voice = chat::Deltas::new(order.include_usage);
            answered(shop, order, owner, voice, chat::whole).await
        }
        "/v1/completions" => {
            let order = completions::read(bytes, headers)?;
            let voice = completions::Pieces::new(order.include_usage);
            answered(shop, order, owner, voice, completions::whole).await
        }
        _ => {
            let (order, echo) = responses::read(bytes, headers)?;
            let voice = responses::Events::new(echo.clone());
            let whole = |purchase: &Purchase, said, receipt: &Receipt| responses::whole(purchase, echo, said, receipt);
            answered(shop, order, owner, voice, whole).await
        }
    }
}

async fn answered(
    shop: Arc<Shop>,
    order: Order,
    owner: Option<usize>,
    voice: impl Voice,
    whole: impl FnOnce(&Purchase, Said, &Receipt) -> Value,
) -> Result<Response<Body>, Refused> {
    shop.owner.rights(owner).map_or(Ok(()), |rights| rights.allow(&order.models))?;
    let ignored = order.ignored.clone();
    let response = match order.stream {
        true => stream::respond(shop, order, owner, voice).await,
        false => stream::whole(shop, order, owner, whole).await?,
    };
    Ok(told(response, &ignored))
}

/// Paths that end in a name.
async fn named(shop: &Arc<Shop>, method: &Method, path: &str, owner: Option<usize>) -> Result<Response<Body>, Refused> {
    let unknown = || Refused::no_route(method.as_str(), path);
    if let Some(name) = path.strip_prefix("/v1/models/").filter(|name| !name.is_empty()) {
        get(method)?;
        return shop.model(&decoded(name).ok_or_else(unknown)?).await;
    }
    if let Some(id) = path.strip_prefix("/v1/haggle/jobs/").filter(|id| !id.is_empty()) {
        get(method)?;
        let none = || Refused::new(StatusCode::NOT_FOUND, "job_not_found", "no such job is remembered here");
        return Ok(json_response(StatusCode::OK, &shop.jobs.find(id, owner).ok_or_else(none)?));
    }
    Err(unknown())
}

impl Shop {
    fn counted(&self) -> Response<Body> {
        let (open, running) = (self.open.load(Ordering::Relaxed), self.running.load(Ordering::Relaxed));
        let text = [self.metrics.text(open, running), self.node.metrics()].concat();
        text_response(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text)
    }

    async fn models(self: Arc<Self>) -> Result<Response<Body>, Refused> {
        let sold = self.catalog.look(&self.node).await.map_err(|_| failure::stopping())?;
        Ok(json_response(StatusCode::OK, &catalog::list(&sold)))
    }

    async fn model(&self, name: &[u8]) -> Result<Response<Body>, Refused> {
        let sold = self.catalog.look(&self.node).await.map_err(|_| failure::stopping())?;
        let described = Model::new(name).and_then(|model| catalog::describe(&sold, &model));
        let none = || {
            let text = format!(
                "nobody sells the model {:?}; GET /v1/models lists what is sold",
                String::from_utf8_lossy(name)
            );
            Refused::new(StatusCode::NOT_FOUND, "model_not_found", text).param("model")
        };
        Ok(json_response(StatusCode::OK, &described.ok_or_else(none)?))
    }
}

fn get(method: &Method) -> Result<(), Refused> {
    if matches!(*method, Method::GET | Method::HEAD) { Ok(()) } else { Err(Refused::method("GET, HEAD")) }
}

fn ready(shop: &Shop) -> Result<Response<Body>, Refused> {
    let connected = shop.node.connected_peers();
    let ways = &shop.config.bootstrap;
    if ways.is_empty() || ways.iter().any(|peer| connected.contains(peer)) {
        return Ok(json_response(StatusCode::OK, &json!({"status": "ready", "peers": connected.len()})));
    }
    let refused = Refused::new(StatusCode::SERVICE_UNAVAILABLE, "not_ready", "no bootstrap node is connected");
    Err(refused.retry_after(std::time::Duration::from_secs(5)))
}

/// Names what was dropped.
fn told(mut response: Response<Body>, ignored: &[String]) -> Response<Body> {
    // Names are the client's own: what no header can carry is left out.
    let names: Vec<&str> = ignored
        .iter()
        .map(String::as_str)
        .filter(|name| name.len() <= 64 && name.bytes().all(|byte| byte.is_ascii_graphic()))
        .take(32)
        .collect();
    if let Ok(value) = HeaderValue::try_from(names.join(", "))
        && !names.is_empty()
    {
        response.headers_mut().insert(HeaderName::from_static("x-haggle-ignored"), value);
    }
    response
}

/// A part of a path as it was before it was encoded.
fn decoded(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, more)) = rest.split_first() {
        rest = more;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (digits, more) = rest.split_at_checked(2)?;
        let digits = str::from_utf8(digits).ok().filter(|digits| !digits.starts_with('+'))?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = more;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_decoded_once_or_not_at_all() {
        let read = |text: &str| decoded(text).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        assert_eq!(read("meta%2Fllama%3A8b"), Some("meta/llama:8b".into()));
        assert_eq!((read("a/b:c"), read("%2541")), (Some("a/b:c".into()), Some("%41".into())));
        assert_eq!((read("%4"), read("%zz"), read("%+1")), (None, None, None));
    }
}
