//! Connections that end, fall silent, or lead to somebody else.

use std::time::Duration;

use futures::{AsyncReadExt, AsyncWriteExt, StreamExt, channel::oneshot};
use haggle::{
    AsyncStd, Smol,
    libp2p::{Multiaddr, multiaddr::Protocol, swarm::SwarmEvent},
    runtime::{Runtime, Tokio},
    sessions::{Config, Event, OpenError},
};

use super::{Happened, Peer, roomy, swarm_on};
use crate::bounded;

#[tokio::test]
async fn a_lost_connection_answers_and_the_next_open_dials_again() {
    bounded(async {
        let caller = Peer::start(roomy()).await;
        let mut host = Peer::listening(roomy(), 512, "/ip4/127.0.0.1/tcp/0/ws").await;
        let mut stream = caller.open(&host).await.expect("an answer").expect("a stream");
        let mut inbound = loop {
            if let Happened::Inbound(stream) = host.events.next().await.expect("runs") {
                break stream;
            }
        };
        stream.write_all(b"hello").await.expect("written");
        stream.flush().await.expect("flushed");
        let mut bytes = [0; 5];
        inbound.read_exact(&mut bytes).await.expect("read");
        assert_eq!(&bytes, b"hello");
        host.task.abort();
        drop(host);
        assert!(matches!(stream.read(&mut [0]).await, Ok(0) | Err(_)), "the stream ends with the connection");
        let other = Peer::start(roomy()).await;
        caller.open(&other).await.expect("an answer").expect("another peer is not concerned");
    })
    .await;
}

#[tokio::test]
async fn whoever_hangs_up_hears_the_end_of_its_streams_too() {
    bounded(async {
        let caller = Peer::start(roomy()).await;
        let mut host = Peer::start(roomy()).await;
        let mut stream = caller.open(&host).await.expect("an answer").expect("a stream");
        stream.write_all(b"hello").await.expect("written");
        stream.flush().await.expect("flushed");
        let mut inbound = loop {
            if let Happened::Inbound(stream) = host.events.next().await.expect("runs") {
                break stream;
            }
        };
        inbound.write_all(b"hello").await.expect("written");
        inbound.flush().await.expect("flushed");
        let mut bytes = [0; 5];
        stream.read_exact(&mut bytes).await.expect("read");
        // In a task of its own: nothing wakes it but what is tested.
        let (sleeps, asleep) = oneshot::channel();
        let read = tokio::spawn(async move {
            let mut last = [0];
            let mut read = stream.read(&mut last);
            assert!(futures::poll!(&mut read).is_pending());
            let _ = sleeps.send(());
            read.await
        });
        asleep.await.expect("nothing came");
        caller.hang_ups.unbounded_send(host.id).expect("runs");
        assert!(matches!(read.await.expect("no panic"), Ok(0) | Err(_)));
    })
    .await;
}

#[tokio::test]
async fn a_connection_that_fell_silent_is_replaced_by_another() {
    bounded(async {
        let caller = Peer::start(Config { open_timeout: Duration::from_secs(1), ..roomy() }).await;
        let mut host = Peer::start(roomy()).await;
        let port = |part| if let Protocol::Tcp(port) = part { Some(port) } else { None };
        let (address, silence) = relay_to(host.address.iter().find_map(port).expect("a port")).await;
        let _stream = caller.open_at(host.id, address).await.expect("an answer").expect("a stream");
        silence.send(()).expect("the relay runs");
        let again = || caller.open_at(host.id, Multiaddr::empty());
        let silent = again().await.expect("an answer");
        assert!(matches!(silent, Err(OpenError::TimedOut)), "{silent:?}");
        again().await.expect("an answer").expect("a stream on another connection");
        let mut connections = 0;
        while let Some(Some(happened)) = futures::FutureExt::now_or_never(host.events.next()) {
            connections += usize::from(matches!(happened, Happened::Connected));
        }
        assert_eq!(connections, 2);
    })
    .await;
}

/// Somebody else's, nobody's and unreachable addresses beside the right one.
#[tokio::test]
async fn one_right_address_among_seven_wrong_ones_is_enough() {
    async fn reaches(runtime: impl Runtime) {
        const LISTEN: &str = "/ip4/127.0.0.1/tcp/0";
        let host = Peer::run(swarm_on(runtime.clone(), roomy(), 512), LISTEN).await;
        let others = [0; 3].map(|_| Peer::run(swarm_on(runtime.clone(), roomy(), 512), LISTEN));
        let others = futures::future::join_all(others).await;
        let dead =
            std::net::TcpListener::bind("127.0.0.1:0").and_then(|dead| dead.local_addr()).expect("a port").port();
        let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let silent_port = silent.local_addr().expect("a port").port();
        let more = [
            format!("/ip4/127.0.0.1/tcp/{dead}"),
            "/ip4/255.255.255.255/tcp/9".into(),
            "/dns4/nowhere.invalid/tcp/9".into(),
            format!("/ip4/127.0.0.1/tcp/{silent_port}"),
        ];
        let wrong = others.iter().map(|other| other.address.clone());
        let wrong = wrong.chain(more.iter().map(|text| text.parse().expect("an address")));
        let mut addresses: Vec<Multiaddr> = wrong.chain([host.address.clone()]).collect();
        assert_eq!(addresses.len(), 8);
        for round in 0..24 {
            let mut caller = swarm_on(runtime.clone(), roomy(), 512);
            addresses.rotate_left(1);
            addresses.iter().for_each(|address| caller.add_peer_address(host.id, address.clone()));
            caller.behaviour_mut().open(host.id).expect("taken");
            loop {
                match caller.select_next_some().await {
                    SwarmEvent::Behaviour(Event::Opened { .. }) => break,
                    SwarmEvent::Behaviour(Event::OpenFailed { error, .. }) => panic!("{runtime:?} {round}: {error}"),
                    _ => {}
                }
            }
        }
    }
    bounded(async {
        reaches(Smol::global()).await;
        reaches(AsyncStd).await;
        reaches(Tokio::current().expect("inside of tokio")).await;
    })
    .await;
}

/// Passes connections on to a port. The first of them falls silent when that is said: it stays open, and nothing passes.
async fn relay_to(port: u16) -> (Multiaddr, oneshot::Sender<()>) {
    use tokio::{io::copy_bidirectional, net::TcpListener, net::TcpStream};
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let at = format!("/ip4/127.0.0.1/tcp/{}", listener.local_addr().expect("a port").port());
    let (silence, silenced) = oneshot::channel::<()>();
    let mut silenced = Some(silenced);
    tokio::spawn(async move {
        while let Ok((mut from, _)) = listener.accept().await {
            let mut to = TcpStream::connect(("127.0.0.1", port)).await.expect("the target listens");
            let silenced = silenced.take();
            tokio::spawn(async move {
                let silent = async {
                    match silenced {
                        Some(silenced) => drop(silenced.await),
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    _ = copy_bidirectional(&mut from, &mut to) => {}
                    () = silent => std::future::pending().await,
                }
            });
        }
    });
    (at.parse().expect("an address"), silence)
}
