//! What a server says: the JSON of its events and of its errors, as far as it matters here.

use serde::Deserialize;

use crate::{Failure, Why};

/// One event of an answer, or the whole answer of a server that does not stream.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Reply {
    choices: Option<Vec<Choice>>,
    usage: Option<Usage>,
    timings: Option<Timings>,
    error: Option<serde_json::Value>,
    /// `error` in events of some servers.
    object: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Choice {
    index: u32,
    /// Of a chat, piece by piece or whole.
    #[serde(alias = "message")]
    delta: Option<Delta>,
    /// Of a text that is continued.
    text: Option<String>,
    finish_reason: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Delta {
    content: Option<String>,
    /// What the model thinks before it answers, by the two names that are in use.
    reasoning_content: Option<String>,
    reasoning: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
struct Usage {
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
    completion_tokens_details: Option<Details>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
struct Details {
    reasoning_tokens: Option<u64>,
}

/// What llama-server adds to each piece on request.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
struct Timings {
    predicted_n: Option<u64>,
}

impl Reply {
    /// Reads one event's data.
    ///
    /// # Errors
    /// [`Why::Engine`] for what is no JSON of this kind. The text itself stays out of it: it may quote the prompt.
    pub(super) fn read(data: &[u8]) -> Result<Self, Failure> {
        serde_json::from_slice(data).map_err(|error| {
            let at = format!("{:?} error at column {}", error.classify(), error.column());
            let what = if str::from_utf8(data).is_ok() { "is not the JSON of a chunk" } else { "is not UTF-8" };
            Failure::new(Why::Engine, format!("the upstream server sent an event that {what} ({at})"))
        })
    }

    /// The text that it adds.
    pub(super) fn text(&self) -> &str {
        let choice = self.choice();
        let delta = choice.and_then(|choice| choice.delta.as_ref()).and_then(|delta| delta.content.as_deref());
        delta.or_else(|| choice?.text.as_deref()).unwrap_or_default()
    }

    /// Why the answer is over.
    pub(super) fn finish_reason(&self) -> Option<&str> {
        self.choice()?.finish_reason.as_deref().filter(|reason| !matches!(*reason, "" | "null"))
    }

    /// Tokens of the prompt, if it says so.
    pub(super) fn prompt_tokens(&self) -> Option<u64> {
        self.usage?.prompt_tokens
    }

    /// Tokens written so far, if it says so: those it was told as thoughts, too, unless it counts them apart.
    pub(super) fn total(&self) -> Option<u64> {
        let timings = self.timings.and_then(|timings| timings.predicted_n);
        self.usage.and_then(|usage| usage.completion_tokens).or(timings).filter(|total| *total > 0)
    }

    /// Of the total, what was thought and not written, if it says so.
    pub(super) fn hidden(&self) -> Option<u64> {
        self.usage?.completion_tokens_details?.reasoning_tokens
    }

    /// Whether it is a thought.
    pub(super) fn is_thought(&self) -> bool {
        let delta = self.choice().and_then(|choice| choice.delta.as_ref());
        let has = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
        delta.is_some_and(|delta| has(&delta.reasoning_content) || has(&delta.reasoning))
    }

    /// Whether it is an error instead of a part of the answer.
    pub(super) fn is_error(&self) -> bool {
        self.error.as_ref().is_some_and(|error| !error.is_null()) || self.object.as_deref() == Some("error")
    }

    fn choice(&self) -> Option<&Choice> {
        self.choices.as_ref()?.iter().find(|choice| choice.index == 0)
    }
}

/// What is known of an error, from its body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ErrorBody {
    /// Prompt and answer do not fit the model's context.
    pub(super) context: bool,
    /// A status that is told inside of a stream, where HTTP's is over.
    pub(super) status: Option<u16>,
    /// A short name of its kind, safe to print.
    pub(super) kind: Option<String>,
}

/// What servers call a context that is full.
const CONTEXT: [&str; 6] = [
    "context_length",
    "context length",
    "context_size",
    "context size",
    "context window",
    "exceeds the available context",
];
/// Of a message, so many bytes are looked at: what servers say of their context is at its beginning.
const LOOKED_AT: usize = 400;

impl ErrorBody {
    /// Reads what can be read; anything is an error's body.
    pub(super) fn read(body: &[u8]) -> Self {
        let Ok(body) = serde_json::from_slice::<serde_json::Value>(body) else {
            return Self { context: is_context(&String::from_utf8_lossy(body)), ..Self::default() };
        };
        let error = body.get("error").filter(|error| error.is_object()).unwrap_or(&body);
        let text = |field: &str| error.get(field).and_then(serde_json::Value::as_str);
        let message = text("message").or_else(|| body.get("error")?.as_str()).unwrap_or_default();
        let kinds = [text("type"), text("code")];
        let status = error.get("code").and_then(serde_json::Value::as_u64);
        Self {
            context: kinds.iter().flatten().any(|kind| is_context(kind)) || is_context(message),
            status: status.and_then(|status| u16::try_from(status).ok()).filter(|status| (100..600).contains(status)),
            kind: kinds.into_iter().flatten().find(|kind| is_name(kind)).map(str::to_owned),
        }
    }
}

fn is_context(text: &str) -> bool {
    let text = text.get(..LOOKED_AT).unwrap_or(text).to_ascii_lowercase();
    CONTEXT.iter().any(|name| text.contains(name))
}

/// A name of a kind, and nothing that could quote a prompt or a key.
fn is_name(text: &str) -> bool {
    (1..=48).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
        || text.len() <= 48 && text.ends_with("Error") && text.bytes().all(|byte| byte.is_ascii_alphabetic())
}
