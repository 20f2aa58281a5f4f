//! After a cut: the job goes on without its stream, and another stream takes it over ([A3], [R1] to [R6]).

use alloc::vec::Vec;

use crate::{
    digest,
    event::ProviderEvent,
    id::StreamId,
    time::Instant,
    wire::{
        Message,
        message::{Accepted, Award, DeclineReason, GoneReason},
    },
};

use super::{
    context::Context,
    job::{Job, Link, Next},
};

impl Job {
    /// The job's stream was cut: it computes on as far as its window carries, and waits to be resumed.
    pub(super) fn on_cut(&mut self, cx: &mut Context) -> Next {
        let since = cx.now;
        if let Some(stream) = self.stream().and_then(|stream| cx.streams.get_mut(&stream)) {
            stream.job = None;
        }
        let patience = if self.is_receiving() {
            // Its body comes again from the start, and has as long to begin as the first time.
            self.body = Vec::new();
            cx.service.handshake
        } else {
            cx.service.job_ttl
        };
        let until = cx.now.after(patience);
        self.link = Link::Cut { since, until };
        self.may_yield = false;
        Next::Stay
    }

    /// Without a stream for so long, it leaves its slot to whoever waits.
    pub(super) fn offer_slot(&mut self, now: Instant) -> Next {
        if !self.is_running() || self.yields_at() > now {
            return Next::Stay;
        }
        self.may_yield = true;
        Next::Fill
    }

    /// Attaches a running attempt to the stream, at the token that its requester takes next.
    pub(super) fn on_resume(&mut self, cx: &mut Context, stream: StreamId, epoch: u32, next: u64) -> Next {
        // [R4]
        if epoch <= self.epoch {
            cx.gone(stream, GoneReason::Stale);
            return Next::Stay;
        }
        // [R6]
        if !self.resumes.charge(cx.now) {
            // Too many without progress: this stream is not worth an answer, the job is not touched.
            cx.reset_stream(stream);
            return Next::Stay;
        }
        // [R2]
        let Some(frames) = self.ring.from(next, self.window.end()) else {
            cx.gone(stream, GoneReason::Evicted);
            return Next::Stay;
        };
        self.attach(cx, stream, epoch);
        // [R1]
        cx.outbox.send(stream, &Message::Resumed { next });
        self.replay(cx, stream, &frames)
    }

    /// The same award again: its first token was never seen, so that it is the way to resume a job from the start.
    pub(super) fn on_repeated_award(
        &mut self,
        cx: &mut Context,
        stream: StreamId,
        payload: &[u8],
        award: &Award,
    ) -> Next {
        // [A3] The same name with another content is a conflict.
        // [R3] The stream's epoch and what is paid by then are not part of it.
        let same = Award { epoch: award.epoch, voucher: award.voucher, ..self.award.clone() } == *award;
        let first = award.prefix_tokens;
        let frames = self.ring.from(first, self.window.end()).filter(|_| self.window.start() == first);
        let (true, true, Some(frames)) = (same, award.epoch > self.epoch, frames) else {
            let reason = DeclineReason::Conflict;
            cx.drop_unasked_body(stream, award.body_bytes);
            cx.outbox.event(ProviderEvent::Declined { peer: self.peer, reason });
            cx.decline(stream, reason, None, None);
            return Next::Stay;
        };
        // [R6]
        if !self.resumes.charge(cx.now) {
            cx.reset_stream(stream);
            return Next::Stay;
        }
        let mut accepted = Accepted {
            terms: digest::sha256(payload),
            // [R3] The body is here already.
            body_credit: 0,
            window_tokens: award.window_tokens.min(cx.limits.window_tokens),
            window_bytes: award.window_bytes.min(cx.limits.window_bytes),
            eta: None,
        };
        if self.is_receiving() {
            // What came of the body may end anywhere: it comes again.
            accepted.body_credit = award.body_bytes;
            self.body.clear();
        } else {
            cx.drop_unasked_body(stream, award.body_bytes);
        }
        self.attach(cx, stream, award.epoch);
        cx.outbox.send(stream, &Message::Accepted(accepted));
        self.replay(cx, stream, &frames)
    }

    /// The newest epoch has the job; the older stream is fenced and closed.
    fn attach(&mut self, cx: &mut Context, stream: StreamId, epoch: u32) {
        let old = self.stream();
        self.link = Link::Attached(stream);
        self.may_yield = false;
        self.epoch = epoch;
        (self.heard, self.sent) = (cx.now, cx.now);
        if let Some(old) = old {
            // [R4] The newest epoch has the job.
            cx.reset_stream(old);
        }
        if let Some(stream) = cx.streams.get_mut(&stream) {
            stream.job = Some(self.id);
        }
    }

    /// What was sent before and not acknowledged goes out again; then the end, if there was one.
    fn replay(&self, cx: &mut Context, stream: StreamId, frames: &[u8]) -> Next {
        cx.outbox.send_again(stream, frames);
        if let Some(reason) = self.ended() {
            cx.outbox.send(stream, &Message::End(self.last_message(reason)));
        }
        Next::Stay
    }
}
