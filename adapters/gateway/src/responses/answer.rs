//! An answer, whole or as typed events.

use haggle::{Receipt, core::wire::message::EndReason};
use serde_json::{Map, Value, json};

use crate::{
    calls::ToolCall,
    errors::Refused,
    jobs,
    purchase::Purchase,
    stream::{Said, Voice},
    units::units,
};

/// The frame of an answer: what is the same in all of its states.
fn frame(purchase: &Purchase, echo: Map<String, Value>) -> Value {
    let record = jobs::lock(&purchase.record);
    let mut response = json!({
        "id": format!("resp_{}", record.id), "object": "response", "created_at": record.created,
        "status": "in_progress", "background": false, "error": null, "incomplete_details": null,
        "model": record.model.to_text(), "output": [], "previous_response_id": null, "store": false,
        "truncation": "disabled", "usage": null,
    });
    if let Some(all) = response.as_object_mut() {
        all.extend(echo);
    }
    response
}

fn usage(receipt: &Receipt) -> Value {
    json!({
        "input_tokens": receipt.prompt_tokens,
        "input_tokens_details": {"cached_tokens": receipt.cached.unwrap_or(0), "cache_write_tokens": 0},
        "output_tokens": receipt.tokens,
        "output_tokens_details": {"reasoning_tokens": receipt.thought.unwrap_or(0)},
        "total_tokens": receipt.prompt_tokens.saturating_add(receipt.tokens), "cost": units(receipt.bill.owed),
    })
}

/// The events of an answer without a socket behind them are the whole answer: there is one way to write items.
pub(crate) fn whole(purchase: &Purchase, echo: Map<String, Value>, said: Said, receipt: &Receipt) -> Value {
    let mut events = Events::new(echo);
    let mut unread = String::new();
    events.response = frame(purchase, std::mem::take(&mut events.echo));
    events.thought(&said.thought, &mut unread);
    events.text(&said.text, &mut unread);
    events.refusal(&said.refusal, &mut unread);
    said.calls.iter().for_each(|call| events.call(call, &mut unread));
    events.complete(purchase, receipt, &mut unread);
    events.response
}

/// An item that is being written.
struct Open {
    kind: Kind,
    id: String,
    text: String,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Thought,
    Text,
    Refusal,
}

impl Kind {
    /// The type of the part, its field, and how its events begin.
    fn names(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Kind::Thought => ("reasoning_text", "text", "response.reasoning_text"),
            Kind::Text => ("output_text", "text", "response.output_text"),
            Kind::Refusal => ("refusal", "refusal", "response.refusal"),
        }
    }

    fn part(self, text: &str) -> Value {
        let (kind, field, _) = self.names();
        let mut part = json!({"type": kind});
        part[field] = text.into();
        if self == Kind::Text {
            part["annotations"] = json!([]);
            part["logprobs"] = json!([]);
        }
        part
    }

    fn item(self, id: &str, status: &str, parts: Vec<Value>) -> Value {
        match self {
            Kind::Thought => json!({"id": id, "type": "reasoning", "status": status, "summary": [], "content": parts}),
            _ => json!({"id": id, "type": "message", "status": status, "role": "assistant", "content": parts}),
        }
    }
}

/// The events of one answer, numbered.
pub(crate) struct Events {
    echo: Map<String, Value>,
    /// The answer so far; nothing before it began.
    response: Value,
    number: u64,
    open: Option<Open>,
}

impl Events {
    pub(crate) fn new(echo: Map<String, Value>) -> Self {
        Events { echo, response: Value::Null, number: 0, open: None }
    }

    fn event(&mut self, kind: &str, mut fields: Value, out: &mut String) {
        fields["type"] = kind.into();
        fields["sequence_number"] = self.number.into();
        self.number += 1;
        out.push_str("event: ");
        out.push_str(kind);
        out.push('\n');
        crate::body::event(&fields, out);
    }

    fn tell(&mut self, kind: &str, out: &mut String) {
        self.event(kind, json!({"response": self.response}), out);
    }

    /// How many items are complete: the place of the next one.
    fn place(&self) -> usize {
        self.response["output"].as_array().map_or(0, Vec::len)
    }

    fn new_id(&self, prefix: &str) -> String {
        let of = self.response["id"].as_str().unwrap_or_default().trim_start_matches("resp_");
        format!("{prefix}_{of}_{}", self.place())
    }

    fn add(&mut self, item: Value, out: &mut String) {
        let place = self.place();
        if let Some(items) = self.response["output"].as_array_mut() {
            items.push(item.clone());
        }
        self.event("response.output_item.done", json!({"output_index": place, "item": item}), out);
    }

