//! What is known of an error, from its body. Servers have many forms for it; anything is an error's body.

use std::time::Duration;

use super::json::Json;

/// Of a message, so many bytes are looked at: what matters is at its beginning, and what follows may quote a prompt.
const LOOKED_AT: usize = 400;

/// An error, as a server tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ErrorBody {
    /// A status that is told in the body, where HTTP's may be over.
    pub(super) status: Option<u16>,
    /// A short name of its kind, safe to print.
    pub(super) kind: Option<String>,
    /// When to come back.
    pub(super) retry_after: Option<Duration>,
    /// The server's own words. They may quote the prompt or the key.
    pub(super) words: String,
    /// The names of its kind, in small letters.
    kinds: String,
    /// The words, in small letters.
    folded: String,
    /// The request, in small letters: what is in it too may be a quotation, and says nothing of the server.
    request: String,
}

impl ErrorBody {
    /// Reads what can be read.
    pub(super) fn read(body: &[u8]) -> Self {
        let json = Json::whole(body);
        // Some put it into a list.
        let json =
            json.and_then(|json| if json.is_list() { json.items().find(|item| item.is_object()) } else { Some(json) });
        let Some(json) = json else { return Self::new(String::from_utf8_lossy(body).into_owned(), &[]) };
        let choice = json.field("choices").and_then(|choices| choices.items().next());
        let error = [Some(json), choice].into_iter().flatten().filter_map(|part| part.field("error"));
        let error = error.into_iter().find(|error| error.is_object()).unwrap_or(json);
        let text = |value: Json<'_>, name: &str| value.field(name).and_then(Json::lossy);
        let words = text(error, "message").or_else(|| text(json, "error")).or_else(|| text(json, "message"));
        // Or into a structure of its own: then all of it.
        let words =
            words.or_else(|| text(json, "detail")).unwrap_or_else(|| String::from_utf8_lossy(body).into_owned());
        let names = ["type", "code", "status", "param", "error_type"];
        let kinds: Vec<String> =
            names.iter().flat_map(|name| [text(error, name), text(json, name)]).flatten().collect();
        let codes = ["code", "status", "status_code", "statusCode"];
        let code = |value: Json<'_>| codes.iter().filter_map(|name| value.field(name)?.count()).find_map(status);
        let wait = error.any(&["retry_after", "retryAfter"]).or(json.any(&["retry_after", "retryAfter"]));
        let delay =
            error.field("details").and_then(|details| details.items().find_map(|part| text(part, "retryDelay")));
        let delay = delay.and_then(|delay| delay.trim_end_matches('s').parse::<f64>().ok());
        let delay = delay.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        Self {
            status: code(error).or_else(|| code(json)),
            retry_after: wait.and_then(Json::count).map(Duration::from_secs).or(delay),
            ..Self::new(words, &kinds)
        }
    }

    fn new(mut words: String, kinds: &[String]) -> Self {
        let end = (0..=LOOKED_AT.min(words.len())).rev().find(|at| words.is_char_boundary(*at));
        words.truncate(end.unwrap_or_default());
        let folded = words.to_ascii_lowercase();
        let kind = kinds.iter().find(|kind| is_name(kind)).cloned();
        Self { kind, words, kinds: kinds.join(" ").to_ascii_lowercase(), folded, ..Self::default() }
    }

    /// An error that answers a request.
    pub(super) fn about(self, request: &[u8]) -> Self {
        Self { request: String::from_utf8_lossy(request).to_ascii_lowercase(), ..self }
    }

    /// Whether it says one of these, in small letters.
    pub(super) fn says(&self, texts: &[&str]) -> bool {
        let is_said = |text: &&str| self.folded.contains(*text) && !self.request.contains(*text);
        texts.iter().any(|text| self.kinds.contains(text) || is_said(text))
    }

    /// Whether it names a field of the request.
    pub(super) fn names(&self, field: &str) -> bool {
        let is_in = |text: &str| {
            text.match_indices(field).any(|(at, _)| {
                let (before, after) = (&text.as_bytes()[..at], &text.as_bytes()[at + field.len()..]);
                !before.last().is_some_and(is_of_name) && !after.first().is_some_and(is_of_name)
            })
        };
        is_in(&self.kinds) || is_in(&self.folded)
    }
}

/// Whether a byte may be a part of a field's name.
fn is_of_name(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || *byte == b'_'
}

/// A status of HTTP.
fn status(code: u64) -> Option<u16> {
    u16::try_from(code).ok().filter(|status| (100..600).contains(status))
}

/// A name of a kind, and nothing that could quote a prompt or a key.
fn is_name(text: &str) -> bool {
    let is_short = (1..=48).contains(&text.len());
    let is_error = text.ends_with("Error") && text.bytes().all(|byte| byte.is_ascii_alphabetic());
    let is_one_case = |is: fn(&u8) -> bool| text.bytes().all(|byte| is(&byte) || byte == b'_');
    is_short && (is_error || is_one_case(u8::is_ascii_lowercase) || is_one_case(u8::is_ascii_uppercase))
}
