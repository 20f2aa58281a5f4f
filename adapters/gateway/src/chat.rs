//! `POST /v1/chat/completions`: what is asked, and the answer, whole or in chunks.

use haggle::Receipt;
use hyper::HeaderMap;
use serde_json::{Value, json};

use crate::{
    calls::ToolCall,
    chunks::{self, Chunks, finish_reason},
    errors::Refused,
    fields::CHAT,
    messages,
    order::Order,
    purchase::Purchase,
    read::object,
    stream::{Said, Voice},
};

/// How ids of answers begin.
const PREFIX: &str = "chatcmpl";

pub(crate) fn read(bytes: &[u8], headers: &HeaderMap) -> Result<Order, Refused> {
    Order::read(CHAT, object(bytes)?, headers, |body, asked| {
        let messages = messages::read(body, asked)?;
        messages::prompt(messages, asked)
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
    let choice = json!({"index": 0, "message": message, "logprobs": null, "finish_reason": finish_reason(receipt)});
    chunks::whole(purchase, PREFIX, "chat.completion", choice, receipt)
}

fn call_json(call: &ToolCall) -> Value {
    json!({"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}})
}

/// An answer as it comes.
pub(crate) struct Deltas {
    chunks: Chunks,
    /// Calls of tools so far.
    calls: u32,
}

impl Deltas {
    pub(crate) fn new(include_usage: bool) -> Self {
        Deltas { chunks: Chunks::new(include_usage), calls: 0 }
    }

    fn delta(&self, delta: Value, reason: Option<&str>, out: &mut String) {
        self.chunks.write(json!({"index": 0, "delta": delta, "logprobs": null, "finish_reason": reason}), out);
    }
}

impl Voice for Deltas {
    fn begin(&mut self, purchase: &Purchase, out: &mut String) {
        self.chunks.begin(purchase, PREFIX, "chat.completion.chunk");
        self.delta(json!({"role": "assistant", "content": ""}), None, out);
    }

    fn text(&mut self, text: &str, out: &mut String) {
        self.delta(json!({"content": text}), None, out);
    }

    fn thought(&mut self, text: &str, out: &mut String) {
        self.delta(json!({"reasoning_content": text}), None, out);
    }

    fn refusal(&mut self, text: &str, out: &mut String) {
        self.delta(json!({"refusal": text}), None, out);
    }

    fn call(&mut self, call: &ToolCall, out: &mut String) {
        let mut delta = call_json(call);
        delta["index"] = self.calls.into();
        self.calls += 1;
        self.delta(json!({"tool_calls": [delta]}), None, out);
    }

    fn end(&mut self, purchase: &Purchase, receipt: &Receipt, out: &mut String) {
        self.delta(json!({}), Some(finish_reason(receipt)), out);
        self.chunks.end(purchase, receipt, out);
    }
}
