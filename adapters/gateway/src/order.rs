//! What a client orders, whatever interface it came by.

use haggle::{
    Criteria, JobSpec, Model, Prompt,
    config::span,
    core::{
        money::{Amount, Price},
        spec::{Failover, Haggle},
        time::Millis,
        wire::message::{Features, MAX_STOP_BYTES, MAX_STOPS, Sampling},
    },
    decimal::{DecimalError, parse_amount, parse_price},
    id,
    libp2p::PeerId,
};
use hyper::{HeaderMap, StatusCode};
use serde_json::{Map, Value};

use crate::{
    errors::Refused,
    fields::{Asked, Field, sift},
    fresh,
    read::{count, decimal, fields, flag, milli, take, text, texts},
};

/// Models that one request names, at most.
const MAX_MODELS: usize = 8;
/// Providers that one list of a request names, at most.
const MAX_PROVIDERS: usize = 64;

/// What is ordered.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    /// The model, and those to be taken if it cannot be had.
    pub(crate) models: Vec<Model>,
    pub(crate) prompt: Prompt,
    /// Without a word of the client: what the gateway is set to, as far as the model's context has room.
    pub(crate) max_tokens: Option<u64>,
    pub(crate) sampling: Sampling,
    pub(crate) stop: Vec<String>,
    pub(crate) stream: bool,
    pub(crate) include_usage: bool,
    pub(crate) terms: Terms,
    /// What a provider has to offer beyond text, and which field wants that.
    pub(crate) features: Vec<(String, Features)>,
    /// Fields that were dropped.
    pub(crate) ignored: Vec<String>,
}

/// On which terms it is bought.
#[derive(Clone, Debug, Default)]
pub(crate) struct Terms {
    pub(crate) budget: Option<Amount>,
    deadline: Option<Millis>,
    haggle: Haggle,
    failover: Option<Failover>,
    pub(crate) explain: bool,
    time_value: Amount,
    max_price_in: Option<Price>,
    max_price_out: Option<Price>,
    prefer: Vec<PeerId>,
    only: Vec<PeerId>,
    exclude: Vec<PeerId>,
}

impl Order {
    /// Reads what all interfaces have in common, and `prompt` what it is about.
    pub(crate) fn read(
        table: &[Field],
        mut body: Map<String, Value>,
        headers: &HeaderMap,
        prompt: impl FnOnce(&mut Map<String, Value>, &mut Asked) -> Result<Prompt, Refused>,
    ) -> Result<Self, Refused> {
        let mut asked = sift(table, &mut body)?;
        let models = models(&mut body)?;
        let prompt = prompt(&mut body, &mut asked)?;
        let mut limits = Vec::new();
        for name in ["max_tokens", "max_completion_tokens", "max_output_tokens"] {
            limits.extend(take(&mut body, name, count)?);
        }
        let sampling = sampling(&mut body)?;
        let stop = take(&mut body, "stop", stops)?.unwrap_or_default();
        let stream = take(&mut body, "stream", flag)?.unwrap_or(false);
        let include_usage = take(&mut body, "stream_options", include_usage)?.unwrap_or(false);
        let terms = Terms::read(&mut body, headers)?;
        Ok(Order {
            models,
            prompt,
            max_tokens: limits.into_iter().min(),
            sampling,
            stop,
            stream,
            include_usage,
            terms,
            features: asked.features,
            ignored: asked.ignored,
        })
    }

    /// The job for one of the models.
    pub(crate) fn job(&self, model: &Model, max_tokens: u64, budget: Option<Amount>) -> JobSpec {
        JobSpec {
            criteria: self.criteria(model),
            budget,
            deadline: self.terms.deadline,
            sampling: self.sampling,
            stop: self.stop.clone(),
            time_value: self.terms.time_value,
            haggle: self.terms.haggle,
            failover: self.failover(),
            explain: self.terms.explain,
            ..JobSpec::new(model.clone(), self.prompt.clone(), max_tokens)
        }
    }

