//! Calls of tools, put together from the pieces they come in.

use serde_json::Value;

/// A call of a tool, whole.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ToolCall {
    pub(crate) id: String,
    pub(crate) name: String,
    /// JSON, as the model wrote it.
    pub(crate) arguments: String,
}

/// The calls of an answer. One is held back until it is whole: no client acts on half of one.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    /// Which call is being written, and what there is of it.
    open: Option<(u64, ToolCall)>,
    /// Text of a piece that has not ended yet.
    rest: String,
}

/// A piece is none, which a provider is to blame for.
#[derive(Debug, PartialEq)]
pub(crate) struct Malformed;

impl Calls {
    /// Takes what came, and gives out the calls that are whole by it.
    pub(crate) fn push(&mut self, text: &str) -> Result<Vec<ToolCall>, Malformed> {
        self.rest.push_str(text);
        let (mut whole, mut read) = (Vec::new(), 0);
        let mut pieces = serde_json::Deserializer::from_str(&self.rest).into_iter::<Value>();
        while let Some(piece) = pieces.next() {
            let piece = match piece {
                Ok(piece) => piece,
                Err(error) if error.is_eof() => break,
                Err(_) => return Err(Malformed),
            };
            read = pieces.byte_offset();
            whole.extend(add(&mut self.open, &piece)?);
        }
        self.rest.drain(..read);
        Ok(whole)
    }

    /// Nothing more of the call that is open will come.
    pub(crate) fn close(&mut self) -> Result<Option<ToolCall>, Malformed> {
        if !std::mem::take(&mut self.rest).trim().is_empty() {
            return Err(Malformed);
        }
        Ok(self.open.take().map(|(_, call)| call))
    }
}

/// Adds a piece to the call that is open; the one before it, if it is of another.
fn add(open: &mut Option<(u64, ToolCall)>, piece: &Value) -> Result<Option<ToolCall>, Malformed> {
    let index = piece["index"].as_u64().ok_or(Malformed)?;
    let before = open.take_if(|(at, _)| *at != index).map(|(_, call)| call);
    let (_, call) = open.get_or_insert_with(|| (index, ToolCall::default()));
    // Upstream servers say these beside `index`, or in OpenAI's `function`.
    let text = |name: &str| piece[name].as_str().or_else(|| piece["function"][name].as_str()).unwrap_or_default();
    call.id.push_str(text("id"));
    call.name.push_str(text("name"));
    call.arguments.push_str(text("arguments"));
    Ok(before)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(id: &str, name: &str, arguments: &str) -> ToolCall {
        ToolCall { id: id.into(), name: name.into(), arguments: arguments.into() }
    }

    #[test]
    fn calls_are_put_together_however_they_were_cut() {
        let text = [
            r#"{"index":0,"id":"a","name":"f","arguments":""}"#,
            r#"{"index":0,"arguments":"{\"x\""}"#,
            r#"{"index":0,"arguments":":1}"}"#,
            r#"{"index":1,"id":"b","name":"g","arguments":"{}"}"#,
        ]
        .concat();
        for cut in (1..text.len()).filter(|cut| text.is_char_boundary(*cut)) {
            let mut calls = Calls::default();
            let mut whole = calls.push(&text[..cut]).expect("pieces");
            whole.extend(calls.push(&text[cut..]).expect("pieces"));
            assert_eq!(whole, [call("a", "f", "{\"x\":1}")], "cut at {cut}");
            assert_eq!(calls.close(), Ok(Some(call("b", "g", "{}"))));
        }
    }

    #[test]
    fn what_is_no_call_is_told() {
        for wrong in ["nonsense", "[]", "{\"id\":\"a\"}"] {
            assert_eq!(Calls::default().push(wrong), Err(Malformed), "{wrong}");
        }
        let mut calls = Calls::default();
        assert_eq!((calls.push("{\"index\":0"), calls.close()), (Ok(Vec::new()), Err(Malformed)));
    }
}
