//! Settings in layers: defaults < TOML file < environment < flags, and where each value came from.

mod kinds;
mod models;
mod parts;
mod running;

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use haggle::{
    Config,
    config::span,
    core::{
        money::{Amount, Price},
        time::Millis,
    },
    engine::{TINY_STORIES, upstream::Patience},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use parts::{Part, part_of};
pub(crate) use running::{KeyTable, Running};

use crate::{
    args::{Global, NodeArgs, Serve, Waits},
    exit::Failed,
    ledger::Ledger,
    money::{parse_amount, parse_price},
    names::did_you_mean,
    runtime,
    screen::Screen,
};

/// What `serve` sells. The other settings are those of the node, [`Config`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sales {
    pub(crate) model: String,
    /// A GGUF file; empty for the embedded model.
    pub(crate) model_file: String,
    /// 0: as the machine has, up to 8.
    pub(crate) threads: u32,
    /// 0: that of the model, up to 4,096.
    pub(crate) context: u32,
    pub(crate) aliases: Vec<String>,
    /// Decimal units per 1,000,000 tokens.
    price_in: String,
    price_out: String,
    pub(crate) floor_permille: u32,
    pub(crate) tokens_per_second: u32,
    /// The address of the server that writes; empty: the model that is part of this program.
    pub(crate) upstream: String,
    pub(crate) upstream_model: String,
    pub(crate) upstream_key_env: String,
    pub(crate) upstream_dialect: String,
    /// What requests may ask of it, by names.
    pub(crate) features: Vec<String>,
    /// How long it may take for the first byte of an answer.
    #[serde(with = "span")]
    pub(crate) upstream_patience: Duration,
    /// Whether its own words are shown.
    pub(crate) upstream_errors: bool,
    /// Several models, each with what it has of its own; none: the one that the rest describes.
    models: Vec<Map<String, Value>>,
}

impl Default for Sales {
    fn default() -> Self {
        Sales {
            model: TINY_STORIES.into(),
            model_file: String::new(),
            threads: 0,
            context: 0,
            aliases: Vec::new(),
            price_in: "0".into(),
            price_out: "0".into(),
            floor_permille: 1_000,
            tokens_per_second: 0,
            upstream: String::new(),
            upstream_model: String::new(),
            upstream_key_env: String::new(),
            upstream_dialect: String::new(),
            features: Vec::new(),
            upstream_patience: Patience::default().first_token,
            upstream_errors: false,
            models: Vec::new(),
        }
    }
}

impl Sales {
    /// What computes it, and nothing of what it costs or is also called.
    pub(crate) fn computed(&self) -> Self {
        let Sales { price_in, price_out, aliases, floor_permille, models, .. } = Sales::default();
        Sales { price_in, price_out, aliases, floor_permille, models, ..self.clone() }
    }
}

/// Variables that name places, not settings.
const PLACES: [&str; 2] = ["HAGGLE_CONFIG", "HAGGLE_DATA_DIR"];
const PREFIX: &str = "HAGGLE_";

/// All settings, each with its origin.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    tree: Value,
    origins: BTreeMap<String, String>,
    /// `None` where nothing says where it could be.
    data_dir: Option<PathBuf>,
}

impl Settings {
    /// What holds where nobody says anything.
    pub(crate) fn defaults() -> Result<Self, Failed> {
        Ok(Settings { tree: defaults()?, origins: BTreeMap::new(), data_dir: None })
    }

    /// Reads every layer.
    pub(crate) fn load(global: &Global, node: &NodeArgs) -> Result<Self, Failed> {
        let data_dir = global.data_dir.clone().or_else(|| variable("HAGGLE_DATA_DIR")).or_else(|| {
            let data = variable("XDG_DATA_HOME").filter(|path| path.is_absolute());
            data.or_else(|| Some(variable("HOME")?.join(".local/share"))).map(|data| data.join("haggle"))
        });
        let mut settings = Settings { data_dir, ..Settings::defaults()? };
        let file = global
            .config
            .clone()
            .or_else(|| variable("HAGGLE_CONFIG"))
            .or_else(|| default_file().filter(|file| file.exists()));
        if let Some(file) = file {
            settings.add_file(&file, &read(&file)?)?;
        }
        settings.add_environment()?;
        settings.add_flags(node)?;
        if settings.is_default("enable_mdns") && !runtime::has_mdns() {
            settings.put("enable_mdns", false.into(), "default of this runtime")?;
        }
        Ok(settings)
    }

    /// Where keys are kept.
    pub(crate) fn data_dir(&self) -> Result<&Path, Failed> {
        let unknown = || Failed::config("no folder for keys is known: set HOME, XDG_DATA_HOME or --data-dir");
        self.data_dir.as_deref().ok_or_else(unknown)
    }