    pub(crate) fn criteria(&self, model: &Model) -> Criteria {
        let needed = self.features.iter().fold(Features::default(), |all, (_, feature)| all.with(*feature));
        let require = (!self.features.is_empty()).then_some(needed);
        Criteria { require, ..self.terms.criteria(model) }
    }

    /// What is more than text cannot be gone on with by another provider: it begins anew, as long as the client saw nothing of it.
    fn failover(&self) -> Failover {
        match self.terms.failover {
            None if !self.features.is_empty() => Failover::Restart,
            failover => failover.unwrap_or_default(),
        }
    }

    /// Whether nothing is told before the answer is complete, so that it can begin anew.
    pub(crate) fn is_held_back(&self) -> bool {
        self.terms.failover == Some(Failover::Restart) || (!self.stream && !self.features.is_empty())
    }
}

impl Terms {
    fn criteria(&self, model: &Model) -> Criteria {
        let core = |peers: &[PeerId]| peers.iter().filter_map(id::to_core).collect();
        Criteria {
            max_price_in: self.max_price_in,
            max_price_out: self.max_price_out,
            prefer: core(&self.prefer),
            exclude: core(&self.exclude),
            only: core(&self.only),
            ..Criteria::new(model.clone())
        }
    }

    fn read(body: &mut Map<String, Value>, headers: &HeaderMap) -> Result<Self, Refused> {
        let mut terms = Terms::default();
        if let Some(of_market) = take(body, "haggle", fields)? {
            terms.read_haggle(of_market)?;
        }
        if let Some(provider) = take(body, "provider", fields)? {
            terms.read_provider(provider)?;
        }
        if let Some(header) = headers.get("x-haggle-budget") {
            let text = header.to_str().unwrap_or_default();
            terms.budget = Some(amount("x-haggle-budget", text)?);
        }
        Ok(terms)
    }

    fn read_haggle(&mut self, mut all: Map<String, Value>) -> Result<(), Refused> {
        let spanned = |name: &str, value: Value| {
            let span = span::parse(&text(name, value)?).map_err(|error| Refused::value(name, error))?;
            let millis = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
            if millis == 0 { Err(Refused::value(name, "must be longer than 0")) } else { Ok(Millis(millis)) }
        };
        let budget = |_: &str, value| amount("haggle.budget", &decimal("haggle.budget", value)?);
        self.budget = take(&mut all, "budget", budget)?;
        self.deadline = take(&mut all, "deadline", |_, value| spanned("haggle.deadline", value))?;
        self.haggle = take(&mut all, "haggle", |_, value| bid("haggle.haggle", &value))?.unwrap_or_default();
        self.failover = take(&mut all, "failover", |_, value| failover("haggle.failover", &value))?;
        self.explain = take(&mut all, "explain", |_, value| flag("haggle.explain", value))?.unwrap_or(false);
        nothing_else(&all, "haggle")
    }

    /// OpenRouter's object. What it promises and this market has no word for is refused.
    fn read_provider(&mut self, mut all: Map<String, Value>) -> Result<(), Refused> {
        let order = take(&mut all, "order", |_, value| peers("provider.order", value))?.unwrap_or_default();
        let falls_back = take(&mut all, "allow_fallbacks", |_, value| flag("provider.allow_fallbacks", value))?;
        self.only = take(&mut all, "only", |_, value| peers("provider.only", value))?.unwrap_or_default();
        self.exclude = take(&mut all, "ignore", |_, value| peers("provider.ignore", value))?.unwrap_or_default();
        match falls_back {
            Some(false) if !order.is_empty() => self.only = order,
            _ => self.prefer = order,
        }
        if let Some(mut most) = take(&mut all, "max_price", fields)? {
            let price = |name: &'static str| {
                move |_: &str, value| {
                    parse_price(&decimal(name, value)?).map_err(|error| Refused::value(name, told(error)))
                }
            };
            self.max_price_in = take(&mut most, "prompt", price("provider.max_price.prompt"))?;
            self.max_price_out = take(&mut most, "completion", price("provider.max_price.completion"))?;
            nothing_else(&most, "provider.max_price")?;
        }
        if let Some(sort) = take(&mut all, "sort", |_, value| text("provider.sort", value))? {
            // A second is worth a unit: the faster one wins unless it costs far more.
            const FASTEST: Amount = 1_000_000;
            self.time_value = match sort.as_str() {
                "price" => 0,
                "latency" | "throughput" => FASTEST,
                _ => return Err(Refused::value("provider.sort", "must be price, latency or throughput")),
            };
        }
        // What this asks for is done anyway: no provider is asked for less than the request says.
        take(&mut all, "require_parameters", |_, value| flag("provider.require_parameters", value))?;
        if all.get("data_collection").is_some_and(|value| value == "allow") {
            all.remove("data_collection");
        }
        nothing_else(&all, "provider")
    }
}

