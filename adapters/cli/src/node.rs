//! Nodes as the commands start them, and the signals that end them.

use std::{
    io::{self, Write},
    path::Path,
    sync::Arc,
    thread::available_parallelism,
};

use futures::{StreamExt, channel::mpsc};
use haggle::{
    Builder, Criteria, Error, Model, Node, NodeEvent,
    core::{PeerId as CorePeerId, time::Millis},
    engine::{Engine, Llama, LoadError, TINY_STORIES},
    flight::Tape,
    id, key,
    libp2p::{Multiaddr, PeerId, identity::Keypair, multiaddr::Protocol},
    state::{State, StoredAnswer},
};

use crate::{
    args::{Global, NodeArgs, Record, Wanted},
    exit::{Exit, Failed},
    names::did_you_mean,
    runtime,
    screen::{Screen, in_line},
    settings::{Sales, Settings},
};

/// The key of a node that others know by it: kept in the data folder, made once.
pub(crate) fn lasting_key(settings: &Settings, args: &NodeArgs, name: &str) -> Result<Keypair, Failed> {
    match &args.key {
        Some(file) => load(file),
        None => load(&settings.data_dir()?.join(format!("{name}.key"))),
    }
}

fn load(file: &Path) -> Result<Keypair, Failed> {
    Ok(key::load_or_create(file).map_err(Error::from)?)
}

/// Starts a node as it was put together.
pub(crate) async fn start(builder: Builder) -> Result<Node, Failed> {
    runtime::start(builder).await.map(|(node, _)| node)
}

/// Records the node, if that is wanted.
pub(crate) fn record(builder: Builder, to: &Record) -> Result<Builder, Failed> {
    let Some(file) = &to.record else { return Ok(builder) };
    let tape = Tape::create(file, to.redact).map_err(|error| {
        let text = match error.kind() {
            io::ErrorKind::AlreadyExists => format!("{} is there already: record into a new file", file.display()),
            _ => format!("cannot record into {}: {error}", file.display()),
        };
        Failed::usage("record", text)
    })?;
    if !to.redact {
        writeln!(Screen::Err, "haggle: recording into {}: prompts and answers are inside", file.display())?;
    }
    Ok(builder.record(tape))
}

/// What a node has behind it, or leaves behind.
#[derive(Default)]
pub(crate) struct Past<'a> {
    pub(crate) tape: Option<&'a Record>,
    pub(crate) state: Option<State>,
    pub(crate) stored: Vec<StoredAnswer>,
}

/// A node that only buys, and what it is to look for.
pub(crate) async fn buyer(
    global: &Global,
    args: &NodeArgs,
    wanted: &Wanted,
    patience: Option<Millis>,
    past: Past<'_>,
) -> Result<(Node, Criteria), Failed> {
    let mut settings = Settings::load(global, args)?;
    settings.add_providers(&wanted.provider)?;
    settings.add_patience(patience)?;
    let config = settings.config()?;
    if config.bootstrap_nodes.is_empty() && config.providers.is_empty() && !config.enable_mdns {
        return Err(Failed::new(
            Exit::Config,
            "no_source",
            "there is nobody to ask: give a bootstrap node with --bootstrap ADDR, a provider with --provider ADDR, \
             or look around the local network with --mdns true",
        ));
    }
    let criteria = criteria(wanted)?;
    let mut builder = Node::builder(config);
    if let Some(to) = past.tape {
        builder = record(builder, to)?;
    }
    if let Some(file) = &args.key {
        builder = builder.key(load(file)?);
    }
    if let Some(state) = past.state {
        builder = builder.state(state).stored(past.stored);
    }
    Ok((start(builder).await?, criteria))
}

fn criteria(wanted: &Wanted) -> Result<Criteria, Failed> {
    let core = |peers: &[PeerId]| -> Vec<CorePeerId> { peers.iter().filter_map(id::to_core).collect() };
    // The addresses were checked with the settings.
    let named = |address: &String| match address.parse::<Multiaddr>().ok()?.iter().last() {
        Some(Protocol::P2p(peer)) => Some(peer),
        _ => None,
    };
    let only: Vec<PeerId> = wanted.provider.iter().filter_map(named).collect();
    Ok(Criteria {
        max_price_in: wanted.max_price_in,
        max_price_out: wanted.max_price_out,
        min_context: wanted.min_context,
        prefer: core(&wanted.prefer),
        exclude: core(&wanted.exclude),
        only: core(&only),
        refresh: wanted.refresh,
        ..Criteria::new(model(&wanted.model)?)
    })
}

