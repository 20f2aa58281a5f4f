//! A runtime with a switch for everything, and a count of what runs on it.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use futures::{
    FutureExt,
    channel::oneshot,
    future::{self, BoxFuture, Shared},
};
use haggle::{
    libp2p::{
        PeerId, Transport,
        core::{
            StreamMuxer,
            muxing::{StreamMuxerBox, StreamMuxerEvent, SubstreamBox},
        },
        identity::Keypair,
    },
    runtime::{MdnsError, NodeTransport, Runtime, Task, TransportLimits},
};

/// One node's part of a runtime: its connections can be cut, and its tasks dropped, as a failing machine would.
#[derive(Clone, Debug)]
pub(crate) struct Faulty<R> {
    runtime: R,
    power: Switch,
    /// Of all connections that there are.
    cable: Arc<Mutex<Switch>>,
    pub(crate) tasks: Count,
}

impl<R: Runtime> Faulty<R> {
    pub(crate) fn new(runtime: R) -> Self {
        let cable = Arc::new(Mutex::new(Switch::new()));
        Faulty { runtime, power: Switch::new(), cable, tasks: Count::default() }
    }

    /// Drops every task: sockets are closed without a word.
    pub(crate) fn kill(&self) {
        self.power.off();
    }

    /// Ends every connection; new ones can be made. Returns how many of the old ones are left.
    pub(crate) fn cut(&self) -> Count {
        let old = std::mem::replace(&mut *self.cable.lock().expect("not poisoned"), Switch::new());
        old.off();
        old.wired
    }
}

impl<R: Runtime> Runtime for Faulty<R> {
    type Mdns = R::Mdns;

    fn spawn(&self, task: Task) {
        let (power, counted) = (self.power.is_off.clone(), self.tasks.one());
        self.runtime.spawn(Box::pin(async move {
            let _counted = counted;
            future::select(task, power).map(drop).await;
        }));
    }

    fn transport(&self, key: &Keypair, limits: &TransportLimits) -> io::Result<NodeTransport> {
        let cable = self.cable.clone();
        let link = move |muxer| {
            let cable = cable.lock().expect("not poisoned");
            Link { muxer, cut: cable.is_off.clone(), _counted: cable.wired.one() }
        };
        let transport = self.runtime.transport(key, limits)?;
        Ok(transport.map(move |(peer, muxer), _| (peer, StreamMuxerBox::new(link(muxer)))).boxed())
    }

    fn has_mdns(&self) -> bool {
        self.runtime.has_mdns()
    }

    fn mdns(&self, me: PeerId) -> Result<Self::Mdns, MdnsError> {
        self.runtime.mdns(me)
    }
}

#[derive(Clone, Debug)]
struct Switch {
    switch: Arc<Mutex<Option<oneshot::Sender<()>>>>,
    is_off: Shared<BoxFuture<'static, ()>>,
    /// What it switches.
    wired: Count,
}

impl Switch {
    fn new() -> Self {
        let (off, is_off) = oneshot::channel();
        let is_off = async move {
            if is_off.await.is_err() {
                future::pending().await
            }
        };
        Switch { switch: Arc::new(Mutex::new(Some(off))), is_off: is_off.boxed().shared(), wired: Count::default() }
    }

    fn off(&self) {
        if let Some(off) = self.switch.lock().expect("not poisoned").take() {
            let _ = off.send(());
        }
    }
}

/// How many of something there are.
#[derive(Clone, Debug, Default)]
pub(crate) struct Count(Arc<AtomicUsize>);

pub(crate) struct Counted(Count);

impl Count {
    fn one(&self) -> Counted {
        self.0.fetch_add(1, Ordering::SeqCst);
        Counted(self.clone())
    }

    pub(crate) fn get(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A connection that can be cut.
struct Link {
    muxer: StreamMuxerBox,
    cut: Shared<BoxFuture<'static, ()>>,
    _counted: Counted,
}

impl StreamMuxer for Link {
    type Substream = SubstreamBox;
    type Error = io::Error;

    fn poll_inbound(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<SubstreamBox>> {
        Pin::new(&mut self.get_mut().muxer).poll_inbound(cx)
    }

    fn poll_outbound(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<SubstreamBox>> {
        Pin::new(&mut self.get_mut().muxer).poll_outbound(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().muxer).poll_close(cx)
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<StreamMuxerEvent>> {
        if self.cut.poll_unpin(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        Pin::new(&mut self.muxer).poll(cx)
    }
}
