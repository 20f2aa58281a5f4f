//! Which fields of a request are honoured, refused or ignored: the one table that code, documentation and tests read.

use haggle::core::wire::message::Features;
use serde_json::{Map, Value};

use crate::errors::Refused;

/// What becomes of a field.
#[derive(Clone, Copy)]
pub(crate) enum Rule {
    /// It does what it says.
    Honoured,
    /// Passed on as it came to providers that offer this, unless it asks for nothing.
    Offered(Neutral, Features),
    /// Passed on beside another field, ignored without it.
    Beside(&'static str),
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

/// What a request asks for beyond text.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    /// Fields that are passed on as they came.
    pub(crate) carried: Map<String, Value>,
    /// What a provider has to offer for it, and which field wants that.
    pub(crate) features: Vec<(String, Features)>,
    /// Fields that were dropped.
    pub(crate) ignored: Vec<String>,
}

impl Asked {
    pub(crate) fn ask(&mut self, param: impl Into<String>, feature: Features) {
        if !self.features.iter().any(|(_, known)| *known == feature) {
            self.features.push((param.into(), feature));
        }
    }

    pub(crate) fn ignore(&mut self, name: String) {
        if !self.ignored.contains(&name) {
            self.ignored.push(name);
        }
    }
}

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
const NO_EFFORT_IN_IT: Neutral = Neutral("without an `effort`", |value, _| {
    value.get("effort").is_none_or(|effort| effort.is_null() || effort == "none")
});
const PLAIN: Neutral = Neutral("its `format` is {\"type\": \"text\"}", |value, _| {
    value.get("format").is_none_or(|format| format.is_null() || is_text_format(format))
});
const NO_CUT: Neutral = Neutral("\"disabled\"", |value, _| value == "disabled");
const NEVER: Neutral = Neutral("null", |_, _| false);

use Rule::{Beside, Honoured, Ignored, Offered, Refused as No};

/// Which of the two is decided by the format.
const JSON: Features = Features::JSON_OBJECT.with(Features::JSON_SCHEMA);

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
    ("tools", Offered(TOOLS, Features::TOOLS)),
    ("tool_choice", Offered(CHOICE, Features::TOOLS)),
    ("parallel_tool_calls", Beside("tools")),
    ("functions", No(EMPTY)),
    ("function_call", No(CHOICE)),
    ("response_format", Offered(TEXT, JSON)),
    ("logprobs", No(FALSE)),
    ("top_logprobs", No(ZERO)),
    ("logit_bias", Offered(EMPTY, Features::LOGIT_BIAS)),
    ("frequency_penalty", Offered(ZERO, Features::PENALTIES)),
    ("presence_penalty", Offered(ZERO, Features::PENALTIES)),
    ("repetition_penalty", No(ONE)),
    ("min_p", Offered(ZERO, Features::MIN_P)),
    ("top_a", No(ZERO)),
    ("reasoning_effort", Offered(NO_EFFORT, Features::REASONING)),
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
    ("prediction", Ignored),
];

/// `POST /v1/completions`.
pub(crate) const COMPLETIONS: &[Field] = &[
    ("model", Honoured),
    ("models", Honoured),
    ("prompt", Honoured),
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
    ("best_of", No(ONE)),
    ("echo", No(FALSE)),
    ("suffix", No(EMPTY)),
    ("logprobs", No(NEVER)),
];

/// `POST /v1/responses`.
pub(crate) const RESPONSES: &[Field] = &[
    ("model", Honoured),
    ("models", Honoured),
    ("input", Honoured),
    ("instructions", Honoured),
    ("max_output_tokens", Honoured),
    ("max_tokens", Honoured),
    ("max_completion_tokens", Honoured),
    ("temperature", Honoured),
    ("top_p", Honoured),
    ("top_k", Honoured),
    ("seed", Honoured),
    ("stop", Honoured),
    ("stream", Honoured),
    ("provider", Honoured),
    ("haggle", Honoured),
    ("tools", Offered(TOOLS, Features::TOOLS)),
    ("tool_choice", Offered(CHOICE, Features::TOOLS)),
    ("parallel_tool_calls", Beside("tools")),
    ("text", Offered(PLAIN, JSON)),
    ("reasoning", Offered(NO_EFFORT_IN_IT, Features::REASONING)),
    ("previous_response_id", No(NEVER)),
    ("conversation", No(NEVER)),
    ("prompt", No(NEVER)),
    ("background", No(FALSE)),
    ("truncation", No(NO_CUT)),
    ("context_management", No(EMPTY)),
    ("moderation", No(NEVER)),
    ("include", Ignored),
    ("stream_options", Ignored),
    ("max_tool_calls", Ignored),
];

/// Decides on every field that is not honoured. What is honoured stays in the body.
pub(crate) fn sift(fields: &[Field], body: &mut Map<String, Value>) -> Result<Asked, Refused> {
    // Absent and null are the same.
    body.retain(|_, value| !value.is_null());
    let (mut asked, mut gone) = (Asked::default(), Vec::new());
    for (name, value) in &*body {
        match rule(fields, name) {
            Honoured => continue,
            No(Neutral(neutral, is_neutral)) if !is_neutral(value, body) => {
                let why = "it would change the answer, and nothing here can honour it; leave it out, or send";
                return Err(Refused::unsupported_parameter(name.clone(), &format!("{why} {neutral}")));
            }
            Offered(Neutral(_, is_neutral), feature) if !is_neutral(value, body) => {
                asked.ask(name.clone(), if feature == JSON { format_of(name, value)? } else { feature });
                asked.carried.insert(name.clone(), value.clone());
            }
            Beside(other) if body.get(other).is_some_and(|other| !is_empty(other)) => {
                asked.carried.insert(name.clone(), value.clone());
            }
            // Tools that may not be called are dropped, which is told.
            Offered(..) if name == "tools" && !is_empty(value) => asked.ignore(name.clone()),
            No(_) | Offered(..) => {}
            Beside(_) | Ignored => asked.ignore(name.clone()),
        }
        gone.push(name.clone());
    }
    body.retain(|name, _| !gone.contains(name));
    Ok(asked)
}

