//! Servers with OpenAI's interface as engines: llama-server, vLLM, Ollama and others.
//!
//! [`Upstream::open`] asks the server what it is; the engine then sends each request there and passes on what comes back.
//! Read from [`dialect`](Dialect) (what is asked) over `http` (one thread per answer, which ends with it) and [`sse`]
//! (bytes to events) to [`answer`] (events to steps) and `tally` (how many tokens that is). `refusal` says whose fault an
//! error is, `health` whether the server can answer at all.
//!
//! No step waits: reading is done by a thread for each answer, with a bounded channel between. When a generation is
//! dropped its connection is shut down, whatever the thread waits for; the server notices and stops computing.

pub mod answer;
pub mod sse;

mod dialect;
mod generation;
mod health;
mod http;
mod refusal;
mod reply;
mod tally;

use std::{fmt, io, sync::Arc, time::Duration};

use serde::Deserialize;

use crate::{Engine, ExactKind, Exactness, Failure, Generation, ModelInfo, Outage, Request, Watcher, Why};

pub use self::{dialect::Dialect, http::Key};

use self::{
    answer::Asked,
    generation::Upstreaming,
    health::{Health, Listed},
    http::Client,
};

/// The context that is assumed of a server that does not tell it: what Ollama gives a model by default.
pub const DEFAULT_CONTEXT: u32 = 4096;
/// The answers that are asked for at once from a server that does not tell how many it can write.
pub const DEFAULT_SLOTS: u32 = 4;

/// Which server, and what of it is sold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The model's name on the market, at most 128 bytes.
    pub name: String,
    /// Where the server is, up to and with `/v1`.
    pub url: String,
    /// The model's name at the server. `None`: the same, or the only one that the server has.
    pub model: Option<String>,
    /// What opens the server, if it is locked.
    pub key: Option<Key>,
    /// What kind of server it is. `None`: as it says, and the one that is able to the least if it does not.
    pub dialect: Option<Dialect>,
    /// Tokens of its context. `None`: as it says, and [`DEFAULT_CONTEXT`] if it does not.
    pub context: Option<u32>,
    /// How long it is waited for.
    pub patience: Patience,
}

impl Config {
    /// A model of a server without a key.
    pub fn new(name: &str, url: &str) -> Self {
        Self {
            name: name.into(),
            url: url.into(),
            model: None,
            key: None,
            dialect: None,
            context: None,
            patience: Patience::default(),
        }
    }
}

/// How long a server is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// For its name to be resolved, and again for the connection.
    pub connect: Duration,
    /// For the first text of an answer. Requesters have a patience of their own.
    pub first_token: Duration,
    /// For anything after that.
    pub gap: Duration,
    /// For the usage, once the answer is complete.
    pub usage: Duration,
    /// For the answer to a question about its health.
    pub probe: Duration,
    /// Between two such questions.
    pub probe_every: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            first_token: Duration::from_secs(600),
            gap: Duration::from_secs(60),
            usage: Duration::from_secs(5),
            probe: Duration::from_secs(10),
            probe_every: Duration::from_secs(30),
        }
    }
}

/// Why a server cannot be sold.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OpenError {
    /// The address is none, and why.
    Url(String),
    /// The key is empty, or cannot be sent.
    Key,
    /// A context of 0 tokens.
    Context,
    /// The server cannot answer.
    Out(Outage),
    /// The server does not have the model; it has these.
    UnknownModel {
        /// What was wanted.
        model: String,
        /// What is there, 16 at most.
        listed: Vec<String>,
    },
    /// The system gives no thread.
    Thread(io::ErrorKind),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(problem) => write!(f, "the address of the upstream server: {problem}"),
            Self::Key => f.write_str("the key of the upstream server is empty, or holds what cannot be sent"),
            Self::Context => f.write_str("the context of the upstream server must be at least 1"),
            Self::Out(outage) => f.write_str(&outage.detail),
            Self::UnknownModel { model, listed } if listed.is_empty() => {
                write!(f, "the upstream server has no model {model:?}, and no other")
            }
            Self::UnknownModel { model, listed } => {
                write!(f, "the upstream server has no model {model:?}; it has {}", listed.join(", "))
            }
            Self::Thread(kind) => write!(f, "the system gives no thread: {kind}"),
        }
    }
}

impl std::error::Error for OpenError {}

/// A model of a server, as an engine.
#[derive(Debug)]
pub struct Upstream {
    info: ModelInfo,
    /// Its name there.
    model: String,
    dialect: Dialect,
    slots: u32,
    client: Arc<Client>,
    health: Arc<Health>,
}

