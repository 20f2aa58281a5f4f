//! What machines say: orders are carried out, events go to those who watch and to applications.

use haggle_core::{Event, ProviderEvent, StreamId};

use super::{
    Happening, Lane, Told, World,
    node::{Order, Said},
    record,
    recovery::{Urgency, told_again, urgency},
};
use crate::{
    net::Role,
    node::{NodeId, peer_id},
};

impl World {
    /// Carries out at most `max` outputs; says how many there were.
    pub(super) fn drain_some(&mut self, node: u32, role: Role, max: u32) -> u32 {
        let mut done = 0;
        while done < max && self.drain_one(node, role) {
            done += 1;
        }
        done
    }

    fn drain_one(&mut self, node: u32, role: Role) -> bool {
        let place = &mut self.nodes[node as usize];
        let stores = self.config.stores || place.disk.is_some();
        let Some(side) = place.side_mut(role) else { return false };
        match side.machine.says(&mut self.net.spare) {
            None => return false,
            Some(Said::Order(order)) => self.obey(node, role, order),
            Some(Said::Served(event)) => self.provider_tells(node, event),
            Some(Said::Event(event)) => {
                self.trace.record(self.now, node, node, record::EVENT, event.name().as_bytes());
                if let Some(log) = &mut self.log {
                    log.event(self.now, node, &event);
                }
                self.apps.hear(NodeId(node), || Told::event(&event));
                let urgency = if stores { urgency(&event) } else { Urgency::None };
                // An application that has stored how a job ended takes no notice when it is told again.
                let due = if told_again(&mut self.judge, &self.apps.jobs, &event) {
                    None
                } else {
                    self.judge.event(node, &event);
                    self.apps.note(stores, self.now, &event)
                };
                let ended = if let Event::Ended { job, .. } = event { Some((job, self.now + 1)) } else { None };
                for (job, at) in due.into_iter().chain(ended.filter(|_| stores)) {
                    self.push(at, Lane::told(node), Happening::App { job });
                }
                self.store_if(node, urgency);
            }
        }
        true
    }

    fn provider_tells(&mut self, node: u32, event: ProviderEvent) {
        self.trace.record(self.now, node, node, record::EVENT, &[]);
        if let Some(log) = &mut self.log {
            log.provider_event(self.now, node, &event);
        }
        self.apps.hear(NodeId(node), || Told::served(&event));
        let is_urgent = matches!(event, ProviderEvent::Start { .. } | ProviderEvent::Served { .. });
        self.provider_event(node, event);
        if is_urgent {
            self.store(node);
        }
    }

    fn obey(&mut self, node: u32, role: Role, order: Order) {
        match order {
            Order::Open(stream, peer) => self.open(node, role, stream, peer),
            Order::Transmit(stream, bytes) => {
                self.trace.record(self.now, node, node, record::TRANSMIT, &bytes);
                self.counts.frames += frames(&bytes);
                self.transmit(node, role, stream, bytes);
            }
            Order::Close(stream) => {
                self.trace.record(self.now, node, node, record::ORDER, &[1]);
                self.close(node, role, stream, false);
            }
            Order::Reset(stream) => {
                self.trace.record(self.now, node, node, record::ORDER, &[2]);
                self.judge_reset(node, role, stream);
                self.close(node, role, stream, true);
            }
            Order::StartQuery(query, model) => self.start_query(node, query, &model),
            Order::CancelQuery(query) => {
                self.trace.record(self.now, node, node, record::ORDER, &[3]);
                self.dht.live.remove(&(node, query));
            }
        }
    }

    fn judge_reset(&mut self, node: u32, role: Role, stream: StreamId) {
        let Some(conn) = self.nodes[node as usize].conn_of(role, stream).filter(|_| role == Role::Provider) else {
            return;
        };
        let other = self.net.conns.get(conn).map(|record| record.ends[0].role);
        self.judge.provider_resets(conn, peer_id(node), other == Some(Role::Requester));
    }
}

/// How many frames some bytes are.
fn frames(mut bytes: &[u8]) -> u64 {
    let mut count = 0;
    while let [high, low, rest @ ..] = bytes {
        count += 1;
        bytes = rest.get(usize::from(u16::from_be_bytes([*high, *low]))..).unwrap_or_default();
    }
    count
}
