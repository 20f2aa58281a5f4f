//! What a server says: the JSON of its events, as far as it matters here. Whatever is not understood changes nothing.

use crate::Stop;

use super::{calls::Call, json::Json};

/// One event of an answer, or the whole answer of a server that does not stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Reply {
    /// What it adds.
    pub(super) delta: Said,
    /// What a whole message says. Where that comes piece by piece this repeats it.
    pub(super) message: Said,
    /// Why the answer is over.
    pub(super) reason: Option<Reason>,
    /// Tokens of the prompt, if it says so.
    pub(super) prompt_tokens: Option<u64>,
    /// Tokens written so far, if it says so: thoughts too, unless it counts them apart.
    pub(super) total: Option<u64>,
    /// Of the total, what was thought, if it says so.
    pub(super) thought: Option<u64>,
    /// Of the prompt's tokens, those that it had already, if it says so.
    pub(super) cached: Option<u64>,
    /// The model that writes, as it says.
    pub(super) model: Option<String>,
    /// It is a part of an answer.
    pub(super) is_part: bool,
    /// It is an error instead of a part of the answer.
    pub(super) is_error: bool,
    /// It says something that may be an error, in a form of its own.
    pub(super) is_complaint: bool,
}

/// What a message says, or a piece of one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Said {
    /// What the model thinks before it answers.
    pub(super) thought: Vec<u8>,
    pub(super) text: Vec<u8>,
    /// Why the model does not answer.
    pub(super) refusal: Vec<u8>,
    pub(super) calls: Vec<Call>,
}

/// Why a server says that it ends an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    Stop(Stop),
    Broken,
}

/// The names of thoughts that are in use.
const THOUGHTS: [&str; 3] = ["reasoning_content", "reasoning", "thinking"];

impl Reply {
    /// Reads one event.
    pub(super) fn read(json: Json<'_>) -> Self {
        // One answer was asked for. A server that writes several means the one numbered 0; one that numbers otherwise, its first.
        let choices = json.field("choices");
        let alone = choices.filter(|choices| choices.is_object());
        let answers = || choices.into_iter().flat_map(Json::items).filter(|choice| choice.is_object());
        let is_first = |choice: &Json<'_>| choice.field("index").and_then(Json::count) == Some(0);
        let choice = answers().find(is_first).or_else(|| answers().next()).or(alone);
        let usage = json.field("usage");
        let said = |names: &[&str]| usage.and_then(|usage| usage.any(names)).and_then(Json::count);
        let detail = |of: &str, name| usage?.field(of)?.field(name)?.count();
        let timed = |name| json.field("timings")?.field(name)?.count();
        let is_named = |wanted: &[u8]| json.field("object").and_then(Json::text).is_some_and(|name| *name == *wanted);
        let errors = [Some(json), choice].into_iter().flatten().filter_map(|part| part.field("error"));
        let is_error = is_named(b"error") || errors.into_iter().any(|error| !error.is_nothing());
        let mut reply = choice.map(Self::of_choice).unwrap_or_default();
        reply.prompt_tokens = said(&["prompt_tokens", "input_tokens"]);
        reply.total = said(&["completion_tokens", "output_tokens"]).or(timed("predicted_n")).filter(|total| *total > 0);
        reply.thought = detail("completion_tokens_details", "reasoning_tokens");
        let cached = detail("prompt_tokens_details", "cached_tokens");
        reply.cached = cached.or(said(&["prompt_cache_hit_tokens"])).or(timed("cache_n"));
        reply.model = json.field("model").and_then(Json::lossy);
        reply.is_part = choices.is_some_and(Json::is_list) || alone.is_some();
        reply.is_error = is_error;
        reply.is_complaint = !reply.is_part && json.any(&["detail", "message", "code"]).is_some();
        reply
    }

    fn of_choice(choice: Json<'_>) -> Self {
        let mut reply = Self::default();
        if let Some(delta) = choice.field("delta") {
            reply.delta.take(delta);
        }
        if reply.delta.text.is_empty()
            && let Some(text) = choice.field("text")
        {
            reply.delta.take_content(text);
        }
        if let Some(message) = choice.field("message") {
            reply.message.take(message);
        }
        let reason = choice.any(&["finish_reason", "finishReason"]).and_then(Json::lossy);
        let reason = reason.filter(|reason| !matches!(reason.trim(), "" | "null" | "None"));
        reply.reason = reason.as_deref().map(Reason::read);
        reply
    }
}

impl Said {
    pub(super) fn is_empty(&self) -> bool {
        self.thought.is_empty() && self.text.is_empty() && self.refusal.is_empty() && self.calls.is_empty()
    }

    /// Takes a message, or a piece of one.
    fn take(&mut self, part: Json<'_>) {
        // Some say the same under two names.
        for thought in THOUGHTS.into_iter().filter_map(|name| part.field(name)) {
            if self.thought.is_empty() {
                take_thought(thought, &mut self.thought, DEEPEST);
            }
        }
        self.calls = Call::of(part);
        if let Some(refusal) = part.field("refusal").and_then(Json::text) {
            self.refusal.extend_from_slice(&refusal);
        }
        let content = if part.is_object() { part.field("content") } else { Some(part) };
        if let Some(content) = content {
            self.take_content(content);
        }
    }

    /// Takes a content: as it is, or from its parts.
    fn take_content(&mut self, content: Json<'_>) {
        if content.is_object() {
            return self.take_part(content);
        }
        for part in content.items() {
            if part.is_object() { self.take_part(part) } else { take_plain(part, &mut self.text) }
        }
        take_plain(content, &mut self.text);
    }

    fn take_part(&mut self, part: Json<'_>) {
        let kind = part.field("type").and_then(Json::lossy).unwrap_or_default();
        if kind.contains("think") || kind.contains("reason") {
            take_thought(part, &mut self.thought, DEEPEST);
        } else if let Some(text) = part.any(&["text", "content"]) {
            take_plain(text, &mut self.text);
        }
    }
}

impl Reason {
    fn read(name: &str) -> Self {
        Self::Stop(match &*name.trim().to_ascii_lowercase() {
            "length" | "max_tokens" | "model_length" | "max_length" | "max_output_tokens" | "token_limit" => {
                Stop::MaxTokens
            }
            "tool_calls" | "tool_use" | "function_call" => Stop::ToolCalls,
            "content_filter" | "content_filtered" | "safety" => Stop::Filtered,
            "error" | "abort" | "aborted" | "cancelled" | "canceled" => return Self::Broken,
            // Whatever it is called, it is an ending.
            _ => Stop::End,
        })
    }
}

/// A text, or a number where somebody took a text for one.
fn take_plain(value: Json<'_>, text: &mut Vec<u8>) {
    if let Some(plain) = value.text() {
        text.extend_from_slice(&plain);
    } else if let Some(number) = value.number() {
        text.extend_from_slice(number);
    }
}

/// Parts of thoughts have parts, so deep at most.
const DEEPEST: u32 = 4;

/// A thought's text: as it is, or from its parts. What is none, for instance because it is encrypted, is left out.
fn take_thought(thought: Json<'_>, text: &mut Vec<u8>, depth: u32) {
    if let Some(plain) = thought.text() {
        return text.extend_from_slice(&plain);
    }
    let Some(depth) = depth.checked_sub(1) else { return };
    if thought.is_object() {
        let inside = thought.any(&["thinking", "text", "content", "reasoning", "summary"]);
        return inside.into_iter().for_each(|part| take_thought(part, text, depth));
    }
    thought.items().for_each(|part| take_thought(part, text, depth));
}
