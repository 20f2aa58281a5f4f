//! The loop of a driver in a swarm that is not ours.

use std::{collections::BTreeSet, time::Duration};

use futures::{FutureExt, StreamExt, select};
use haggle_core::machine::QueryOutcome;
use libp2p::{
    PeerId, Swarm,
    swarm::{NetworkBehaviour, SwarmEvent},
};

use super::{Driver, Order};
use crate::{sessions, timers::Delay};

/// Runs a driver on a swarm until its node is stopped; then the swarm's connections are closed. Providers are those that
/// [`Node::connect`](crate::Node::connect) made known.
///
/// `market` is where the sessions are in the swarm's behaviour. `theirs` is told what any part of it says, and gives back what
/// the sessions say.
pub async fn drive<B: NetworkBehaviour>(
    mut swarm: Swarm<B>,
    mut driver: Driver,
    market: impl Fn(&mut B) -> &mut sessions::Behaviour,
    mut theirs: impl FnMut(B::ToSwarm) -> Option<sessions::Event>,
) {
    swarm.listeners().cloned().for_each(|address| driver.on_listening(address));
    let mut known = BTreeSet::new();
    loop {
        while let Some(order) = driver.pump(market(swarm.behaviour_mut())) {
            obey(order, &mut known, market(swarm.behaviour_mut()), &mut driver);
        }
        if driver.is_over() {
            break;
        }
        select! {
            () = driver.next().fuse() => {}
            event = swarm.select_next_some() => match event {
                SwarmEvent::Behaviour(event) => {
                    if let Some(event) = theirs(event) {
                        driver.on_session(event);
                    }
                }
                SwarmEvent::ConnectionEstablished { peer_id, .. } => driver.on_connected(peer_id),
                SwarmEvent::ConnectionClosed { peer_id, num_established: 0, .. } => driver.on_gone(peer_id),
                SwarmEvent::NewListenAddr { address, .. } => driver.on_listening(address),
                SwarmEvent::ExpiredListenAddr { address, .. } => driver.on_not_listening(address),
                _ => {}
            },
        }
    }
    hang_up(&mut swarm).await;
    drop(swarm);
    driver.finish();
}

fn obey(order: Order, known: &mut BTreeSet<PeerId>, sessions: &mut sessions::Behaviour, driver: &mut Driver) {
    match order {
        Order::AddAddress(peer, address) => {
            if sessions.pin_address(peer, address) {
                known.insert(peer);
            } else {
                driver.on_failure("too_many_addresses", format!("no room for an address of {peer}"));
            }
        }
        Order::StartQuery { query, .. } => {
            let outcome = if known.is_empty() { QueryOutcome::NoSource } else { QueryOutcome::Complete };
            driver.peers_found(query, known.iter().copied());
            driver.query_done(query, outcome);
        }
        // Every search has ended when it began, and nothing is announced anywhere.
        Order::CancelQuery(_) | Order::Withdraw | Order::Announce(_) => {}
    }
}

/// A peer that does not take our last words has so long to change its mind.
const HANG_UP: Duration = Duration::from_secs(1);

/// Closes every connection: only then has all that was said left the machine.
pub(crate) async fn hang_up<B: NetworkBehaviour>(swarm: &mut Swarm<B>) {
    for peer in swarm.connected_peers().copied().collect::<Vec<_>>() {
        let _ = swarm.disconnect_peer_id(peer);
    }
    let mut patience = Delay::new(HANG_UP).fuse();
    while swarm.connected_peers().next().is_some() {
        select! {
            _ = swarm.select_next_some() => {}
            () = patience => return,
        }
    }
}