fn models(body: &mut Map<String, Value>) -> Result<Vec<Model>, Refused> {
    let name = |at: &str, text: &str| {
        let model = Model::new(text.as_bytes()).filter(|_| text != haggle::core::wire::ANY_MODEL);
        model.ok_or_else(|| Refused::value(at, "must be a model's name, of 1 to 128 bytes; GET /v1/models lists them"))
    };
    let first = take(body, "model", text)?.map(|text| name("model", &text)).transpose()?;
    let others = take(body, "models", texts)?.unwrap_or_default();
    let mut all: Vec<Model> = first.into_iter().collect();
    for text in others {
        let model = name("models", &text)?;
        if !all.contains(&model) {
            all.push(model);
        }
    }
    match all.len() {
        0 => Err(Refused::new(StatusCode::BAD_REQUEST, "missing_parameter", "model is missing").param("model")),
        1..=MAX_MODELS => Ok(all),
        _ => Err(Refused::value("models", format!("must name at most {MAX_MODELS} models"))),
    }
}

fn sampling(body: &mut Map<String, Value>) -> Result<Sampling, Refused> {
    let whole = |name: &str, value: Value| {
        // Some say -1 for all.
        let all = (value.as_i64() == Some(-1)).then_some(0);
        let count = all.or_else(|| value.as_u64().and_then(|count| u32::try_from(count).ok()));
        count.ok_or_else(|| Refused::value(name, "must be a whole number"))
    };
    let seed = |name: &str, value: Value| {
        let bits = value.as_u64().or_else(|| value.as_i64().map(i64::cast_unsigned));
        bits.ok_or_else(|| Refused::value(name, "must be a whole number of 64 bits"))
    };
    Ok(Sampling {
        temperature_milli: take(body, "temperature", milli(2))?.unwrap_or(1_000),
        // The likeliest token is always among those that are drawn from.
        top_p_milli: take(body, "top_p", milli(1))?.map_or(1_000, |share| share.max(1)),
        top_k: take(body, "top_k", whole)?.unwrap_or(0),
        seed: take(body, "seed", seed)?.unwrap_or_else(fresh::number),
    })
}

fn stops(name: &str, value: Value) -> Result<Vec<String>, Refused> {
    let stops = texts(name, value)?;
    let fits = stops.len() <= MAX_STOPS && stops.iter().all(|stop| (1..=MAX_STOP_BYTES).contains(&stop.len()));
    let must = format!("must be at most {MAX_STOPS} texts of 1 to {MAX_STOP_BYTES} bytes each");
    if fits { Ok(stops) } else { Err(Refused::value(name, must)) }
}

fn include_usage(name: &str, value: Value) -> Result<bool, Refused> {
    let mut options = fields(name, value)?;
    // What else is in it only pads the stream.
    let read = |_: &str, value| flag("stream_options.include_usage", value);
    Ok(take(&mut options, "include_usage", read)?.unwrap_or(false))
}

fn amount(name: &str, text: &str) -> Result<Amount, Refused> {
    parse_amount(&without_exponent(text.trim())).map_err(|error| Refused::value(name, told(error)))
}

