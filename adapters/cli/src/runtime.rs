//! The async runtime of this process, chosen by `--runtime` among those it was built with.

use std::{
    io,
    net::TcpListener,
    sync::{Arc, OnceLock},
};

use clap::ValueEnum;
use futures::{
    FutureExt,
    channel::oneshot,
    future::{self, BoxFuture, Future, Shared},
};
use haggle::{
    Builder, Node,
    driver::Spawn,
    libp2p::{PeerId, Swarm, identity::Keypair, swarm},
    runtime::{MdnsError, NodeTransport, Runtime, Task, TransportLimits},
    sessions,
};
use haggle_gateway::{Config, Gateway};

use crate::exit::{Exit, Failed};

/// A runtime by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Choice {
    Tokio,
    Smol,
    AsyncStd,
}

#[derive(Debug)]
pub(crate) enum Chosen {
    #[cfg(feature = "tokio")]
    Tokio(haggle::Tokio),
    #[cfg(feature = "smol")]
    Smol(haggle::Smol),
    #[cfg(feature = "async-std")]
    AsyncStd(haggle::AsyncStd),
}

#[cfg(not(any(feature = "tokio", feature = "smol", feature = "async-std")))]
compile_error!("haggle needs a runtime: build it with one of the features tokio, smol and async-std");

static CHOSEN: OnceLock<Chosen> = OnceLock::new();

impl Choice {
    /// What a process runs on that was not told.
    const DEFAULT: Choice = match (cfg!(feature = "tokio"), cfg!(feature = "smol")) {
        (true, _) => Choice::Tokio,
        (false, true) => Choice::Smol,
        (false, false) => Choice::AsyncStd,
    };

    fn start(self) -> Result<Chosen, Failed> {
        #[cfg(feature = "tokio")]
        if self == Choice::Tokio {
            let no_threads = |error| Failed::new(Exit::Other, "runtime", format!("no threads: {error}"));
            return haggle::Tokio::start().map(Chosen::Tokio).map_err(no_threads);
        }
        #[cfg(feature = "smol")]
        if self == Choice::Smol {
            return Ok(Chosen::Smol(haggle::Smol::global()));
        }
        #[cfg(feature = "async-std")]
        if self == Choice::AsyncStd {
            return Ok(Chosen::AsyncStd(haggle::AsyncStd));
        }
        let name = self.to_possible_value().map_or(String::new(), |value| value.get_name().to_owned());
        let how = format!("cargo install --path adapters/cli --locked --features {name}");
        Err(Failed::usage("runtime", format!("this build has no {name} runtime; this one has: {how}")))
    }
}

/// Runs the program on a runtime, from which all its nodes are started.
pub(crate) fn run<F: Future<Output = Result<Exit, Failed>>>(
    choice: Option<Choice>,
    program: F,
) -> Result<Exit, Failed> {
    let chosen = choice.unwrap_or(Choice::DEFAULT).start()?;
    match CHOSEN.get_or_init(|| chosen) {
        #[cfg(feature = "tokio")]
        Chosen::Tokio(runtime) => runtime.block_on(program),
        #[cfg(feature = "smol")]
        Chosen::Smol(runtime) => runtime.block_on(program),
        #[cfg(feature = "async-std")]
        Chosen::AsyncStd(runtime) => runtime.block_on(program),
    }
}

/// Whether nodes can find each other on the local network here.
pub(crate) fn has_mdns() -> bool {
    CHOSEN.get().is_none_or(|chosen| match chosen {
        #[cfg(feature = "tokio")]
        Chosen::Tokio(runtime) => runtime.has_mdns(),
        #[cfg(feature = "smol")]
        Chosen::Smol(runtime) => runtime.has_mdns(),
        #[cfg(feature = "async-std")]
        Chosen::AsyncStd(runtime) => runtime.has_mdns(),
    })
}

