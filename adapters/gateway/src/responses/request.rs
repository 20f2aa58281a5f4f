//! What is asked, read as the chat that it means.

use haggle::core::wire::message::Features;
use hyper::HeaderMap;
use serde_json::{Map, Value, json};

use crate::{
    errors::Refused,
    fields::{Asked, RESPONSES},
    messages,
    order::Order,
    read::{Item, fields, list, object, take, text},
};

/// What is said where a request says nothing.
type Unsaid = fn() -> Value;

/// What an answer repeats of its request.
const ECHOED: &[(&str, Unsaid)] = &[
    ("instructions", || Value::Null),
    ("max_output_tokens", || Value::Null),
    ("metadata", || json!({})),
    ("parallel_tool_calls", || true.into()),
    ("reasoning", || json!({"effort": null, "summary": null})),
    ("temperature", || 1.into()),
    ("text", || json!({"format": {"type": "text"}})),
    ("tool_choice", || "auto".into()),
    ("tools", || json!([])),
    ("top_p", || 1.into()),
    ("user", || Value::Null),
];

/// The order, and what every answer to it repeats.
pub(crate) fn read(bytes: &[u8], headers: &HeaderMap) -> Result<(Order, Map<String, Value>), Refused> {
    let body = object(bytes)?;
    let said = |name: &str| body.get(name).filter(|value| !value.is_null()).cloned();
    let echo = ECHOED.iter().map(|(name, unsaid)| ((*name).to_owned(), said(name).unwrap_or_else(unsaid))).collect();
    let order = Order::read(RESPONSES, body, headers, |body, asked| {
        let mut all = Vec::new();
        if let Some(text) = take(body, "instructions", text)? {
            all.push(json!({"role": "system", "content": text}));
        }
        let input = body.remove("input").ok_or_else(|| Refused::value("input", "is missing"))?;
        all.extend(conversation(input, asked)?);
        carry(asked)?;
        messages::prompt(all, asked)
    })?;
    Ok((order, echo))
}

fn conversation(input: Value, asked: &mut Asked) -> Result<Vec<Value>, Refused> {
    if input.is_string() {
        return Ok(vec![json!({"role": "user", "content": input})]);
    }
    let items = list("input", input).map_err(|_| Refused::value("input", "must be text or a list of items"))?;
    if items.is_empty() {
        return Err(Refused::value("input", "must have at least one item"));
    }
    let mut all = Vec::new();
    for (at, value) in items.into_iter().enumerate() {
        item(&format!("input[{at}]"), value, &mut all, asked)?;
    }
    Ok(all)
}

fn item(at: &str, value: Value, all: &mut Vec<Value>, asked: &mut Asked) -> Result<(), Refused> {
    let mut item = Item::read(at, value)?;
    match item.take("type", text)?.as_deref() {
        None | Some("message") => {
            // Names of an earlier answer's parts: a model reads none of them.
            ["id", "status", "phase"].iter().for_each(|name| drop(item.remove(name)));
            all.push(messages::message(item, asked)?);
        }
        Some("function_call") => {
            let function = json!({"name": item.text("name")?, "arguments": item.text("arguments")?});
            let call = json!({"id": item.text("call_id")?, "type": "function", "function": function});
            asked.ask(item.path("type"), Features::TOOLS);
            called(call, all);
        }
        Some("function_call_output") => {
            let (id, output) = (item.text("call_id")?, item.remove("output"));
            let message = json!({"role": "tool", "tool_call_id": id, "content": output});
            all.push(messages::message(Item::read(at, message)?, asked)?);
        }
        // What was thought before is not given to a model again.
        Some("reasoning") => asked.ignore("input.reasoning".into()),
        Some(kind) => {
            let why = format!("{kind:?} is no item that a model is given here, and nothing of earlier answers is kept");
            return Err(Refused::unsupported_value(item.path("type"), &why));
        }
    }
    Ok(())
}

/// Calls belong to the message of the model that made them.
fn called(call: Value, all: &mut Vec<Value>) {
    match all.last_mut().filter(|last| last["role"] == "assistant") {
        Some(last) => match last["tool_calls"].as_array_mut() {
            Some(calls) => calls.push(call),
            None => last["tool_calls"] = json!([call]),
        },
        None => all.push(json!({"role": "assistant", "content": null, "tool_calls": [call]})),
    }
}

/// Fields that providers are given, by the names that chats have for them.
fn carry(asked: &mut Asked) -> Result<(), Refused> {
    if let Some(tools) = asked.carried.remove("tools") {
        let tools =
            list("tools", tools)?.into_iter().enumerate().map(|(at, value)| tool(&format!("tools[{at}]"), value));
        let tools = tools.collect::<Result<Vec<_>, _>>()?;
        asked.carried.insert("tools".into(), tools.into());
    }
    if let Some(choice) = asked.carried.get_mut("tool_choice")
        && choice["type"] == "function"
    {
        *choice = json!({"type": "function", "function": {"name": choice["name"]}});
    }
    if let Some(mut text) = asked.carried.remove("text") {
        let mut format = text["format"].take();
        if format["type"] == "json_schema" {
            let mut schema = fields("text.format", format)?;
            schema.shift_remove("type");
            format = json!({"type": "json_schema", "json_schema": schema});
        }
        asked.carried.insert("response_format".into(), format);
    }
    if let Some(mut reasoning) = asked.carried.remove("reasoning") {
        asked.carried.insert("reasoning_effort".into(), reasoning["effort"].take());
    }
    Ok(())
}

