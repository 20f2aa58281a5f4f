//! What was said so far, and the prompt that it becomes.

use haggle::{
    Prompt,
    core::wire::{ChatMessage, message::Features},
};
use serde_json::{Map, Value, json};

use crate::{
    errors::Refused,
    fields::Asked,
    read::{Item, list, take, text},
};

/// JSON in JSON of a request, at most; providers refuse what is deeper.
const MAX_DEPTH: usize = 32;

/// Reads a conversation as chat clients send it.
pub(crate) fn read(body: &mut Map<String, Value>, asked: &mut Asked) -> Result<Vec<Value>, Refused> {
    let messages = take(body, "messages", list)?.ok_or_else(|| Refused::value("messages", "is missing"))?;
    if messages.is_empty() {
        return Err(Refused::value("messages", "must be a list of at least one message"));
    }
    let each = |(at, value)| message(Item::read(format!("messages[{at}]"), value)?, asked);
    messages.into_iter().enumerate().map(each).collect()
}

/// The least that carries it: text alone, if nothing else is in it, so that every provider can read it; else a whole request.
pub(crate) fn prompt(messages: Vec<Value>, asked: &mut Asked) -> Result<Prompt, Refused> {
    if !asked.features.is_empty() {
        return whole_request(messages, asked);
    }
    debug_assert!(asked.carried.is_empty(), "what is carried has a feature");
    let plain = |message: Value| {
        if message.get("name").is_some() {
            asked.ignore("messages.name".into());
        }
        let part = |name: &str| message[name].as_str().unwrap_or_default().to_owned();
        ChatMessage { role: part("role"), content: part("content") }
    };
    Ok(Prompt::Chat(messages.into_iter().map(plain).collect()))
}

fn whole_request(messages: Vec<Value>, asked: &mut Asked) -> Result<Prompt, Refused> {
    let mut request = Map::new();
    request.insert("messages".into(), messages.into());
    request.append(&mut asked.carried);
    let request = Value::Object(request);
    if depth(&request) > MAX_DEPTH {
        return Err(Refused::value(
            "request",
            format!("must not be deeper than {MAX_DEPTH} lists and objects in one another"),
        ));
    }
    Ok(Prompt::Request(request.to_string()))
}

/// The JSON reader has bounded it already.
fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// A message, reduced to what a model reads: role, content, name, and what was called.
pub(crate) fn message(mut message: Item, asked: &mut Asked) -> Result<Value, Refused> {
    let role = match message.take("role", text)?.as_deref() {
        Some("system" | "developer") => "system",
        Some("user") => "user",
        Some("assistant") => "assistant",
        Some("tool") => "tool",
        Some("function") => {
            return Err(Refused::unsupported_value(message.path("role"), "a tool's result has the role tool"));
        }
        _ => return Err(Refused::value(message.path("role"), "must be system, developer, user, assistant or tool")),
    };
    let content = message.take("content", |at, value| content(at, value, asked))?;
    let calls = message.take("tool_calls", calls)?.unwrap_or_default();
    let mut read = json!({"role": role});
    match content {
        Some(content) => read["content"] = content,
        None if role == "assistant" => read["content"] = if calls.is_empty() { "".into() } else { Value::Null },
        None => return Err(message.missing("content")),
    }
    if !calls.is_empty() {
        asked.ask(message.path("tool_calls"), Features::TOOLS);
        read["tool_calls"] = calls.into();
    }
    if role == "tool" {
        read["tool_call_id"] = message.text("tool_call_id")?.into();
        asked.ask(message.path("role"), Features::TOOLS);
    }
    if let Some(name) = message.take("name", text)? {
        read["name"] = name.into();
    }
    // What else a message has would not reach the model.
    for (name, _) in message.rest().iter().filter(|(_, value)| !value.is_null() && **value != json!([])) {
        asked.ignore(format!("messages.{name}"));
    }
    Ok(read)
}

