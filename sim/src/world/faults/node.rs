//! Nodes that die and start anew, and engines that break.

use super::World;
use crate::{
    engine::Trouble,
    net::{DIAL_TIMEOUT, EndState},
    queue::Lane,
    world::happen::Happening,
};

impl World {
    pub(super) fn trouble(&mut self, node: u32, trouble: Option<(u64, Trouble)>) {
        if let Some(config) = &mut self.nodes[node as usize].provider_config {
            config.engine.trouble = trouble;
        }
    }

    pub(super) fn kill(&mut self, node: u32, seen_after: Option<u64>) {
        let place = &mut self.nodes[node as usize];
        let was_away = std::mem::take(&mut place.crashed);
        if !place.alive && !was_away {
            return;
        }
        if !was_away {
            self.fall(node, seen_after);
        }
        self.judge.died(node);
        for job in self.apps.jobs.values_mut().filter(|job| job.node.0 == node && job.ending.is_none()) {
            job.orphaned = true;
        }
    }

    /// A process is gone, with its machines and its ends of streams.
    pub(in crate::world) fn fall(&mut self, node: u32, seen_after: Option<u64>) {
        let place = &mut self.nodes[node as usize];
        place.alive = false;
        place.runs.clear();
        place.requester = None;
        place.provider = None;
        for conn in place.conns.clone() {
            let Some(record) = self.net.conns.get(conn) else { continue };
            let own = usize::from(record.ends[0].node != node);
            let mut seen = [None, None];
            seen[1 - own] = seen_after;
            self.sever(conn, seen);
            // A dial to a dead node that nobody hears of hangs until the dialler gives up.
            let dialling = self.net.conns.get(conn).is_some_and(|record| record.ends[0].state == EndState::Dialling);
            self.set_closed(conn, own);
            if dialling && own == 1 && seen_after.is_none() {
                self.sever(conn, [Some(DIAL_TIMEOUT), None]);
            }
        }
        self.net.connected.retain(|(a, _)| *a != node);
        self.dht.live.retain(|(owner, _)| *owner != node);
    }

    pub(in crate::world) fn restart(&mut self, node: u32) {
        self.kill(node, Some(1));
        self.nodes[node as usize].life += 1;
        self.boot(node);
        if self.nodes[node as usize].script.is_some() {
            let life = self.nodes[node as usize].life;
            self.push(self.now, Lane::start(node), Happening::Start { node, life });
        }
    }
}
