use std::io;

use libp2p::{PeerId, dns, identity::Keypair, mdns, tcp};
use tokio::runtime::Handle;

use super::{NodeTransport, Runtime, Task, TransportLimits, secure};

/// The tokio runtime.
#[derive(Clone, Debug)]
pub struct Tokio(Handle);

impl Tokio {
    /// The runtime this is called from; `None` outside of one.
    pub fn current() -> Option<Self> {
        Handle::try_current().ok().map(Tokio)
    }

    /// The runtime behind a handle.
    pub fn new(handle: Handle) -> Self {
        Tokio(handle)
    }
}

impl Runtime for Tokio {
    type Mdns = mdns::tokio::Behaviour;

    fn spawn(&self, task: Task) {
        self.0.spawn(task);
    }

    fn transport(&self, key: &Keypair, limits: &TransportLimits) -> io::Result<NodeTransport> {
        let _inside = self.0.enter();
        let tcp = || tcp::tokio::Transport::new(tcp::Config::default().nodelay(true));
        secure(dns::tokio::Transport::system(tcp())?, dns::tokio::Transport::system(tcp())?, key, limits)
    }

    fn mdns(&self, me: PeerId) -> io::Result<Self::Mdns> {
        let _inside = self.0.enter();
        mdns::tokio::Behaviour::new(mdns::Config::default(), me)
    }
}
