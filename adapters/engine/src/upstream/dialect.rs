//! How servers differ: what they are asked, and what they can.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicU8, Ordering},
};

use serde_json::{Map, Value, json};

use crate::{Failure, Message, Prefix, Prompt, Request, Why};

use super::{error::ErrorBody, request};

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
    body: Map<String, Value>,
    /// More fields, as the requester wrote them: none of them is in the body.
    rest: String,
}

/// What is added to a request though no requester asked for it, or not by this name. A server that refuses it is asked
/// without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extra {
    UsageOfEach,
    Usage,
    Timings,
    /// Equal bytes are not promised anyway.
    Seed,
    /// The older name of `max_completion_tokens`.
    MaxTokens,
}

/// The extras that a server was found not to take.
#[derive(Debug, Default)]
pub(super) struct Spared(AtomicU8);

impl Spared {
    fn add(&self, extra: Extra) {
        self.0.fetch_or(extra.bit(), Ordering::Relaxed);
    }

    fn has(&self, extra: Extra) -> bool {
        self.0.load(Ordering::Relaxed) & extra.bit() > 0
    }
}

impl Extra {
    /// What is inside of another comes first: an error names both.
    const ALL: [Self; 5] = [Self::UsageOfEach, Self::Usage, Self::Timings, Self::Seed, Self::MaxTokens];

    /// The field that it is.
    pub(super) fn field(self) -> &'static str {
        match self {
            Self::UsageOfEach => "continuous_usage_stats",
            Self::Usage => "stream_options",
            Self::Timings => "timings_per_token",
            Self::Seed => "seed",
            Self::MaxTokens => "max_tokens",
        }
    }

    fn bit(self) -> u8 {
        1 << self as u8
    }

    /// Whether an error names it. What it says of `max_tokens` may be of the number, not of the name.
    fn is_named(self, error: &ErrorBody) -> bool {
        let renamed = ["max_completion_tokens", "support", "recogni", "unexpected", "extra", "unknown", "permitted"];
        error.names(self.field()) && (self != Self::MaxTokens || error.says(&renamed))
    }

    /// Takes it out of a request. False if it is not there.
    fn leave_out(self, body: &mut Map<String, Value>) -> bool {
        let removed = match (self, body.get_mut("stream_options")) {
            (Self::UsageOfEach, Some(Value::Object(options))) => options.remove(self.field()),
            (Self::UsageOfEach, _) => None,
            _ => body.remove(self.field()),
        };
        match (self, removed) {
            (_, None) => false,
            (Self::MaxTokens, Some(n)) => body.insert("max_completion_tokens".into(), n).is_none(),
            _ => true,
        }
    }
}

impl Post {
    /// As JSON.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec(&self.body).unwrap_or_default();
        if !self.rest.is_empty() {
            // Behind the fields that are there always.
            bytes.pop();
            bytes.extend([b",", self.rest.as_bytes(), b"}"].concat());
        }
        bytes
    }

    /// Leaves out what a server refuses by name, now and from now on. `None`: it names nothing that can be left out.
    pub(super) fn spare(&mut self, error: &ErrorBody, spared: &Spared) -> Option<Extra> {
        let is_wrong = |extra: &Extra| extra.is_named(error) && extra.leave_out(&mut self.body);
        let extra = Extra::ALL.into_iter().find(is_wrong)?;
        spared.add(extra);
        Some(extra)
    }
}

/// OpenAI's interface takes so many.
const MAX_STOPS: usize = 4;

