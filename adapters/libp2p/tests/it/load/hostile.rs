//! Peers that send what they should not, and peers that open streams and drop them.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use futures::{AsyncReadExt, AsyncWriteExt, future::join_all};
use haggle::{Config, Limits, Node};

use super::{Memory, caps, play, size};
use crate::{alone, sessions::Peer, sessions::roomy, world::*};

/// So many strangers attack at once, with so many streams each.
const ATTACKERS: usize = 4;
const STREAMS: usize = 8;
/// Frames of one stream: the last of them ends it.
const FRAMES: usize = 100;

#[test]
fn honest_jobs_end_among_hostile_frames() {
    alone("load::hostile::honest_jobs_end_among_hostile_frames", || {
        let streams = size(100_000, 6_400) / FRAMES;
        // Five of eight frames, and more, make the provider tell of something.
        let told = (streams * FRAMES / 2) as u64;
        play(64, attacked("hostile frames", told, move |attacker, node| frames(attacker, node, streams)));
    });
}

#[test]
fn honest_jobs_end_in_storms_of_resets() {
    alone("load::hostile::honest_jobs_end_in_storms_of_resets", || {
        let storms = size(1_000, 40);
        play(64, attacked("storms of resets", 0, move |attacker, node| resets(attacker, node, storms)));
    });
}

/// A small provider, two honest requesters, and strangers who attack until they are done; the provider has told of so many
/// events by then.
async fn attacked<F, A>(load: &str, told: u64, attack: F)
where
    F: Fn(Arc<Peer>, Node) -> A,
    A: Future<Output = ()> + Send + 'static,
{
    let memory = Memory::now();
    let limits =
        Limits { jobs: 64, streams: 64, body_bytes: 1 << 20, node_bytes: 4 << 20, offers: 128, ..Limits::default() };
    let config = Config { enable_dht: false, slots: 16, queue: 48, limits, ..listening() };
    let provider = start(builder(config.clone()).sell(sale(Script::new(Does::Writes)))).await;
    let over = Arc::new(AtomicBool::new(false));
    let honest: Vec<_> = join_all([requester(&provider), requester(&provider)]).await;
    let honest = honest.into_iter().map(|node| tokio::spawn(work(node, over.clone())));
    let honest: Vec<_> = honest.collect();
    let mut attacks = Vec::new();
    for _ in 0..ATTACKERS {
        let attacker = Arc::new(Peer::start(roomy()).await);
        attacks.push(tokio::spawn(attack(attacker, provider.clone())));
    }
    for ended in join_all(attacks).await {
        ended.expect("no panic");
    }
    over.store(true, Ordering::SeqCst);
    let ended: usize = join_all(honest).await.into_iter().map(|ended| ended.expect("every honest job ends well")).sum();
    println!("{load}: {ended} honest jobs");
    until(|| metric(&provider, "haggle_streams_inbound") == 0 && provider.load().jobs == 0).await;
    let heard = metric(&provider, "haggle_events_total");
    assert!(heard >= told, "{heard} events: the provider has not read all that was sent");
    let strangers = ATTACKERS + 2;
    // The attackers' own memory counts, too.
    memory.check(load, [caps(&config, strangers, 64, 64), ATTACKERS as u64 * caps(&config, 1, 64, 0)]);
}

/// Has one answer after another written, until the attack is over; at least three. How many they were.
async fn work(node: Node, over: Arc<AtomicBool>) -> usize {
    let mut ended = 0;
    while ended < 3 || !over.load(Ordering::SeqCst) {
        let job = node.submit(spec("Hello", 100)).await.expect("taken");
        assert_eq!(job.answer().await.expect("answered").text, words(100));
        ended += 1;
    }
    ended
}

async fn frames(attacker: Arc<Peer>, node: Node, streams: usize) {
    let next = AtomicUsize::new(0);
    let one_after_another = async || {
        while let n @ 0.. = next.fetch_add(1, Ordering::SeqCst)
            && n < streams / ATTACKERS
        {
            let opened = attacker.open_at(node.peer_id(), node.listen_addresses()[0].clone()).await;
            let mut stream = opened.expect("an answer").expect("a stream");
            // It is thrown out with the last frame, and may not see what was answered before.
            let _ = stream.write_all(&hostile(n)).await;
            let _ = stream.close().await;
            let _ = stream.read_to_end(&mut Vec::new()).await;
        }
    };
    join_all((0..STREAMS).map(|_| one_after_another())).await;
    assert_eq!(metric(&node, "haggle_streams_refused_total"), 0, "every frame was read");
}

/// Frames that bring nothing forward, as many as a stream may carry, then one that no peer may send.
fn hostile(n: usize) -> Vec<u8> {
    let (idle, refused) = (payloads(IDLE), payloads(REFUSED));
    let idle = idle.iter().cycle().skip(n).take(FRAMES - 1);
    let frame = |payload: &Vec<u8>| [&(payload.len() as u16).to_be_bytes(), payload.as_slice()].concat();
    idle.chain([&refused[n % refused.len()]]).flat_map(frame).collect()
}

/// Describe, and Rfqs for a model that nobody serves.
const IDLE: &[&str] = &[
    include_str!("../../../../../core/tests/vectors/00-describe.txt"),
    include_str!("../../../../../core/tests/vectors/02-rfq.txt"),
    include_str!("../../../../../core/tests/vectors/06-release.txt"),
];
const REFUSED: &[&str] = &[include_str!("../../../../../core/tests/vectors/invalid.txt")];

/// The bytes at the beginning of each line.
fn payloads(files: &[&str]) -> Vec<Vec<u8>> {
    let lines = files.iter().flat_map(|file| file.lines()).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let hex = lines.map(|line| line.split('|').next().unwrap_or("").trim());
    let byte = |pair: &[u8]| std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok());
    hex.map(|hex| hex.as_bytes().chunks(2).map(|pair| byte(pair).expect("hex")).collect()).collect()
}

async fn resets(attacker: Arc<Peer>, node: Node, storms: usize) {
    for _ in 0..storms / ATTACKERS {
        let storm = (0..4 * STREAMS).map(|_| attacker.open_at(node.peer_id(), node.listen_addresses()[0].clone()));
        // Whatever is opened is dropped without a byte, and that is a reset.
        join_all(storm.map(async |opened| drop(opened.await))).await;
    }
    until(|| metric(&node, "haggle_streams_refused_total") > 0).await;
}
