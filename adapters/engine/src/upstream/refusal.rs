//! Whose fault an error of the server is, and for how long it is left alone. Servers tell the same in many ways; this is
//! the one place that knows them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ureq::http::HeaderMap;

use crate::{Failure, Outage, Why};

use super::{date, error::ErrorBody};

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

/// Who is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Blame {
    /// The requester: prompt and answer do not fit.
    Context,
    /// The requester, as far as can be seen.
    Request,
    /// Nobody: this kind of server is not able to what is asked.
    Ability,
    /// Nobody: it began nothing, and may do better another time.
    Busy,
    /// The provider, who has to mend this.
    Provider(&'static str),
    /// The server.
    Server(&'static str),
}

/// What servers call a context that is full.
const CONTEXT: [&str; 9] = [
    "context_length",
    "context length",
    "context_size",
    "context size",
    "context window",
    "maximum context",
    "prompt is too long",
    "input is too long",
    "tokens + `max_new_tokens` must be",
];
/// What they say when they have too much to do.
const BUSY: [&str; 20] = [
    "overloaded",
    "rate_limit",
    "rate limit",
    "ratelimit",
    "too many requests",
    "too_many_requests",
    "resource_exhausted",
    "unavailable",
    "server_busy",
    "server busy",
    "is busy",
    "at capacity",
    "over capacity",
    "queue is full",
    "queue_full",
    "throttl",
    "slow down",
    "try again later",
    "loading model",
    "is loading",
];
/// What they say of a key that does not open.
const KEY: [&str; 8] = [
    "api key",
    "api_key",
    "api-key",
    "apikey",
    "unauthorized",
    "unauthenticated",
    "authentication",
    "permission_denied",
];
/// What they say where nobody has paid.
const ACCOUNT: [&str; 5] =
    ["insufficient_quota", "insufficient balance", "insufficient credit", "billing", "no credit"];
/// What they say of a model that is not there.
const MODEL: [&str; 10] = [
    "no model",
    "model not loaded",
    "model is not loaded",
    "failed to load model",
    "error loading model",
    "model_not_found",
    "model not found",
    "no such model",
    "unknown model",
    "invalid model",
];
/// How the tokens are to be drawn, ended and told of: what one server is not able to, another may be.
const ABILITIES: [&str; 12] = [
    "temperature",
    "top_p",
    "top_k",
    "seed",
    "stop",
    "stream_options",
    "continuous_usage_stats",
    "timings_per_token",
    "max_tokens",
    "max_completion_tokens",
    "continue_final_message",
    "add_generation_prompt",
];

/// Whose fault it is that a server refuses, by the status that it told (in its head or in an event) and by what it says;
/// and for how long it is left alone, if none of those that follow would fare better.
///
/// What the requester did wrong fails the job anywhere. What the provider did wrong (key, model, account) fails it here, and
/// the server is sick until somebody has mended that, whatever status it is told with. What is overloaded began nothing
/// and is to blame for nothing: another provider may do better at once, this one later.
fn judge(status: Option<u16>, retry_after: Option<Duration>, body: &ErrorBody) -> (Blame, Option<Duration>) {
    let retry_after = retry_after.or(body.retry_after).map(|pause| pause.min(LONGEST));
    let pause = Some(retry_after.unwrap_or(OVERLOADED));
    // These statuses say nothing certain: then the words do.
    let is_vague = matches!(status, None | Some(400 | 403 | 404 | 413 | 422 | 500 | 501));
    let says = |texts: &[&str]| is_vague && body.says(texts);
    let is_model_gone = says(&MODEL) || says(&["does not exist"]) && body.names("model");
    match status {
        Some(402) => (Blame::Provider("the account there has no credit"), Some(BROKEN)),
        _ if body.says(&ACCOUNT) => (Blame::Provider("the account there has no credit"), Some(BROKEN)),
        _ if says(&CONTEXT) => (Blame::Context, None),
        _ if is_model_gone => (Blame::Provider("it does not have the model loaded"), Some(BROKEN)),
        _ if says(&BUSY) => (Blame::Busy, pause),
        Some(401) => (Blame::Provider("check the key"), Some(BROKEN)),
        _ if says(&KEY) => (Blame::Provider("check the key"), Some(BROKEN)),
        Some(403) => (Blame::Provider("check the key"), Some(BROKEN)),
        Some(300..400) => (Blame::Provider("it redirects; give the address that it leads to"), Some(BROKEN)),
        Some(400 | 422) if ABILITIES.iter().any(|field| body.names(field)) => (Blame::Ability, None),
        Some(400 | 422) => (Blame::Request, None),
        Some(404 | 405) => (Blame::Server("it has no such model, or does not answer this kind of prompt"), None),
        Some(408 | 409 | 413 | 423 | 425) => (Blame::Busy, retry_after),
        Some(420 | 429 | 502..=504 | 509 | 520..=530 | 598 | 599) => (Blame::Busy, pause),
        // Whoever says when to come back is not broken.
        _ if retry_after.is_some() => (Blame::Busy, retry_after),
        _ => (Blame::Server("it broke"), None),
    }
}

/// What the server's answer to a request comes to that it did not take.
pub(super) fn of_status(status: u16, retry_after: Option<Duration>, body: &ErrorBody) -> Refusal {
    let kind = body.kind.as_ref().map(|kind| format!(" ({kind})")).unwrap_or_default();
    let said = format!("the upstream server answered HTTP {status}{kind}");
    refusal(judge(Some(status), retry_after, body), &said, false)
}

/// What an error comes to that is told in the midst of a stream.
pub(super) fn of_event(body: &ErrorBody, begun: bool) -> Refusal {
    let kind = body.kind.as_ref().map(|kind| format!(" ({kind})")).unwrap_or_default();
    let status = body.status.map(|status| format!(" {status}")).unwrap_or_default();
    let said = format!("the upstream server sent an error{status}{kind} instead of an answer's end");
    refusal(judge(body.status, None, body), &said, begun)
}

/// What is to be told. Once text was delivered (`begun`) the requester was understood, and what broke off is the server's.
fn refusal((blame, pause): (Blame, Option<Duration>), said: &str, begun: bool) -> Refusal {
    let (why, what) = match blame {
        Blame::Busy if begun => (Why::Truncated, "it cannot go on now"),
        Blame::Busy => (Why::Unavailable, "it cannot answer now"),
        Blame::Provider(what) | Blame::Server(what) => (Why::Engine, what),
        _ if begun => (Why::Engine, "it broke"),
        Blame::Context => (Why::ContextOverflow, "prompt and answer do not fit its context"),
        Blame::Request => (Why::BadRequest, "it cannot make sense of the request"),
        Blame::Ability => (Why::Unavailable, "it is not able to what is asked of it"),
    };
    match pause {
        Some(pause) => Refusal::of_server(why, pause, format!("{said}: {what}")),
        None => Refusal::of_job(why, format!("{said}: {what}")),
    }
}

/// When to come back, as a server's headers say it: in seconds, in thousandths of them, or by a date.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: &str| headers.get(name)?.to_str().ok().map(str::trim);
    let float = |name: &str| text(name)?.parse::<f64>().ok();
    let seconds = float("retry-after").or_else(|| float("retry-after-ms").map(|millis| millis / 1000.0));
    if let Some(seconds) = seconds {
        return Duration::try_from_secs_f64(seconds).ok().or(Some(LONGEST)).filter(|_| seconds >= 0.0);
    }
    let until = date::seconds(text("retry-after")?)?;
    // By the server's clock, if it tells it.
    let clock = || SystemTime::now().duration_since(UNIX_EPOCH).ok().map(|now| now.as_secs());
    let now = text("date").and_then(date::seconds).or_else(clock)?;
    Some(Duration::from_secs(until.saturating_sub(now)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(status: u16, body: &str) -> (Why, Option<u64>) {
        let refusal = of_status(status, None, &ErrorBody::read(body.as_bytes()));
        (refusal.failure.why, refusal.outage.map(|outage| outage.lasts.as_secs()))
    }

    fn event(body: &str) -> (Why, Option<u64>) {
        let refusal = of_event(&ErrorBody::read(body.as_bytes()), false);
        (refusal.failure.why, refusal.outage.map(|outage| outage.lasts.as_secs()))
    }

    #[test]
    fn who_is_at_fault() {
        let llama = r#"{"error":{"code":400,"message":"the request exceeds the available context size, try increasing it","type":"exceed_context_size_error","n_prompt_tokens":900,"n_ctx":512}}"#;
        let vllm = r#"{"object":"error","message":"This model's maximum context length is 512 tokens. However, you requested 900 tokens","type":"BadRequestError","param":null,"code":400}"#;
        let vllm_new = r#"{"error":{"message":"This model's maximum context length is 512 tokens.","type":"BadRequestError","param":null,"code":400}}"#;
        let open = r#"{"error":{"message":"too long","type":"invalid_request_error","param":"messages","code":"context_length_exceeded"}}"#;
        for body in [llama, vllm, vllm_new, open] {
            assert_eq!(of(400, body), (Why::ContextOverflow, None), "{body}");
            assert_eq!(event(body), (Why::ContextOverflow, None), "{body}");
        }
        let role = r#"{"error":{"message":"bad role","type":"invalid_request_error"}}"#;
        assert_eq!(of(400, role), (Why::BadRequest, None));
        assert_eq!(of(422, r#"{"detail":[{"loc":["body"]}]}"#), (Why::BadRequest, None));
        assert_eq!(of(401, ""), (Why::Engine, Some(30)));
        assert_eq!(of(403, "{}"), (Why::Engine, Some(30)));
        assert_eq!(of(404, "{}"), (Why::Engine, None), "the next probe tells, not one prompt");
        assert_eq!(of(500, "boom"), (Why::Engine, None));
        assert_eq!(of(302, ""), (Why::Engine, Some(30)));
        assert_eq!(of(422, r#"{"error":"`temperature` must be strictly positive"}"#), (Why::Unavailable, None));
    }

    #[test]
    fn a_sick_server_is_sick_with_any_status() {
        for body in [
            r#"{"error":{"message":"No models loaded. Please load a model","type":"invalid_request_error"}}"#,
            r#"{"error":"Failed to load model \"m\". Error: Error loading model."}"#,
            r#"[{"error":{"code":400,"message":"API key not valid.","status":"INVALID_ARGUMENT"}}]"#,
            r#"{"code":"an invalid argument","error":"Incorrect API key provided: x."}"#,
            r#"{"error":{"message":"The model `m` does not exist","code":"model_not_found"}}"#,
        ] {
            for status in [400, 404, 500] {
                assert_eq!(of(status, body), (Why::Engine, Some(30)), "{status} {body}");
            }
            assert_eq!(event(body), (Why::Engine, Some(30)), "{body}");
        }
        let quota = r#"{"error":{"message":"You exceeded your quota","code":"insufficient_quota"}}"#;
        assert_eq!(of(429, quota), (Why::Engine, Some(30)), "waiting does not help");
    }

    #[test]
    fn overload_has_many_dialects() {
        let busy = (Why::Unavailable, Some(5));
        for status in [429, 502, 503, 504, 509, 520, 521, 522, 523, 524, 525, 526, 527, 529, 530] {
            assert_eq!(of(status, ""), busy, "{status}");
        }
        for body in [
            r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#,
            r#"{"error":{"code":429,"message":"slow"}}"#,
            r#"{"error":{"code":"429","message":"slow"}}"#,
            r#"{"error":{"code":"rate_limit_exceeded","message":"slow"}}"#,
            r#"{"error":{"status":"RESOURCE_EXHAUSTED"}}"#,
            r#"{"error":"Model is currently loading, is loading"}"#,
            r#"{"message":"server busy","status_code":529}"#,
        ] {
            assert_eq!(event(body), busy, "{body}");
        }
        let waits = r#"{"error":{"code":429,"details":[{"retryDelay":"40s"}]}}"#;
        assert_eq!(event(waits), (Why::Unavailable, Some(40)));
        assert_eq!(event(r#"{"error":{"code":500,"retry_after":7}}"#), (Why::Unavailable, Some(7)));
        let late = of_event(&ErrorBody::read(br#"{"error":{"code":529}}"#), true);
        assert_eq!(late.failure.why, Why::Truncated, "text was delivered");
    }

    #[test]
    fn details_quote_neither_prompts_nor_keys() {
        let body = r#"{"error":{"message":"Incorrect API key provided: sk-secret","type":"my secret prompt","code":"sk-secret"}}"#;
        let refusal = of_status(401, None, &ErrorBody::read(body.as_bytes()));
        assert!(!format!("{refusal:?}").contains("secret"));
        assert!(!format!("{:?}", of_event(&ErrorBody::read(body.as_bytes()), false)).contains("secret"));
    }

    #[test]
    fn when_to_come_back_is_said_in_many_ways() {
        let of = |headers: &[(&'static str, &str)]| {
            let header =
                |(name, value): &(&'static str, &str)| (name.parse().expect("a name"), value.parse().expect("a value"));
            retry_after(&headers.iter().map(header).collect()).map(|pause| pause.as_millis())
        };
        let date = ("date", "Wed, 21 Oct 2026 07:28:00 GMT");
        assert_eq!(of(&[("retry-after", " 7 ")]), Some(7000));
        assert_eq!(of(&[("retry-after", "1.5")]), Some(1500));
        assert_eq!(of(&[("retry-after-ms", "250")]), Some(250));
        assert_eq!(of(&[("retry-after", "Wed, 21 Oct 2026 07:28:40 GMT"), date]), Some(40_000));
        assert_eq!(of(&[("retry-after", "Wed, 21 Oct 2026 07:27:00 GMT"), date]), Some(0));
        assert_eq!(of(&[("retry-after", "soon")]), None);
        assert_eq!(of(&[("retry-after", "-1")]), None);
        let refusal = of_status(429, Some(Duration::MAX), &ErrorBody::default());
        assert_eq!(refusal.outage.map(|outage| outage.lasts), Some(LONGEST), "no server keeps itself out for long");
    }
}
