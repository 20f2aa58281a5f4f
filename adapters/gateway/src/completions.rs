//! `POST /v1/completions`: a text, or tokens, to be continued as they stand.

use haggle::{Prompt, Receipt};
use hyper::HeaderMap;
use serde_json::{Map, Value, json};

use crate::{
    chunks::{self, Chunks, finish_reason},
    errors::Refused,
    fields::COMPLETIONS,
    order::Order,
    purchase::Purchase,
    read::{object, take},
    stream::{Said, Voice},
};

/// How ids of answers begin.
const PREFIX: &str = "cmpl";
/// What an answer is, and each piece of it.
const OBJECT: &str = "text_completion";

pub(crate) fn read(bytes: &[u8], headers: &HeaderMap) -> Result<Order, Refused> {
    Order::read(COMPLETIONS, object(bytes)?, headers, |body, _| prompt(body))
}

fn prompt(body: &mut Map<String, Value>) -> Result<Prompt, Refused> {
    let must = || Refused::value("prompt", "must be one text, or one list of token ids");
    let prompt = take(body, "prompt", |name, value| match value {
        Value::String(text) if !text.is_empty() => Ok(Prompt::Raw(text)),
        Value::Array(many) if many.len() > 1 && many.iter().any(|one| one.is_string() || one.is_array()) => {
            Err(Refused::unsupported_value(name, "one request is one prompt; send one for each"))
        }
        Value::Array(one) => match one.as_slice() {
            [Value::String(text)] if !text.is_empty() => Ok(Prompt::Raw(text.clone())),
            [Value::Array(ids)] => ids_of(ids).ok_or_else(must),
            ids => ids_of(ids).ok_or_else(must),
        },
        _ => Err(must()),
    })?;
    prompt.ok_or_else(must)
}

fn ids_of(ids: &[Value]) -> Option<Prompt> {
    let ids: Option<Vec<u32>> = ids.iter().map(|id| u32::try_from(id.as_u64()?).ok()).collect();
    ids.filter(|ids| !ids.is_empty()).map(Prompt::Tokens)
}

pub(crate) fn whole(purchase: &Purchase, said: Said, receipt: &Receipt) -> Value {
    let choice = choice(&[said.text, said.refusal].concat(), Some(finish_reason(receipt)));
    chunks::whole(purchase, PREFIX, OBJECT, choice, receipt)
}

fn choice(text: &str, reason: Option<&str>) -> Value {
    json!({"index": 0, "text": text, "logprobs": null, "finish_reason": reason})
}

/// An answer as it comes.
pub(crate) struct Pieces(Chunks);

impl Pieces {
    pub(crate) fn new(include_usage: bool) -> Self {
        Pieces(Chunks::new(include_usage))
    }
}

impl Voice for Pieces {
    fn begin(&mut self, purchase: &Purchase, _: &mut String) {
        self.0.begin(purchase, PREFIX, OBJECT);
    }

    fn text(&mut self, text: &str, out: &mut String) {
        self.0.write(choice(text, None), out);
    }

    fn end(&mut self, purchase: &Purchase, receipt: &Receipt, out: &mut String) {
        self.0.write(choice("", Some(finish_reason(receipt))), out);
        self.0.end(purchase, receipt, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_is_one_text_or_one_list_of_ids() {
        let read =
            |prompt: Value| read(json!({"model": "m", "prompt": prompt}).to_string().as_bytes(), &HeaderMap::new());
        let prompts = [json!("a"), json!(["a"]), json!([1, 2]), json!([[1, 2]])];
        let read_as = prompts.map(|prompt| read(prompt).map(|order| order.prompt));
        let (raw, ids) = (Ok(Prompt::Raw("a".into())), Ok(Prompt::Tokens(vec![1, 2])));
        assert_eq!(read_as, [raw.clone(), raw, ids.clone(), ids]);
        for wrong in [
            json!(""),
            json!([]),
            json!(["a", "b"]),
            json!([[1], [2]]),
            json!([-1]),
            json!([1.5]),
            json!(null),
            json!({}),
        ] {
            assert_eq!(read(wrong.clone()).map_err(|refused| refused.status.as_u16()).err(), Some(400), "{wrong}");
        }
    }
}
