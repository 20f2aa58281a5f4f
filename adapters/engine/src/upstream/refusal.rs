//! Whose fault an error of the server is.

use std::time::Duration;

use crate::{Failure, Outage, Why};

use super::reply::ErrorBody;

/// How long a server that is overloaded is left alone if it does not say how long.
const OVERLOADED: Duration = Duration::from_secs(5);
/// No server decides about more than this.
const LONGEST: Duration = Duration::from_secs(300);
/// How long it is expected to take until what is broken is mended: until the next probe.
pub(super) const BROKEN: Duration = Duration::from_secs(30);

/// What an error of the server comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// For the job.
    pub(super) failure: Failure,
    /// For those that follow: none of them would fare better.
    pub(super) outage: Option<Outage>,
}

impl Refusal {
    /// For this job alone.
    pub(super) fn of_job(why: Why, detail: impl Into<String>) -> Self {
        Self { failure: Failure::new(why, detail), outage: None }
    }

    /// For this job and those that follow.
    pub(super) fn of_server(why: Why, lasts: Duration, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Self { failure: Failure::new(why, detail.clone()), outage: Some(Outage { lasts, detail }) }
    }
}

/// What the server's answer to a request comes to that it did not take.
///
/// What the requester did wrong fails the job anywhere: 400 and 422, as the context if that is what overflowed. What the
/// provider did wrong (key, model, account) fails it here, and the server is sick until somebody has mended that. What is
/// overloaded began nothing and is to blame for nothing: another provider may do better at once, this one later.
pub(super) fn of_status(status: u16, retry_after: Option<Duration>, body: &[u8]) -> Refusal {
    let body = ErrorBody::read(body);
    let kind = body.kind.as_ref().map(|kind| format!(" ({kind})")).unwrap_or_default();
    let said = format!("the upstream server answered HTTP {status}{kind}");
    let pause = retry_after.unwrap_or(OVERLOADED).min(LONGEST);
    match status {
        400 | 413 | 422 if body.context => {
            Refusal::of_job(Why::ContextOverflow, format!("{said}: prompt and answer do not fit its context"))
        }
        400 | 422 => Refusal::of_job(Why::BadRequest, format!("{said}: it cannot make sense of the request")),
        401 | 403 => Refusal::of_server(Why::Engine, BROKEN, format!("{said}: check the key")),
        402 => Refusal::of_server(Why::Engine, BROKEN, format!("{said}: the account there has no credit")),
        404 | 405 => Refusal::of_job(
            Why::Engine,
            format!("{said}: it has no such model, or does not answer this kind of prompt"),
        ),
        408 | 409 | 413 | 425 => Refusal::of_job(Why::Unavailable, said),
        429 => Refusal::of_server(Why::Unavailable, pause, format!("{said}: it is overloaded")),
        502..=504 => Refusal::of_server(Why::Unavailable, pause, format!("{said}: it cannot answer now")),
        300..400 => {
            Refusal::of_server(Why::Engine, BROKEN, format!("{said}: it redirects; give the address that it leads to"))
        }
        _ => Refusal::of_job(Why::Engine, format!("{said}: it broke")),
    }
}

/// What an error comes to that is told in the midst of a stream. Once text was delivered it is the server's.
pub(super) fn of_event(data: &[u8], begun: bool) -> Failure {
    let body = ErrorBody::read(data);
    let kind = body.kind.as_ref().map(|kind| format!(" ({kind})")).unwrap_or_default();
    let status = body.status.map(|status| format!(" {status}")).unwrap_or_default();
    let said = format!("the upstream server sent an error{status}{kind} instead of an answer's end");
    let why = match body.status {
        _ if begun => Why::Engine,
        _ if body.context => Why::ContextOverflow,
        Some(400 | 422) => Why::BadRequest,
        Some(429 | 502..=504) => Why::Unavailable,
        _ => Why::Engine,
    };
    Failure::new(why, said)
}

/// `Retry-After`, if it is a number of seconds.
pub(super) fn retry_after(header: &str) -> Option<Duration> {
    header.trim().parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(status: u16, body: &str) -> (Why, bool) {
        let refusal = of_status(status, None, body.as_bytes());
        (refusal.failure.why, refusal.outage.is_some())
    }

    #[test]
    fn who_is_at_fault() {
        let llama = r#"{"error":{"code":400,"message":"the request exceeds the available context size, try increasing it","type":"exceed_context_size_error","n_prompt_tokens":900,"n_ctx":512}}"#;
        let vllm = r#"{"object":"error","message":"This model's maximum context length is 512 tokens. However, you requested 900 tokens","type":"BadRequestError","param":null,"code":400}"#;
        let vllm_new = r#"{"error":{"message":"This model's maximum context length is 512 tokens.","type":"BadRequestError","param":null,"code":400}}"#;
        let open = r#"{"error":{"message":"too long","type":"invalid_request_error","param":"messages","code":"context_length_exceeded"}}"#;
        for body in [llama, vllm, vllm_new, open] {
            assert_eq!(of(400, body), (Why::ContextOverflow, false), "{body}");
        }
        assert_eq!(
            of(400, r#"{"error":{"message":"bad role","type":"invalid_request_error"}}"#),
            (Why::BadRequest, false)
        );
        assert_eq!(of(422, r#"{"detail":[{"loc":["body"]}]}"#), (Why::BadRequest, false));
        assert_eq!(of(401, ""), (Why::Engine, true));
        assert_eq!(of(403, "{}"), (Why::Engine, true));
        assert_eq!(of(404, "{}"), (Why::Engine, false), "the next probe tells, not one prompt");
        assert_eq!(of(429, ""), (Why::Unavailable, true));
        assert_eq!(of(500, "boom"), (Why::Engine, false));
        assert_eq!(
            of(503, r#"{"error":{"message":"Loading model","type":"unavailable_error","code":503}}"#),
            (Why::Unavailable, true)
        );
        assert_eq!(of(302, ""), (Why::Engine, true));
    }

    #[test]
    fn details_quote_neither_prompts_nor_keys() {
        let body = r#"{"error":{"message":"Incorrect API key provided: sk-secret","type":"my secret prompt","code":"sk-secret"}}"#;
        let refusal = of_status(401, None, body.as_bytes());
        assert!(!format!("{refusal:?}").contains("secret"));
        assert!(!of_event(body.as_bytes(), false).to_string().contains("secret"));
    }

    #[test]
    fn no_server_keeps_itself_out_for_long() {
        assert_eq!(retry_after(" 7 "), Some(Duration::from_secs(7)));
        assert_eq!(retry_after("Wed, 21 Oct 2026 07:28:00 GMT"), None);
        let refusal = of_status(429, retry_after("18446744073709551615"), b"");
        assert_eq!(refusal.outage.map(|outage| outage.lasts), Some(LONGEST));
    }
}