/// Puts a request into a dialect.
///
/// # Errors
/// [`Why::BadRequest`] for what nobody could answer, [`Why::Unavailable`] for what this kind of server is not able to.
pub(super) fn post(dialect: Dialect, model: &str, request: &Request, spared: &Spared) -> Result<Post, Failure> {
    check(dialect, request)?;
    let prefix = request.prefix.as_ref();
    let (mut body, mut rest, mut given) = (Map::new(), String::new(), BTreeSet::new());
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
        Prompt::Request(request) => {
            given = request::check(request)?;
            let inside = request.trim().strip_prefix('{').and_then(|inside| inside.strip_suffix('}'));
            rest = inside.unwrap_or_default().trim().to_owned();
            "/chat/completions"
        }
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
    // Some servers refuse the value that means no limit.
    if sampling.top_p_milli < 1000 {
        body.insert("top_p".into(), thousandths(sampling.top_p_milli));
    }
    if sampling.top_k > 0 {
        body.insert("top_k".into(), sampling.top_k.into());
    }
    body.insert("seed".into(), seed(sampling.seed).into());
    if !request.stop.is_empty() {
        body.insert("stop".into(), request.stop.clone().into());
    }
    for extra in Extra::ALL.into_iter().filter(|extra| spared.has(*extra)) {
        extra.leave_out(&mut body);
    }
    // What was added does not stand in the way of what was asked for.
    body.retain(|field, _| !given.contains(field));
    Ok(Post { path, body, rest })
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

    fn ask(dialect: Dialect, request: &Request) -> Result<Post, Failure> {
        post(dialect, "m", request, &Spared::default())
    }

    fn body(dialect: Dialect, request: &Request) -> (&'static str, Value) {
        let post = ask(dialect, request).expect("it can be asked");
        (post.path, serde_json::from_slice(&post.bytes()).expect("JSON"))
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
        let on_ollama = |request: &Request| ask(Dialect::Ollama, request).map_err(|failure| failure.why);
        assert_eq!(on_ollama(&raw), Err(Why::Unavailable), "the prefix would be part of a user's message");
        assert!(on_ollama(&Request { prefix: None, ..raw }).is_ok());
        assert_eq!(ask(Dialect::OpenAi, &request).map_err(|failure| failure.why), Err(Why::Unavailable));
    }

    #[test]
    fn what_a_server_names_is_left_out_and_stays_so() {
        let spared = Spared::default();
        let mut post = post(Dialect::Vllm, "m", &request(), &spared).expect("it can be asked");
        let mut spare = |words: &str| post.spare(&ErrorBody::read(words.as_bytes()), &spared).map(Extra::field);
        let options = r#"{"detail":[{"loc":["body","stream_options","continuous_usage_stats"],"type":"extra"}]}"#;
        assert_eq!(spare(r#"{"error":{"message":"max_tokens is too large"}}"#), None, "its number");
        assert_eq!(spare(r#"{"error":{"message":"seeds and my_seed"}}"#), None, "another word");
        assert_eq!(spare(options), Some("continuous_usage_stats"));
        assert_eq!(spare(options), Some("stream_options"));
        assert_eq!(spare(options), None, "it is gone");
        assert_eq!(spare(r#"{"error":{"message":"no","param":"seed"}}"#), Some("seed"));
        let renamed = r#"{"error":{"message":"Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens'."}}"#;
        assert_eq!(spare(renamed), Some("max_tokens"));
        assert_eq!(spare(renamed), None);
        let next = super::post(Dialect::Vllm, "m", &request(), &spared).expect("it can be asked");
        assert_eq!(next, post);
        assert_eq!(next.body.get("max_completion_tokens"), Some(&json!(5)));
        assert!(["max_tokens", "seed", "stream_options"].iter().all(|field| !next.body.contains_key(*field)));
        let unlimited = Request { sampling: Sampling { top_p_milli: 1000, ..request().sampling }, ..request() };
        assert!(!body(Dialect::OpenAi, &unlimited).1.as_object().is_some_and(|body| body.contains_key("top_p")));
    }

    #[test]
    fn what_a_server_cannot_is_refused_not_left_out() {
        let top_k = Request { sampling: Sampling { top_k: 40, ..request().sampling }, ..request() };
        for (dialect, able) in
            [(Dialect::Llama, true), (Dialect::Vllm, true), (Dialect::Ollama, false), (Dialect::OpenAi, false)]
        {
            assert_eq!(ask(dialect, &top_k).is_ok(), able, "{dialect:?}");
        }
        let why = |request: Request| ask(Dialect::Llama, &request).map_err(|failure| failure.why);
        assert_eq!(why(Request { prompt: Prompt::Tokens(vec![1]), ..request() }), Err(Why::Unavailable));
        assert_eq!(why(Request { max_tokens: 0, ..request() }), Err(Why::BadRequest));
        assert_eq!(why(Request { stop: vec![String::new()], ..request() }), Err(Why::BadRequest));
    }

    #[test]
    fn a_request_is_passed_on_as_it_came_with_what_the_award_says() {
        let given =
            r#"{ "messages": [{"role":"tool","content":"1"}], "tools":[], "x": 1.50, "timings_per_token": false }"#;
        let request = Request { prompt: Prompt::Request(given.into()), ..request() };
        let post = ask(Dialect::Llama, &request).expect("it can be asked");
        let bytes = String::from_utf8(post.bytes()).expect("text");
        assert!(bytes.ends_with(&given[2..]) || bytes.contains(given[2..].trim_end_matches([' ', '}'])), "{bytes}");
        let body: Value = serde_json::from_str(&bytes).expect("JSON");
        assert_eq!((&body["model"], &body["max_tokens"], &body["stream"]), (&json!("m"), &json!(5), &json!(true)));
        assert_eq!(bytes.matches("timings_per_token").count(), 1, "what was asked for stands");
        let bad = Request { prompt: Prompt::Request(r#"{"messages":[],"n":2}"#.into()), ..request };
        assert_eq!(ask(Dialect::Llama, &bad).map_err(|failure| failure.why), Err(Why::BadRequest));
    }

    #[test]
    fn seeds_stay_apart_in_31_bits() {
        assert_eq!(seed(7), 7);
        assert_ne!(seed(7), seed(7 | 1 << 40));
        assert!(seed(u64::MAX) < 1 << 31);
    }
}
