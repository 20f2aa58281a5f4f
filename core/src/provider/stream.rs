//! Body, tokens, end: the life of an attempt at its provider.

use crate::{
    event::{ProviderEvent, ServedReason, Violation},
    id::{AttemptId, JobId, PeerId, StreamId},
    refusal::Refusal,
    window,
    wire::{
        self, MAX_CHUNK_IDS, MAX_CHUNK_TEXT, Message,
        message::{Award, EndReason, GoneReason},
    },
};

use super::{
    DeadlineKey, Provider,
    job::{Job, JobState, Link},
};

/// Some tokens, as an engine yields them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Piece<'a> {
    /// How many tokens, at least 1.
    pub n: u32,
    /// Their text, whole characters only, 1 to 8192 bytes.
    pub text: &'a str,
    /// Their ids, four little-endian bytes each, if known.
    pub ids: Option<&'a [u8]>,
}

impl Provider {
    /// Cuts a piece into a Chunk: here and nowhere else, so that draining changes nothing.
    pub(super) fn push_piece(&mut self, id: AttemptId, piece: Piece<'_>) -> Result<u32, Refusal> {
        let job = self.jobs.get_mut(&id).filter(|job| job.is_running()).ok_or(Refusal::UnknownAttempt)?;
        let Piece { n, text, ids } = piece;
        // [W1] Dense: here it is counted.
        let seq = job.window.end();
        let tokens = seq.saturating_add(u64::from(n));
        let text_bytes = job.text_bytes.saturating_add(text.len() as u64);
        let written = job.written().saturating_add(u64::from(n));
        // [W2]
        let counted = n >= 1 && written <= text_bytes && written <= job.award.max_tokens;
        let ids_fit = ids.is_none_or(|ids| ids.len() as u64 == 4 * u64::from(n) && ids.len() <= MAX_CHUNK_IDS);
        if !counted || !ids_fit || !(1..=MAX_CHUNK_TEXT).contains(&text.len()) || n > job.window.max_tokens() {
            return Err(Refusal::BadPiece);
        }
        // [W4] What does not fit waits for an Ack.
        if !job.window.take(n, window::cost(text, ids)) {
            job.blocked.get_or_insert(self.now);
            return Err(Refusal::NoRoom);
        }
        job.text_bytes = text_bytes;
        job.text_hash.update(text.as_bytes());
        job.sent = self.now;
        let room = job.window.room();
        job.blocked = (room == 0).then_some(self.now);
        self.scratch.clear();
        wire::encode_frame(&Message::Chunk { seq, n, text, ids }, &mut self.scratch);
        job.ring.keep(seq, tokens, &self.scratch);
        if let Link::Attached(stream) = job.link {
            self.outbox.send_again(stream, &self.scratch);
        }
        Ok(room)
    }

    pub(super) fn on_job_message(
        &mut self,
        id: AttemptId,
        stream: StreamId,
        message: Message<'_>,
    ) -> Result<(), Violation> {
        let Some(job) = self.jobs.get_mut(&id) else { return Ok(()) };
        job.heard = self.now;
        match message {
            Message::Body { offset, bytes } => self.on_body(id, offset, bytes),
            Message::Ack { next, end } => self.on_ack(id, stream, next, end),
            Message::Cancel { job: name, attempt } if (name, attempt) == (job.award.job, job.award.attempt) => {
                let peer = job.peer;
                self.on_cancel(stream, peer, name, attempt);
                Ok(())
            }
            // The other offers were still open when this one was awarded: nothing of it matters here.
            // [C1]
            _ => Err(Violation::Unexpected),
        }
    }

    fn on_body(&mut self, id: AttemptId, offset: u64, bytes: &[u8]) -> Result<(), Violation> {
        let Some(job) = self.jobs.get_mut(&id) else { return Ok(()) };
        let end = offset.saturating_add(bytes.len() as u64);
        // [A4] In order, without gap or overlap, not beyond the end.
        let fits = offset == job.body.len() as u64 && end <= job.award.body_bytes && !bytes.is_empty();
        if !matches!(job.state, JobState::Receiving) {
            return self.skip_body(id, bytes);
        }
        if !fits {
            return Err(Violation::Body);
        }
        job.body.extend_from_slice(bytes);
        job.received = job.received.max(end);
        // It may have been told meanwhile that there is no place for it.
        if self.take_place(id) {
            self.on_body_complete(id);
        }
        Ok(())
    }

    /// The unasked part of a body that is here already, as the award was repeated after a cut; or the rest of one whose job
    /// ended meanwhile.
    fn skip_body(&mut self, id: AttemptId, bytes: &[u8]) -> Result<(), Violation> {
        let stream = self.jobs.get(&id).and_then(Job::stream).and_then(|stream| self.streams.get_mut(&stream));
        let Some(stream) = stream else { return Ok(()) };
        let left = stream.stray_body.checked_sub(bytes.len() as u64).filter(|_| !bytes.is_empty());
        stream.stray_body = left.ok_or(Violation::Body)?;
        Ok(())
    }