/// Text, or parts of it; parts stay parts only if one of them is no text.
fn content(at: &str, value: Value, asked: &mut Asked) -> Result<Value, Refused> {
    let parts = match value {
        Value::String(_) => return Ok(value),
        Value::Array(parts) => parts,
        _ => return Err(Refused::value(at, "must be text or a list of parts")),
    };
    let parts: Vec<Value> = parts
        .into_iter()
        .enumerate()
        .map(|(n, one)| part(&format!("{at}[{n}]"), one, asked))
        .collect::<Result<_, _>>()?;
    let texts: Option<Vec<&str>> = parts.iter().map(|part| part["text"].as_str()).collect();
    Ok(match texts {
        Some(texts) => texts.concat().into(),
        None => parts.into(),
    })
}

fn part(at: &str, part: Value, asked: &mut Asked) -> Result<Value, Refused> {
    let mut part = Item::read(at, part)?;
    match part.text("type")?.as_str() {
        "text" | "input_text" | "output_text" => Ok(json!({"type": "text", "text": part.text("text")?})),
        "refusal" => Ok(json!({"type": "text", "text": part.text("refusal")?})),
        kind @ ("image_url" | "input_image" | "input_audio" | "file" | "input_file") => attached(kind, part, asked),
        kind => {
            let why = format!("{kind:?} is no part that a model is given here");
            Err(Refused::unsupported_value(part.path("type"), &why))
        }
    }
}

/// A part that is no text. Nobody fetches anything for a request: what is attached is in it.
fn attached(kind: &str, mut part: Item, asked: &mut Asked) -> Result<Value, Refused> {
    asked.ask(part.path("type"), feature_of(kind));
    match kind {
        "image_url" | "input_image" => {
            let image = part.remove("image_url");
            let mut image = if image.is_string() { json!({"url": image}) } else { image };
            let detail = part.remove("detail");
            if kind == "input_image" && !detail.is_null() {
                image["detail"] = detail;
            }
            if !image["url"].as_str().is_some_and(|url| url.starts_with("data:image/")) {
                let why = "an image comes in the request, as a data: URL; nobody here fetches one";
                return Err(Refused::unsupported_value(part.path("image_url"), why));
            }
            Ok(json!({"type": "image_url", "image_url": image}))
        }
        "input_audio" => {
            let audio = part.remove("input_audio");
            if !audio["data"].is_string() || !audio["format"].is_string() {
                return Err(Refused::value(part.path("input_audio"), "must have data and format, as text"));
            }
            Ok(json!({"type": "input_audio", "input_audio": audio}))
        }
        _ => {
            let (at, file) = (part.path("file"), part.remove("file"));
            let file = if file.is_null() { part.rest().into() } else { file };
            if !file["file_data"].is_string() {
                let why = "a file comes in the request, as file_data; none is kept here";
                return Err(Refused::unsupported_value(at, why));
            }
            Ok(json!({"type": "file", "file": file}))
        }
    }
}

fn feature_of(kind: &str) -> Features {
    match kind {
        "image_url" | "input_image" => Features::IMAGES,
        "input_audio" => Features::AUDIO,
        _ => Features::FILES,
    }
}

