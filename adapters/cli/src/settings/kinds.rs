//! Values of another kind than their setting's: what is to be written instead, as a file would have it.

use serde_json::Value;

use super::{defaults, pointer};

/// What is to be written, as far as the kinds of both tell it.
pub(super) fn instead(path: &str, value: &Value) -> Option<String> {
    let defaults = defaults().ok()?;
    let default = defaults.pointer(&pointer(path))?;
    Some(match (default, value) {
        (Value::Array(_), _) if path == "models" => "write a table [[models]] for each of several models".into(),
        // A variable of that name may hold the key itself, which is not shown.
        (Value::Array(_), _) if path == "gateway.key" => "write a table [[gateway.key]] for each key".into(),
        (Value::Array(_), Value::String(_)) => format!("write a list: {path} = [{value}]"),
        (Value::Array(_), _) => format!("write a list of texts in quotes: {path} = [\"...\"]"),
        (Value::String(_), Value::Number(_) | Value::Bool(_)) => format!("write it in quotes: {path} = \"{value}\""),
        (Value::String(_), _) => format!("write a text in quotes: {path} = {default}"),
        (Value::Number(_), Value::Number(number)) if number.is_u64() => format!("{value} is too large"),
        (Value::Number(_), Value::String(text)) if text.parse::<u64>().is_ok() => {
            format!("write it without quotes: {path} = {text}")
        }
        (Value::Number(_), _) => format!("{value} is none: write a whole number, such as {path} = {default}"),
        (Value::Bool(_), _) => format!("write true or false, without quotes: {path} = {default}"),
        (Value::Null | Value::Object(_), _) => return None,
    })
}
