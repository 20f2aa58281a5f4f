//! A gateway as its program holds it.

use std::{
    net::{SocketAddr, TcpListener},
    sync::{Arc, atomic::AtomicUsize},
    time::Duration,
};

use futures::{
    FutureExt, StreamExt,
    channel::{mpsc, oneshot},
    select_biased,
};
use futures_timer::Delay;
use haggle::Node;

use crate::{
    catalog::Catalog,
    config::{Config, StartError},
    jobs::Jobs,
    owner::Owner,
    purse::Purse,
    runtime::Sockets,
    server,
    shop::Shop,
};

/// An HTTP server that buys for its clients. Dropping it stops it without waiting.
#[derive(Debug)]
pub struct Gateway {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    /// Ends when the last connection does.
    alive: mpsc::Receiver<()>,
}

impl Gateway {
    /// Serves on a socket that listens. The node is the caller's to stop, after the gateway.
    ///
    /// # Errors
    /// A socket that others reach while nobody needs a key, one that cannot be used, and a book of what was spent that cannot be kept.
    pub fn start<R: Sockets>(runtime: R, node: Node, config: Config, socket: TcpListener) -> Result<Self, StartError> {
        let address = socket.local_addr()?;
        if !address.ip().is_loopback() && config.keys.is_empty() {
            return Err(StartError::Open { at: address });
        }
        let unusable = |source| StartError::Book { path: config.spent.clone().unwrap_or_default(), source };
        let purse = Arc::new(Purse::open(&config).map_err(unusable)?);
        let (stop, stopping) = oneshot::channel();
        let (living, alive) = mpsc::channel(0);
        let spawner = runtime.clone();
        let shop = Arc::new(Shop {
            node,
            owner: Owner::new(&config),
            config,
            purse,
            catalog: Catalog::default(),
            jobs: Jobs::default(),
            metrics: Arc::default(),
            repeats: Arc::default(),
            open: AtomicUsize::new(0),
            spawn: Arc::new(move |task| spawner.spawn(task)),
            stopping: stopping.shared(),
            running: Arc::new(AtomicUsize::new(0)),
            watching: Arc::new(AtomicUsize::new(0)),
        });
        runtime.spawn(Box::pin(async move {
            if let Err(error) = server::accept::<R>(shop, socket, living).await {
                tracing::error!(%error, "the gateway cannot listen");
            }
        }));
        Ok(Gateway { address, stop, alive })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no further requests, cancels the jobs that run, and waits until their clients were told how they ended, but no
    /// longer than `patience`.
    pub async fn stop(self, patience: Duration) {
        let Gateway { stop, mut alive, .. } = self;
        drop(stop);
        select_biased! {
            _ = alive.next() => {}
            () = Delay::new(patience).fuse() => {}
        }
    }
}
