//! Values of a request, each read as what it has to be or refused with its name.

use serde_json::{Map, Value};

use crate::errors::Refused;

/// The object that a request is.
pub(crate) fn object(bytes: &[u8]) -> Result<Map<String, Value>, Refused> {
    let wrong = |text: String| Refused::new(hyper::StatusCode::BAD_REQUEST, "invalid_json", text);
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Err(wrong("the body must be a JSON object".into())),
        Err(error) => Err(wrong(format!("the body is not JSON: {error}"))),
    }
}

/// Takes a field away, read by `read`; `None` if it is absent or null.
pub(crate) fn take<T>(
    map: &mut Map<String, Value>,
    name: &str,
    read: impl FnOnce(&str, Value) -> Result<T, Refused>,
) -> Result<Option<T>, Refused> {
    let value = map.remove(name).filter(|value| !value.is_null());
    value.map(|value| read(name, value)).transpose()
}

/// An object within a request, and where it stands, by which all that is wrong with it is named.
pub(crate) struct Item {
    at: String,
    fields: Map<String, Value>,
}

impl Item {
    pub(crate) fn read(at: impl Into<String>, value: Value) -> Result<Self, Refused> {
        let at = at.into();
        let fields = fields(&at, value)?;
        Ok(Item { at, fields })
    }

    /// Where a field of it stands.
    pub(crate) fn path(&self, name: &str) -> String {
        format!("{}.{name}", self.at)
    }

    /// Takes a field away, read by `read`; `None` if it is absent or null.
    pub(crate) fn take<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(&str, Value) -> Result<T, Refused>,
    ) -> Result<Option<T>, Refused> {
        let path = self.path(name);
        take(&mut self.fields, name, |_, value| read(&path, value))
    }

    /// Takes a field away that has to be there, and text.
    pub(crate) fn text(&mut self, name: &str) -> Result<String, Refused> {
        self.take(name, text)?.ok_or_else(|| self.missing(name))
    }

    pub(crate) fn missing(&self, name: &str) -> Refused {
        Refused::value(self.path(name), "is missing")
    }

    /// Takes a field away as it is; null if it is absent.
    pub(crate) fn remove(&mut self, name: &str) -> Value {
        self.fields.shift_remove(name).unwrap_or_default()
    }

    /// What was not taken.
    pub(crate) fn rest(self) -> Map<String, Value> {
        self.fields
    }
}

pub(crate) fn text(name: &str, value: Value) -> Result<String, Refused> {
    match value {
        Value::String(text) => Ok(text),
        _ => Err(Refused::value(name, "must be text")),
    }
}

pub(crate) fn flag(name: &str, value: Value) -> Result<bool, Refused> {
    value.as_bool().ok_or_else(|| Refused::value(name, "must be true or false"))
}

pub(crate) fn fields(name: &str, value: Value) -> Result<Map<String, Value>, Refused> {
    match value {
        Value::Object(map) => Ok(map),
        _ => Err(Refused::value(name, "must be an object")),
    }
}

pub(crate) fn list(name: &str, value: Value) -> Result<Vec<Value>, Refused> {
    match value {
        Value::Array(items) => Ok(items),
        _ => Err(Refused::value(name, "must be a list")),
    }
}

/// A whole number from 1 on.
pub(crate) fn count(name: &str, value: Value) -> Result<u64, Refused> {
    const MOST: u64 = 1 << 30;
    let count = value.as_u64().filter(|count| (1..=MOST).contains(count));
    count.ok_or_else(|| Refused::value(name, "must be a whole number of at least 1"))
}

/// A number in a range, in thousandths; finer digits are rounded.
pub(crate) fn milli(most: u32) -> impl FnOnce(&str, Value) -> Result<u32, Refused> {
    move |name, value| {
        let number = value.as_f64().filter(|number| (0.0..=f64::from(most)).contains(number));
        let number = number.ok_or_else(|| Refused::value(name, format!("must be a number from 0 to {most}")))?;
        // In range, so nothing is cut off.
        Ok((number * 1000.0).round() as u32)
    }
}

/// Texts: one, or a list of them.
pub(crate) fn texts(name: &str, value: Value) -> Result<Vec<String>, Refused> {
    match value {
        Value::String(one) => Ok(vec![one]),
        Value::Array(many) => {
            many.into_iter().enumerate().map(|(at, value)| text(&format!("{name}[{at}]"), value)).collect()
        }
        _ => Err(Refused::value(name, "must be text or a list of texts")),
    }
}

/// A number as it was written, in decimals: no digit is lost.
pub(crate) fn decimal(name: &str, value: Value) -> Result<String, Refused> {
    match value {
        Value::String(text) => Ok(text),
        Value::Number(number) => Ok(match (number.as_u64(), number.as_f64()) {
            (Some(whole), _) => whole.to_string(),
            // The shortest digits that mean this number, never with an exponent.
            (None, Some(float)) => float.to_string(),
            (None, None) => number.to_string(),
        }),
        _ => Err(Refused::value(name, "must be a number, or a decimal as text")),
    }
}
