//! What a server says: the JSON of its events, as far as it matters here. Whatever is not understood changes nothing.

use super::json::Json;

/// One event of an answer, or the whole answer of a server that does not stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Reply {
    /// The text that it adds.
    pub(super) text: Vec<u8>,
    /// The text of a whole message. Where text comes piece by piece this repeats it.
    pub(super) message: Vec<u8>,
    /// Bytes of what the model thinks before it answers.
    pub(super) thought: u64,
    /// Why the answer is over.
    pub(super) reason: Option<String>,
    /// Tokens of the prompt, if it says so.
    pub(super) prompt_tokens: Option<u64>,
    /// Tokens written so far, if it says so: thoughts too, unless it counts them apart.
    pub(super) total: Option<u64>,
    /// Of the total, what was thought and not written, if it says so.
    pub(super) hidden: Option<u64>,
    /// The model that writes, as it says.
    pub(super) model: Option<String>,
    /// It is a part of an answer.
    pub(super) is_part: bool,
    /// It is an error instead of a part of the answer.
    pub(super) is_error: bool,
    /// It says something that may be an error, in a form of its own.
    pub(super) is_complaint: bool,
}

impl Reply {
    /// Reads one event.
    pub(super) fn read(json: Json<'_>) -> Self {
        // One answer was asked for, so that the first is it, whatever its number.
        let choices = json.field("choices");
        let alone = choices.filter(|choices| choices.is_object());
        let choice = choices.and_then(|choices| choices.items().find(|choice| choice.is_object())).or(alone);
        let usage = json.field("usage");
        let said = |names: &[&str]| usage.and_then(|usage| usage.any(names)).and_then(Json::count);
        let details = usage.and_then(|usage| usage.field("completion_tokens_details"));
        let timed = json.field("timings").and_then(|timings| timings.field("predicted_n")).and_then(Json::count);
        let is_named = |wanted: &[u8]| json.field("object").and_then(Json::text).is_some_and(|name| *name == *wanted);
        let errors = [Some(json), choice].into_iter().flatten().filter_map(|part| part.field("error"));
        let is_error = is_named(b"error") || errors.into_iter().any(|error| !error.is_nothing());
        let mut reply = choice.map(Self::of_choice).unwrap_or_default();
        reply.prompt_tokens = said(&["prompt_tokens", "input_tokens"]);
        reply.total = said(&["completion_tokens", "output_tokens"]).or(timed).filter(|total| *total > 0);
        reply.hidden = details.and_then(|details| details.field("reasoning_tokens")).and_then(Json::count);
        reply.model = json.field("model").and_then(Json::lossy);
        reply.is_part = choices.is_some_and(Json::is_list) || alone.is_some();
        reply.is_error = is_error;
        reply.is_complaint = !reply.is_part && json.any(&["detail", "message", "code"]).is_some();
        reply
    }

    fn of_choice<'a>(choice: Json<'a>) -> Self {
        let (delta, message) = (choice.field("delta"), choice.field("message"));
        let mut reply = Self::default();
        // By the names that are in use.
        let thoughts = ["reasoning_content", "reasoning", "thinking"];
        let said = [delta, message].into_iter().flatten();
        let thought = said.flat_map(|part| thoughts.map(|name| part.field(name)).into_iter().flatten());
        reply.thought = thought.filter(|thought| !thought.is_nothing()).map(size).max().unwrap_or_default();
        let content = |part: Json<'a>| if part.is_object() { part.field("content") } else { Some(part) };
        if let Some(content) = delta.and_then(content) {
            reply.thought += take(content, &mut reply.text);
        }
        if reply.text.is_empty()
            && let Some(text) = choice.field("text")
        {
            reply.thought += take(text, &mut reply.text);
        }
        if let Some(content) = message.and_then(content) {
            reply.thought += take(content, &mut reply.message);
        }
        let reason = choice.any(&["finish_reason", "finishReason"]).and_then(Json::lossy);
        reply.reason = reason.filter(|reason| !matches!(reason.trim(), "" | "null" | "None"));
        reply
    }
}

/// Takes a content's text: as it is, or from its parts. Returns how many bytes of it are thoughts.
fn take(content: Json<'_>, text: &mut Vec<u8>) -> u64 {
    if content.is_object() {
        return take_part(content, text);
    }
    let mut thought = 0;
    for part in content.items() {
        thought += if part.is_object() { take_part(part, text) } else { take_plain(part, text) };
    }
    thought + take_plain(content, text)
}

fn take_part(part: Json<'_>, text: &mut Vec<u8>) -> u64 {
    let kind = part.field("type").and_then(Json::lossy).unwrap_or_default();
    if kind.contains("think") || kind.contains("reason") {
        return size(part);
    }
    part.any(&["text", "content"]).map_or(0, |part| take_plain(part, text))
}

/// A text, or a number where somebody took a text for one.
fn take_plain(value: Json<'_>, text: &mut Vec<u8>) -> u64 {
    if let Some(plain) = value.text() {
        text.extend_from_slice(&plain);
    } else if let Some(number) = value.number() {
        text.extend_from_slice(number);
    }
    0
}

/// Bytes of a thought, in whatever form it comes.
fn size(thought: Json<'_>) -> u64 {
    thought.text().map_or(1, |text| text.len() as u64)
}
