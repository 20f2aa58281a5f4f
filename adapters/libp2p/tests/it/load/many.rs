//! Many streams on one connection, many connections to one node.

use std::{sync::atomic::Ordering, time::Duration};

use futures::future::join_all;
use haggle::{
    Config, Error, Job, JobError, Limits, Node,
    core::event::{Failure, Interrupted, PassedOver},
};

use super::{Memory, caps, play, size};
use crate::{alone, world::*};

const TOKENS: u64 = 50;
/// Connections that are made at once.
const WAVE: usize = 25;

#[test]
fn many_streams_share_one_connection() {
    let n = size(1_000, 100);
    let limits = Limits { streams_per_peer: n as u32, streams: n as u32, ..Limits::default() };
    alone("load::many::many_streams_share_one_connection", || play(16, streams(n, limits)));
}

#[test]
fn at_the_defaults_the_next_stream_is_refused() {
    alone("load::many::at_the_defaults_the_next_stream_is_refused", || play(16, streams(32, Limits::default())));
}

#[test]
fn many_connections_lead_to_one_node() {
    let n = size(500, 30);
    alone("load::many::many_connections_lead_to_one_node", || play(3 * n, connections(n)));
}

async fn submit(node: &Node) -> Job {
    node.submit(spec("Hello", TOKENS)).await.expect("taken")
}

/// As many jobs at once as the seller takes streams of one peer, and one more.
async fn streams(n: usize, limits: Limits) {
    let memory = Memory::now();
    let many = 2 * n as u32;
    let limits = Limits { jobs: many, jobs_per_peer: many, ..limits };
    let (seller, buyer) = (
        Config { enable_dht: false, slots: many, limits: limits.clone(), ..listening() },
        Config { enable_dht: false, max_streams_to_peer: many, limits, ..local() },
    );
    let engine = Script::held_back();
    let provider = start(builder(seller.clone()).sell(sale(engine.clone()))).await;
    let requester = start(builder(Config { providers: vec![address(&provider)], ..buyer.clone() })).await;
    let jobs: Vec<_> = join_all((0..n).map(|_| submit(&requester))).await;
    until(|| engine.live.load(Ordering::SeqCst) == n).await;
    assert_eq!(metric(&provider, "haggle_streams_inbound"), n as u64);
    assert_eq!(metric(&provider, "haggle_peers_connected"), 1);
    memory.check("streams that wait", [caps(&seller, 1, n, n), caps(&buyer, 1, n, n)]);

    let one_more = submit(&requester).await.answer().await;
    let lost = Failure::Declined(PassedOver::Interrupted(Interrupted::Lost));
    assert!(matches!(&one_more, Err(Error::Job(JobError { failure, .. })) if *failure == lost), "{one_more:?}");
    assert!(
        provider.metrics().contains("haggle_streams_refused_total{reason=\"peer_full\"}"),
        "{}",
        provider.metrics()
    );

    engine.gate.store(true, Ordering::SeqCst);
    for answer in join_all(jobs.into_iter().map(Job::answer)).await {
        assert_eq!(answer.expect("answered").text, words(TOKENS));
    }
    memory.check("streams", [caps(&seller, 1, n, n), caps(&buyer, 1, n, n)]);
}

async fn connections(n: usize) {
    let memory = Memory::now();
    let many = n as u32;
    let seller = Config {
        enable_dht: false,
        slots: 2 * many,
        max_connections: many,
        max_pending_connections: many,
        limits: Limits { streams: 2 * many, ..Limits::default() },
        ..listening()
    };
    let engine = Script::held_back();
    let provider = start(builder(seller.clone()).sell(sale(engine.clone()))).await;
    let buyer = Config {
        enable_dht: false,
        dial_timeout: Duration::from_secs(30),
        providers: vec![address(&provider)],
        ..local()
    };
    let (mut requesters, mut jobs) = (Vec::new(), Vec::new());
    // Handshakes cost a processor's time, and those that wait for it time out: only so many at once.
    while jobs.len() < n {
        let wave = join_all((0..WAVE.min(n - jobs.len())).map(|_| start(builder(buyer.clone())))).await;
        jobs.extend(join_all(wave.iter().map(submit)).await);
        requesters.extend(wave);
        until(|| engine.live.load(Ordering::SeqCst) == jobs.len()).await;
    }
    assert_eq!(metric(&provider, "haggle_peers_connected"), n as u64);

    let late = start(builder(buyer.clone())).await;
    let one_more = submit(&late).await.answer().await;
    let refused = |error: &JobError| matches!(error.failure, Failure::NobodyFound { .. });
    assert!(matches!(&one_more, Err(Error::Job(error)) if refused(error)), "{one_more:?}");

    engine.gate.store(true, Ordering::SeqCst);
    for answer in join_all(jobs.into_iter().map(Job::answer)).await {
        assert_eq!(answer.expect("answered").text, words(TOKENS));
    }
    // Each of the others has one connection and one stream, and none of them a cap that matters.
    let others = n as u64 * caps(&Config { limits: Limits { node_bytes: 0, ..Limits::default() }, ..local() }, 1, 1, 1);
    memory.check("connections", [caps(&seller, n, n, n), others]);
}