    /// More of an item, which is begun if another one was open.
    fn more(&mut self, kind: Kind, text: &str, out: &mut String) {
        if text.is_empty() {
            return;
        }
        if self.open.as_ref().is_none_or(|open| open.kind != kind) {
            self.close("completed", out);
            self.begin_item(kind, out);
        }
        let (place, (_, _, named)) = (self.place(), kind.names());
        let Some(open) = &mut self.open else { return };
        open.text.push_str(text);
        let mut delta = json!({"item_id": open.id, "output_index": place, "content_index": 0, "delta": text});
        if kind == Kind::Text {
            delta["logprobs"] = json!([]);
        }
        self.event(&format!("{named}.delta"), delta, out);
    }

    fn begin_item(&mut self, kind: Kind, out: &mut String) {
        let id = self.new_id(if kind == Kind::Thought { "rs" } else { "msg" });
        let place = self.place();
        let item = kind.item(&id, "in_progress", Vec::new());
        self.event("response.output_item.added", json!({"output_index": place, "item": item}), out);
        let part = json!({"item_id": id, "output_index": place, "content_index": 0, "part": kind.part("")});
        self.event("response.content_part.added", part, out);
        self.open = Some(Open { kind, id, text: String::new() });
    }

    /// Ends the item that is open.
    fn close(&mut self, status: &str, out: &mut String) {
        let Some(Open { kind, id, text }) = self.open.take() else { return };
        let (place, (_, field, named)) = (self.place(), kind.names());
        let at = || json!({"item_id": id, "output_index": place, "content_index": 0});
        let mut done = at();
        done[field] = text.as_str().into();
        if kind == Kind::Text {
            done["logprobs"] = json!([]);
        }
        self.event(&format!("{named}.done"), done, out);
        let mut part = at();
        part["part"] = kind.part(&text);
        self.event("response.content_part.done", part, out);
        self.add(kind.item(&id, status, vec![kind.part(&text)]), out);
    }

    /// Ends the answer. Its status.
    fn complete(&mut self, purchase: &Purchase, receipt: &Receipt, out: &mut String) -> &'static str {
        let why = match receipt.reason {
            EndReason::Length | EndReason::Context => Some("max_output_tokens"),
            EndReason::Filtered => Some("content_filter"),
            _ => None,
        };
        let status = if why.is_some() { "incomplete" } else { "completed" };
        self.close(status, out);
        let response = &mut self.response;
        response["status"] = status.into();
        response["incomplete_details"] = why.map_or(Value::Null, |why| json!({"reason": why}));
        response["completed_at"] = if why.is_some() { Value::Null } else { jobs::now().into() };
        response["usage"] = usage(receipt);
        response["haggle"] = jobs::lock(&purchase.record).of_answer();
        status
    }
}

impl Voice for Events {
    fn begin(&mut self, purchase: &Purchase, out: &mut String) {
        self.response = frame(purchase, std::mem::take(&mut self.echo));
        self.tell("response.created", out);
        self.tell("response.in_progress", out);
    }

    fn text(&mut self, text: &str, out: &mut String) {
        self.more(Kind::Text, text, out);
    }

    fn thought(&mut self, text: &str, out: &mut String) {
        self.more(Kind::Thought, text, out);
    }

    fn refusal(&mut self, text: &str, out: &mut String) {
        self.more(Kind::Refusal, text, out);
    }

    fn call(&mut self, call: &ToolCall, out: &mut String) {
        self.close("completed", out);
        let (id, place) = (self.new_id("fc"), self.place());
        let item = |status: &str, arguments: &str| {
            json!({
                "id": id, "type": "function_call", "status": status, "call_id": call.id, "name": call.name,
                "arguments": arguments,
            })
        };
        let added = json!({"output_index": place, "item": item("in_progress", "")});
        self.event("response.output_item.added", added, out);
        let at = json!({"item_id": id, "output_index": place});
        let (mut delta, mut done) = (at.clone(), at);
        delta["delta"] = call.arguments.as_str().into();
        self.event("response.function_call_arguments.delta", delta, out);
        done["name"] = call.name.as_str().into();
        done["arguments"] = call.arguments.as_str().into();
        self.event("response.function_call_arguments.done", done, out);
        self.add(item("completed", &call.arguments), out);
    }

    fn end(&mut self, purchase: &Purchase, receipt: &Receipt, out: &mut String) {
        let status = self.complete(purchase, receipt, out);
        self.tell(&format!("response.{status}"), out);
    }

    // Some clients look for the one, some for the other.
    fn failed(&mut self, refused: &Refused, out: &mut String) {
        if !self.response.is_null() {
            self.response["status"] = "failed".into();
            self.response["error"] = json!({"code": refused.code, "message": refused.message});
            self.tell("response.failed", out);
        }
        let mut error = refused.envelope();
        for name in ["code", "message", "param"] {
            error[name] = error["error"][name].clone();
        }
        self.event("error", error, out);
    }
}
