//! Which fields of a request are honoured, refused or ignored: the one table that code, documentation and tests read.

use serde_json::{Map, Value};

use crate::errors::Refused;

/// What becomes of a field.
#[derive(Clone, Copy)]
pub(crate) enum Rule {
    /// It does what it says.
    Honoured,
    /// It would change the answer and cannot be honoured: refused by name unless it asks for nothing.
    Refused(Neutral),
    /// It changes nothing of the answer: dropped, and told.
    Ignored,
}

/// Which values of a refused field ask for nothing; the documentation's words, and the test.
#[derive(Clone, Copy)]
pub(crate) struct Neutral(&'static str, fn(&Value, &Map<String, Value>) -> bool);

/// A field of one interface.
pub(crate) type Field = (&'static str, Rule);

const ONE: Neutral = Neutral("1", |value, _| value.as_f64() == Some(1.0));
const ZERO: Neutral = Neutral("0", |value, _| value.as_f64() == Some(0.0));
const FALSE: Neutral = Neutral("false", |value, _| value == false);
const EMPTY: Neutral = Neutral("empty", |value, _| is_empty(value));
const TEXT: Neutral = Neutral("{\"type\": \"text\"}", |value, _| is_text_format(value));
const TEXT_ONLY: Neutral = Neutral("[\"text\"]", |value, _| *value == serde_json::json!(["text"]));
const TOOLS: Neutral = Neutral("empty, or `tool_choice` is \"none\"", |value, all| {
    is_empty(value) || all.get("tool_choice").is_some_and(|choice| choice == "none")
});
const CHOICE: Neutral = Neutral("\"none\", or \"auto\" without tools", |value, all| {
    value == "none" || (value == "auto" && all.get("tools").is_none_or(is_empty))
});
const NO_EFFORT: Neutral = Neutral("\"none\"", |value, _| value == "none");
const NO_REASONING: Neutral = Neutral("{\"effort\": \"none\"} or {\"enabled\": false}", |value, _| {
    is_empty(value) || value["effort"] == "none" || value["enabled"] == false
});
const NEVER: Neutral = Neutral("null", |_, _| false);

use Rule::{Honoured, Ignored, Refused as No};

/// `POST /v1/chat/completions`.
pub(crate) const CHAT: &[Field] = &[
    ("model", Honoured),
    ("models", Honoured),
    ("messages", Honoured),
    ("max_tokens", Honoured),
    ("max_completion_tokens", Honoured),
    ("temperature", Honoured),
    ("top_p", Honoured),
    ("top_k", Honoured),
    ("seed", Honoured),
    ("stop", Honoured),
    ("stream", Honoured),
    ("stream_options", Honoured),
    ("provider", Honoured),
    ("haggle", Honoured),
    ("n", No(ONE)),
    ("tools", No(TOOLS)),
    ("tool_choice", No(CHOICE)),
    ("functions", No(EMPTY)),
    ("function_call", No(CHOICE)),
    ("response_format", No(TEXT)),
    ("logprobs", No(FALSE)),
    ("top_logprobs", No(ZERO)),
    ("logit_bias", No(EMPTY)),
    ("frequency_penalty", No(ZERO)),
    ("presence_penalty", No(ZERO)),
    ("repetition_penalty", No(ONE)),
    ("min_p", No(ZERO)),
    ("top_a", No(ZERO)),
    ("reasoning_effort", No(NO_EFFORT)),
    ("reasoning", No(NO_REASONING)),
    ("modalities", No(TEXT_ONLY)),
    ("audio", No(NEVER)),
    ("web_search_options", No(NEVER)),
    ("plugins", No(EMPTY)),
    ("user", Ignored),
    ("metadata", Ignored),
    ("store", Ignored),
    ("service_tier", Ignored),
    ("prompt_cache_key", Ignored),
    ("prompt_cache_retention", Ignored),
    ("safety_identifier", Ignored),
    ("verbosity", Ignored),
    ("parallel_tool_calls", Ignored),
    ("prediction", Ignored),
];

/// `POST /v1/completions`.
pub(crate) const COMPLETIONS: &[Field] = &[
    ("model", Honoured),
    ("models", Honoured),
    ("prompt", Honoured),
    ("max_tokens", Honoured),
    ("temperature", Honoured),
    ("top_p", Honoured),
    ("top_k", Honoured),
    ("seed", Honoured),
    ("stop", Honoured),
    ("stream", Honoured),
    ("stream_options", Honoured),
    ("provider", Honoured),
    ("haggle", Honoured),
    ("n", No(ONE)),
    ("best_of", No(ONE)),
    ("echo", No(FALSE)),
    ("suffix", No(EMPTY)),
    ("logprobs", No(NEVER)),
    ("logit_bias", No(EMPTY)),
    ("frequency_penalty", No(ZERO)),
    ("presence_penalty", No(ZERO)),
    ("repetition_penalty", No(ONE)),
    ("min_p", No(ZERO)),
    ("top_a", No(ZERO)),
    ("response_format", No(TEXT)),
    ("user", Ignored),
    ("metadata", Ignored),
];

/// Decides on every field that is not honoured. What is honoured stays; the names of what was dropped are returned.
pub(crate) fn sift(fields: &[Field], body: &mut Map<String, Value>) -> Result<Vec<String>, Refused> {
    // Absent and null are the same.
    body.retain(|_, value| !value.is_null());
    let rule = |name: &str| fields.iter().find(|(known, _)| *known == name).map_or(Ignored, |(_, rule)| *rule);
    for (name, value) in &*body {
        if let No(Neutral(neutral, is_neutral)) = rule(name)
            && !is_neutral(value, body)
        {
            return Err(Refused::unsupported_parameter(
                name.clone(),
                &format!("it would change the answer, and the market cannot carry it; leave it out, or send {neutral}"),
            ));
        }
    }
    let mut ignored = Vec::new();
    body.retain(|name, value| match rule(name) {
        Honoured => true,
        No(_) if is_asking(name, value) => {
            ignored.push(name.clone());
            false
        }
        No(_) => false,
        Ignored => {
            ignored.push(name.clone());
            false
        }
    });
    Ok(ignored)
}

/// Tools that may not be called are dropped, which is told.
fn is_asking(name: &str, value: &Value) -> bool {
    name == "tools" && !is_empty(value)
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::String(text) => text.is_empty(),
        _ => false,
    }
}

fn is_text_format(value: &Value) -> bool {
    value["type"] == "text" && value.as_object().map(Map::len) == Some(1)
}

/// The documentation's table.
#[cfg(test)]
pub(crate) fn table() -> String {
    let interfaces = [CHAT, COMPLETIONS];
    let mut names: Vec<&str> = Vec::new();
    for (name, _) in interfaces.concat() {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let cell = |fields: &[Field], name: &str| match fields.iter().find(|(known, _)| *known == name) {
        Some((_, Honoured)) => "honoured".to_owned(),
        Some((_, No(Neutral(neutral, _)))) => format!("refused unless {neutral}"),
        Some((_, Ignored)) => "ignored".to_owned(),
        None => "ignored (unknown)".to_owned(),
    };
    let rows = names.iter().map(|name| {
        let cells = interfaces.map(|fields| cell(fields, name)).join(" | ");
        format!("| `{name}` | {cells} |\n")
    });
    let head = "| field | `/v1/chat/completions` | `/v1/completions` |\n| --- | --- | --- |\n";
    [head.to_owned()].into_iter().chain(rows).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn sifted(body: Value) -> Result<Vec<String>, Refused> {
        sift(CHAT, &mut body.as_object().cloned().unwrap_or_default())
    }

    #[test]
    fn the_documentation_has_the_table_of_the_code() {
        let text = include_str!("../README.md");
        assert!(text.contains(&table()), "README.md must have this table:\n{}", table());
    }

    #[test]
    fn what_changes_the_meaning_is_refused_by_name_and_defaults_are_not() {
        for asks in [
            json!({"n": 2}),
            json!({"tools": [{}]}),
            json!({"tools": [{}], "tool_choice": "auto"}),
            json!({"tool_choice": "required"}),
            json!({"response_format": {"type": "json_object"}}),
            json!({"logprobs": true}),
            json!({"frequency_penalty": 0.5}),
            json!({"logit_bias": {"1": 1}}),
            json!({"reasoning_effort": "high"}),
            json!({"modalities": ["text", "audio"]}),
        ] {
            let name = asks.as_object().and_then(|all| all.keys().next_back()).cloned();
            let refused = sifted(asks.clone()).expect_err("it is refused");
            let named = refused.envelope()["error"]["param"].clone();
            assert!(
                refused.code == "unsupported_parameter" && asks.get(named.as_str().unwrap_or("")).is_some(),
                "{name:?}"
            );
        }
        let defaults = json!({"n": 1, "tools": [], "response_format": {"type": "text"}, "logprobs": false,
            "presence_penalty": 0, "frequency_penalty": 0.0, "logit_bias": {}, "audio": null, "tool_choice": "auto"});
        assert_eq!(sifted(defaults), Ok(Vec::new()));
    }

    #[test]
    fn what_was_dropped_is_told() {
        let body = json!({"model": "m", "user": "u", "whatever": 1, "tools": [{}], "tool_choice": "none"});
        let mut told = sifted(body).expect("it is taken");
        told.sort();
        assert_eq!(told, ["tools", "user", "whatever"]);
    }
}