impl Upstream {
    /// Asks the server for its models and makes an engine of one. Waits for the answer, as long as
    /// [`Patience::probe`] says. From then on the server is asked every 30 s, as long as the engine lives.
    ///
    /// # Errors
    /// Whatever is wrong with the settings; the server cannot be reached, does not accept the key, or has no such model.
    pub fn open(config: Config) -> Result<Self, OpenError> {
        if config.context == Some(0) {
            return Err(OpenError::Context);
        }
        let client = Arc::new(Client::new(&config.url, config.key, config.patience)?);
        let listed = health::list(&client).map_err(OpenError::Out)?;
        let listed = choose(&listed, config.model.as_deref(), &config.name)?;
        let said = Dialect::of_owner(listed.owned_by.as_deref().unwrap_or_default());
        let dialect = config.dialect.unwrap_or(said);
        let props = (dialect == Dialect::Llama).then(|| Props::ask(&client)).flatten().unwrap_or_default();
        let said = listed.max_model_len.or(props.settings.n_ctx);
        let said = said.or(listed.meta.as_ref().and_then(|meta| meta.n_ctx)).filter(|context| *context > 0);
        let thread = |error: io::Error| OpenError::Thread(error.kind());
        Ok(Self {
            info: ModelInfo {
                name: config.name,
                weights: [0; 32],
                context: config.context.or(said).unwrap_or(DEFAULT_CONTEXT),
                can_continue: dialect.can_continue(),
                exactness: Exactness { kind: ExactKind::None, class: [0; 32] },
            },
            dialect,
            slots: props.total_slots.filter(|slots| *slots > 0).unwrap_or(DEFAULT_SLOTS),
            health: Health::watch(client.clone(), listed.id.clone()).map_err(thread)?,
            model: listed.id.clone(),
            client,
        })
    }

    /// What kind of server it is.
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// The model's name there.
    pub fn model(&self) -> &str {
        &self.model
    }

    /// How many answers it writes at once, as it says; [`DEFAULT_SLOTS`] if it does not.
    pub fn slots(&self) -> u32 {
        self.slots
    }

    /// Why it cannot answer now, if it cannot.
    pub fn outage(&self) -> Option<Outage> {
        self.health.outage()
    }

    /// Connections that are open for answers, or have not noticed yet that nobody listens.
    pub fn connections(&self) -> usize {
        self.client.readers()
    }
}

impl Engine for Upstream {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn start(&self, request: Request) -> Result<Box<dyn Generation>, Failure> {
        if request.max_tokens >= self.info.context {
            let detail = format!("{} tokens do not fit a context of {}", request.max_tokens, self.info.context);
            return Err(Failure::new(Why::ContextOverflow, detail));
        }
        let post = dialect::post(self.dialect, &self.model, &request)?;
        let asked = Asked {
            max_tokens: request.max_tokens,
            context: self.info.context,
            prefix: request.prefix.map(|prefix| (prefix.text, prefix.tokens)),
        };
        match self.client.post(post) {
            Ok(Some(connection)) => {
                Ok(Box::new(Upstreaming::new(self.health.clone(), *self.client.patience(), asked, connection)))
            }
            Ok(None) => Err(Failure::new(Why::Unavailable, "too many connections to the upstream server are open")),
            Err(error) => Err(Failure::new(Why::Unavailable, format!("the system gives no thread: {error}"))),
        }
    }

    fn watch(&self, watcher: Watcher) {
        self.health.tell(watcher);
    }
}

/// The model that is meant: by its name there, else by its name here, else the only one there is.
fn choose<'a>(listed: &'a [Listed], model: Option<&str>, name: &str) -> Result<&'a Listed, OpenError> {
    let find = |wanted: &str| listed.iter().find(|listed| health::is_named(listed, wanted));
    let found = match (model, listed) {
        (Some(model), _) => find(model),
        (None, [only]) => Some(only),
        (None, _) => find(name),
    };
    found.ok_or_else(|| OpenError::UnknownModel {
        model: model.unwrap_or(name).into(),
        listed: listed
            .iter()
            .take(16)
            .map(|listed| listed.id.chars().filter(|c| !c.is_control()).take(128).collect())
            .collect(),
    })
}

/// What llama-server says of itself.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Props {
    total_slots: Option<u32>,
    #[serde(rename = "default_generation_settings")]
    settings: GenerationSettings,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct GenerationSettings {
    n_ctx: Option<u32>,
}

impl Props {
    /// It may be switched off: then the defaults have to do.
    fn ask(client: &Client) -> Option<Self> {
        let root = client.base().strip_suffix("/v1").unwrap_or(client.base());
        let (status, _, body) = client.get(&format!("{root}/props")).ok()?;
        (status == 200).then(|| serde_json::from_slice(&body).ok()).flatten()
    }
}
