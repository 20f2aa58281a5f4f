//! Slots of inbound streams, given back when the stream is dropped, wherever that happens.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

/// How many inbound streams live, and how many ended without a byte since somebody looked.
#[derive(Debug, Default)]
pub(super) struct Gate {
    live: AtomicU32,
    fruitless: AtomicU32,
}

impl Gate {
    pub(super) fn live(&self) -> u32 {
        self.live.load(Ordering::Relaxed)
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
