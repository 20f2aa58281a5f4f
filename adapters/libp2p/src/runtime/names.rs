//! Names on any transport that dials IP addresses: resolved as the system resolves them, each of their addresses dialled.

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr, ToSocketAddrs},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use futures::{
    FutureExt,
    future::{BoxFuture, select_ok},
};
use libp2p::{
    Multiaddr, Transport,
    core::transport::{DialOpts, ListenerId, TransportError, TransportEvent},
    multiaddr::Protocol,
};

use crate::{dials::Dials, timers::Delay};

/// Addresses of one name that are tried.
const MAX_ADDRESSES: usize = 16;
/// The next address of a name is tried this long after the one before it.
const STAGGER: Duration = Duration::from_millis(250);

/// What the system says to a name and a port.
pub(super) type Found = io::Result<Vec<SocketAddr>>;
/// Runs [`look_up`] where it may block.
type Resolve = Arc<dyn Fn(String, u16) -> BoxFuture<'static, Found> + Send + Sync>;

/// Asks the system. It blocks; the system reads its settings anew when they change.
pub(super) fn look_up(name: &str, port: u16) -> Found {
    Ok((name, port).to_socket_addrs()?.collect())
}

/// A transport with names.
pub(super) struct Names<T> {
    inner: Arc<Mutex<T>>,
    resolve: Resolve,
    dials: Dials,
}

impl<T> Names<T> {
    pub(super) fn new(
        inner: T,
        dials: &Dials,
        resolve: impl Fn(String, u16) -> BoxFuture<'static, Found> + Send + Sync + 'static,
    ) -> Self {
        Names { inner: Arc::new(Mutex::new(inner)), resolve: Arc::new(resolve), dials: dials.clone() }
    }
}

fn lock<T>(inner: &Mutex<T>) -> MutexGuard<'_, T> {
    inner.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A name and a TCP port, perhaps followed by a peer id.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Target {
    name: String,
    family: Family,
    port: u16,
}

/// Which addresses of a name are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    Any,
    V4,
    V6,
}

impl Target {
    fn of(address: &Multiaddr) -> Option<Self> {
        let mut parts = address.iter();
        let (host, port) = (parts.next()?, parts.next()?);
        let rest = (parts.next(), parts.next());
        let (Protocol::Tcp(port), (None | Some(Protocol::P2p(_)), None)) = (port, rest) else { return None };
        let target = |name: &str, family| Target { name: name.to_owned(), family, port };
        Some(match host {
            Protocol::Dns(host) => target(&host, Family::Any),
            Protocol::Dns4(host) => target(&host, Family::V4),
            Protocol::Dns6(host) => target(&host, Family::V6),
            _ => return None,
        })
    }

    /// Where it leads, among what was found: never nowhere.
    fn places(&self, found: Vec<SocketAddr>, dials: &Dials) -> Found {
        let mut refused = None;
        let mut places = Vec::new();
        for at in found.into_iter().filter(|at| self.family.has(at.ip())).take(MAX_ADDRESSES) {
            match dials.may_lead(&self.name, at) {
                Ok(()) => places.push(at),
                Err(forbidden) => refused = Some(forbidden),
            }
        }
        match (places.is_empty(), refused) {
            (false, _) => Ok(places),
            (true, Some(forbidden)) => Err(io::Error::other(forbidden)),
            (true, None) => {
                let text = format!("{} has no address of the family asked for", self.name);
                Err(io::Error::new(io::ErrorKind::NotFound, text))
            }
        }
    }
}

impl Family {
    fn has(self, ip: IpAddr) -> bool {
        match self {
            Family::Any => true,
            Family::V4 => ip.is_ipv4(),
            Family::V6 => ip.is_ipv6(),
        }
    }
}

