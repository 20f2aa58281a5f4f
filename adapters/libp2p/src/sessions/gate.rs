//! Slots of streams, given back when the stream is dropped, wherever that happens.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use futures::task::AtomicWaker;

/// How many streams live, and how many inbound ones ended without a byte since somebody looked.
#[derive(Debug, Default)]
pub(super) struct Gate {
    live: AtomicU32,
    fruitless: AtomicU32,
    outbound: AtomicU32,
    /// Of the behaviour: an outbound stream has made room for the next.
    freed: AtomicWaker,
}

impl Gate {
    pub(super) fn live(&self) -> u32 {
        self.live.load(Ordering::Relaxed)
    }

    pub(super) fn outbound(&self) -> u32 {
        self.outbound.load(Ordering::Relaxed)
    }

    pub(super) fn freed(&self) -> &AtomicWaker {
        &self.freed
    }

    pub(super) fn take_fruitless(&self) -> u32 {
        self.fruitless.swap(0, Ordering::Relaxed)
    }
}

/// One inbound stream's place at its peer's gate and at the node's.
#[derive(Debug)]
pub(super) struct Slot {
    peer: Arc<Gate>,
    node: Arc<Gate>,
    fruitful: bool,
}

impl Slot {
    /// Only the behaviour takes slots, one at a time, after it looked at `live`: there is no race to lose.
    pub(super) fn take(peer: &Arc<Gate>, node: &Arc<Gate>) -> Self {
        peer.live.fetch_add(1, Ordering::Relaxed);
        node.live.fetch_add(1, Ordering::Relaxed);
        Slot { peer: peer.clone(), node: node.clone(), fruitful: false }
    }

    pub(super) fn bore_fruit(&mut self) {
        self.fruitful = true;
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.peer.live.fetch_sub(1, Ordering::Relaxed);
        self.node.live.fetch_sub(1, Ordering::Relaxed);
        if !self.fruitful {
            self.peer.fruitless.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// One outbound stream's place among those to its peer.
#[derive(Debug)]
pub(super) struct OutboundSlot {
    peer: Arc<Gate>,
    node: Arc<Gate>,
}

impl OutboundSlot {
    pub(super) fn take(peer: &Arc<Gate>, node: &Arc<Gate>) -> Self {
        peer.outbound.fetch_add(1, Ordering::Relaxed);
        OutboundSlot { peer: peer.clone(), node: node.clone() }
    }
}

impl Drop for OutboundSlot {
    fn drop(&mut self) {
        self.peer.outbound.fetch_sub(1, Ordering::Relaxed);
        self.node.freed.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_come_back_and_tell_unused_streams() {
        let (peer, node) = (Arc::new(Gate::default()), Arc::new(Gate::default()));
        let unused = Slot::take(&peer, &node);
        let mut used = Slot::take(&peer, &node);
        used.bore_fruit();
        assert_eq!((peer.live(), node.live()), (2, 2));
        drop((unused, used));
        assert_eq!((peer.live(), node.live()), (0, 0));
        assert_eq!((peer.take_fruitless(), peer.take_fruitless()), (1, 0));
    }
}
