//! After a cut: the job goes on without its stream, and another stream takes it over ([A3], [R1] to [R6]).

use alloc::vec::Vec;

use crate::{
    digest,
    id::{AttemptId, JobId, PeerId, StreamId},
    wire::{
        Message,
        message::{Accepted, Award, DeclineReason, GoneReason},
    },
};

use super::{
    Provider,
    job::{JobState, Link},
};

impl Provider {
    /// The job's stream is gone: it computes on as far as its window carries, and waits to be resumed.
    pub(super) fn detach(&mut self, id: AttemptId) {
        let since = self.now;
        let Some(job) = self.jobs.get_mut(&id) else { return };
        if let Some(stream) = job.stream().and_then(|stream| self.streams.get_mut(&stream)) {
            stream.job = None;
        }
        let patience = match job.state {
            // Its body comes again from the start, and has as long to begin as the first time.
            JobState::Receiving => {
                job.body = Vec::new();
                self.service.handshake
            }
            _ => self.service.detached_ttl,
        };
        let until = self.now.after(patience);
        job.link = Link::Detached { since, until };
        job.may_yield = false;
        self.index_job(id);
    }

    /// Attaches a running attempt to the stream, at the token that its requester takes next.
    pub(super) fn on_resume(&mut self, stream: StreamId, name: (PeerId, JobId, u32), epoch: u32, next: u64) {
        // [R5] By the peer that the channel proved, too.
        let known = self.by_name.get(&name).copied();
        let Some((id, job)) = known.and_then(|id| Some((id, self.jobs.get_mut(&id)?))) else {
            let reason = if self.was_lost(&name) { GoneReason::Evicted } else { GoneReason::Unknown };
            return self.gone(stream, reason);
        };
        // [R4]
        if epoch <= job.epoch {
            return self.gone(stream, GoneReason::Stale);
        }
        if !job.resumes.charge(self.now) {
            // Too many without progress: this stream is not worth an answer, the job is not touched.
            return self.reset_stream(stream);
        }
        // [R2]
        let Some(frames) = job.ring.from(next, job.window.end()) else {
            return self.gone(stream, GoneReason::Evicted);
        };
        self.attach(id, stream, epoch);
        // [R1]
        self.outbox.send(stream, &Message::Resumed { next });
        self.replay(id, stream, &frames);
    }

    /// The same award again: its first token was never seen, so that it is the way to resume a job from the start.
    pub(super) fn on_repeated_award(&mut self, stream: StreamId, id: AttemptId, payload: &[u8], award: &Award) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        // [A3] The same name with another content is a conflict.
        let same = Award { epoch: award.epoch, ..job.award.clone() } == *award;
        let first = award.prefix_tokens;
        let frames = job.ring.from(first, job.window.end()).filter(|_| job.window.start() == first);
        let (true, true, Some(frames)) = (same, award.epoch > job.epoch, frames) else {
            let peer = job.peer;
            return self.decline_award(stream, peer, award, DeclineReason::Conflict, None);
        };
        if !job.resumes.charge(self.now) {
            return self.reset_stream(stream);
        }
        let mut accepted = Accepted {
            terms: digest::sha256(payload),
            // [R3] The body is here already.
            body_credit: 0,
            window_tokens: award.window_tokens.min(self.limits.window_tokens),
            window_bytes: award.window_bytes.min(self.limits.window_bytes),
            eta: None,
        };
        if matches!(job.state, JobState::Receiving) {
            // What came of the body may end anywhere: it comes again.
            accepted.body_credit = award.body_bytes;
            job.body.clear();
        } else if let Some(stream) = self.streams.get_mut(&stream) {
            stream.stray_body = award.body_bytes.min(self.limits.body_unasked);
        }
        self.attach(id, stream, award.epoch);
        self.outbox.send(stream, &Message::Accepted(accepted));
        self.replay(id, stream, &frames);
    }

    // [C5]
    pub(super) fn gone(&mut self, stream: StreamId, reason: GoneReason) {
        self.outbox.send(stream, &Message::Gone(reason));
        self.close_stream(stream);
    }

    /// The newest epoch has the job; the older stream is fenced and closed.
    fn attach(&mut self, id: AttemptId, stream: StreamId, epoch: u32) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let old = job.stream();
        job.link = Link::Attached(stream);
        job.may_yield = false;
        job.epoch = epoch;
        (job.heard, job.sent) = (self.now, self.now);
        if let Some(old) = old {
            // [R4] The newest epoch has the job.
            self.reset_stream(old);
        }
        if let Some(stream) = self.streams.get_mut(&stream) {
            stream.job = Some(id);
        }
    }

    fn replay(&mut self, id: AttemptId, stream: StreamId, frames: &[u8]) {
        self.outbox.send_again(stream, frames);
        let Some(job) = self.jobs.get(&id) else { return };
        if let Some(reason) = job.ended() {
            let end = job.end(reason);
            self.outbox.send(stream, &Message::End(end));
        }
        self.index_job(id);
    }
}