/// Programs write small numbers as `1.3e-05`. What is no such number stays as it is, and is refused where it is read.
fn without_exponent(text: &str) -> String {
    /// As many digits as a number on either side of the point can have.
    const FAR: i32 = 40;
    let read = || {
        let (mantissa, exponent) = text.split_once(['e', 'E'])?;
        let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let is_plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let exponent = exponent.parse::<i32>().ok().filter(|far| (-FAR..=FAR).contains(far))?;
        let (digits, point) = ([whole, part].concat(), i32::try_from(whole.len()).ok()? + exponent);
        if digits.is_empty() || !is_plain(whole) || !is_plain(part) {
            return None;
        }
        let zeros = "0".repeat(usize::try_from(-point).unwrap_or(0));
        let digits = [zeros, digits].concat();
        let point = usize::try_from(point).unwrap_or(0);
        let missing = "0".repeat(point.saturating_sub(digits.len()));
        let digits = [digits, missing].concat();
        let (whole, part) = digits.split_at(point);
        let part = part.trim_end_matches('0');
        Some(format!("{}.{}", if whole.is_empty() { "0" } else { whole }, if part.is_empty() { "0" } else { part }))
    };
    read().unwrap_or_else(|| text.to_owned())
}

fn told(error: DecimalError) -> String {
    format!("is in units: {error}")
}

fn bid(name: &str, value: &Value) -> Result<Haggle, Refused> {
    match (value, value.as_u64()) {
        (Value::Bool(false), _) => Ok(Haggle::No),
        (Value::Bool(true), _) => Ok(Haggle::Offers),
        (_, Some(bid @ 1..=999)) => Ok(Haggle::Bid(bid as u32)),
        _ => Err(Refused::value(name, "must be true, false, or a first bid of 1 to 999 thousandths of the offer")),
    }
}

fn failover(name: &str, value: &Value) -> Result<Failover, Refused> {
    match value.as_str() {
        Some("continue") => Ok(Failover::Continue),
        Some("restart") => Ok(Failover::Restart),
        Some("never") => Ok(Failover::Never),
        _ => Err(Refused::value(name, "must be continue, restart or never")),
    }
}

fn peers(name: &str, value: Value) -> Result<Vec<PeerId>, Refused> {
    let must = "must be a list of at most 64 providers' ids, as GET /v1/models shows them";
    let peers: Option<Vec<PeerId>> = texts(name, value)?.iter().map(|text| text.parse().ok()).collect();
    peers.filter(|peers| peers.len() <= MAX_PROVIDERS).ok_or_else(|| Refused::value(name, must))
}

