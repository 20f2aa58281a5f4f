//! Everything that is refused, in one envelope: `{"error": {message, type, param, code, details}}`.

use std::time::Duration;

use hyper::{
    Response, StatusCode,
    header::{ALLOW, CONNECTION, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE},
};
use serde_json::{Value, json};

use crate::{
    body::{Body, json_response},
    fresh,
};

/// Told to clients that read it: do not try again.
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// A request that is not, or not completely, answered.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Refused {
    pub(crate) status: StatusCode,
    pub(crate) code: &'static str,
    pub(crate) message: String,
    /// The field that is to be changed.
    param: Option<String>,
    details: Option<Box<Value>>,
    retry_after: Option<Duration>,
    allow: Option<&'static str>,
    no_retry: bool,
    /// The connection cannot be used for another request.
    closes: bool,
}

impl Refused {
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Refused {
            status,
            code,
            message: message.into(),
            param: None,
            details: None,
            retry_after: None,
            allow: None,
            no_retry: false,
            closes: false,
        }
    }

    /// A field's value is not one that it can have.
    pub(crate) fn value(param: impl Into<String>, must: impl Into<String>) -> Self {
        let (param, must) = (param.into(), must.into());
        Refused::new(StatusCode::BAD_REQUEST, "invalid_value", format!("{param}: {must}")).param(param)
    }

    /// A field that would change the answer, and cannot be honoured.
    pub(crate) fn unsupported_parameter(param: impl Into<String>, why: &str) -> Self {
        let param = param.into();
        let message = format!("{param} is not supported here: {why}");
        Refused::new(StatusCode::BAD_REQUEST, "unsupported_parameter", message).param(param)
    }

    /// A value that would change the answer, and cannot be honoured.
    pub(crate) fn unsupported_value(param: impl Into<String>, why: &str) -> Self {
        let param = param.into();
        let message = format!("{param}: this value is not supported here: {why}");
        Refused::new(StatusCode::BAD_REQUEST, "unsupported_value", message).param(param)
    }

    pub(crate) fn no_route(method: &str, path: &str) -> Self {
        let message = format!("there is no {method} {path} here; GET /v1/models and POST /v1/chat/completions are");
        Refused::new(StatusCode::NOT_FOUND, "unknown_url", message)
    }

    pub(crate) fn method(allow: &'static str) -> Self {
        let message = format!("this path is asked with {allow}");
        let refused = Refused::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message);
        Refused { allow: Some(allow), ..refused }
    }

    pub(crate) fn param(self, param: impl Into<String>) -> Self {
        Refused { param: Some(param.into()), ..self }
    }

    pub(crate) fn details(self, details: Value) -> Self {
        Refused { details: Some(Box::new(details)), ..self }
    }

    /// What was delivered before it broke off, for clients that have not seen it.
    pub(crate) fn with_text(mut self, text: String) -> Self {
        if let Some(details) = &mut self.details {
            details["text"] = text.into();
        }
        self
    }

    /// Whoever tries again after so long may be served. A status that invites a retry means that nothing is owed.
    pub(crate) fn retry_after(self, after: Duration) -> Self {
        debug_assert!(matches!(self.status.as_u16(), 429 | 503), "{} does not say when to come back", self.status);
        Refused { retry_after: Some(after), ..self }
    }

    /// Asking again gives the same, though the status has it otherwise.
    pub(crate) fn without_retry(self) -> Self {
        Refused { no_retry: true, ..self }
    }

    pub(crate) fn closing(self) -> Self {
        Refused { closes: true, ..self }
    }

    /// What the client reads, in an answer or in the middle of a stream.
    pub(crate) fn envelope(&self) -> Value {
        let mut error = json!({
            "message": self.message, "type": self.kind(), "param": self.param, "code": self.code,
        });
        if let Some(details) = &self.details {
            error["details"] = Value::clone(details);
        }
        json!({ "error": error })
    }

    pub(crate) fn response(&self) -> Response<Body> {
        self.log();
        let mut response = json_response(self.status, &self.envelope());
        let headers = response.headers_mut();
        if let Some(after) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(after.as_secs().max(1)));
        }
        if let Some(allow) = self.allow {
            headers.insert(ALLOW, HeaderValue::from_static(allow));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if self.no_retry || self.status == StatusCode::FAILED_DEPENDENCY {
            headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"));
        }
        if self.closes {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    /// The whole answer, where no server is there to write it; the connection is closed behind it.
    pub(crate) fn on_the_wire(&self) -> Vec<u8> {
        self.log();
        let (body, id) = (self.envelope().to_string(), fresh::request_id());
        format!(
            "HTTP/1.1 {}\r\ncontent-type: application/json\r\ncache-control: no-store\r\nx-request-id: {id}\r\n\
             connection: close\r\ncontent-length: {}\r\n\r\n{body}",
            self.status,
            body.len()
        )
        .into()
    }

    /// Without the message: it may quote what the client sent.
    fn log(&self) {
        tracing::debug!(status = self.status.as_u16(), code = self.code, "a request was refused");
    }

    /// The names that OpenAI gives to kinds of errors.
    fn kind(&self) -> &'static str {
        match self.status.as_u16() {
            401 => "authentication_error",
            402 => "insufficient_quota",
            403 => "permission_error",
            424 => "interrupted_error",
            429 => "rate_limit_error",
            500.. => "server_error",
            _ => "invalid_request_error",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_envelope_has_all_that_clients_read() {
        let refused = Refused::value("max_tokens", "must be at least 1");
        let error = &refused.envelope()["error"];
        assert_eq!(error["message"], "max_tokens: must be at least 1");
        let rest = (&error["type"], &error["param"], &error["code"]);
        assert_eq!(rest, (&json!("invalid_request_error"), &json!("max_tokens"), &json!("invalid_value")));
        assert!(error.get("details").is_none());
    }

    #[test]
    fn who_is_owed_is_never_invited_to_try_again() {
        let interrupted = Refused::new(StatusCode::FAILED_DEPENDENCY, "interrupted", "x").response();
        assert_eq!(interrupted.headers().get("x-should-retry").map(HeaderValue::as_bytes), Some(b"false".as_slice()));
        assert!(interrupted.headers().get(RETRY_AFTER).is_none());
    }
}
