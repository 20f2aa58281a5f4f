//! `POST /v1/chat/completions`: what is asked, and the answer, whole or in chunks.

use haggle::{Receipt, core::wire::message::EndReason};
use hyper::HeaderMap;
use serde_json::{Value, json};

use crate::{
    body::event,
    calls::ToolCall,
    errors::Refused,
    fields::CHAT,
    jobs, messages,
    order::Order,
    purchase::Purchase,
    read::object,
    stream::{Said, Voice},
    units::units,
};

pub(crate) fn read(bytes: &[u8], headers: &HeaderMap) -> Result<Order, Refused> {
    Order::read(CHAT, object(bytes)?, headers, |body, asked| {
        let messages = messages::read(body, asked)?;
        messages::prompt(messages, asked)
    })
}

/// Why an answer ended, in OpenAI's words.
pub(crate) fn finish_reason(receipt: &Receipt) -> &'static str {
    match receipt.reason {
        EndReason::Length | EndReason::Context => "length",
        EndReason::Filtered => "content_filter",
        EndReason::ToolCalls => "tool_calls",
        _ => "stop",
    }
}

/// The market's count, and what is owed.
pub(crate) fn usage(receipt: &Receipt) -> Value {
    json!({
        "prompt_tokens": receipt.prompt_tokens, "completion_tokens": receipt.tokens,
        "total_tokens": receipt.prompt_tokens.saturating_add(receipt.tokens), "cost": units(receipt.bill.owed),
        "prompt_tokens_details": {"cached_tokens": receipt.cached.unwrap_or(0)},
        "completion_tokens_details": {"reasoning_tokens": receipt.thought.unwrap_or(0)},
    })
}

pub(crate) fn whole(purchase: &Purchase, said: Said, receipt: &Receipt) -> Value {
    let Said { text, thought, refusal, calls } = said;
    let mut message = json!({"role": "assistant", "content": text, "refusal": null});
    if !refusal.is_empty() {
        message["refusal"] = refusal.into();
    }
    if !thought.is_empty() {
        message["reasoning_content"] = thought.into();
    }
    if !calls.is_empty() {
        if message["content"] == "" {
            message["content"] = Value::Null;
        }
        message["tool_calls"] = calls.iter().map(call_json).collect();
    }
    let record = jobs::lock(&purchase.record);
    json!({
        "id": format!("chatcmpl-{}", record.id), "object": "chat.completion", "created": record.created,
        "model": record.model.to_text(),
        "choices": [{
            "index": 0, "message": message, "logprobs": null,
            "finish_reason": finish_reason(receipt),
        }],
        "usage": usage(receipt), "haggle": record.of_answer(),
    })
}

fn call_json(call: &ToolCall) -> Value {
    json!({"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}})
}

/// Chunks of one answer: `id`, `created` and `model` are the same in all of them.
pub(crate) struct Chunks {
    include_usage: bool,
    frame: Value,
    /// Calls of tools so far.
    calls: u32,
}

impl Chunks {
    pub(crate) fn new(include_usage: bool) -> Self {
        Chunks { include_usage, frame: Value::Null, calls: 0 }
    }

    fn chunk(&self, delta: Value, reason: Option<&str>, out: &mut String) {
        let mut chunk = self.frame.clone();
        chunk["choices"] = json!([{"index": 0, "delta": delta, "logprobs": null, "finish_reason": reason}]);
        event(&chunk, out);
    }
}

impl Voice for Chunks {
    fn begin(&mut self, purchase: &Purchase, out: &mut String) {
        let record = jobs::lock(&purchase.record);
        self.frame = json!({
            "id": format!("chatcmpl-{}", record.id), "object": "chat.completion.chunk", "created": record.created,
            "model": record.model.to_text(),
        });
        drop(record);
        self.chunk(json!({"role": "assistant", "content": ""}), None, out);
    }

    fn text(&mut self, text: &str, out: &mut String) {
        self.chunk(json!({"content": text}), None, out);
    }

    fn thought(&mut self, text: &str, out: &mut String) {
        self.chunk(json!({"reasoning_content": text}), None, out);
    }

    fn refusal(&mut self, text: &str, out: &mut String) {
        self.chunk(json!({"refusal": text}), None, out);
    }

    fn call(&mut self, call: &ToolCall, out: &mut String) {
        let mut delta = call_json(call);
        delta["index"] = self.calls.into();
        self.calls += 1;
        self.chunk(json!({"tool_calls": [delta]}), None, out);
    }

    fn end(&mut self, purchase: &Purchase, receipt: &Receipt, out: &mut String) {
        self.chunk(json!({}), Some(finish_reason(receipt)), out);
        if self.include_usage {
            let mut last = self.frame.clone();
            last["choices"] = json!([]);
            last["usage"] = usage(receipt);
            last["haggle"] = jobs::lock(&purchase.record).of_answer();
            event(&last, out);
        }
        out.push_str("data: [DONE]\n\n");
    }
}