fn tool(at: &str, value: Value) -> Result<Value, Refused> {
    let mut tool = Item::read(at, value)?;
    if tool.remove("type") == "function" {
        return Ok(json!({"type": "function", "function": tool.rest()}));
    }
    let why = "a tool is a function that the client calls; nobody here calls one for it";
    Err(Refused::unsupported_value(tool.path("type"), why))
}

#[cfg(test)]
mod tests {
    use haggle::Prompt;

    use super::*;

    fn read_body(more: Value) -> Result<Order, Refused> {
        let mut body = json!({"model": "m"});
        body.as_object_mut().expect("an object").extend(more.as_object().cloned().unwrap_or_default());
        read(body.to_string().as_bytes(), &HeaderMap::new()).map(|(order, _)| order)
    }

    #[test]
    fn what_is_said_becomes_a_chat() {
        let order = read_body(json!({"instructions": "be brief", "max_output_tokens": 7, "input": [
            {"role": "user", "content": "a"},
            {"type": "message", "id": "msg_1", "status": "completed", "role": "assistant",
             "content": [{"type": "output_text", "text": "b", "annotations": []}]},
            {"type": "reasoning", "id": "rs_1", "summary": []},
            {"role": "developer", "content": [{"type": "input_text", "text": "c"}]},
        ]}))
        .expect("it is taken");
        let Prompt::Chat(messages) = &order.prompt else { panic!("a chat") };
        let said: Vec<_> = messages.iter().map(|message| (message.role.as_str(), message.content.as_str())).collect();
        assert_eq!(said, [("system", "be brief"), ("user", "a"), ("assistant", "b"), ("system", "c")]);
        assert_eq!((order.max_tokens, order.ignored), (Some(7), vec!["input.reasoning".to_owned()]));
        let one = read_body(json!({"input": "hi"})).expect("it is taken");
        assert!(matches!(&one.prompt, Prompt::Chat(all) if all.len() == 1 && all[0].content == "hi"));
    }

    #[test]
    fn tools_and_formats_have_the_names_of_chats() {
        let schema = json!({"type": "object", "properties": {"z": {}, "a": {}}});
        let order = read_body(json!({
            "input": [
                {"role": "user", "content": [{"type": "input_image", "image_url": "data:image/png;base64,AA=="}]},
                {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}", "id": "fc_1"},
                {"type": "function_call", "call_id": "c2", "name": "g", "arguments": "{}"},
                {"type": "function_call_output", "call_id": "c1", "output": "42"},
            ],
            "tools": [{"type": "function", "name": "f", "parameters": schema, "strict": true}],
            "tool_choice": {"type": "function", "name": "f"},
            "text": {"format": {"type": "json_schema", "name": "n", "schema": schema}},
            "reasoning": {"effort": "low"},
        }))
        .expect("it is taken");
        let Prompt::Request(request) = &order.prompt else { panic!("a request") };
        let function = |name: &str| json!({"name": name, "arguments": "{}"});
        let calls = json!([
            {"id": "c1", "type": "function", "function": function("f")},
            {"id": "c2", "type": "function", "function": function("g")},
        ]);
        let expected = json!({
            "messages": [
                {"role": "user", "content":
                    [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}]},
                {"role": "assistant", "content": null, "tool_calls": calls},
                {"role": "tool", "content": "42", "tool_call_id": "c1"},
            ],
            "tools": [{"type": "function", "function": {"name": "f", "parameters": schema, "strict": true}}],
            "tool_choice": {"type": "function", "function": {"name": "f"}},
            "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}},
            "reasoning_effort": "low",
        });
        assert_eq!(serde_json::from_str::<Value>(request).ok(), Some(expected));
        assert!(request.contains(r#""properties":{"z":{},"a":{}}"#), "in the order in which it came: {request}");
        let needed = order.features.iter().fold(Features::default(), |all, (_, feature)| all.with(*feature));
        let features = [Features::TOOLS, Features::JSON_SCHEMA, Features::REASONING, Features::IMAGES];
        assert_eq!(needed, features.into_iter().fold(Features::default(), Features::with));
    }

    #[test]
    fn what_is_kept_nowhere_is_refused() {
        for (more, param) in [
            (json!({}), "input"),
            (json!({"input": []}), "input"),
            (json!({"input": 7}), "input"),
            (json!({"input": "a", "previous_response_id": "resp_1"}), "previous_response_id"),
            (json!({"input": "a", "background": true}), "background"),
            (json!({"input": "a", "truncation": "auto"}), "truncation"),
            (json!({"input": [{"type": "item_reference", "id": "msg_1"}]}), "input[0].type"),
            (json!({"input": [{"role": "user", "content": 7}]}), "input[0].content"),
            (json!({"input": "a", "tools": [{"type": "web_search"}]}), "tools[0].type"),
            (json!({"input": "a", "text": {"format": {"type": "grammar"}}}), "text.format.type"),
            (json!({"input": "a", "max_output_tokens": 0}), "max_output_tokens"),
        ] {
            let refused = read_body(more.clone()).expect_err("it is refused");
            assert_eq!(refused.envelope()["error"]["param"], param, "{more}");
        }
        let ignored = read_body(json!({"input": "a", "store": true, "include": ["x"]})).map(|order| order.ignored);
        assert_eq!(ignored, Ok(vec!["store".to_owned(), "include".to_owned()]));
    }
}
