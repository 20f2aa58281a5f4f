//! How servers differ: what they are asked, and what they can.

use serde_json::{Map, Value, json};

use crate::{Failure, Message, Prefix, Prompt, Request, Why};

/// What kind of server an upstream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Dialect {
    /// llama-server of llama.cpp.
    Llama,
    /// vLLM.
    Vllm,
    /// Ollama.
    Ollama,
    /// Any other server with OpenAI's interface. It cannot continue an answer that another provider began.
    OpenAi,
}

impl Dialect {
    /// Every dialect.
    pub const ALL: [Self; 4] = [Self::Llama, Self::Vllm, Self::Ollama, Self::OpenAi];

    /// Its name in settings.
    pub fn name(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Vllm => "vllm",
            Self::Ollama => "ollama",
            Self::OpenAi => "openai",
        }
    }

    /// The dialect of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|dialect| dialect.name() == name)
    }

    /// Whether it can continue an answer that another provider began. Ollama can in conversations only: raw prompts pass
    /// through the model's template there, so what is to be continued would be answered as if a user had said it.
    pub fn can_continue(self) -> bool {
        self != Self::OpenAi
    }

    /// The dialect of a server whose list of models says `owned_by`; the one that expects least of it, if that tells
    /// nothing.
    pub(super) fn of_owner(owned_by: &str) -> Self {
        match owned_by {
            "llamacpp" => Self::Llama,
            "vllm" => Self::Vllm,
            "library" | "ollama" => Self::Ollama,
            _ => Self::OpenAi,
        }
    }
}

/// A request as it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Post {
    /// Below the base address.
    pub(super) path: &'static str,
    /// JSON.
    pub(super) body: Vec<u8>,
}

/// OpenAI's interface takes so many.
const MAX_STOPS: usize = 4;

/// Puts a request into a dialect.
///
/// # Errors
/// [`Why::BadRequest`] for what nobody could answer, [`Why::Unavailable`] for what this kind of server is not able to.
pub(super) fn post(dialect: Dialect, model: &str, request: &Request) -> Result<Post, Failure> {
    check(dialect, request)?;
    let prefix = request.prefix.as_ref();
    let mut body = Map::new();
    body.insert("model".into(), model.into());
    let path = match &request.prompt {
        Prompt::Chat(messages) => {
            body.insert("messages".into(), chat(messages, prefix));
            if prefix.is_some() && matches!(dialect, Dialect::Llama | Dialect::Vllm) {
                body.insert("continue_final_message".into(), true.into());
                body.insert("add_generation_prompt".into(), false.into());
            }
            "/chat/completions"
        }
        Prompt::Raw(text) => {
            let prefix = prefix.map_or("", |prefix| &prefix.text);
            body.insert("prompt".into(), format!("{text}{prefix}").into());
            "/completions"
        }
        Prompt::Tokens(_) => return Err(unable("takes text, not token ids")),
    };
    let sampling = &request.sampling;
    body.insert("stream".into(), true.into());
    body.insert(
        "stream_options".into(),
        match dialect {
            Dialect::Vllm => json!({ "include_usage": true, "continuous_usage_stats": true }),
            _ => json!({ "include_usage": true }),
        },
    );
    if dialect == Dialect::Llama {
        body.insert("timings_per_token".into(), true.into());
    }
    body.insert("max_tokens".into(), request.max_tokens.into());
    body.insert("temperature".into(), thousandths(sampling.temperature_milli));
    body.insert("top_p".into(), thousandths(sampling.top_p_milli.min(1000)));
    if sampling.top_k > 0 {
        body.insert("top_k".into(), sampling.top_k.into());
    }
    body.insert("seed".into(), seed(sampling.seed).into());
    if !request.stop.is_empty() {
        body.insert("stop".into(), request.stop.clone().into());
    }
    Ok(Post { path, body: Value::Object(body).to_string().into_bytes() })
}

fn check(dialect: Dialect, request: &Request) -> Result<(), Failure> {
    let bad = |detail: &str| Err(Failure::new(Why::BadRequest, detail));
    if request.max_tokens == 0 {
        return bad("an answer of no tokens was asked for");
    }
    if request.stop.iter().any(String::is_empty) {
        return bad("a stop text is empty");
    }
    if request.stop.len() > MAX_STOPS {
        return bad("there are more than 4 stop texts");
    }
    if request.sampling.top_k > 0 && matches!(dialect, Dialect::Ollama | Dialect::OpenAi) {
        return Err(unable("cannot limit the number of candidates (top_k)"));
    }
    if request.prefix.is_some() && !dialect.can_continue() {
        return Err(unable("cannot continue an answer that another provider began"));
    }
    if request.prefix.is_some() && dialect == Dialect::Ollama && matches!(request.prompt, Prompt::Raw(_)) {
        return Err(unable("continues answers in conversations only: it puts raw prompts into the model's template"));
    }
    Ok(())
}