/// Starts a node as it was put together, and hands over its plug.
pub(crate) async fn start(builder: Builder) -> Result<(Node, Plug), Failed> {
    let (plug, pulled) = Plug::new();
    let chosen = CHOSEN.get().ok_or_else(|| Failed::new(Exit::Other, "runtime", "there is no runtime"))?;
    let node = match chosen {
        #[cfg(feature = "tokio")]
        Chosen::Tokio(runtime) => Box::pin(builder.start(Plugged { runtime: runtime.clone(), pulled })).await?,
        #[cfg(feature = "smol")]
        Chosen::Smol(runtime) => Box::pin(builder.start(Plugged { runtime: runtime.clone(), pulled })).await?,
        #[cfg(feature = "async-std")]
        Chosen::AsyncStd(runtime) => Box::pin(builder.start(Plugged { runtime: runtime.clone(), pulled })).await?,
    };
    Ok((node, plug))
}

/// A swarm that speaks nothing but the market's streams, for who is no node; and where its streams' tasks run.
pub(crate) fn sessions(key: &Keypair, config: sessions::Config) -> Result<(Swarm<sessions::Behaviour>, Spawn), Failed> {
    let chosen = CHOSEN.get().ok_or_else(|| Failed::new(Exit::Other, "runtime", "there is no runtime"))?;
    match chosen {
        #[cfg(feature = "tokio")]
        Chosen::Tokio(runtime) => sessions_on(runtime, key, config),
        #[cfg(feature = "smol")]
        Chosen::Smol(runtime) => sessions_on(runtime, key, config),
        #[cfg(feature = "async-std")]
        Chosen::AsyncStd(runtime) => sessions_on(runtime, key, config),
    }
}

fn sessions_on(
    runtime: &impl Runtime,
    key: &Keypair,
    config: sessions::Config,
) -> Result<(Swarm<sessions::Behaviour>, Spawn), Failed> {
    let failed = |error| Failed::new(Exit::Other, "runtime", format!("no transport: {error}"));
    let transport = runtime.transport(key, &TransportLimits::default()).map_err(failed)?;
    let tasks = runtime.clone();
    let spawn: Spawn = Arc::new(move |task| tasks.spawn(task));
    let (me, executor) = (key.public().to_peer_id(), spawn.clone());
    let executor = swarm::Config::with_executor(move |task| executor(task));
    Ok((Swarm::new(transport, sessions::Behaviour::new(me, config), me, executor), spawn))
}

/// Answers HTTP for a node of this process.
pub(crate) fn gateway(node: Node, config: Config, socket: TcpListener) -> Result<Gateway, Failed> {
    let chosen = CHOSEN.get().ok_or_else(|| Failed::new(Exit::Other, "runtime", "there is no runtime"))?;
    Ok(match chosen {
        #[cfg(feature = "tokio")]
        Chosen::Tokio(runtime) => Gateway::start(runtime.clone(), node, config, socket)?,
        #[cfg(feature = "smol")]
        Chosen::Smol(runtime) => Gateway::start(runtime.clone(), node, config, socket)?,
        #[cfg(feature = "async-std")]
        Chosen::AsyncStd(runtime) => Gateway::start(runtime.clone(), node, config, socket)?,
    })
}

/// By which a node can be switched off. Dropping it changes nothing.
pub(crate) struct Plug(oneshot::Sender<()>);

type Pulled = Shared<BoxFuture<'static, ()>>;

impl Plug {
    fn new() -> (Self, Pulled) {
        let (pull, pulled) = oneshot::channel();
        let pulled = async move {
            if pulled.await.is_err() {
                future::pending().await
            }
        };
        (Plug(pull), pulled.boxed().shared())
    }

    /// Drops every task of the node: its sockets are closed without a word.
    pub(crate) fn pull(self) {
        let _ = self.0.send(());
    }
}

/// A runtime whose tasks, which are those of one node, can be dropped together.
#[derive(Clone, Debug)]
struct Plugged<R> {
    runtime: R,
    pulled: Pulled,
}

impl<R: Runtime> Runtime for Plugged<R> {
    type Mdns = R::Mdns;

    fn spawn(&self, task: Task) {
        let task = future::select(task, self.pulled.clone());
        self.runtime.spawn(Box::pin(task.map(drop)));
    }

    fn transport(&self, key: &Keypair, limits: &TransportLimits) -> io::Result<NodeTransport> {
        self.runtime.transport(key, limits)
    }

    fn has_mdns(&self) -> bool {
        self.runtime.has_mdns()
    }

    fn mdns(&self, me: PeerId) -> Result<Self::Mdns, MdnsError> {
        self.runtime.mdns(me)
    }
}
