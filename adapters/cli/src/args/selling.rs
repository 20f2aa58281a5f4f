//! What is sold, as flags: one model, or several, each after its own `--model`.

use clap::{ArgMatches, Args, Command, Error, FromArgMatches, error::ErrorKind};
use haggle::core::{money::Price, time::Millis};
use serde_json::{Map, Value};

use super::parsers::{parse_floor, parse_span, parse_whole};
use crate::money::{decimal, parse_price};

/// A setting that was given by a flag.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Given {
    pub(crate) key: &'static str,
    pub(crate) flag: &'static str,
    pub(crate) value: Value,
}

/// Flags of what is sold. Those before the first of several `--model` are for all, those after one are for it alone.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Goods {
    /// Of the one model, or of all.
    pub(crate) common: Vec<Given>,
    /// What each of several models has of its own, as a table of the file would say it.
    pub(crate) models: Vec<Map<String, Value>>,
}

/// The flags, as help shows them.
#[derive(Args)]
struct Flags {
    /// The model to sell [default: haggle-tiny-stories, which is part of this program, or as the file calls itself];
    /// repeatable: what follows belongs to it, what stands before the first is for all
    #[arg(long, value_name = "NAME")]
    model: Vec<String>,
    /// Sell the model in this file: GGUF, llama architecture, tensors of F32, F16, Q8_0, Q4_0 or Q4_1
    #[arg(long, value_name = "FILE.gguf")]
    model_file: Vec<String>,
    /// Threads that compute a token together [default: as the machine has, up to 8]
    #[arg(long, value_name = "N", value_parser = parse_whole::<u32>)]
    threads: Vec<u32>,
    /// Tokens of prompt and answer together, at most; each job needs memory for them [default: the model's, up to
    /// 4096; with --upstream the server's, 4096 if it does not say]
    #[arg(long, value_name = "TOKENS", value_parser = parse_whole::<u32>)]
    context: Vec<u32>,
    /// Another name for it; repeatable
    #[arg(long, value_name = "NAME")]
    alias: Vec<String>,
    /// Price of 1,000,000 tokens read, in units [default: 0]
    #[arg(long, value_name = "N", value_parser = parse_price, allow_negative_numbers = true)]
    price_in: Vec<Price>,
    /// Price of 1,000,000 tokens written, in units [default: 0]
    #[arg(long, value_name = "N", value_parser = parse_price, allow_negative_numbers = true)]
    price_out: Vec<Price>,
    /// Bids go three quarters of the way down to this at most, in thousandths of the price; 1000 does not haggle [default: 1000]
    #[arg(long, value_name = "PERMILLE", value_parser = parse_floor)]
    floor: Vec<u32>,
    /// Jobs computed at once; those of several models add up [default: 1; with --upstream as many as the server says]
    #[arg(long, value_name = "N", value_parser = parse_whole::<u32>)]
    slots: Vec<u32>,
    /// Tokens written per second, at most, all jobs of a model together; 0 is no limit [default: 0]
    #[arg(long, value_name = "N", value_parser = parse_whole::<u32>)]
    tokens_per_second: Vec<u32>,
    /// Sell what this OpenAI-compatible server writes (llama-server, vLLM, Ollama, ...), under the name that --model says
    #[arg(long, value_name = "URL")]
    upstream: Vec<String>,
    /// The model's name there [default: as --model, or the only one it has]
    #[arg(long, value_name = "NAME")]
    upstream_model: Vec<String>,
    /// The environment variable that holds the server's key; its name must not begin with HAGGLE_
    #[arg(long, value_name = "VAR")]
    upstream_key_env: Vec<String>,
    /// What kind of server it is: llama, vllm, ollama or openai [default: as it says of itself]
    #[arg(long, value_name = "KIND")]
    upstream_dialect: Vec<String>,
    /// What whole requests may ask of it beside text: tools, parallel_tools, json_object, json_schema, images, audio,
    /// files, reasoning, penalties, logit_bias or min_p; repeatable [default: none, and it is given prompts only]
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    features: Vec<String>,
    /// How long the server may take for the first byte of an answer, for instance to load its model [default: 10m]
    #[arg(long, value_name = "SPAN", value_parser = parse_span)]
    upstream_patience: Vec<Millis>,
}