/// What is left of an object would change what is bought, for all that is known.
fn nothing_else(rest: &Map<String, Value>, of: &str) -> Result<(), Refused> {
    match rest.iter().find(|(_, value)| !value.is_null()) {
        None => Ok(()),
        Some((name, _)) => Err(Refused::unsupported_parameter(
            format!("{of}.{name}"),
            "it promises something that nobody here can keep; leave it out",
        )),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::fields::CHAT;

    fn read(body: Value) -> Result<Order, Refused> {
        let body = body.as_object().cloned().unwrap_or_default();
        Order::read(CHAT, body, &HeaderMap::new(), |_, _| Ok(Prompt::Raw("p".into())))
    }

    fn refused(body: Value) -> Value {
        read(body).expect_err("it is refused").envelope()["error"]["param"].clone()
    }

    #[test]
    fn what_is_out_of_range_or_of_the_wrong_type_is_named() {
        for (body, param) in [
            (json!({}), "model"),
            (json!({"model": 1}), "model"),
            (json!({"model": ""}), "model"),
            (json!({"model": "m", "max_tokens": 0}), "max_tokens"),
            (json!({"model": "m", "max_tokens": "5"}), "max_tokens"),
            (json!({"model": "m", "max_completion_tokens": 1.5}), "max_completion_tokens"),
            (json!({"model": "m", "temperature": 2.1}), "temperature"),
            (json!({"model": "m", "temperature": -0.1}), "temperature"),
            (json!({"model": "m", "top_p": 1.01}), "top_p"),
            (json!({"model": "m", "stop": ["a", "b", "c", "d", "e"]}), "stop"),
            (json!({"model": "m", "stop": ""}), "stop"),
            (json!({"model": "m", "stop": [1]}), "stop[0]"),
            (json!({"model": "m", "stream": "yes"}), "stream"),
            (json!({"model": "m", "stream_options": {"include_usage": 1}}), "stream_options.include_usage"),
            (json!({"model": "m", "haggle": {"budget": -1}}), "haggle.budget"),
            (json!({"model": "m", "haggle": {"budget": 0.0000001}}), "haggle.budget"),
            (json!({"model": "m", "haggle": {"deadline": "5"}}), "haggle.deadline"),
            (json!({"model": "m", "haggle": {"haste": 1}}), "haggle.haste"),
            (json!({"model": "m", "provider": {"zdr": true}}), "provider.zdr"),
            (json!({"model": "m", "provider": {"quantizations": ["int8"]}}), "provider.quantizations"),
            (json!({"model": "m", "provider": {"data_collection": "deny"}}), "provider.data_collection"),
            (json!({"model": "m", "provider": {"only": ["acme"]}}), "provider.only"),
            (json!({"model": "m", "provider": {"max_price": {"image": 1}}}), "provider.max_price.image"),
            (json!({"model": "m", "provider": {"sort": "colour"}}), "provider.sort"),
        ] {
            assert_eq!(refused(body.clone()), param, "{body}");
        }
    }

    #[test]
    fn a_budget_is_read_as_programs_write_it() {
        let read = |text: &str| amount("b", text).map_err(|refused| refused.code);
        let small = ["1.3e-05", "13E-6", "0.000013", "0.13e-4"].map(read);
        assert_eq!(small, [Ok(13); 4]);
        assert_eq!(
            ["1e2", "1.5e+1", "100e-2", "0e9"].map(read),
            [Ok(100_000_000), Ok(15_000_000), Ok(1_000_000), Ok(0)]
        );
        for wrong in ["1e-7", "1.35e-6", "e5", "1e", "1e1000000000", "-1e2", "1.5.5e1", "1e30", "0x1e2"] {
            assert_eq!(read(wrong), Err("invalid_value"), "{wrong}");
        }
    }

    #[test]
    fn terms_are_read_to_the_last_micro_unit() {
        let peer = "12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp";
        let order = read(json!({
            "model": "a", "models": ["a", "b"], "max_tokens": 9, "max_completion_tokens": 7, "temperature": 0.7,
            "haggle": {"budget": 0.000001, "deadline": "2m", "haggle": 900, "failover": "never", "explain": true},
            "provider": {"order": [peer], "max_price": {"prompt": 0.1, "completion": "2"}, "sort": "latency"},
        }))
        .expect("it is taken");
        let job = order.job(&order.models[1], 7, order.terms.budget);
        assert_eq!((order.models.len(), order.max_tokens, job.budget), (2, Some(7), Some(1)));
        assert_eq!((job.sampling.temperature_milli, job.deadline), (700, Some(Millis(120_000))));
        assert_eq!((job.haggle, job.failover, job.explain), (Haggle::Bid(900), Failover::Never, true));
        let prices = (job.criteria.max_price_in, job.criteria.max_price_out);
        assert_eq!((prices, job.criteria.prefer.len()), ((Some(100_000), Some(2_000_000)), 1));
        assert!(job.time_value > 0 && job.criteria.only.is_empty());
        let strict = read(json!({"model": "a", "provider": {"order": [peer], "allow_fallbacks": false}}));
        assert_eq!(strict.map(|order| order.job(&order.models[0], 1, None).criteria.only.len()), Ok(1));
    }
}