/// What becomes of a field. One that means something to chats alone is not dropped elsewhere as if it meant nothing.
fn rule(fields: &[Field], name: &str) -> Rule {
    let find = |fields: &[Field]| fields.iter().find(|(known, _)| *known == name).map(|(_, rule)| *rule);
    match find(fields).or_else(|| find(CHAT)) {
        Some(Offered(neutral, _)) if find(fields).is_none() => No(neutral),
        Some(Honoured | Beside(_)) if find(fields).is_none() => Ignored,
        rule => rule.unwrap_or(Ignored),
    }
}

/// What a format of answers takes.
fn format_of(name: &str, value: &Value) -> Result<Features, Refused> {
    let (name, format) = match value.get("format") {
        Some(format) => (format!("{name}.format"), format),
        None => (name.to_owned(), value),
    };
    match format["type"].as_str() {
        Some("json_object") => Ok(Features::JSON_OBJECT),
        Some("json_schema") => Ok(Features::JSON_SCHEMA),
        _ => Err(Refused::value(format!("{name}.type"), "must be text, json_object or json_schema")),
    }
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
    let interfaces = [CHAT, COMPLETIONS, RESPONSES];
    let mut names: Vec<&str> = Vec::new();
    for (name, _) in interfaces.concat() {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let cell = |fields: &[Field], name: &str| match rule(fields, name) {
        Honoured => "honoured".to_owned(),
        No(Neutral(neutral, _)) => format!("refused unless {neutral}"),
        Offered(_, features) => format!("by providers of {}", features.names().collect::<Vec<_>>().join(", ")),
        Beside(other) => format!("with `{other}`, else ignored"),
        Ignored => "ignored".to_owned(),
    };
    let rows = names.iter().map(|name| {
        let cells = interfaces.map(|fields| cell(fields, name)).join(" | ");
        format!("| `{name}` | {cells} |\n")
    });
    let head = "| field | `/v1/chat/completions` | `/v1/completions` | `/v1/responses` |\n| --- | --- | --- | --- |\n";
    [head.to_owned()].into_iter().chain(rows).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn sifted(body: Value) -> Result<Asked, Refused> {
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
            json!({"functions": [{}]}),
            json!({"logprobs": true}),
            json!({"top_logprobs": 3}),
            json!({"repetition_penalty": 1.1}),
            json!({"modalities": ["text", "audio"]}),
        ] {
            let name = asks.as_object().and_then(|all| all.keys().next().cloned()).expect("a field");
            let refused = sifted(asks).expect_err("it is refused");
            let named = refused.envelope()["error"]["param"].clone();
            assert_eq!((refused.code, named), ("unsupported_parameter", json!(name)));
        }
        let defaults = json!({"n": 1, "tools": [], "response_format": {"type": "text"}, "logprobs": false,
            "presence_penalty": 0, "frequency_penalty": 0.0, "logit_bias": {}, "audio": null, "tool_choice": "auto"});
        let asked = sifted(defaults).expect("it is taken");
        assert!(asked.features.is_empty() && asked.ignored.is_empty() && asked.carried.is_empty(), "{asked:?}");
    }

    #[test]
    fn what_only_some_providers_can_do_is_asked_of_those() {
        for (asks, feature) in [
            (json!({"tools": [{}]}), Features::TOOLS),
            (json!({"tools": [{}], "tool_choice": "auto", "parallel_tool_calls": false}), Features::TOOLS),
            (json!({"tool_choice": "required"}), Features::TOOLS),
            (json!({"response_format": {"type": "json_object"}}), Features::JSON_OBJECT),
            (json!({"response_format": {"type": "json_schema", "json_schema": {}}}), Features::JSON_SCHEMA),
            (json!({"frequency_penalty": 0.5, "presence_penalty": 1}), Features::PENALTIES),
            (json!({"logit_bias": {"1": 1}}), Features::LOGIT_BIAS),
            (json!({"reasoning_effort": "high"}), Features::REASONING),
        ] {
            let asked = sifted(asks.clone()).expect("it is taken");
            let features: Vec<_> = asked.features.iter().map(|(_, feature)| *feature).collect();
            assert_eq!((features, Value::Object(asked.carried)), (vec![feature], asks));
        }
        let unknown = sifted(json!({"response_format": {"type": "xml"}})).expect_err("it is refused");
        assert_eq!(unknown.envelope()["error"]["param"], "response_format.type");
    }

    #[test]
    fn what_was_dropped_is_told() {
        let body = json!({"model": "m", "user": "u", "whatever": 1, "tools": [{}], "tool_choice": "none"});
        let mut told = sifted(body).expect("it is taken").ignored;
        told.sort();
        assert_eq!(told, ["tools", "user", "whatever"]);
    }
}
