//! What is in the queue, and what becomes of it.

use haggle_core::{
    AttemptId, Input, JobId, JobSpec, PeerId, QueryId, StreamId,
    machine::{QueryOutcome, StreamFailure},
};

use super::{Lane, World};
use crate::{net::Role, schedule::FaultKind, script::Heard};

/// What is in the queue.
#[derive(Clone)]
pub(super) enum Happening {
    Timer { node: u32, role: Role, generation: u64 },
    Drain { node: u32, role: Role },
    Dial { conn: u64 },
    Dialled { conn: u64, result: Result<(), StreamFailure> },
    Pump { conn: u64, from: usize },
    Severed { conn: u64, end: usize },
    Echo { node: u32, life: u32, role: Role, id: StreamId },
    Found { node: u32, life: u32, query: QueryId, peers: Vec<PeerId> },
    QueryDone { node: u32, life: u32, query: QueryId, outcome: QueryOutcome },
    Engine { node: u32, life: u32, attempt: AttemptId },
    App { job: JobId },
    Wake { node: u32, life: u32, conn: u64 },
    Start { node: u32, life: u32 },
    Return { node: u32, life: u32 },
    Fault(FaultKind),
    Submit { nth: usize, node: u32, spec: Box<JobSpec> },
}

impl World {
    pub(super) fn happen(&mut self, lane: Lane, happening: Happening) {
        match happening {
            Happening::Timer { node, role, .. } => self.input_timeout(node, role),
            Happening::Drain { node, role } => self.late_drain(node, role),
            Happening::Dial { conn } => self.dial_arrives(lane, conn),
            Happening::Dialled { conn, result } => self.dialled(conn, result),
            Happening::Pump { conn, from } => self.pump(lane, conn, from),
            Happening::Severed { conn, end } => self.end_closes(conn, end, true),
            Happening::Echo { node, life, role, id } => {
                if self.nodes[node as usize].lives(life) {
                    self.input(node, role, Input::StreamClosed(id));
                }
            }
            Happening::Found { node, life, query, peers } => {
                if self.nodes[node as usize].lives(life) && self.dht.live.contains(&(node, query)) {
                    self.input(node, Role::Requester, Input::PeersFound(query, &peers));
                }
            }
            Happening::QueryDone { node, life, query, outcome } => {
                if self.nodes[node as usize].lives(life) && self.dht.live.remove(&(node, query)) {
                    self.input(node, Role::Requester, Input::QueryDone(query, outcome));
                }
            }
            Happening::Engine { node, life, attempt } => {
                if self.nodes[node as usize].lives(life) {
                    self.engine_step(node, attempt);
                }
            }
            Happening::App { job } => self.app_step(job),
            Happening::Wake { node, life, conn } => {
                if self.nodes[node as usize].lives(life) {
                    self.hear(node, conn, Heard::Woken);
                }
            }
            Happening::Start { node, life } => {
                if self.nodes[node as usize].lives(life) {
                    self.hear(node, 0, Heard::Start);
                }
            }
            Happening::Return { node, life } => self.come_back(node, life),
            Happening::Fault(fault) => self.fault(fault),
            Happening::Submit { nth, node, spec } => {
                // A refusal is an answer; the number stays without a job.
                if self.nodes[node as usize].alive {
                    let _refusal = self.submit_nth(nth, node, *spec);
                }
            }
        }
    }
}
