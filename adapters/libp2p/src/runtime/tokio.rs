use std::{future::Future, io, sync::Arc};

use futures::FutureExt;
use libp2p::{PeerId, identity::Keypair, mdns, tcp};
use tokio::runtime::{self, Handle};

use super::{
    Local, MdnsError, NodeTransport, Runtime, Task, TransportLimits,
    names::{Names, look_up},
    secure,
};

/// The tokio runtime.
#[derive(Clone, Debug)]
pub struct Tokio {
    handle: Handle,
    _own: Option<Arc<Own>>,
}

/// A runtime that ends with the last clone of its value, wherever that is dropped.
#[derive(Debug)]
struct Own(Option<runtime::Runtime>);

impl Drop for Own {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Tokio {
    /// A runtime of this value's own, with a thread for each core. It lives as long as the last clone, which each of its
    /// nodes has one of.
    ///
    /// # Errors
    /// When the system gives no threads.
    pub fn start() -> io::Result<Self> {
        let runtime = runtime::Builder::new_multi_thread().enable_all().build()?;
        Ok(Tokio { handle: runtime.handle().clone(), _own: Some(Arc::new(Own(Some(runtime)))) })
    }

    /// The runtime this is called from; `None` outside of one.
    pub fn current() -> Option<Self> {
        Handle::try_current().ok().map(Tokio::new)
    }

    /// The runtime behind a handle.
    pub fn new(handle: Handle) -> Self {
        Tokio { handle, _own: None }
    }
}

impl Runtime for Tokio {
    type Mdns = mdns::tokio::Behaviour;

    fn spawn(&self, task: Task) {
        self.handle.spawn(task);
    }

    fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.handle.block_on(future)
    }

    fn transport(&self, key: &Keypair, limits: &TransportLimits) -> io::Result<NodeTransport> {
        let _inside = self.handle.enter();
        let tcp = || {
            let handle = self.handle.clone();
            let resolve = move |name: String, port| {
                let found = handle.spawn_blocking(move || look_up(&name, port));
                found.map(|found| found.map_err(io::Error::other)?).boxed()
            };
            let tcp = tcp::tokio::Transport::new(tcp::Config::default().nodelay(true));
            Names::new(tcp, &limits.dials, resolve)
        };
        secure(tcp(), tcp(), key, limits)
    }

    fn mdns(&self, me: PeerId) -> Result<Self::Mdns, MdnsError> {
        let _inside = self.handle.enter();
        Ok(mdns::tokio::Behaviour::new(mdns::Config::default(), me)?)
    }
}

impl From<mdns::Event> for Local {
    fn from(event: mdns::Event) -> Self {
        match event {
            mdns::Event::Discovered(found) => Local::Found(found),
            mdns::Event::Expired(gone) => Local::Gone(gone.into_iter().map(|(peer, _)| peer).collect()),
        }
    }
}