    /// The node's configuration, checked.
    pub(crate) fn config(&self) -> Result<Config, Failed> {
        let config: Config = self.part(Part::Node)?;
        config.validate().map_err(|error| {
            let setting = error.path.split('[').next().unwrap_or_default();
            Failed::config(format!("{}: {} ({})", error.path, error.problem, self.origin(setting)))
        })?;
        Ok(config)
    }

    /// What is to be sold, and its prices. The model has no name if a file is to give it.
    pub(crate) fn sales(&self) -> Result<(Sales, Price, Price), Failed> {
        let mut sales: Sales = self.part(Part::Sales)?;
        if !sales.model_file.is_empty() && !self.origins.contains_key("model") {
            sales.model.clear();
        }
        let price = |key: &str, text: &str| {
            let explain = |error| Failed::config(format!("{key}: {text:?}: {error} ({})", self.origin(key)));
            parse_price(text).map_err(explain)
        };
        let (price_in, price_out) = (price("price_in", &sales.price_in)?, price("price_out", &sales.price_out)?);
        Ok((sales, price_in, price_out))
    }

    /// How the command runs, checked.
    pub(crate) fn running(&self) -> Result<Running, Failed> {
        let running: Running = self.part(Part::Running)?;
        for (key, span) in [("status_every", running.status_every), ("drain", running.drain)] {
            if span > span::MAX {
                return Err(Failed::config(format!("{key}: must be at most 1 day ({})", self.origin(key))));
            }
        }
        Ok(running)
    }

    /// What may be owed, if anything may.
    pub(crate) fn budget(&self) -> Result<Option<Amount>, Failed> {
        let Running { budget, .. } = self.running()?;
        let explain = |error| Failed::config(format!("budget: {budget:?}: {error} ({})", self.origin("budget")));
        if budget.is_empty() { Ok(None) } else { parse_amount(&budget).map(Some).map_err(explain) }
    }

    /// The ledger that is to be written, if one is.
    pub(crate) fn ledger(&self) -> Result<Option<Ledger>, Failed> {
        let Running { ledger, .. } = self.running()?;
        if ledger.is_empty() {
            return Ok(None);
        }
        let (opened, torn) = Ledger::open(Path::new(&ledger))?;
        if let Some(torn) = torn {
            writeln!(Screen::Err, "haggle: {ledger}: {torn}; it is cut off")?;
        }
        Ok(Some(opened))
    }

    /// The paths of what is different in other settings.
    pub(crate) fn changes(&self, other: &Self) -> Vec<String> {
        let others: BTreeMap<String, &Value> = leaves(&other.tree).into_iter().collect();
        let own = leaves(&self.tree).into_iter();
        own.filter(|(path, value)| others.get(path) != Some(value)).map(|(path, _)| path).collect()
    }

    /// Puts the file into which is written what is sold and bought.
    pub(crate) fn add_ledger(&mut self, file: Option<&Path>) -> Result<(), Failed> {
        let Some(file) = file else { return Ok(()) };
        let text = file.to_str().ok_or_else(|| Failed::usage("usage", "--ledger: the name is no text"))?;
        self.put("ledger", text.into(), "flag --ledger")
    }

    /// Every setting: its path, value and origin.
    pub(crate) fn all(&self) -> Vec<(String, &Value, &str)> {
        let leaves = leaves(&self.tree);
        leaves.into_iter().map(|(path, value)| (path.clone(), value, self.origin(&path))).collect()
    }

    /// Puts what only `serve` can be told.
    pub(crate) fn add_serve(&mut self, serve: &Serve) -> Result<(), Failed> {
        self.add_goods(&serve.goods)?;
        let flags = [
            ("upstream_errors", "--upstream-errors", serve.upstream_errors.then(|| true.into())),
            ("status_every", "--status-every", serve.status_every.map(span_text)),
            ("status_every", "--quiet", serve.quiet.then(|| "0s".into())),
            ("drain", "--drain", serve.drain.map(span_text)),
        ];
        self.put_all(flags)?;
        self.add_metrics(serve.metrics.as_deref())?;
        self.add_ledger(serve.ledger.as_deref())
    }

    /// Puts where those are answered who watch over a node.
    pub(crate) fn add_metrics(&mut self, at: Option<&str>) -> Result<(), Failed> {
        self.put_all([("metrics", "--metrics", at.map(Value::from))])
    }

    /// Puts the providers that were named on the command line.
    pub(crate) fn add_providers(&mut self, providers: &[String]) -> Result<(), Failed> {
        self.put_all([("providers", "--provider", list(providers))])
    }

