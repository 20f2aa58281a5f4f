//! `POST /v1/completions`: a text, or tokens, to be continued as they stand.

use haggle::{Prompt, Receipt};
use hyper::HeaderMap;
use serde_json::{Map, Value, json};

use crate::{
    body::event,
    chat::{finish_reason, usage},
    errors::Refused,
    fields::COMPLETIONS,
    jobs,
    order::Order,
    purchase::Purchase,
    read::{object, take},
    stream::{Said, Voice},
};

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
    let mut answer = frame(purchase);
    answer["choices"] = choice(&[said.text, said.refusal].concat(), Some(finish_reason(receipt)));
    answer["usage"] = usage(receipt);
    answer["haggle"] = jobs::lock(&purchase.record).of_answer();
    answer
}

fn frame(purchase: &Purchase) -> Value {
    let record = jobs::lock(&purchase.record);
    json!({
        "id": format!("cmpl-{}", record.id), "object": "text_completion", "created": record.created,
        "model": record.model.to_text(),
    })
}

fn choice(text: &str, reason: Option<&str>) -> Value {
    json!([{"index": 0, "text": text, "logprobs": null, "finish_reason": reason}])
}

/// The pieces of one answer.
pub(crate) struct Pieces {
    include_usage: bool,
    frame: Value,
}

impl Pieces {
    pub(crate) fn new(include_usage: bool) -> Self {
        Pieces { include_usage, frame: Value::Null }
    }

    fn piece(&self, text: &str, reason: Option<&str>, out: &mut String) {
        let mut piece = self.frame.clone();
        piece["choices"] = choice(text, reason);
        event(&piece, out);
    }
}

impl Voice for Pieces {
    fn begin(&mut self, purchase: &Purchase, _: &mut String) {
        self.frame = frame(purchase);
    }

    fn text(&mut self, text: &str, out: &mut String) {
        self.piece(text, None, out);
    }

    fn end(&mut self, purchase: &Purchase, receipt: &Receipt, out: &mut String) {
        self.piece("", Some(finish_reason(receipt)), out);
        if self.include_usage {
            let mut last = self.frame.clone();
            last["choices"] = json!([]);
            last["usage"] = usage(receipt);
            last["haggle"] = jobs::lock(&purchase.record).of_answer();
            event(&last, out);
        }
        out.push_str("data: [DONE]\n\n");
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