fn calls(at: &str, value: Value) -> Result<Vec<Value>, Refused> {
    let calls = list(at, value)?;
    let whole = |call: &Value| {
        let function = &call["function"];
        call["id"].is_string() && function["name"].is_string() && function["arguments"].is_string()
    };
    match calls.iter().position(|call| !whole(call)) {
        None => Ok(calls),
        Some(n) => {
            let must = "must have an id and a function with name and arguments, all of them text";
            Err(Refused::value(format!("{at}[{n}]"), must))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_messages(messages: Value) -> Result<(Prompt, Asked), Refused> {
        let mut asked = Asked::default();
        let mut body = json!({"messages": messages}).as_object().cloned().unwrap_or_default();
        let messages = read(&mut body, &mut asked)?;
        Ok((prompt(messages, &mut asked)?, asked))
    }

    #[test]
    fn messages_become_what_a_provider_reads() {
        let (prompt, asked) = read_messages(json!([
            {"role": "developer", "content": "a"},
            {"role": "user", "content": [{"type": "text", "text": "b"}, {"type": "text", "text": "c"}], "name": "Ann"},
            {"role": "assistant", "content": null},
            {"role": "user", "content": "d", "tool_calls": []},
        ]))
        .expect("it is taken");
        let Prompt::Chat(messages) = prompt else { panic!("a chat") };
        let said: Vec<_> = messages.iter().map(|message| (message.role.as_str(), message.content.as_str())).collect();
        assert_eq!(said, [("system", "a"), ("user", "bc"), ("assistant", ""), ("user", "d")]);
        assert_eq!(asked.ignored, ["messages.name"]);
    }

    #[test]
    fn what_is_more_than_text_goes_as_a_whole_request() {
        let image = json!({"type": "image_url", "image_url": {"url": "data:image/png;base64,AA==", "detail": "low"}});
        let call = json!({"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{\"z\":1,\"a\":2}"}});
        let (prompt, asked) = read_messages(json!([
            {"role": "developer", "content": "be brief"},
            {"role": "user", "content": [{"type": "text", "text": "what is it?"}, image], "name": "Ann"},
            {"role": "assistant", "content": null, "tool_calls": [call], "refusal": null},
            {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "42"}]},
        ]))
        .expect("it is taken");
        let Prompt::Request(request) = prompt else { panic!("a request") };
        let expected = json!({"messages": [
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": [{"type": "text", "text": "what is it?"}, image], "name": "Ann"},
            {"role": "assistant", "content": null, "tool_calls": [call]},
            {"role": "tool", "content": "42", "tool_call_id": "c1"},
        ]});
        assert_eq!(serde_json::from_str::<Value>(&request).ok(), Some(expected));
        let features: Vec<_> = asked.features.iter().map(|(param, feature)| (param.as_str(), *feature)).collect();
        let at = [("messages[1].content[1].type", Features::IMAGES), ("messages[2].tool_calls", Features::TOOLS)];
        assert_eq!(features, at);
    }

    #[test]
    fn what_cannot_be_passed_on_is_refused_where_it_stands() {
        let part = |part: Value| json!([{"role": "user", "content": [{"type": "text", "text": ""}, part]}]);
        for (messages, param) in [
            (json!([]), "messages"),
            (json!("hi"), "messages"),
            (json!([{"content": "a"}]), "messages[0].role"),
            (json!([{"role": "king", "content": "a"}]), "messages[0].role"),
            (json!([{"role": "function", "content": "a"}]), "messages[0].role"),
            (json!([{"role": "tool", "content": "a"}]), "messages[0].tool_call_id"),
            (json!([{"role": "user"}]), "messages[0].content"),
            (json!([{"role": "user", "content": 7}]), "messages[0].content"),
            (json!([{"role": "assistant", "tool_calls": [{}]}]), "messages[0].tool_calls[0]"),
            (
                part(json!({"type": "image_url", "image_url": {"url": "https://example.org/a.png"}})),
                "messages[0].content[1].image_url",
            ),
            (part(json!({"type": "input_audio", "input_audio": {}})), "messages[0].content[1].input_audio"),
            (part(json!({"type": "file", "file": {"file_id": "f"}})), "messages[0].content[1].file"),
            (part(json!({"type": "video"})), "messages[0].content[1].type"),
        ] {
            let refused = read_messages(messages.clone()).expect_err("it is refused");
            assert_eq!(refused.envelope()["error"]["param"], param, "{messages}");
        }
        let deep = (0..40).fold(json!({}), |inner, _| json!({"a": inner}));
        let call = json!({"id": "c", "deep": deep, "function": {"name": "f", "arguments": ""}});
        let refused = read_messages(json!([{"role": "assistant", "tool_calls": [call]}])).expect_err("it is refused");
        assert_eq!(refused.envelope()["error"]["param"], "request");
    }
}