    fn on_ack(&mut self, id: AttemptId, stream: StreamId, next: u64, end: bool) -> Result<(), Violation> {
        let Some(job) = self.jobs.get_mut(&id) else { return Ok(()) };
        // [W5]
        if next < job.window.start() || next > job.window.end() {
            return Err(Violation::Seq);
        }
        if end {
            // [X3]
            let JobState::Ended { reason, .. } = job.state else { return Err(Violation::Unexpected) };
            job.window.free(next);
            self.drop_job(id, ServedReason::Acknowledged(reason));
            self.close_stream(stream);
            return Ok(());
        }
        let progress = next > job.window.start();
        job.window.free(next);
        job.ring.free(next);
        if progress {
            job.resumes.refund();
        }
        let room = job.window.room();
        if progress && job.blocked.is_some() && room > 0 && job.is_running() {
            job.blocked = None;
            self.outbox.event(ProviderEvent::Room { attempt: id, tokens: room });
        }
        let now = self.now;
        // [C2]
        let paid = progress || self.streams.get_mut(&stream).is_none_or(|stream| stream.idle_frames.charge(now));
        if paid { Ok(()) } else { Err(Violation::Flood) }
    }

    /// Stops computing, and confirms it: after that nobody has to be told again. The stream need not be the job's.
    // [K1] [K2]
    pub(super) fn on_cancel(&mut self, stream: StreamId, peer: PeerId, job: JobId, attempt: u32) {
        let known = self.by_name.get(&(peer, job, attempt)).copied();
        let Some((id, job)) = known.and_then(|id| Some((id, self.jobs.get(&id)?))) else {
            return self.gone(stream, GoneReason::Unknown);
        };
        let end = job.end(EndReason::Cancelled);
        let own = job.stream().filter(|own| *own != stream);
        self.drop_job(id, ServedReason::Cancelled);
        self.outbox.send(stream, &Message::End(end));
        self.close_stream(stream);
        if let Some(own) = own {
            self.close_stream(own);
        }
    }

    pub(super) fn on_job_timeout(&mut self, id: AttemptId) {
        let now = self.now;
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let stream = match job.link {
            Link::Attached(stream) => stream,
            Link::Detached { until, .. } => {
                if until <= now {
                    let ended = job.ended();
                    self.drop_job(id, ended.map_or(ServedReason::Lost, ServedReason::Unacknowledged));
                } else if job.is_running() && job.yields_at() <= now {
                    job.may_yield = true;
                    self.start_queued();
                }
                return;
            }
        };
        match job.state {
            JobState::Ended { reason, until } => {
                if until <= now {
                    self.drop_job(id, ServedReason::Unacknowledged(reason));
                    self.close_stream(stream);
                }
            }
            JobState::Running if job.blocked.is_some_and(|since| since.after(self.service.stall) <= now) => {
                self.outbox.event(ProviderEvent::Stop { attempt: id });
                self.end_attempt(id, EndReason::TooSlow);
            }
            JobState::Receiving if job.body_due(&self.service) <= now => self.end_attempt(id, EndReason::TooSlow),
            _ if job.heard.after(self.service.idle) <= now => {
                self.detach(id);
                self.reset_stream(stream);
            }
            _ => {
                if job.sent.after(self.service.keepalive) <= now {
                    job.sent = now;
                    self.outbox.send(stream, &Message::Keepalive);
                }
            }
        }
    }

    /// Sends End: the slot or the place in the queue is free; the books stay until it is acknowledged.
    pub(super) fn end_attempt(&mut self, id: AttemptId, reason: EndReason) {
        self.vacate(id);
        let until = self.now.after(self.service.detached_ttl);
        let Some(job) = self.jobs.get_mut(&id) else { return };
        // What was credited of its body may be on its way.
        let credited = matches!(job.state, JobState::Receiving)
            .then(|| job.award.body_bytes.saturating_sub(job.body.len() as u64));
        // [X2] From here no piece is taken any more. [X4] Kept until it is acknowledged, or so long.
        job.state = JobState::Ended { reason, until };
        if let Link::Attached(stream) = job.link {
            if let (Some(credited), Some(stream)) = (credited, self.streams.get_mut(&stream)) {
                stream.stray_body = credited;
            }
            let end = job.end(reason);
            self.outbox.send(stream, &Message::End(end));
        }
        self.index_job(id);
        self.start_queued();
    }

    /// Forgets a job: whatever it held is free, and the application is told what came of it.
    pub(super) fn drop_job(&mut self, id: AttemptId, reason: ServedReason) {
        if self.jobs.get(&id).is_some_and(Job::is_running) {
            self.outbox.event(ProviderEvent::Stop { attempt: id });
        }
        self.vacate(id);
        let Some(job) = self.jobs.remove(&id) else { return };
        self.note_conduct(&job, reason);
        self.deadlines.set(self.now, DeadlineKey::Job(id), None);
        self.by_name.remove(&(job.peer, job.award.job, job.award.attempt));
        if let Some(load) = self.peers.get_mut(&job.peer) {
            load.jobs = load.jobs.saturating_sub(1);
        }
        self.forget_idle_peer(job.peer);
        if let Some(stream) = job.stream().and_then(|stream| self.streams.get_mut(&stream)) {
            stream.job = None;
        }
        let (tokens, acked) = (job.written(), job.acked());
        let Award { job: name, attempt, tariff, model, .. } = job.award;
        self.outbox.event(ProviderEvent::Served {
            peer: job.peer,
            model,
            job: name,
            attempt,
            tariff,
            reason,
            tokens,
            acked,
            owed: tariff.owed(acked),
        });
        self.start_queued();
    }

    /// Gives back what a job holds by its state: the slot, the place in the queue, the body's bytes.
    fn vacate(&mut self, id: AttemptId) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        match job.state {
            JobState::Running => {
                self.running -= 1;
                let took = self.now.since(job.started);
                self.note_duration(took);
            }
            JobState::Receiving | JobState::Queued => {
                self.held -= job.award.body_bytes;
                job.body = alloc::vec::Vec::new();
                self.queue.retain(|queued| *queued != id);
            }
            JobState::Ended { .. } => {}
        }
    }
}