/// Each flag: its id, as it is written, its setting, and of what kind its value is.
const FLAGS: [(&str, &str, &str, Kind); 16] = [
    ("model", "--model", "model", Kind::Text),
    ("model_file", "--model-file", "model_file", Kind::Text),
    ("threads", "--threads", "threads", Kind::Number),
    ("context", "--context", "context", Kind::Number),
    ("alias", "--alias", "aliases", Kind::Name),
    ("price_in", "--price-in", "price_in", Kind::Price),
    ("price_out", "--price-out", "price_out", Kind::Price),
    ("floor", "--floor", "floor_permille", Kind::Number),
    ("slots", "--slots", "slots", Kind::Number),
    ("tokens_per_second", "--tokens-per-second", "tokens_per_second", Kind::Number),
    ("upstream", "--upstream", "upstream", Kind::Text),
    ("upstream_model", "--upstream-model", "upstream_model", Kind::Text),
    ("upstream_key_env", "--upstream-key-env", "upstream_key_env", Kind::Text),
    ("upstream_dialect", "--upstream-dialect", "upstream_dialect", Kind::Text),
    ("features", "--features", "features", Kind::Name),
    ("upstream_patience", "--upstream-patience", "upstream_patience", Kind::Span),
];

/// What one of several models alone can have.
const OWN: [&str; 3] = ["aliases", "model_file", "upstream_model"];

#[derive(Clone, Copy)]
enum Kind {
    Text,
    /// One of several.
    Name,
    Number,
    Price,
    Span,
}

impl Goods {
    /// Whether it is said what is sold, so that what a file says of it does not hold.
    pub(crate) fn is_named(&self) -> bool {
        let names = ["model", "model_file", "upstream"];
        !self.models.is_empty() || self.common.iter().any(|given| names.contains(&given.key))
    }

    /// Sorts what was given, in the order in which it was, to the models that it belongs to.
    fn sort(given: Vec<Given>) -> Result<Self, String> {
        let several = given.iter().filter(|given| given.key == "model").count() > 1;
        let (mut common, mut models): (Vec<Given>, Vec<Map<String, Value>>) = (Vec::new(), Vec::new());
        for next in given {
            let Given { key, flag, value } = &next;
            if several && *key == "model" {
                models.push(Map::new());
            }
            match models.last_mut() {
                None if several && OWN.contains(key) => {
                    return Err(format!("{flag}: say it after the --model it is of"));
                }
                None => add(&mut common, next)?,
                Some(_) if common.iter().any(|common| common.key == *key) && *key == "upstream" => {
                    return Err(format!(
                        "{flag} stands before the first --model, for all, and again: say --model first"
                    ));
                }
                Some(own) if is_list(key) => {
                    let all = own.entry(*key).or_insert_with(|| Value::Array(Vec::new()));
                    if let (Some(all), Some(more)) = (all.as_array_mut(), value.as_array()) {
                        all.extend(more.iter().cloned());
                    }
                }
                Some(own) => {
                    if own.insert((*key).into(), value.clone()).is_some() {
                        return Err(twice(flag));
                    }
                }
            }
        }
        Ok(Goods { common, models })
    }
}

/// Adds what is for the one model, or for all.
fn add(common: &mut Vec<Given>, next: Given) -> Result<(), String> {
    match common.iter_mut().find(|given| given.key == next.key) {
        Some(given) if is_list(next.key) => {
            if let (Some(all), Value::Array(more)) = (given.value.as_array_mut(), next.value) {
                all.extend(more);
            }
        }
        Some(_) => return Err(twice(next.flag)),
        None => common.push(next),
    }
    Ok(())
}

/// Whether a setting has as many values as are given.
fn is_list(key: &str) -> bool {
    matches!(key, "aliases" | "features")
}

