//! An application that takes nothing of its answer stalls that answer, and nothing else.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::{StreamExt, future::join_all};
use haggle::{
    Config, Driver, Job, JobEvent, Limits, Node, Sale,
    driver::{Parts, drive},
    libp2p::{Swarm, identity::Keypair, ping, swarm},
    runtime::Runtime,
    sessions,
};

use crate::{alone, bounded, load::Memory, world::*};

#[derive(swarm::NetworkBehaviour)]
#[behaviour(prelude = "haggle::libp2p::swarm::derive_prelude")]
struct Pinging {
    market: sessions::Behaviour,
    ping: ping::Behaviour,
}

/// A node in a swarm that pings whoever is connected, and how many answers it had.
async fn pinging(config: Config, sales: &[Sale]) -> (Node, Arc<AtomicUsize>) {
    let (runtime, key) = (runtime(), Keypair::generate_ed25519());
    let (me, tasks) = (key.public().to_peer_id(), runtime.clone());
    let ping = ping::Behaviour::new(ping::Config::new().with_interval(Duration::from_millis(5)));
    let behaviour = Pinging { market: sessions::Behaviour::new(me, sessions::Config::default()), ping };
    let transport = runtime.transport(&key, &Default::default()).expect("a transport");
    let executor = swarm::Config::with_executor(move |task| tasks.spawn(task));
    let mut swarm = Swarm::new(transport, behaviour, me, executor);
    swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse().expect("an address")).expect("listening");
    let parts = Parts::new(me, &runtime).sell(&config, sales).expect("it can be sold");
    let (driver, node) = Driver::new(parts).expect("a driver");
    let answered = Arc::new(AtomicUsize::new(0));
    let count = answered.clone();
    let theirs = move |event| match event {
        PingingEvent::Market(event) => Some(event),
        PingingEvent::Ping(ping) => {
            count.fetch_add(ping.result.is_ok().into(), Ordering::SeqCst);
            None
        }
    };
    runtime.spawn(Box::pin(drive(swarm, driver, |mine: &mut Pinging| &mut mine.market, theirs)));
    until(|| !node.listen_addresses().is_empty()).await;
    (node, answered)
}

#[test]
fn a_slow_application_stalls_its_own_job_only() {
    alone("slow::a_slow_application_stalls_its_own_job_only", || {
        tokio::runtime::Runtime::new().expect("threads").block_on(bounded(slow()));
    });
}

async fn slow() {
    const LONG: u64 = 30_000;
    let engine = Script::new(Does::Writes);
    let config = Config { slots: 16, ..Config::default() };
    let (seller, heard) = pinging(config, &[sale(engine.clone())]).await;
    let (buyer, answered) = pinging(Config::default(), &[]).await;
    buyer.connect(&address(&seller)).await.expect("an address");

    // Nobody reads this one. It stops where its window ends, but for what is between the engine and the core.
    let unread = buyer.submit(spec("Hello", LONG)).await.expect("taken");
    let window = Limits::default().window_tokens as usize;
    let ahead = window + 32;
    until(|| engine.written.load(Ordering::SeqCst) == ahead).await;

    let memory = Memory::now();
    let (heard_before, answered_before) = (heard.load(Ordering::SeqCst), answered.load(Ordering::SeqCst));
    let others = join_all((0..10).map(|_| buyer.submit(spec("Hello", 500)))).await;
    for answer in join_all(others.into_iter().map(|job| job.expect("taken").answer())).await {
        assert_eq!(answer.expect("answered").text, words(500));
    }
    // Both sides answer each other's pings all the while.
    until(|| heard.load(Ordering::SeqCst) >= heard_before + 20).await;
    until(|| answered.load(Ordering::SeqCst) >= answered_before + 20).await;
    assert_eq!(engine.written.load(Ordering::SeqCst), ahead + 10 * 500, "of the unread answer nothing more");
    let (risen, cap) = (memory.risen(), 2 * 10 * u64::from(Limits::default().window_bytes));
    println!("beside the unread answer: {} KiB of {} KiB", risen >> 10, cap >> 10);
    assert!(risen <= cap, "{risen} bytes more, beside an answer that nobody reads");

    assert_eq!(read(unread).await, words(LONG), "it was all there");
    seller.stop().await;
    buyer.stop().await;
}

async fn read(job: Job) -> String {
    let text = async |event| match event {
        Ok(JobEvent::Tokens { text, .. }) => Some(text),
        _ => None,
    };
    job.filter_map(text).collect().await
}