pub(crate) fn model(name: &str) -> Result<Model, Failed> {
    let wrong = || Failed::usage("model", format!("{name:?} cannot be a model's name; it must have 1 to 128 bytes"));
    Model::new(name.as_bytes()).ok_or_else(wrong)
}

/// The model in a file, under the name that was given, or its own.
pub(crate) fn model_file(sales: &Sales) -> Result<Llama, Failed> {
    const THREADS: usize = 8;
    const CONTEXT: u32 = 4096;
    let wrong = |error: LoadError| Failed::usage("model_file", error.to_string());
    let llama = Llama::open(Path::new(&sales.model_file)).map_err(wrong)?;
    let llama = if sales.model.is_empty() { llama } else { llama.with_name(&sales.model) };
    let threads = match sales.threads {
        0 => available_parallelism().map_or(1, |n| n.get().min(THREADS)),
        threads => threads as usize,
    };
    Ok(llama.with_threads(threads).with_context(if sales.context == 0 { CONTEXT } else { sales.context }))
}

/// The engine of a model that this program can serve.
pub(crate) fn engine(model: &str) -> Result<Arc<dyn Engine>, Failed> {
    if model != TINY_STORIES {
        let hint = did_you_mean(model, [TINY_STORIES]);
        let message = format!("model {model:?} is not known here{hint} Known: {TINY_STORIES}");
        return Err(Failed::usage("unknown_model", message));
    }
    let broken = |error| Failed::new(Exit::Other, "engine", format!("the embedded model cannot be loaded: {error}"));
    Ok(Arc::new(Llama::tiny_stories().map_err(broken)?))
}

/// Says which models the providers that were seen do serve, if none served the one that was wanted.
pub(crate) async fn explain_nobody(node: &Node, mut events: haggle::Events, wanted: &Wanted, failed: Failed) -> Failed {
    node.stop().await;
    let mut seen = Vec::new();
    while let Some(event) = events.next().await {
        if let NodeEvent::Discovered { advert, .. } = event {
            let names = advert.models.iter().flat_map(|entry| [&entry.model].into_iter().chain(&entry.aliases));
            seen.extend(names.map(|name| in_line(&name.to_text())));
        }
    }
    if failed.code != "nobody_found" || seen.contains(&wanted.model) {
        return failed;
    }
    let hint = did_you_mean(&wanted.model, seen.iter().map(String::as_str));
    failed.explained(format!(" (model {:?}{hint})", wanted.model))
}

/// Wishes of the user that the program end.
pub(crate) struct Signals {
    heard: mpsc::UnboundedReceiver<()>,
    #[cfg(unix)]
    source: signal_hook::iterator::Handle,
}

impl Signals {
    /// From now on, signals no longer end the program by themselves.
    #[cfg(unix)]
    pub(crate) fn listen() -> Result<Self, Failed> {
        use signal_hook::consts::{SIGINT, SIGTERM};
        let failed = |error: io::Error| Failed::new(Exit::Other, "signals", error.to_string());
        let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM]).map_err(failed)?;
        let source = signals.handle();
        let (tell, heard) = mpsc::unbounded();
        let tell = move || signals.forever().for_each(|_| drop(tell.unbounded_send(())));
        std::thread::Builder::new().name("signals".into()).spawn(tell).map_err(failed)?;
        Ok(Signals { heard, source })
    }

    /// Without a handler the system ends the program itself.
    #[cfg(not(unix))]
    pub(crate) fn listen() -> Result<Self, Failed> {
        let (_, heard) = mpsc::unbounded();
        Ok(Signals { heard })
    }

    /// The next Ctrl-C or SIGTERM.
    pub(crate) async fn next(&mut self) {
        if self.heard.next().await.is_none() {
            futures::future::pending::<()>().await;
        }
    }
}

#[cfg(unix)]
impl Drop for Signals {
    fn drop(&mut self) {
        self.source.close();
    }
}
