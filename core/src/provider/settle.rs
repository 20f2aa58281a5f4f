//! The end of a job: what it holds is free, and the application and the books are told.

use alloc::vec::Vec;

use crate::{
    event::{ProviderEvent, ServedReason},
    refusal::Refusal,
    wire::{
        Message,
        message::{Award, EndReason},
    },
};

use super::{
    context::Context,
    job::{Farewell, Job, JobState, Link, Next},
};

impl Job {
    /// Sends End: the slot or the place in the queue is free; the books stay until it is acknowledged.
    pub(super) fn end(&mut self, cx: &mut Context, reason: EndReason) -> Next {
        debug_assert!(!self.is_ended(), "a job ends once");
        // What was credited of its body may be on its way.
        let credited = self.is_receiving().then_some(self.award.body_bytes);
        self.vacate(cx);
        // [X2] From here no piece is taken any more. [X4] Kept until it is acknowledged, or so long.
        self.state = JobState::Ended { reason, until: cx.now.after(cx.service.job_ttl) };
        if let Link::Attached(stream) = self.link {
            if let (Some(credited), Some(stream)) = (credited, cx.streams.get_mut(&stream)) {
                stream.stray_body = credited;
            }
            cx.outbox.send(stream, &Message::End(self.last_message(reason)));
        }
        Next::Fill
    }

    /// The engine is done with it.
    pub(super) fn finish(&mut self, cx: &mut Context, reason: EndReason) -> Result<Next, Refusal> {
        if self.is_running() { Ok(self.end(cx, reason)) } else { Err(Refusal::UnknownAttempt) }
    }

    /// Ends a job that its engine may be computing.
    pub(super) fn stop(&mut self, cx: &mut Context, reason: EndReason) -> Next {
        self.stop_engine(cx);
        self.end(cx, reason)
    }

    /// Nothing more will be heard of a job that ended.
    pub(super) fn close_books(&self) -> Next {
        debug_assert!(self.is_ended(), "every job is ended before the books are closed");
        let close = |reason| Next::Forget(ServedReason::Unacknowledged(reason), Farewell::Close);
        self.ended().map_or(Next::Stay, close)
    }

    /// The last of a job: whatever it held is free, and the application is told what came of it.
    pub(super) fn settle(mut self, cx: &mut Context, reason: ServedReason) {
        self.stop_engine(cx);
        self.vacate(cx);
        self.note_conduct(cx, reason);
        cx.leave(&self);
        let (tokens, acked) = (self.written(), self.acked());
        let Award { job, attempt, tariff, model, .. } = self.award;
        let owed = tariff.owed(acked);
        let peer = self.peer;
        cx.outbox.event(ProviderEvent::Served { peer, model, job, attempt, tariff, reason, tokens, acked, owed });
    }

    fn stop_engine(&self, cx: &mut Context) {
        if self.is_running() {
            cx.outbox.event(ProviderEvent::Stop { attempt: self.id });
        }
    }

    /// Gives back what a job holds by its state: the slot, the place in the queue, the body's bytes.
    fn vacate(&mut self, cx: &mut Context) {
        match self.state {
            JobState::Running => {
                cx.running -= 1;
                cx.note_duration(cx.now.since(self.started));
            }
            JobState::Receiving | JobState::Queued => {
                cx.held -= self.award.body_bytes;
                self.body = Vec::new();
                cx.queue.retain(|(queued, _)| *queued != self.id);
            }
            JobState::Ended { .. } => {}
        }
    }

    /// Notes what an end says of the peer.
    fn note_conduct(&self, cx: &mut Context, reason: ServedReason) {
        let kept = match reason {
            ServedReason::Acknowledged(EndReason::TooSlow) => false,
            ServedReason::Acknowledged(_) => true,
            ServedReason::Unacknowledged(_) | ServedReason::Lost | ServedReason::Violation(_) => false,
            // Who cancels after it took tokens is a customer; before them, nothing was owed for what was computed.
            ServedReason::Cancelled if self.acked() > 0 => true,
            ServedReason::Cancelled | ServedReason::Displaced => return,
        };
        cx.conducts.note(cx.now, &cx.limits, self.peer, kept);
    }
}
