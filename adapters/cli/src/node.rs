//! Nodes as the commands start them.

use std::{
    io::{self, Write},
    path::Path,
    sync::Arc,
    thread::available_parallelism,
};

use haggle::{
    Builder, Error, Model, Node,
    engine::{Engine, Llama, LoadError, TINY_STORIES},
    flight::Recorder,
    key::{self, KeyFileError, KeyLock},
    libp2p::identity::Keypair,
};

use crate::{
    args::{NodeArgs, Record},
    exit::{Exit, Failed},
    names::did_you_mean,
    runtime,
    screen::Screen,
    settings::{Sales, Settings},
};

/// The key of a node that others know by it: in the file that was named, else in the data folder; made once. No other process
/// uses that file as long as the lock lives. A node with a state directory has the state's own key instead: whoever starts it
/// decides that.
pub(crate) fn lasting_key(settings: &Settings, args: &NodeArgs, name: &str) -> Result<(Keypair, KeyLock), Failed> {
    match &args.key {
        Some(file) => load_named(file),
        None => load(&settings.data_dir()?.join(format!("{name}.key"))),
    }
}

/// The key in the file that somebody named. One that was not there is told of: its name may be a slip.
pub(crate) fn load_named(file: &Path) -> Result<(Keypair, KeyLock), Failed> {
    let is_new = !file.exists();
    let (key, lock) = load(file)?;
    if is_new {
        let peer = key.public().to_peer_id();
        writeln!(Screen::Err, "haggle: {} was not there: made a new key (peer id {peer})", file.display())?;
    }
    Ok((key, lock))
}

/// The key in a file, which is made if need be.
fn load(file: &Path) -> Result<(Keypair, KeyLock), Failed> {
    let key = key::load_or_create(file).map_err(Error::from)?;
    let lock = key::lock(file).map_err(|error| match &error {
        KeyFileError::InUse { .. } => Failed::from(Error::from(error)).explained(": --key FILE or --data-dir DIR"),
        _ => Error::from(error).into(),
    })?;
    Ok((key, lock))
}

/// Starts a node as it was put together.
pub(crate) async fn start(builder: Builder) -> Result<Node, Failed> {
    runtime::start(builder).await.map(|(node, _)| node)
}

/// Records the node, if that is wanted.
pub(crate) fn record(builder: Builder, to: &Record) -> Result<Builder, Failed> {
    let Some(file) = &to.record else { return Ok(builder) };
    let recorder = Recorder::create(file, to.redact).map_err(|error| {
        let file = file.display();
        match error.kind() {
            io::ErrorKind::AlreadyExists => {
                Failed::usage("record", format!("{file} is there already: record into a new file"))
            }
            _ => {
                Failed::new(Exit::Config, "record", format!("cannot record into {file}: {error}; choose another place"))
            }
        }
    })?;
    if !to.redact {
        writeln!(Screen::Err, "haggle: recording into {}: prompts and answers are inside", file.display())?;
    }
    Ok(builder.record(recorder))
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

/// The engine of a model that this program can serve, with its own context if 0 is given.
pub(crate) fn engine(model: &str, context: u32) -> Result<Arc<dyn Engine>, Failed> {
    if model != TINY_STORIES {
        let hint = did_you_mean(model, [TINY_STORIES]);
        let message = format!(
            "model {model:?} is not part of this program, which has {TINY_STORIES} alone: --upstream URL says which server \
             writes it (Ollama: http://127.0.0.1:11434/v1), --model-file FILE.gguf in which file it is{hint}"
        );
        return Err(Failed::usage("unknown_model", message));
    }
    let broken = |error| Failed::new(Exit::Other, "engine", format!("the embedded model cannot be loaded: {error}"));
    let llama = Llama::tiny_stories().map_err(broken)?;
    Ok(Arc::new(if context == 0 { llama } else { llama.with_context(context) }))
}