fn unable(what: &str) -> Failure {
    Failure::new(Why::Unavailable, format!("the upstream server {what}"))
}

/// The messages, and what of the answer is already there as the last of them.
fn chat(messages: &[Message], prefix: Option<&Prefix>) -> Value {
    let mut list: Vec<(&str, String)> =
        messages.iter().map(|message| (message.role.as_str(), message.content.clone())).collect();
    if let Some(prefix) = prefix {
        match list.last_mut() {
            // The requester has begun the answer itself.
            Some((role, content)) if *role == "assistant" => content.push_str(&prefix.text),
            _ => list.push(("assistant", prefix.text.clone())),
        }
    }
    list.into_iter().map(|(role, content)| json!({ "role": role, "content": content })).collect()
}

fn thousandths(value: u32) -> Value {
    (f64::from(value) / 1000.0).into()
}

/// Servers take seeds of 31 bits at least; the same seed stays the same.
fn seed(seed: u64) -> u32 {
    (seed ^ seed >> 31 ^ seed >> 62) as u32 & 0x7fff_ffff
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Sampling;

    fn request() -> Request {
        Request {
            prompt: Prompt::Chat(vec![Message { role: "user".into(), content: "Hi \"you\"".into() }]),
            prefix: None,
            sampling: Sampling { temperature_milli: 700, top_k: 0, top_p_milli: 950, seed: u64::MAX },
            max_tokens: 5,
            stop: vec!["\n".into()],
        }
    }

    fn body(dialect: Dialect, request: &Request) -> (&'static str, Value) {
        let post = post(dialect, "m", request).expect("it can be asked");
        (post.path, serde_json::from_slice(&post.body).expect("JSON"))
    }

    #[test]
    fn a_chat_is_sent_as_it_is_and_the_template_is_the_servers() {
        let (path, body) = body(Dialect::OpenAi, &request());
        assert_eq!(path, "/chat/completions");
        assert_eq!(
            body,
            json!({
                "model": "m", "messages": [{ "role": "user", "content": "Hi \"you\"" }], "stream": true,
                "stream_options": { "include_usage": true }, "max_tokens": 5, "temperature": 0.7, "top_p": 0.95,
                "seed": seed(u64::MAX), "stop": ["\n"],
            })
        );
    }

    #[test]
    fn an_answer_is_continued_where_the_server_can() {
        let begun = Prefix { text: "Hello".into(), tokens: 1, ids: None };
        let request = Request { prefix: Some(begun), ..request() };
        for (dialect, continues) in [(Dialect::Llama, true), (Dialect::Vllm, true), (Dialect::Ollama, false)] {
            let (_, body) = body(dialect, &request);
            assert_eq!(body["messages"][1], json!({ "role": "assistant", "content": "Hello" }));
            assert_eq!(body.get("continue_final_message"), continues.then_some(&Value::Bool(true)), "{dialect:?}");
            assert_eq!(body.get("add_generation_prompt"), continues.then_some(&Value::Bool(false)));
        }
        let raw = Request { prompt: Prompt::Raw("Once".into()), ..request.clone() };
        let (path, body) = body(Dialect::Vllm, &raw);
        assert_eq!((path, &body["prompt"]), ("/completions", &json!("OnceHello")));
        let on_ollama = |request: &Request| post(Dialect::Ollama, "m", request).map_err(|failure| failure.why);
        assert_eq!(on_ollama(&raw), Err(Why::Unavailable), "the prefix would be part of a user's message");
        assert!(on_ollama(&Request { prefix: None, ..raw }).is_ok());
        assert_eq!(post(Dialect::OpenAi, "m", &request).map_err(|failure| failure.why), Err(Why::Unavailable));
    }

    #[test]
    fn what_a_server_cannot_is_refused_not_left_out() {
        let top_k = Request { sampling: Sampling { top_k: 40, ..request().sampling }, ..request() };
        for (dialect, able) in
            [(Dialect::Llama, true), (Dialect::Vllm, true), (Dialect::Ollama, false), (Dialect::OpenAi, false)]
        {
            assert_eq!(post(dialect, "m", &top_k).is_ok(), able, "{dialect:?}");
        }
        let why = |request: Request| post(Dialect::Llama, "m", &request).map_err(|failure| failure.why);
        assert_eq!(why(Request { prompt: Prompt::Tokens(vec![1]), ..request() }), Err(Why::Unavailable));
        assert_eq!(why(Request { max_tokens: 0, ..request() }), Err(Why::BadRequest));
        assert_eq!(why(Request { stop: vec![String::new()], ..request() }), Err(Why::BadRequest));
    }

    #[test]
    fn seeds_stay_apart_in_31_bits() {
        assert_eq!(seed(7), 7);
        assert_ne!(seed(7), seed(7 | 1 << 40));
        assert!(seed(u64::MAX) < 1 << 31);
    }
}
