//! Servers with OpenAI's interface as engines: llama-server, vLLM, Ollama and others.
//!
//! [`Upstream::open`] asks the server what it is; the engine then sends each request there and passes on what comes back.
//! Read from [`dialect`](Dialect) (what is asked) over `http` (one thread per answer, which ends with it) and [`sse`]
//! (bytes to events) to [`answer`] (events to steps), `thoughts` (what of the text is none) and `tally` (how many tokens
//! that is). `refusal` says whose fault an
//! error is, `health` whether the server can answer at all.
//!
//! No step waits: reading is done by a thread for each answer, with a bounded channel between. When a generation is
//! dropped its connection is shut down, whatever the thread waits for; the server notices and stops computing.

pub mod answer;
pub mod sse;

mod calls;
mod config;
mod date;
mod dialect;
mod error;
mod generation;
mod halves;
mod health;
mod http;
mod json;
mod key;
mod notice;
mod refusal;
mod reply;
mod request;
mod tally;
mod thoughts;

use std::{io, sync::Arc, time::Duration};

use crate::{Engine, ExactKind, Exactness, Failure, Generation, ModelInfo, Outage, Prompt, Request, Watcher, Why};

pub use self::{
    config::{Config, DEFAULT_CONTEXT, DEFAULT_SLOTS, OpenError, Patience},
    dialect::Dialect,
    key::{Key, NotAKey},
    notice::{Listener, Notice},
};

use self::{
    answer::Asked,
    config::BATCHING_SLOTS,
    dialect::Spared,
    generation::{Server, Upstreaming},
    health::{Health, Listed, NoList},
    http::Client,
    json::Json,
    notice::Notices,
};

/// A model of a server, as an engine.
#[derive(Debug)]
pub struct Upstream {
    info: ModelInfo,
    /// Its name there.
    model: String,
    dialect: Dialect,
    slots: u32,
    tells_slots: bool,
    notices: Arc<Notices>,
    /// What it was found not to take.
    spared: Arc<Spared>,
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
        // Where there is no list, the operator knows what is there.
        let (listed, is_listed) = match (health::list(&client), &config.model) {
            (Ok(listed), model) => (choose(&listed, model.as_deref(), &config.name)?.clone(), true),
            (Err(NoList::Missing(_)), Some(model)) => (Listed { id: model.clone(), ..Listed::default() }, false),
            (Err(NoList::Missing(outage)), None) => return Err(OpenError::NoList(outage)),
            (Err(NoList::Locked(outage)), _) => return Err(OpenError::Locked(outage)),
            (Err(NoList::Out(outage)), _) => return Err(OpenError::Out(outage)),
        };
        let said = Dialect::of_owner(listed.owned_by.as_deref().unwrap_or_default());
        let dialect = config.dialect.unwrap_or(said);
        let props = (dialect == Dialect::Llama).then(|| Props::ask(&client)).flatten().unwrap_or_default();
        let said = listed.context.or(props.n_ctx);
        let said = said.filter(|context| *context > 0);
        let guess = if dialect == Dialect::Vllm { BATCHING_SLOTS } else { DEFAULT_SLOTS };
        let slots = props.total_slots.filter(|slots| *slots > 0);
        let thread = |error: io::Error| OpenError::Thread(error.kind());
        Ok(Self {
            info: ModelInfo {
                features: config.features,
                name: config.name,
                weights: [0; 32],
                context: config.context.or(said).unwrap_or(DEFAULT_CONTEXT),
                can_continue: dialect.can_continue(),
                exactness: Exactness { kind: ExactKind::None, class: [0; 32] },
            },
            dialect,
            slots: slots.unwrap_or(guess),
            tells_slots: slots.is_some(),
            spared: Arc::default(),
            notices: Arc::default(),
            health: Health::watch(client.clone(), is_listed.then(|| listed.id.clone())).map_err(thread)?,
            model: listed.id,
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

    /// How many answers it writes at once, as it says; [`DEFAULT_SLOTS`] or a
    /// few if it does not.
    pub fn slots(&self) -> u32 {
        self.slots
    }

    /// Whether the server has told how many these are. If not it is a guess.
    pub fn tells_slots(&self) -> bool {
        self.tells_slots
    }

    /// Has its operator told what he should know of the server. There is one listener; a second one takes its place.
    pub fn listen(&self, listener: Listener) {
        self.notices.listen(listener);
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
        if matches!(request.prompt, Prompt::Request(_)) && self.info.features.is_none() {
            return Err(Failure::new(
                Why::Unavailable,
                "the upstream server's features are not known: it is asked for text only",
            ));
        }
        let post = dialect::post(self.dialect, &self.model, &request, &self.spared)?;
        let asked = Asked {
            max_tokens: request.max_tokens,
            context: self.info.context,
            is_text: matches!(request.prompt, Prompt::Raw(_)),
            prefix: request.prefix.map(|prefix| (prefix.text, prefix.tokens)),
        };
        let server = Server {
            client: self.client.clone(),
            health: self.health.clone(),
            spared: self.spared.clone(),
            notices: self.notices.clone(),
            model: self.model.clone(),
        };
        Ok(Box::new(Upstreaming::start(server, asked, post)?))
    }

    fn watch(&self, watcher: Watcher) {
        self.health.tell(watcher);
    }

    fn first_text(&self) -> Option<Duration> {
        self.health.wait()
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
#[derive(Default)]
struct Props {
    total_slots: Option<u32>,
    n_ctx: Option<u32>,
}

impl Props {
    /// It may be switched off: then the defaults have to do.
    fn ask(client: &Client) -> Option<Self> {
        let root = client.base().strip_suffix("/v1").unwrap_or(client.base());
        let (status, _, body) = client.get(&format!("{root}/props")).ok()?;
        let props = Json::whole(&body).filter(|_| status == 200)?;
        let settings = props.field("default_generation_settings");
        let size = |value: Option<Json<'_>>| value?.count().and_then(|size| u32::try_from(size).ok());
        Some(Self {
            total_slots: size(props.field("total_slots")),
            n_ctx: size(settings.and_then(|settings| settings.field("n_ctx"))),
        })
    }
}
