use std::{fmt, future::Future, io, sync::Arc};

use libp2p::{PeerId, identity::Keypair, swarm::dummy};

use super::{MdnsError, NodeTransport, Runtime, Task, TransportLimits, async_io};

/// The smol runtime.
#[derive(Clone, Default)]
pub struct Smol(Option<Arc<smol::Executor<'static>>>);

impl Smol {
    /// The executor that `smol::spawn` uses, with `SMOL_THREADS` threads (one, if that is not set).
    pub fn global() -> Self {
        Smol(None)
    }

    /// An executor of your own. It is for you to run it.
    pub fn new(executor: Arc<smol::Executor<'static>>) -> Self {
        Smol(Some(executor))
    }
}

impl Runtime for Smol {
    type Mdns = dummy::Behaviour;

    fn spawn(&self, task: Task) {
        match &self.0 {
            None => smol::spawn(task).detach(),
            Some(executor) => executor.spawn(task).detach(),
        }
    }

    fn block_on<F: Future>(&self, future: F) -> F::Output {
        match &self.0 {
            None => smol::block_on(future),
            Some(executor) => smol::block_on(executor.run(future)),
        }
    }

    fn transport(&self, key: &Keypair, limits: &TransportLimits) -> io::Result<NodeTransport> {
        async_io::transport(key, limits)
    }

    fn has_mdns(&self) -> bool {
        false
    }

    fn mdns(&self, _: PeerId) -> Result<Self::Mdns, MdnsError> {
        Err(async_io::no_mdns("smol"))
    }
}

impl fmt::Debug for Smol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Smol(own)" } else { "Smol(global)" })
    }
}
