//! Body, tokens, acknowledgements, silence: the life of a job between its Award and its end.

use crate::{
    digest,
    event::{ProviderEvent, ServedReason, Violation, Work},
    id::{Model, StreamId},
    refusal::Refusal,
    window,
    wire::{
        self, MAX_CHUNK_IDS, MAX_CHUNK_TEXT, Message, Prompt,
        message::{Channel, DeclineReason, EndReason},
    },
};

use super::{
    context::Context,
    job::{Farewell, Job, JobState, Link, Next},
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
    /// What it is, if not the answer's text.
    pub channel: Option<Channel>,
}

impl Job {
    /// Cuts a piece into a Chunk: here and nowhere else, so that draining changes nothing.
    pub(super) fn push(&mut self, cx: &mut Context, piece: Piece<'_>) -> Result<u32, Refusal> {
        debug_assert!(self.is_running(), "only what runs is written");
        let Piece { n, text, ids, channel } = piece;
        // [W1] Dense: here it is counted.
        let seq = self.window.end();
        let tokens = seq.saturating_add(u64::from(n));
        let text_bytes = self.text_bytes.saturating_add(text.len() as u64);
        let written = self.written().saturating_add(u64::from(n));
        // [W2]
        let counted = n >= 1 && written <= text_bytes && written <= self.award.max_tokens;
        let ids_fit = ids.is_none_or(|ids| ids.len() as u64 == 4 * u64::from(n) && ids.len() <= MAX_CHUNK_IDS);
        if !counted || !ids_fit || !(1..=MAX_CHUNK_TEXT).contains(&text.len()) || n > self.window.max_tokens() {
            return Err(Refusal::BadPiece);
        }
        // [W4] What does not fit waits for an Ack.
        if !self.window.take(n, window::cost(text, ids)) {
            self.blocked.get_or_insert(cx.now);
            return Err(Refusal::NoRoom);
        }
        if written == u64::from(n) {
            cx.note_first_token(&self.award.model, cx.now.since(self.started));
        }
        self.text_bytes = text_bytes;
        self.text_hash.update(channel, text);
        if channel == Some(Channel::Thought) {
            self.thought = self.thought.saturating_add(u64::from(n));
        }
        self.sent = cx.now;
        let room = self.window.room();
        self.blocked = (room == 0).then_some(cx.now);
        cx.scratch.clear();
        wire::encode_frame(&Message::Chunk { seq, n, text, ids, channel }, &mut cx.scratch);
        self.ring.keep(seq, tokens, &cx.scratch);
        if let Link::Attached(stream) = self.link {
            cx.outbox.send_again(stream, &cx.scratch);
        }
        Ok(room)
    }

    /// A message on the job's stream.
    pub(super) fn on_message(
        &mut self,
        cx: &mut Context,
        stream: StreamId,
        message: Message<'_>,
    ) -> Result<Next, Violation> {
        debug_assert_eq!(self.stream(), Some(stream), "a stream has one job, and a job one stream");
        self.heard = cx.now;
        match message {
            Message::Body { offset, bytes } => self.on_body(cx, offset, bytes),
            Message::Ack { next, end, .. } => self.on_ack(cx, stream, next, end),
            Message::Cancel { job, attempt, .. } if (job, attempt) == (self.award.job, self.award.attempt) => {
                Ok(self.on_cancel(stream))
            }
            // The other offers were still open when this one was awarded: nothing of it matters here.
            // [C1]
            _ => Err(Violation::Unexpected),
        }
    }

    fn on_body(&mut self, cx: &mut Context, offset: u64, bytes: &[u8]) -> Result<Next, Violation> {
        let end = offset.saturating_add(bytes.len() as u64);
        // [A4] In order, without gap or overlap, not beyond the end.
        let fits = offset == self.body.len() as u64 && end <= self.award.body_bytes && !bytes.is_empty();
        if !self.is_receiving() {
            return self.skip_body(cx, bytes);
        }
        if !fits {
            return Err(Violation::Body);
        }
        self.keep_body(bytes);
        self.received = self.received.max(end);
        // It may have been told meanwhile that there is no place for it.
        Ok(Next::Place)
    }

    /// Grows as a vector does, but never beyond what was awarded: what is held is what is counted.
    fn keep_body(&mut self, bytes: &[u8]) {
        let (here, needed) = (self.body.len(), self.body.len() + bytes.len());
        if needed > self.body.capacity() {
            let whole = usize::try_from(self.award.body_bytes).unwrap_or(usize::MAX);
            self.body.reserve_exact(needed.max(2 * here).min(whole) - here);
        }
        self.body.extend_from_slice(bytes);
    }

    /// The unasked part of a body that is here already, as the award was repeated after a cut; or the rest of one whose job
    /// ended meanwhile.
    fn skip_body(&self, cx: &mut Context, bytes: &[u8]) -> Result<Next, Violation> {
        let Some(stream) = self.stream().and_then(|stream| cx.streams.get_mut(&stream)) else {
            debug_assert!(false, "what is read comes on a stream");
            return Ok(Next::Stay);
        };
        let left = stream.stray_body.checked_sub(bytes.len() as u64).filter(|_| !bytes.is_empty());
        stream.stray_body = left.ok_or(Violation::Body)?;
        Ok(Next::Stay)
    }

    /// It has a place. Once its body is complete it waits for a slot, unless the body is not what was awarded.
    pub(super) fn on_place(&mut self, cx: &mut Context) -> Next {
        debug_assert!(self.is_receiving(), "a place is sought while the body comes");
        if self.body_to_come() > 0 {
            return Next::Stay;
        }
        // [A4]
        if digest::sha256(&self.body) != self.award.body_hash {
            return Next::Forget(
                ServedReason::Violation(Violation::Body),
                Farewell::Decline(DeclineReason::BodyMismatch),
            );
        }
        self.state = JobState::Queued;
        cx.queue.push_back((self.id, self.peer));
        Next::Fill
    }

