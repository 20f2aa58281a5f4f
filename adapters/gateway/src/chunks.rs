//! What answers in chunks have in common, be they chats or texts: their frame, how they end, and what they tell of what was used.

use haggle::{Receipt, core::wire::message::EndReason};
use serde_json::{Value, json};

use crate::{body::event, jobs, purchase::Purchase, units::units};

/// Why an answer ended, in OpenAI's words.
pub(crate) fn finish_reason(receipt: &Receipt) -> &'static str {
    match receipt.reason {
        EndReason::Length | EndReason::Context => "length",
        EndReason::Filtered => "content_filter",
        EndReason::ToolCalls => "tool_calls",
        _ => "stop",
    }
}

/// A whole answer. Its id begins with `prefix`.
pub(crate) fn whole(purchase: &Purchase, prefix: &str, object: &str, choice: Value, receipt: &Receipt) -> Value {
    let mut answer = frame(purchase, prefix, object);
    answer["choices"] = json!([choice]);
    tell_use(&mut answer, purchase, receipt);
    answer
}

/// The chunks of one answer: `id`, `created` and `model` are the same in all of them.
pub(crate) struct Chunks {
    include_usage: bool,
    frame: Value,
}

impl Chunks {
    pub(crate) fn new(include_usage: bool) -> Self {
        Chunks { include_usage, frame: Value::Null }
    }

    pub(crate) fn begin(&mut self, purchase: &Purchase, prefix: &str, object: &str) {
        self.frame = frame(purchase, prefix, object);
    }

    pub(crate) fn write(&self, choice: Value, out: &mut String) {
        let mut chunk = self.frame.clone();
        chunk["choices"] = json!([choice]);
        event(&chunk, out);
    }

    /// What stands behind the last choice.
    pub(crate) fn end(&self, purchase: &Purchase, receipt: &Receipt, out: &mut String) {
        if self.include_usage {
            let mut last = self.frame.clone();
            last["choices"] = json!([]);
            tell_use(&mut last, purchase, receipt);
            event(&last, out);
        }
        out.push_str("data: [DONE]\n\n");
    }
}

fn frame(purchase: &Purchase, prefix: &str, object: &str) -> Value {
    let record = jobs::lock(&purchase.record);
    json!({
        "id": format!("{prefix}-{}", record.id), "object": object, "created": record.created,
        "model": record.model.to_text(),
    })
}

/// The market's count, and what is owed.
fn tell_use(answer: &mut Value, purchase: &Purchase, receipt: &Receipt) {
    answer["usage"] = json!({
        "prompt_tokens": receipt.prompt_tokens, "completion_tokens": receipt.tokens,
        "total_tokens": receipt.prompt_tokens.saturating_add(receipt.tokens), "cost": units(receipt.bill.owed),
        "prompt_tokens_details": {"cached_tokens": receipt.cached.unwrap_or(0)},
        "completion_tokens_details": {"reasoning_tokens": receipt.thought.unwrap_or(0)},
    });
    answer["haggle"] = jobs::lock(&purchase.record).of_answer();
}