    /// Puts how long a provider is waited for: for its first token, and when it is lost, whether others are known or not.
    pub(crate) fn add_waits(&mut self, &Waits { first_token, patience }: &Waits) -> Result<(), Failed> {
        // Providers keep a lost job no longer.
        const MOST: Millis = Millis(120_000);
        if patience.is_some_and(|patience| patience > MOST) {
            let text = "--patience: must be at most 2m, for providers keep a lost job no longer";
            return Err(Failed::usage("usage", text));
        }
        let patience = patience.map(span_text);
        self.put_all([
            ("first_token", "--first-token", first_token.map(span_text)),
            ("resume_grace", "--patience", patience.clone()),
            ("resume_timeout", "--patience", patience),
        ])
    }

    /// Listens on this machine, if nothing else was said.
    pub(crate) fn listen_by_default(&mut self) -> Result<(), Failed> {
        let key = "listen_addresses";
        if self.tree[key].as_array().is_some_and(Vec::is_empty) {
            self.put(key, vec!["/ip4/127.0.0.1/tcp/0"].into(), "default of this command")?;
        }
        Ok(())
    }

    fn add_file(&mut self, file: &Path, text: &str) -> Result<(), Failed> {
        let origin = format!("file {}", file.display());
        let table: toml::Table =
            text.parse().map_err(|error| Failed::config(format!("{} is not TOML: {error}", file.display())))?;
        let table = serde_json::to_value(table).map_err(|error| Failed::config(error.to_string()))?;
        for (path, value) in leaves(&table) {
            self.put(&path, value.clone(), &origin)?;
        }
        Ok(())
    }

    fn add_environment(&mut self) -> Result<(), Failed> {
        let mut variables: Vec<(String, String)> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.to_string_lossy().into_owned())))
            .filter(|(name, _)| name.starts_with(PREFIX) && !PLACES.contains(&name.as_str()))
            .collect();
        variables.sort();
        for (name, text) in variables {
            let paths = self.paths();
            let variable_of = |path: &str| format!("{PREFIX}{}", path.replace('.', "_").to_uppercase());
            match paths.iter().find(|path| variable_of(path) == name) {
                Some(path) => self.put_text(path, &text, &format!("environment {name}"))?,
                None => {
                    let known: Vec<String> = paths.iter().map(|path| variable_of(path)).collect();
                    let hint = did_you_mean(&name, known.iter().map(String::as_str));
                    let text = format!(
                        "{name}: there is no such setting{hint}; variables that begin with {PREFIX} are settings: what is \
                         for something else, such as a key, goes into one of another name"
                    );
                    return Err(Failed::config(text));
                }
            }
        }
        Ok(())
    }

    fn add_flags(&mut self, node: &NodeArgs) -> Result<(), Failed> {
        for pair in &node.set {
            let (path, text) = pair
                .split_once('=')
                .ok_or_else(|| Failed::usage("usage", format!("--set {pair}: write --set KEY=VALUE")))?;
            self.put_text(path.trim(), text.trim(), &format!("flag --set {path}"))?;
        }
        self.put_all([
            ("bootstrap_nodes", "--bootstrap", list(&node.bootstrap)),
            ("listen_addresses", "--listen", list(&node.listen)),
            ("announce_addresses", "--announce", list(&node.announce)),
            ("network", "--network", node.network.clone().map(Value::from)),
            ("enable_mdns", "--mdns", node.mdns.map(Value::from)),
            ("enable_dht", "--dht", node.dht.map(Value::from)),
        ])
    }

    fn put_all<const N: usize>(&mut self, flags: [(&str, &str, Option<Value>); N]) -> Result<(), Failed> {
        let given = flags.into_iter().filter_map(|(path, flag, value)| Some((path, flag, value?)));
        for (path, flag, value) in given {
            self.put(path, value, &format!("flag {flag}"))?;
        }
        Ok(())
    }

    /// Puts a value that is written as text, read as the kind of value that its default is: a file may have put another
    /// kind there that means the same, as spans are numbers or text.
    fn put_text(&mut self, path: &str, text: &str, origin: &str) -> Result<(), Failed> {
        let wrong = |must: &str| Failed::config(format!("{path}: {text:?} must be {must} ({origin})"));
        let value = match defaults()?.pointer(&pointer(path)) {
            Some(Value::Bool(_)) => text.parse::<bool>().map_err(|_| wrong("true or false"))?.into(),
            Some(Value::Number(_)) => text.parse::<u64>().map_err(|_| wrong("a whole number"))?.into(),
            Some(Value::Array(_)) => {
                let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
                items.map(Value::from).collect::<Vec<_>>().into()
            }
            _ => text.into(),
        };
        self.put(path, value, origin)
    }

    /// Puts one value and checks that it can be there, so that a mistake is told with its path and origin.
    fn put(&mut self, path: &str, value: Value, origin: &str) -> Result<(), Failed> {
        let of_list = ["models", "gateway.key"].iter().find(|list| path.starts_with(&format!("{list}.")));
        let hint = match (of_list, did_you_mean(path, self.paths().iter().map(String::as_str))) {
            (Some(list), _) => format!("; each of several is a table of its own: write [[{list}]], with two brackets"),
            (None, hint) if hint.is_empty() => "; `haggle config` shows all there are".into(),
            (None, hint) => hint,
        };
        let instead = kinds::instead(path, &value);
        match self.tree.pointer_mut(&pointer(path)) {
            Some(place) if !place.is_object() => *place = value,
            Some(_) => return Err(Failed::config(format!("{path}: must be a table ({origin})"))),
            None => return Err(Failed::config(format!("{path}: there is no such setting{hint} ({origin})"))),
        }
        self.origins.insert(path.into(), origin.into());
        let wrong = |error: Failed| {
            // What is of the right kind, and wrong all the same, says so itself.
            let problem = instead.filter(|_| error.message.starts_with("invalid ")).unwrap_or(error.message);
            Failed::config(format!("{path}: {problem} ({origin})"))
        };
        match part_of(path) {
            Part::Node => self.part::<Config>(Part::Node).map(drop).map_err(wrong),
            Part::Sales => self.part::<Sales>(Part::Sales).map(drop).map_err(wrong),
            Part::Running => self.part::<Running>(Part::Running).map(drop).map_err(wrong),
        }
    }

    fn part<T: serde::de::DeserializeOwned>(&self, part: Part) -> Result<T, Failed> {
        let all = self.tree.as_object().into_iter().flatten().filter(|(key, _)| part_of(key) == part);
        let part: Map<String, Value> = all.map(|(key, value)| (key.clone(), value.clone())).collect();
        serde_json::from_value(part.into()).map_err(|error| Failed::config(error.to_string()))
    }

    fn paths(&self) -> Vec<String> {
        leaves(&self.tree).into_iter().map(|(path, _)| path).collect()
    }

    /// Whether nobody has said anything about a setting.
    pub(crate) fn is_default(&self, path: &str) -> bool {
        !self.origins.contains_key(path)
    }

    fn origin(&self, path: &str) -> &str {
        self.origins.get(path).map_or("default", String::as_str)
    }
}