impl<T> Transport for Names<T>
where
    T: Transport<Error = io::Error, Output: Send + 'static> + Send + Unpin + 'static,
    T::Dial: Send + 'static,
{
    type Output = T::Output;
    type Error = io::Error;
    type ListenerUpgrade = T::ListenerUpgrade;
    type Dial = BoxFuture<'static, io::Result<T::Output>>;

    fn listen_on(&mut self, id: ListenerId, address: Multiaddr) -> Result<(), TransportError<io::Error>> {
        lock(&self.inner).listen_on(id, address)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        lock(&self.inner).remove_listener(id)
    }

    fn dial(&mut self, address: Multiaddr, opts: DialOpts) -> Result<Self::Dial, TransportError<io::Error>> {
        match Target::of(&address) {
            None => lock(&self.inner).dial(address, opts).map(FutureExt::boxed),
            Some(Target { port: 0, .. }) => Err(TransportError::MultiaddrNotSupported(address)),
            Some(target) => {
                let found = (self.resolve)(target.name.clone(), target.port);
                Ok(dial(target, found, self.inner.clone(), self.dials.clone(), opts).boxed())
            }
        }
    }

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<TransportEvent<Self::ListenerUpgrade, io::Error>> {
        Pin::new(&mut *lock(&self.inner)).poll(cx)
    }
}

async fn dial<T>(
    target: Target,
    found: BoxFuture<'static, Found>,
    inner: Arc<Mutex<T>>,
    dials: Dials,
    opts: DialOpts,
) -> io::Result<T::Output>
where
    T: Transport<Error = io::Error> + Send + Unpin + 'static,
    T::Dial: Send + 'static,
{
    let places = target.places(found.await?, &dials)?;
    let tries = places.into_iter().zip(0_u32..).map(|(to, n)| {
        let inner = inner.clone();
        async move {
            if n > 0 {
                Delay::new(STAGGER * n).await;
            }
            let address = Multiaddr::from(to.ip()).with(Protocol::Tcp(to.port()));
            let dialled = lock(&inner).dial(address, opts);
            dialled
                .map_err(|error| match error {
                    TransportError::Other(error) => error,
                    error => io::Error::other(error.to_string()),
                })?
                .await
        }
        .boxed()
    });
    select_ok(tries).await.map(|(stream, _)| stream)
}

impl<T: fmt::Debug> fmt::Debug for Names<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Names").field("inner", &self.inner).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_name_and_a_port_are_a_target() {
        let of = |text: &str| Target::of(&text.parse().expect("an address"));
        let named = |family| Some(Target { name: "example.org".into(), family, port: 7 });
        assert_eq!(of("/dns/example.org/tcp/7"), named(Family::Any));
        assert_eq!(of("/dns4/example.org/tcp/7"), named(Family::V4));
        let peer = "12D3KooWQYzqnLASJqjWpVjWmBRUFwZYbPbPwaLPoYkbbZNGwwSc";
        assert_eq!(of(&format!("/dns6/example.org/tcp/7/p2p/{peer}")), named(Family::V6));
        for other in ["/ip4/192.0.2.1/tcp/7", "/dns4/example.org/udp/7", "/dns/a/tcp/7/ws", "/dnsaddr/a/tcp/7"] {
            assert_eq!(of(other), None, "{other}");
        }
    }

    #[test]
    fn names_are_resolved_by_the_family_asked_for() {
        let resolve = |text: &str| {
            let target = Target::of(&text.parse().expect("an address")).expect("a target");
            target.places(look_up(&target.name, target.port)?, &Dials::default())
        };
        assert_eq!(resolve("/dns4/localhost/tcp/7").expect("known"), ["127.0.0.1:7".parse().expect("an address")]);
        let error = resolve("/dns6/127.0.0.1/tcp/7").expect_err("of the other family");
        assert!(error.to_string().contains("127.0.0.1 has no address"), "{error}");
    }

    #[test]
    fn a_name_that_leads_inside_leads_nowhere() {
        let dials = Dials::guarded();
        dials.set_outside(Some(crate::address::Scope::Global));
        let target = Target { name: "localhost".into(), family: Family::Any, port: 7_999 };
        let found = |text: &str| vec![text.parse().expect("a place")];
        assert!(target.places(found("127.0.0.1:7999"), &dials).is_err());
        assert_eq!(target.places(found("203.0.113.7:7999"), &dials).expect("outside"), found("203.0.113.7:7999"));
    }
}
