use std::{future::Future, io};

use async_std::task;
use libp2p::{PeerId, identity::Keypair, swarm::dummy};

use super::{MdnsError, NodeTransport, Runtime, Task, TransportLimits, async_io};

/// The async-std runtime, which is one for the whole process. It is unmaintained: take [`Smol`](super::Smol) for anything new.
#[derive(Clone, Debug, Default)]
pub struct AsyncStd;

impl Runtime for AsyncStd {
    type Mdns = dummy::Behaviour;

    fn spawn(&self, task: Task) {
        task::spawn(task);
    }

    fn block_on<F: Future>(&self, future: F) -> F::Output {
        task::block_on(future)
    }

    fn transport(&self, key: &Keypair, limits: &TransportLimits) -> io::Result<NodeTransport> {
        async_io::transport(key, limits)
    }

    fn has_mdns(&self) -> bool {
        false
    }

    fn mdns(&self, _: PeerId) -> Result<Self::Mdns, MdnsError> {
        Err(async_io::no_mdns("async-std"))
    }
}
