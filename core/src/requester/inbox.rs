//! What comes in: time, bytes and losses, and whose they are.

use crate::{
    event::{PassedOver, Violation},
    id::{JobId, StreamId},
    machine::{StreamFailure, next_message},
    wire::Message,
};

use super::{Key, Requester, Role, Stream, job::Phase};

impl Requester {
    pub(super) fn on_timeout(&mut self) {
        for key in self.deadlines.take_due(self.now) {
            match key {
                Key::Job(id) => {
                    self.on_job_timeout(id);
                    self.index(id);
                }
                Key::Query(query) => self.on_query_timeout(query),
                Key::Describe(peer) => self.on_describe_timeout(peer),
                Key::Farewell(job, attempt) => self.on_farewell_timeout(job, attempt),
            }
        }
    }

    fn on_job_timeout(&mut self, id: JobId) {
        let Some(job) = self.jobs.get(&id) else { return };
        let due = job.timeout();
        if due.at > self.now {
            return;
        }
        match &job.phase {
            // First: whatever else is due at the same moment comes too late.
            _ if job.until <= self.now => self.on_job_deadline(id),
            Phase::Searching { .. } => self.advance_search(id),
            Phase::Asking { .. } => self.on_offer_window(id),
            Phase::Choosing => self.choose(id),
            Phase::Waiting { .. } => self.retry(id),
            Phase::Awarded(_) => self.on_attempt_timeout(id),
        }
    }

    pub(super) fn on_received(&mut self, stream: StreamId, mut bytes: &[u8]) {
        let Some(state) = self.streams.get_mut(&stream) else { return };
        let mut deframer = core::mem::take(&mut state.deframer);
        let broken = loop {
            // A handler may have ended the stream: what follows on it is not read.
            let Some(role) = self.streams.get(&stream).map(|state| state.role) else { return };
            match next_message(&mut deframer, &mut bytes) {
                Ok(None) => break None,
                Ok(Some((_, message))) => {
                    if let Err(violation) = self.on_message(stream, role, message) {
                        break Some(violation);
                    }
                }
                Err(violation) => break Some(violation),
            }
        };
        match broken {
            Some(violation) => self.on_violation(stream, violation),
            None => {
                if let Some(state) = self.streams.get_mut(&stream) {
                    state.deframer = deframer;
                }
            }
        }
    }

    fn on_message(&mut self, stream: StreamId, role: Role, message: Message<'_>) -> Result<(), Violation> {
        match role {
            Role::Describe => self.on_describe_message(stream, message),
            Role::Job(id) => {
                let result = self.on_job_message(id, stream, message);
                self.index(id);
                result
            }
            Role::Farewell(job, attempt) => self.on_farewell_message((job, attempt), stream, &message),
        }
    }

    fn on_violation(&mut self, stream: StreamId, violation: Violation) {
        let Some(Stream { peer, role, .. }) = self.streams.get(&stream).cloned() else { return };
        self.reset_stream(stream);
        self.peers.violation(self.now, peer, violation.severity());
        match role {
            Role::Describe => self.settle_describe(peer, None),
            Role::Job(id) => {
                self.on_job_violation(id, peer, violation);
                self.index(id);
            }
            Role::Farewell(job, attempt) => self.end_farewell((job, attempt)),
        }
    }

    /// A stream is over without a word.
    pub(super) fn on_stream_lost(&mut self, stream: StreamId, why: PassedOver) {
        self.outbox.forget(stream);
        let Some(Stream { peer, role, .. }) = self.streams.remove(&stream) else { return };
        match role {
            Role::Describe => {
                let failure = match why {
                    PassedOver::Stream(failure) => failure,
                    _ => StreamFailure::Unreachable,
                };
                self.settle_describe(peer, Some(failure));
            }
            Role::Job(id) => {
                self.on_job_stream_lost(id, peer, why);
                self.index(id);
            }
            Role::Farewell(job, attempt) => self.on_farewell_lost((job, attempt)),
        }
    }
}