fn twice(flag: &str) -> String {
    format!("{flag} is given twice for one model; to sell several, begin each with --model NAME")
}

impl FromArgMatches for Goods {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let mut given: Vec<(usize, Given)> = Vec::new();
        for (id, flag, key, kind) in FLAGS {
            let values: Vec<Value> = match kind {
                Kind::Text => matches.get_many::<String>(id).into_iter().flatten().cloned().map(Value::from).collect(),
                Kind::Name => {
                    let names = matches.get_many::<String>(id).into_iter().flatten();
                    names.map(|name| Value::Array(vec![name.clone().into()])).collect()
                }
                Kind::Number => matches.get_many::<u32>(id).into_iter().flatten().copied().map(Value::from).collect(),
                Kind::Price => {
                    let prices = matches.get_many::<Price>(id).into_iter().flatten();
                    prices.map(|price| Value::from(decimal(*price))).collect()
                }
                Kind::Span => {
                    let spans = matches.get_many::<Millis>(id).into_iter().flatten();
                    spans.map(|span| Value::from(format!("{}ms", span.0))).collect()
                }
            };
            let places = matches.indices_of(id).into_iter().flatten();
            given.extend(places.zip(values).map(|(place, value)| (place, Given { key, flag, value })));
        }
        given.sort_by_key(|(place, _)| *place);
        let goods = Goods::sort(given.into_iter().map(|(_, given)| given).collect());
        goods.map_err(|problem| Error::raw(ErrorKind::ArgumentConflict, problem + "\n"))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Goods::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for Goods {
    fn augment_args(command: Command) -> Command {
        Flags::augment_args(command)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Flags::augment_args_for_update(command)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(line: &str) -> Result<Goods, String> {
        let command = Goods::augment_args(Command::new("serve").no_binary_name(true));
        let matches = command.try_get_matches_from(line.split_whitespace()).map_err(|error| error.to_string())?;
        Goods::from_arg_matches(&matches).map_err(|error| error.to_string())
    }

    fn common(goods: &Goods) -> Value {
        goods.common.iter().map(|given| (given.key.to_owned(), given.value.clone())).collect::<Map<_, _>>().into()
    }

    #[test]
    fn one_model_has_every_flag_wherever_it_stands() {
        for line in ["--price-out 0.5 --alias x --model a --alias y", "--model a --alias x --price-out 0.5 --alias y"] {
            let goods = read(line).expect("good");
            assert_eq!(common(&goods), json!({"price_out": "0.5", "aliases": ["x", "y"], "model": "a"}));
            assert!(goods.models.is_empty() && goods.is_named());
        }
        assert!(!read("--price-out 1").expect("good").is_named());
    }

    #[test]
    fn several_models_have_what_follows_them_and_all_what_comes_before() {
        let line =
            "--upstream U --slots 2 --model a --alias x --alias y --price-out 1 --model b --price-out 2 --slots 3";
        let goods = read(line).expect("good");
        assert_eq!(common(&goods), json!({"upstream": "U", "slots": 2}));
        let (a, b) = (
            json!({"model": "a", "aliases": ["x", "y"], "price_out": "1"}),
            json!({"model": "b", "price_out": "2", "slots": 3}),
        );
        assert_eq!(Value::from_iter(goods.models.into_iter().map(Value::from)), json!([a, b]));
    }

    #[test]
    fn what_may_belong_to_either_is_refused() {
        for (line, says) in [
            ("--upstream U --model a --upstream V --model b", "say --model first"),
            ("--alias x --model a --model b", "--alias: say it after the --model"),
            ("--model-file f --model a --model b", "--model-file: say it after"),
            ("--price-out 1 --price-out 2", "--price-out is given twice"),
            ("--model a --slots 1 --slots 2 --model b", "--slots is given twice"),
        ] {
            let error = read(line).expect_err(line);
            assert!(error.contains(says), "{line}: {error}");
        }
    }
}