fn defaults() -> Result<Value, Failed> {
    let mut tree = Map::new();
    let parts = [
        serde_json::to_value(Config::default()),
        serde_json::to_value(Sales::default()),
        serde_json::to_value(Running::default()),
    ];
    for part in parts {
        if let Value::Object(part) = part.map_err(|error| Failed::config(error.to_string()))? {
            tree.extend(part);
        }
    }
    Ok(tree.into())
}

/// Every value that is no table, by its path, in the order of the paths.
fn leaves(tree: &Value) -> Vec<(String, &Value)> {
    fn walk<'a>(path: &str, value: &'a Value, found: &mut Vec<(String, &'a Value)>) {
        match value {
            Value::Object(table) => {
                let path_to = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
                table.iter().for_each(|(key, value)| walk(&path_to(key), value, found));
            }
            value => found.push((path.to_owned(), value)),
        }
    }
    let mut found = Vec::new();
    walk("", tree, &mut found);
    found.sort_by(|(one, _), (other, _)| one.cmp(other));
    found
}

/// A path with dots, as serde_json wants it.
fn pointer(path: &str) -> String {
    format!("/{}", path.replace('~', "~0").replace('/', "~1").replace('.', "/"))
}

/// A span as a file would say it.
fn span_text(span: Millis) -> Value {
    format!("{}ms", span.0).into()
}

fn list(values: &[String]) -> Option<Value> {
    (!values.is_empty()).then(|| values.into())
}

/// A variable of the environment that names a place.
fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// Where a configuration is looked for that nobody named; it need not be there.
pub(crate) fn default_file() -> Option<PathBuf> {
    let folder = variable("XDG_CONFIG_HOME").filter(|path| path.is_absolute());
    let folder = folder.or_else(|| Some(variable("HOME")?.join(".config")))?;
    Some(folder.join("haggle/config.toml"))
}

fn read(file: &Path) -> Result<String, Failed> {
    fs::read_to_string(file).map_err(|error| match error.kind() {
        io::ErrorKind::InvalidData => Failed::config(format!("{} is not TOML: it is no text", file.display())),
        _ => Failed::config(format!("cannot read the configuration file {}: {error}", file.display())),
    })
}
