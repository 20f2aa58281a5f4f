//! Streams between swarms: how many, and why one is refused.

mod lost;

use std::{collections::BTreeMap, num::NonZeroUsize, time::Duration};

use futures::{AsyncReadExt, AsyncWriteExt, StreamExt, channel::mpsc, channel::oneshot};
use haggle::{
    AsyncStd, Smol,
    libp2p::{
        Multiaddr, PeerId, Swarm,
        identity::Keypair,
        swarm::{self, SwarmEvent},
    },
    runtime::{Runtime, Tokio, TransportLimits},
    sessions::{Behaviour, Config, Event, OpenError, Refusal, SessionStream},
};
use tokio::task::JoinHandle;

use crate::bounded;

pub(crate) type Opened = Result<SessionStream, OpenError>;

/// A swarm that runs in a task of its own.
pub(crate) struct Peer {
    id: PeerId,
    address: Multiaddr,
    opens: mpsc::UnboundedSender<(PeerId, Multiaddr, oneshot::Sender<Opened>)>,
    hang_ups: mpsc::UnboundedSender<PeerId>,
    events: mpsc::UnboundedReceiver<Happened>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
enum Happened {
    Inbound(SessionStream),
    Refused(Refusal),
    Connected,
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn swarm(config: Config, max_streams: usize) -> Swarm<Behaviour> {
    swarm_on(Tokio::current().expect("inside of tokio"), config, max_streams)
}

fn swarm_on(runtime: impl Runtime, config: Config, max_streams: usize) -> Swarm<Behaviour> {
    let key = Keypair::generate_ed25519();
    let me = key.public().to_peer_id();
    let limits =
        TransportLimits { max_streams: NonZeroUsize::new(max_streams).expect("some"), ..TransportLimits::default() };
    let transport = runtime.transport(&key, &limits).expect("a transport");
    let config = (Behaviour::new(me, config), swarm::Config::with_executor(move |task| runtime.spawn(task)));
    Swarm::new(transport, config.0, me, config.1.with_idle_connection_timeout(Duration::from_secs(60)))
}

impl Peer {
    pub(crate) async fn start(config: Config) -> Self {
        Peer::listening(config, 512, "/ip4/127.0.0.1/tcp/0").await
    }

    async fn listening(config: Config, max_streams: usize, on: &str) -> Self {
        Peer::run(swarm(config, max_streams), on).await
    }

    async fn run(mut swarm: Swarm<Behaviour>, on: &str) -> Self {
        swarm.listen_on(on.parse().expect("an address")).expect("listening");
        let address = loop {
            if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
                break address;
            }
        };
        let id = *swarm.local_peer_id();
        let (opens, wanted) = mpsc::unbounded();
        let (happened, events) = mpsc::unbounded();
        let (hang_ups, unwanted) = mpsc::unbounded();
        Peer { id, address, opens, hang_ups, events, task: tokio::spawn(serve(swarm, wanted, unwanted, happened)) }
    }

    fn open(&self, to: &Peer) -> oneshot::Receiver<Opened> {
        self.open_at(to.id, to.address.clone())
    }

