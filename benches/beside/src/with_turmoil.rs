//! Hosts with UDP sockets in turmoil.

use std::{
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use turmoil::net::UdpSocket;

const PORT: u16 = 9000;

/// Passes so many messages; returns how many.
pub fn pass(nodes: u32, messages: u64) -> u64 {
    let mut sim = turmoil::Builder::new()
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(Duration::from_millis(10))
        .simulation_duration(Duration::from_secs(100_000))
        .build();
    let heard = Arc::new(AtomicU64::new(0));
    for node in 0..nodes {
        let heard = Arc::clone(&heard);
        sim.host(format!("node-{node}"), move || {
            let heard = Arc::clone(&heard);
            async move {
                let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, PORT)).await?;
                let next = format!("node-{}", (node + 1) % nodes);
                // Everybody listens before anybody speaks.
                tokio::time::sleep(Duration::from_millis(20)).await;
                socket.send_to(&[1; 16], (next.as_str(), PORT)).await?;
                let mut buffer = [0; 16];
                loop {
                    let (len, _) = socket.recv_from(&mut buffer).await?;
                    heard.fetch_add(1, Ordering::Relaxed);
                    socket.send_to(&buffer[..len], (next.as_str(), PORT)).await?;
                }
            }
        });
    }
    while heard.load(Ordering::Relaxed) < messages {
        if let Err(error) = sim.step() {
            eprintln!("turmoil: {error}");
            break;
        }
    }
    heard.load(Ordering::Relaxed)
}
