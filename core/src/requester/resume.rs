//! After a cut: the same provider first, at the exact token. Rule F1.

use alloc::vec::Vec;

use crate::{
    backoff,
    event::{Event, Interrupted, Violation},
    id::{JobId, PeerId},
    wire::Message,
};

use super::{
    Requester, Role,
    attempt::Link,
    job::{Job, Phase},
};

/// Resumes in a row that bring no token; then the provider is given up.
const TRIES: u32 = 3;

impl Requester {
    /// The attempt's stream is lost. The first resume goes out at once, further ones after a pause.
    pub(super) fn on_cut(&mut self, id: JobId) {
        let others = self.knows_others(id);
        let grace = if others { self.policy.resume_grace } else { self.policy.detached_ttl };
        let Some(Job { phase: Phase::Awarded(attempt), until, .. }) = self.jobs.get_mut(&id) else { return };
        attempt.cut(self.now, grace);
        let (cuts, number, peer) = (attempt.cuts, attempt.number, attempt.peer);
        if cuts > TRIES {
            return self.on_broken(id, Interrupted::Lost);
        }
        let until = self.now.after(grace).min(*until);
        self.tell(Event::Cut { job: id, attempt: number, peer, patience: until.since(self.now) });
        if cuts == 1 { self.resume(id) } else { self.resume_later(id, cuts - 2) }
    }

    /// The provider could not be dialled: that tells nothing of the job, and is tried again as long as the grace lasts.
    pub(super) fn on_resume_not_sent(&mut self, id: JobId) {
        let Some(Job { phase: Phase::Awarded(attempt), .. }) = self.jobs.get_mut(&id) else { return };
        attempt.dials = attempt.dials.saturating_add(1);
        let failures = attempt.dials - 1;
        self.resume_later(id, failures);
    }

    fn resume_later(&mut self, id: JobId, failures: u32) {
        let pause = backoff::pause(&mut self.rng, self.policy.retry_delay, backoff::CAP, failures);
        if let Some(Job { phase: Phase::Awarded(attempt), .. }) = self.jobs.get_mut(&id) {
            attempt.retry_at(self.now.after(pause));
        }
    }

    /// Nothing was heard for too long: the stream is taken for lost.
    pub(super) fn on_silence(&mut self, id: JobId) {
        let Some(Job { phase: Phase::Awarded(attempt), .. }) = self.jobs.get(&id) else { return };
        if let Some(stream) = attempt.stream() {
            self.reset_stream(stream);
        }
        self.on_cut(id);
    }

    /// Takes the attempt over with another stream.
    pub(super) fn resume(&mut self, id: JobId) {
        let Some(Job { phase: Phase::Awarded(attempt), .. }) = self.jobs.get(&id) else { return };
        let (peer, next, fresh) = (attempt.peer, attempt.next(), attempt.is_fresh());
        let stream = self.open_stream(peer, Role::Job(id));
        // A refusal, or a fresh offer with it, comes on this stream, and so does its answer.
        if let Some(talk) = self.jobs.get_mut(&id).and_then(|job| job.talks.get_mut(&peer)) {
            talk.stream = stream;
        }
        if fresh {
            return self.award_again(id, stream);
        }
        let Some(Job { phase: Phase::Awarded(attempt), .. }) = self.jobs.get_mut(&id) else { return };
        attempt.take_over(self.now, stream, None);
        let resume = Message::Resume { job: id, attempt: attempt.number, epoch: attempt.epoch, next };
        self.outbox.send(stream, &resume);
    }

    pub(super) fn on_resumed(&mut self, id: JobId, next: u64) -> Result<(), Violation> {
        let Some(Job { phase: Phase::Awarded(attempt), .. }) = self.jobs.get_mut(&id) else { return Ok(()) };
        attempt.resumed(self.now, next)?;
        let (number, peer) = (attempt.number, attempt.peer);
        self.tell(Event::Resumed { job: id, attempt: number, peer, seq: next });
        self.acknowledge(id);
        Ok(())
    }

    /// The provider has nothing to resume: there is nothing to wait for.
    pub(super) fn on_gone(&mut self, id: JobId) -> Result<(), Violation> {
        let Some(Job { phase: Phase::Awarded(attempt), .. }) = self.jobs.get_mut(&id) else { return Ok(()) };
        if !matches!(attempt.link, Link::Resuming(_)) {
            return Err(Violation::Unexpected);
        }
        attempt.ended = true;
        self.on_broken(id, Interrupted::Gone);
        Ok(())
    }

    /// A peer is connected: whatever waits for it is tried at once.
    pub(super) fn on_reachable(&mut self, peer: PeerId) {
        let waits = |job: &Job| match &job.phase {
            Phase::Awarded(attempt) => attempt.peer == peer && matches!(attempt.link, Link::Suspended { .. }),
            _ => false,
        };
        let waiting: Vec<JobId> = self.jobs.iter().filter(|(_, job)| waits(job)).map(|(id, _)| *id).collect();
        for id in waiting {
            self.resume(id);
            self.index(id);
        }
        self.retry_farewells(peer);
    }
}