    pub(crate) fn open_at(&self, peer: PeerId, address: Multiaddr) -> oneshot::Receiver<Opened> {
        let (answer, opened) = oneshot::channel();
        self.opens.unbounded_send((peer, address, answer)).expect("the peer runs");
        opened
    }
}

async fn serve(
    mut swarm: Swarm<Behaviour>,
    mut wanted: mpsc::UnboundedReceiver<(PeerId, Multiaddr, oneshot::Sender<Opened>)>,
    mut unwanted: mpsc::UnboundedReceiver<PeerId>,
    happened: mpsc::UnboundedSender<Happened>,
) {
    let mut waiting = BTreeMap::new();
    loop {
        futures::select! {
            want = wanted.next() => {
                let Some((peer, address, answer)) = want else { return };
                if !address.is_empty() {
                    swarm.add_peer_address(peer, address);
                }
                match swarm.behaviour_mut().open(peer) {
                    Ok(id) => drop(waiting.insert(id, answer)),
                    Err(error) => drop(answer.send(Err(error))),
                }
            }
            peer = unwanted.next() => drop(peer.map(|peer| swarm.disconnect_peer_id(peer))),
            event = swarm.select_next_some() => {
                let told = match event {
                    SwarmEvent::Behaviour(Event::Opened { id, stream, .. }) => {
                        drop(waiting.remove(&id).expect("asked for").send(Ok(stream)));
                        continue;
                    }
                    SwarmEvent::Behaviour(Event::OpenFailed { id, error, .. }) => {
                        drop(waiting.remove(&id).expect("asked for").send(Err(error)));
                        continue;
                    }
                    SwarmEvent::Behaviour(Event::Inbound { stream, .. }) => Happened::Inbound(stream),
                    SwarmEvent::Behaviour(Event::Refused { reason, .. }) => Happened::Refused(reason),
                    SwarmEvent::ConnectionEstablished { .. } => Happened::Connected,
                    _ => continue,
                };
                let _ = happened.unbounded_send(told);
            }
        }
    }
}

/// Generous where a test is about something else.
pub(crate) fn roomy() -> Config {
    Config {
        max_outbound_per_peer: 1_000,
        max_inbound_per_peer: 1_000,
        max_inbound: 1_000,
        max_resets_per_second: 100_000,
        ..Config::default()
    }
}

#[tokio::test]
async fn first_contact_with_64_peers_at_once_reaches_all() {
    bounded(async {
        let caller = Peer::start(roomy()).await;
        let mut others = Vec::new();
        for _ in 0..64 {
            others.push(Peer::start(roomy()).await);
        }
        let opened: Vec<_> = others.iter().map(|other| caller.open(other)).collect();
        let opened = futures::future::join_all(opened).await;
        assert_eq!(opened.iter().filter(|opened| matches!(opened, Ok(Ok(_)))).count(), 64);
    })
    .await;
}

#[tokio::test]
async fn two_hundred_opens_at_once_share_one_connection_and_lose_nothing() {
    bounded(async {
        let (caller, mut host) = (Peer::start(roomy()).await, Peer::start(roomy()).await);
        let opened: Vec<_> = (0..200).map(|_| caller.open(&host)).collect();
        let mut streams = Vec::new();
        for (n, opened) in opened.into_iter().enumerate() {
            let mut stream = opened.await.expect("an answer").expect("a stream");
            stream.write_all(&(n as u32).to_le_bytes()).await.expect("written");
            stream.flush().await.expect("flushed");
            streams.push(stream);
        }
        let (mut seen, mut connections) = (Vec::new(), 0);
        while seen.len() < 200 {
            match host.events.next().await.expect("runs") {
                Happened::Inbound(mut stream) => {
                    let mut bytes = [0; 4];
                    stream.read_exact(&mut bytes).await.expect("read");
                    seen.push(u32::from_le_bytes(bytes));
                }
                Happened::Connected => connections += 1,
                Happened::Refused(reason) => panic!("refused: {reason:?}"),
            }
        }
        seen.sort_unstable();
        assert_eq!(seen, (0..200).collect::<Vec<_>>());
        assert_eq!(connections, 1);
    })
    .await;
}

#[tokio::test]
async fn a_busy_acceptor_makes_openers_wait_and_drops_none() {
    bounded(async {
        let mut host = swarm(roomy(), 512);
        host.listen_on("/ip4/127.0.0.1/tcp/0".parse().expect("an address")).expect("listening");
        let address = loop {
            if let SwarmEvent::NewListenAddr { address, .. } = host.select_next_some().await {
                break address;
            }
        };
        let id = *host.local_peer_id();
        let caller = Peer::start(roomy()).await;
        let opened: Vec<_> = (0..100).map(|_| caller.open_at(id, address.clone())).collect();
        let all = tokio::spawn(futures::future::join_all(opened));
        // The acceptor is polled only now and then: between two streams, everybody else has many turns.
        let mut inbound = Vec::new();
        while inbound.len() < 100 {
            if let SwarmEvent::Behaviour(Event::Inbound { stream, .. }) = host.select_next_some().await {
                inbound.push(stream);
            }
            for _ in 0..50 {
                tokio::task::yield_now().await;
            }
        }
        let opened = tokio::spawn(async move {
            loop {
                host.select_next_some().await;
            }
        });
        let streams = all.await.expect("no panic");
        assert_eq!(streams.iter().filter(|opened| matches!(opened, Ok(Ok(_)))).count(), 100);
        opened.abort();
    })
    .await;
}

#[tokio::test]
async fn over_the_cap_streams_are_refused_typed_and_slots_come_back() {
    bounded(async {
        let config = Config { max_inbound_per_peer: 3, max_inbound: 4, ..roomy() };
        let mut host = Peer::start(config).await;
        let (first, second) = (Peer::start(roomy()).await, Peer::start(roomy()).await);
        let (mut held, mut refused, mut mine) = (Vec::new(), Vec::new(), Vec::new());
        for (caller, n) in [(&first, 5), (&second, 2)] {
            for _ in 0..n {
                mine.push(caller.open(&host).await.expect("an answer").expect("negotiated before it is refused"));
                loop {
                    match host.events.next().await.expect("runs") {
                        Happened::Inbound(stream) => held.push(stream),
                        Happened::Refused(reason) => refused.push(reason),
                        Happened::Connected => continue,
                    }
                    break;
                }
            }
        }
        assert_eq!(held.len(), 4);
        assert_eq!(refused, [Refusal::PeerFull, Refusal::PeerFull, Refusal::NodeFull]);
        assert_eq!(mine[4].read(&mut [0]).await.ok(), Some(0), "a refused stream is closed at once");
        held.clear();
        mine.push(first.open(&host).await.expect("an answer").expect("a stream"));
        loop {
            match host.events.next().await.expect("runs") {
                Happened::Inbound(_) => break,
                Happened::Refused(reason) => panic!("the slots did not come back: {reason:?}"),
                Happened::Connected => {}
            }
        }
    })
    .await;
}

#[tokio::test]
async fn opens_over_the_outbound_cap_wait_until_a_stream_ends() {
    bounded(async {
        let caller = Peer::start(Config { max_outbound_per_peer: 5, ..roomy() }).await;
        let host = Peer::start(roomy()).await;
        let mut opened: futures::stream::FuturesUnordered<_> = (0..50).map(|_| caller.open(&host)).collect();
        let mut live = std::collections::VecDeque::new();
        for n in 0..50 {
            if n >= 5 {
                assert!(futures::FutureExt::now_or_never(opened.next()).is_none(), "five live, none more");
                live.pop_front();
            }
            live.push_back(opened.next().await.expect("an open").expect("an answer").expect("a stream"));
        }
    })
    .await;
}

#[tokio::test]
async fn streams_that_are_opened_and_dropped_are_rate_limited() {
    bounded(async {
        let mut host = Peer::start(Config { max_resets_per_second: 4, ..roomy() }).await;
        let caller = Peer::start(roomy()).await;
        let (mut taken, mut refused) = (0, 0);
        for _ in 0..40 {
            drop(caller.open(&host).await);
            loop {
                match host.events.next().await.expect("runs") {
                    Happened::Inbound(stream) => {
                        taken += 1;
                        drop(stream);
                    }
                    Happened::Refused(reason) => {
                        assert_eq!(reason, Refusal::TooManyResets);
                        refused += 1;
                    }
                    Happened::Connected => continue,
                }
                break;
            }
        }
        assert!(refused > 0 && taken >= 4, "{taken} taken, {refused} refused");
    })
    .await;
}

#[tokio::test]
async fn every_failure_to_open_has_its_reason() {
    bounded(async {
        let config = Config { open_timeout: Duration::from_secs(5), ..roomy() };
        let caller = Peer::start(config).await;
        let host = Peer::start(roomy()).await;
        let stranger = PeerId::random();

        let refused = caller.open_at(stranger, Multiaddr::empty()).await.expect("an answer");
        assert!(matches!(refused, Err(OpenError::NoAddress)), "{refused:?}");

        let wrong = caller.open_at(stranger, host.address.clone()).await.expect("an answer");
        assert!(matches!(&wrong, Err(OpenError::WrongPeer(peer)) if *peer == host.id), "{wrong:?}");

        let myself = caller.open(&caller).await.expect("an answer");
        assert!(matches!(myself, Err(OpenError::Myself)), "{myself:?}");

        let closed = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = closed.local_addr().expect("a port").port();
        drop(closed);
        let address = format!("/ip4/127.0.0.1/tcp/{port}").parse().expect("an address");
        let nobody = caller.open_at(PeerId::random(), address).await.expect("an answer");
        assert!(matches!(&nobody, Err(OpenError::Unreachable(why)) if why.contains("refused")), "{nobody:?}");

        let key = Keypair::generate_ed25519();
        let runtime = Tokio::current().expect("inside of tokio");
        let transport = runtime.transport(&key, &TransportLimits::default()).expect("a transport");
        let tasks = runtime.clone();
        let mut deaf = Swarm::new(
            transport,
            swarm::dummy::Behaviour,
            key.public().to_peer_id(),
            swarm::Config::with_executor(move |task| tasks.spawn(task))
                .with_idle_connection_timeout(Duration::from_secs(60)),
        );
        deaf.listen_on("/ip4/127.0.0.1/tcp/0".parse().expect("an address")).expect("listening");
        let address = loop {
            if let SwarmEvent::NewListenAddr { address, .. } = deaf.select_next_some().await {
                break address;
            }
        };
        let deaf_id = *deaf.local_peer_id();
        let run = tokio::spawn(async move {
            loop {
                deaf.select_next_some().await;
            }
        });
        let unsupported = caller.open_at(deaf_id, address).await.expect("an answer");
        assert!(matches!(unsupported, Err(OpenError::Unsupported)), "{unsupported:?}");
        run.abort();
    })
    .await;
}

#[tokio::test]
async fn a_silent_address_times_out_and_waiting_opens_are_bounded() {
    bounded(async {
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address: Multiaddr =
            format!("/ip4/127.0.0.1/tcp/{}", silent.local_addr().expect("a port").port()).parse().expect("an address");
        let config = Config { open_timeout: Duration::from_millis(200), max_waiting_per_peer: 8, ..roomy() };
        let caller = Peer::start(config).await;
        let peer = PeerId::random();
        let opened: Vec<_> = (0..20).map(|_| caller.open_at(peer, address.clone())).collect();
        let opened = futures::future::join_all(opened).await;
        let count = |wanted: OpenError| {
            opened.iter().filter(|opened| matches!(opened, Ok(Err(error)) if *error == wanted)).count()
        };
        assert_eq!((count(OpenError::TimedOut), count(OpenError::Busy)), (8, 12));
    })
    .await;
}

async fn passes(from: &mut SessionStream, to: &mut SessionStream) {
    from.write_all(b"hello").await.expect("written");
    from.flush().await.expect("flushed");
    let mut bytes = [0; 5];
    to.read_exact(&mut bytes).await.expect("read");
    assert_eq!(&bytes, b"hello");
}

/// [T4]: what is too much is refused, and what runs on the same connection goes on.
#[tokio::test]
async fn two_hundred_streams_beside_one_that_is_at_work_cut_nothing() {
    async fn floods(runtime: impl Runtime) {
        const LISTEN: &str = "/ip4/127.0.0.1/tcp/0";
        let max_streams = TransportLimits::default().max_streams.get();
        let caller = Peer::run(swarm_on(runtime.clone(), roomy(), max_streams), LISTEN).await;
        let config = Config { max_resets_per_second: 100_000, ..Config::default() };
        let mut host = Peer::run(swarm_on(runtime.clone(), config, max_streams), LISTEN).await;
        let mut working = caller.open(&host).await.expect("an answer").expect("a stream");
        let mut at_work = loop {
            if let Happened::Inbound(stream) = host.events.next().await.expect("runs") {
                break stream;
            }
        };
        let flood = futures::future::join_all((0..200).map(|_| caller.open(&host))).await;
        let (mut taken, mut refused) = (Vec::new(), 0);
        while let Some(Some(happened)) = futures::FutureExt::now_or_never(host.events.next()) {
            match happened {
                Happened::Inbound(stream) => taken.push(stream),
                Happened::Refused(reason) => refused += usize::from(reason == Refusal::PeerFull),
                Happened::Connected => panic!("{runtime:?}: there is a second connection"),
            }
        }
        passes(&mut working, &mut at_work).await;
        passes(&mut at_work, &mut working).await;
        println!("{runtime:?}: {} taken, {refused} refused of {}", taken.len(), flood.len());
        assert!(taken.len() < 32 && refused > 0, "{runtime:?}: {} taken, {refused} refused", taken.len());
    }
    bounded(async {
        floods(Smol::global()).await;
        floods(AsyncStd).await;
        floods(Tokio::current().expect("inside of tokio")).await;
    })
    .await;
}