    /// It has a slot: its engine begins, if the body is of its kind, and its model can be computed.
    pub(super) fn start(&mut self, cx: &mut Context) -> Next {
        debug_assert!(matches!(self.state, JobState::Queued), "who is given a slot waited for one");
        let body = core::mem::take(&mut self.body);
        cx.held -= self.award.body_bytes;
        self.state = JobState::Running;
        self.started = cx.now;
        cx.running += 1;
        let model = cx.computable(&self.award.model);
        let is_computable = model.is_some();
        // Where it ends at once, whoever gave it the slot gives it to the next.
        match self.work(&body, model) {
            Some(work) => cx.outbox.event(ProviderEvent::Start { attempt: self.id, work }),
            // [A4] Not of its kind.
            None if is_computable => drop(self.end(cx, EndReason::BadRequest)),
            None => drop(self.end(cx, EndReason::Shutdown)),
        }
        Next::Stay
    }

    /// Makes work of the body; `None` if it is not what its kind says, or if there is no model to do it.
    fn work(&mut self, body: &[u8], model: Option<Model>) -> Option<Work> {
        let award = &self.award;
        let id_bytes = usize::try_from(award.prefix_id_bytes.unwrap_or(0)).ok()?;
        let (body, ids) = body.split_at_checked(body.len().checked_sub(id_bytes)?)?;
        let prompt_bytes = body.len().checked_sub(usize::try_from(award.prefix_bytes).ok()?)?;
        let (prompt, prefix) = body.split_at_checked(prompt_bytes)?;
        let prefix = alloc::string::String::from_utf8(prefix.to_vec()).ok()?;
        self.text_hash.update(None, &prefix);
        Some(Work {
            peer: self.peer,
            model: model?,
            prompt: Prompt::decode(award.kind, prompt).ok()?,
            prefix,
            prefix_tokens: award.prefix_tokens,
            prefix_ids: award.prefix_id_bytes.map(|_| {
                let id = |bytes: &[u8]| bytes.iter().rev().fold(0, |id: u32, byte| id << 8 | u32::from(*byte));
                ids.chunks_exact(4).map(id).collect()
            }),
            max_tokens: award.max_tokens,
            sampling: award.sampling,
            stop: award.stop.clone(),
            window_tokens: self.window.max_tokens(),
        })
    }

    fn on_ack(&mut self, cx: &mut Context, stream: StreamId, next: u64, end: bool) -> Result<Next, Violation> {
        // [W5]
        if next < self.window.start() || next > self.window.end() {
            return Err(Violation::Seq);
        }
        if end {
            // [X3]
            let reason = self.ended().ok_or(Violation::Unexpected)?;
            self.window.free(next);
            return Ok(Next::Forget(ServedReason::Acknowledged(reason), Farewell::Close));
        }
        let progress = next > self.window.start();
        self.window.free(next);
        self.ring.free(next);
        if progress {
            self.resumes.refund();
        }
        let room = self.window.room();
        if progress && self.blocked.is_some() && room > 0 && self.is_running() {
            self.blocked = None;
            cx.outbox.event(ProviderEvent::Room { attempt: self.id, tokens: room });
        }
        // [C2]
        if progress || cx.charge_idle_frame(stream) { Ok(Next::Stay) } else { Err(Violation::Flood) }
    }

    /// Stops computing, and confirms it: after that nobody has to be told again. The stream need not be the job's.
    // [K1] [K2]
    pub(super) fn on_cancel(&self, asked: StreamId) -> Next {
        let end = self.last_message(EndReason::Cancelled);
        Next::Forget(ServedReason::Cancelled, Farewell::Cancelled(asked, end))
    }

    /// Something of it may be due.
    pub(super) fn on_timeout(&mut self, cx: &mut Context) -> Next {
        let now = cx.now;
        let stream = match self.link {
            Link::Attached(stream) => stream,
            Link::Cut { until, .. } if until <= now => {
                let reason = self.ended().map_or(ServedReason::Lost, ServedReason::Unacknowledged);
                return Next::Forget(reason, Farewell::Close);
            }
            Link::Cut { .. } => return self.offer_slot(now),
        };
        match self.state {
            JobState::Ended { reason, until } if until <= now => {
                Next::Forget(ServedReason::Unacknowledged(reason), Farewell::Close)
            }
            JobState::Ended { .. } => Next::Stay,
            JobState::Running if self.blocked.is_some_and(|since| since.after(cx.service.stall) <= now) => {
                self.stop(cx, EndReason::TooSlow)
            }
            JobState::Receiving if self.body_due(&cx.service) <= now => self.end(cx, EndReason::TooSlow),
            _ if self.heard.after(cx.service.idle) <= now => {
                self.on_cut(cx);
                cx.reset_stream(stream);
                Next::Stay
            }
            _ => {
                if self.sign_due(&cx.service) <= now {
                    self.say_sign(cx, stream);
                }
                Next::Stay
            }
        }
    }

    /// A sign of life: what is done, while no token can be told.
    // [C7]
    fn say_sign(&mut self, cx: &mut Context, stream: StreamId) {
        self.sent = cx.now;
        self.told = self.doing();
        let sign = match self.told {
            Some(phase) => Message::Working { phase, done: None, of: None, eta: None },
            None => Message::Keepalive,
        };
        cx.outbox.send(stream, &sign);
    }
}
