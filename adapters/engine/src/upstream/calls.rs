//! Calls of tools: as servers write them, and as they are passed on.

use serde_json::{Map, Value};

use super::json::Json;

/// Calls in one answer, at most.
const MAX_CALLS: u64 = 128;
/// Bytes of the id or the name of a call, at most.
const MAX_NAME: usize = 256;
/// Bytes of arguments in one piece: in JSON they take six times as many at most, and fit a piece of text.
const MAX_ARGUMENTS: usize = 1_200;

/// A call, or a piece of one, as a server tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Call {
    index: Option<u64>,
    id: String,
    name: String,
    arguments: String,
}

/// What was told of the calls of an answer.
#[derive(Clone, Debug, Default)]
pub(super) struct Calls {
    /// Of each call, whether its id and its name were told.
    told: Vec<(bool, bool)>,
    /// It comes piece by piece, so that a whole message repeats it.
    in_pieces: bool,
}

/// It is none that can be passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unfit;

impl Call {
    /// The calls of a message, or pieces of some.
    pub(super) fn of(part: Json<'_>) -> Vec<Self> {
        let calls = part.field("tool_calls").into_iter().flat_map(Json::items).filter(|call| call.is_object());
        // The older name, for one call.
        let alone = part.field("function_call").filter(|call| call.is_object());
        calls
            .map(|call| Self::read(call, call.field("function")))
            .chain(alone.map(|call| Self::read(call, None)))
            .collect()
    }

    fn read(call: Json<'_>, function: Option<Json<'_>>) -> Self {
        let inside = function.unwrap_or(call);
        let text = |of: Json<'_>, name| of.field(name).and_then(Json::lossy).unwrap_or_default();
        let arguments = inside.field("arguments").filter(|arguments| !arguments.is_null());
        // Some write an object where a text is due.
        let plain = |arguments: Json<'_>| match arguments.is_object() {
            true => String::from_utf8_lossy(arguments.bytes()).into_owned(),
            false => arguments.lossy().unwrap_or_default(),
        };
        Self {
            index: call.field("index").and_then(Json::count),
            id: text(call, "id"),
            name: text(inside, "name"),
            arguments: arguments.map(plain).unwrap_or_default(),
        }
    }
}

impl Calls {
    /// What is passed on of an event: a JSON object for each piece, with the id and the name of a call in its first.
    ///
    /// # Errors
    /// [`Unfit`], if a call has a number or a name that none has.
    pub(super) fn take(&mut self, delta: &[Call], message: &[Call]) -> Result<Vec<String>, Unfit> {
        self.in_pieces |= !delta.is_empty();
        let mut pieces = Vec::new();
        for call in if self.in_pieces { delta } else { message } {
            self.pass_on(call, &mut pieces)?;
        }
        Ok(pieces)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.told.is_empty()
    }

    fn pass_on(&mut self, call: &Call, pieces: &mut Vec<String>) -> Result<(), Unfit> {
        // Without a number: another id is another call, and no id goes on with the last.
        let next = self.told.len() as u64;
        let index = call.index.unwrap_or(if call.id.is_empty() && call.name.is_empty() {
            next.saturating_sub(1)
        } else {
            next
        });
        if index >= MAX_CALLS || call.id.len() > MAX_NAME || call.name.len() > MAX_NAME {
            return Err(Unfit);
        }
        let at = usize::try_from(index).map_err(|_| Unfit)?;
        if at >= self.told.len() {
            self.told.resize(at + 1, (false, false));
        }
        let (id_told, name_told) = &mut self.told[at];
        let mut fields = Map::new();
        // [W7]
        fields.insert("index".into(), index.into());
        for (field, value, told) in [("id", &call.id, id_told), ("name", &call.name, name_told)] {
            // Some say it again with each piece.
            if !value.is_empty() && !std::mem::replace(told, true) {
                fields.insert(field.into(), value.as_str().into());
            }
        }
        let mut rest = call.arguments.as_str();
        while !rest.is_empty() || fields.len() > 1 {
            let end = (0..=MAX_ARGUMENTS.min(rest.len())).rev().find(|at| rest.is_char_boundary(*at)).unwrap_or(0);
            let (part, after) = rest.split_at(end);
            rest = after;
            fields.insert("arguments".into(), part.into());
            pieces.push(Value::Object(std::mem::take(&mut fields)).to_string());
            fields.insert("index".into(), index.into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(part: &Value) -> Vec<Call> {
        Call::of(Json::whole(part.to_string().as_bytes()).expect("an object"))
    }

    fn passed(calls: &mut Calls, delta: &Value, message: &Value) -> Vec<Value> {
        let pieces = calls.take(&read(delta), &read(message)).expect("fit");
        assert!(pieces.iter().all(|piece| piece.len() <= super::super::tally::MAX_TEXT));
        pieces.iter().map(|piece| serde_json::from_str(piece).expect("JSON")).collect()
    }

    #[test]
    fn a_calls_id_and_name_are_told_once_and_its_arguments_in_pieces() {
        let (mut calls, none) = (Calls::default(), json!({}));
        let piece = |arguments: &str| json!({ "tool_calls": [{ "index": 0, "id": "c", "function": { "name": "f", "arguments": arguments } }] });
        assert_eq!(
            passed(&mut calls, &piece(""), &none),
            [json!({ "index": 0, "id": "c", "name": "f", "arguments": "" })]
        );
        assert_eq!(passed(&mut calls, &piece("{}"), &none), [json!({ "index": 0, "arguments": "{}" })]);
        assert_eq!(passed(&mut calls, &piece(""), &none), [] as [Value; 0]);
        assert_eq!(passed(&mut calls, &none, &piece("{}")), [] as [Value; 0], "the whole message repeats it");
        let wide = "\u{1}".repeat(5_000);
        let parts = passed(&mut calls, &piece(&wide), &none);
        assert_eq!(parts.iter().filter_map(|part| part["arguments"].as_str()).collect::<String>(), wide);
    }

    #[test]
    fn calls_come_in_many_forms() {
        let whole = json!({ "tool_calls": [
            { "id": "a", "function": { "name": "f", "arguments": { "x": 1 } } }, null,
            { "id": "b", "function": { "name": "g", "arguments": null } },
        ] });
        let expected = [
            json!({ "index": 0, "id": "a", "name": "f", "arguments": "{\"x\":1}" }),
            json!({ "index": 1, "id": "b", "name": "g", "arguments": "" }),
        ];
        assert_eq!(passed(&mut Calls::default(), &json!({}), &whole), expected);
        let old = json!({ "function_call": { "name": "f", "arguments": "{" } });
        let mut calls = Calls::default();
        assert_eq!(passed(&mut calls, &old, &json!({}))[0]["name"], "f");
        let rest = json!({ "function_call": { "arguments": "}" } });
        assert_eq!(passed(&mut calls, &rest, &json!({})), [json!({ "index": 0, "arguments": "}" })]);
        for unfit in [json!({ "index": MAX_CALLS, "id": "a" }), json!({ "id": "a".repeat(MAX_NAME + 1) })] {
            let unfit = read(&json!({ "tool_calls": [unfit] }));
            assert_eq!(Calls::default().take(&unfit, &[]), Err(Unfit));
        }
    }
}
