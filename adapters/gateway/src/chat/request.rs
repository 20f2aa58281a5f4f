//! What a chat request says.

use haggle::{Prompt, core::wire::ChatMessage};
use hyper::HeaderMap;
use serde_json::{Map, Value};

use crate::{
    errors::Refused,
    fields::CHAT,
    order::Order,
    read::{fields, object, take, text},
};

pub(crate) fn read(bytes: &[u8], headers: &HeaderMap) -> Result<Order, Refused> {
    Order::read(CHAT, object(bytes)?, headers, |body, ignored| {
        let messages = take(body, "messages", |name, value| match value {
            Value::Array(messages) if !messages.is_empty() => Ok(messages),
            _ => Err(Refused::value(name, "must be a list of at least one message")),
        })?;
        let messages = messages.ok_or_else(|| Refused::value("messages", "is missing"))?;
        let each =
            messages.into_iter().enumerate().map(|(at, value)| message(&format!("messages[{at}]"), value, ignored));
        Ok(Prompt::Chat(each.collect::<Result<_, _>>()?))
    })
}

fn message(at: &str, value: Value, ignored: &mut Vec<String>) -> Result<ChatMessage, Refused> {
    let mut message = fields(at, value)?;
    let path = |name: &str| format!("{at}.{name}");
    let role = take(&mut message, "role", |_, value| text(&path("role"), value))?;
    let role = match role.as_deref() {
        Some("system" | "developer") => "system",
        Some("user") => "user",
        Some("assistant") => "assistant",
        Some("tool" | "function") => return Err(Refused::unsupported_value(path("role"), TOOLS)),
        _ => return Err(Refused::value(path("role"), "must be system, developer, user, assistant or tool")),
    };
    for name in ["tool_calls", "function_call", "tool_call_id"] {
        if message.get(name).is_some_and(|calls| !calls.is_null() && *calls != Value::Array(Vec::new())) {
            return Err(Refused::unsupported_parameter(path(name), TOOLS));
        }
    }
    let content = match take(&mut message, "content", |_, value| content(&path("content"), value))? {
        Some(content) => content,
        None if role == "assistant" => String::new(),
        None => return Err(Refused::value(path("content"), "is missing")),
    };
    told(&message, ignored);
    Ok(ChatMessage { role: role.into(), content })
}

const TOOLS: &str = "no provider of this market can be given tools yet";

/// Text, or parts of it.
pub(crate) fn content(at: &str, value: Value) -> Result<String, Refused> {
    match value {
        Value::String(text) => Ok(text),
        Value::Array(parts) => {
            parts.into_iter().enumerate().map(|(n, part)| text_part(&format!("{at}[{n}]"), part)).collect()
        }
        _ => Err(Refused::value(at, "must be text or a list of parts")),
    }
}

fn text_part(at: &str, part: Value) -> Result<String, Refused> {
    let mut part = fields(at, part)?;
    let kind = take(&mut part, "type", |_, value| text(&format!("{at}.type"), value))?;
    match kind.as_deref() {
        Some("text" | "input_text" | "output_text") => {
            let text = take(&mut part, "text", |_, value| text(&format!("{at}.text"), value))?;
            text.ok_or_else(|| Refused::value(format!("{at}.text"), "is missing"))
        }
        Some(kind) => Err(Refused::unsupported_value(
            format!("{at}.type"),
            &format!("{kind:?} is no text, and no provider of this market can be given anything else yet"),
        )),
        None => Err(Refused::value(format!("{at}.type"), "is missing")),
    }
}

/// What else a message has would not reach the model.
fn told(rest: &Map<String, Value>, ignored: &mut Vec<String>) {
    for (name, _) in rest.iter().filter(|(_, value)| !value.is_null() && **value != Value::Array(Vec::new())) {
        let name = format!("messages.{name}");
        if !ignored.contains(&name) {
            ignored.push(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read_messages(messages: Value) -> Result<Order, Refused> {
        read(json!({"model": "m", "messages": messages}).to_string().as_bytes(), &HeaderMap::new())
    }

    #[test]
    fn messages_become_what_a_provider_reads() {
        let order = read_messages(json!([
            {"role": "developer", "content": "a"},
            {"role": "user", "content": [{"type": "text", "text": "b"}, {"type": "text", "text": "c"}], "name": "Ann"},
            {"role": "assistant", "content": null},
            {"role": "user", "content": "d", "tool_calls": []},
        ]))
        .expect("it is taken");
        let Prompt::Chat(messages) = &order.prompt else { panic!("a chat") };
        let said: Vec<_> = messages.iter().map(|message| (message.role.as_str(), message.content.as_str())).collect();
        assert_eq!(said, [("system", "a"), ("user", "bc"), ("assistant", ""), ("user", "d")]);
        assert_eq!(order.ignored, ["messages.name"]);
    }

    #[test]
    fn what_cannot_be_passed_on_is_refused_where_it_stands() {
        for (messages, param) in [
            (json!([]), "messages"),
            (json!("hi"), "messages"),
            (json!([{"content": "a"}]), "messages[0].role"),
            (json!([{"role": "king", "content": "a"}]), "messages[0].role"),
            (json!([{"role": "tool", "content": "a", "tool_call_id": "1"}]), "messages[0].role"),
            (json!([{"role": "user"}]), "messages[0].content"),
            (json!([{"role": "user", "content": 7}]), "messages[0].content"),
            (
                json!([{"role": "user", "content": "a"}, {"role": "assistant", "tool_calls": [{}]}]),
                "messages[1].tool_calls",
            ),
            (
                json!([{"role": "user", "content": [{"type": "text", "text": ""}, {"type": "image_url", "image_url": {}}]}]),
                "messages[0].content[1].type",
            ),
        ] {
            let refused = read_messages(messages.clone()).expect_err("it is refused");
            assert_eq!(refused.envelope()["error"]["param"], param, "{messages}");
        }
    }
}
