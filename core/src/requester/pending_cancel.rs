//! A Cancel that has to arrive: a provider that may still compute is told until it confirms ([K3], [R8]).

use alloc::vec::Vec;

use crate::{
    backoff,
    bucket::Bucket,
    event::Violation,
    id::{JobId, PeerId, StreamId},
    machine::{Cause, Timeout},
    time::Instant,
    wire::Message,
};

use super::context::{Context, DeadlineKey, PendingCancel, Role};

impl Context {
    /// A Cancel that was not confirmed before the process died is said again.
    pub(super) fn repeat_cancel(&mut self, name: (JobId, u32), peer: PeerId, until: Instant) {
        let until = until.min(self.now.after(self.policy.resume_timeout));
        if until > self.now {
            self.make_room();
            self.pending_cancels.insert(name, PendingCancel { peer, stream: None, until, retry: self.now, losses: 0 });
            self.say_cancel(name, None);
        }
    }

    /// Cancels an attempt, on its own stream if it has one.
    pub(super) fn begin_cancel(&mut self, name: (JobId, u32), peer: PeerId, stream: Option<StreamId>) {
        self.make_room();
        let until = self.now.after(self.policy.resume_timeout);
        self.pending_cancels.insert(name, PendingCancel { peer, stream: None, until, retry: self.now, losses: 0 });
        self.say_cancel(name, stream.filter(|stream| self.streams.contains_key(stream)));
    }

    /// The oldest is given up if there are too many.
    fn make_room(&mut self) {
        if self.pending_cancels.len() >= self.limits.pending_cancels as usize {
            let oldest = self
                .pending_cancels
                .iter()
                .min_by_key(|(_, pending_cancel)| pending_cancel.until)
                .map(|(name, _)| *name);
            if let Some(oldest) = oldest {
                self.end_cancel(oldest);
            }
        }
    }

    /// Only the confirmation matters any more; tokens on their way are as many as the window let out.
    pub(super) fn on_cancel_message(
        &mut self,
        name: (JobId, u32),
        stream: StreamId,
        message: &Message<'_>,
    ) -> Result<(), Violation> {
        // [R8]
        if matches!(message, Message::End(_) | Message::Gone(_) | Message::Decline(_)) {
            self.end_cancel(name);
            return Ok(());
        }
        self.charge_idle_frame(stream)
    }

    pub(super) fn on_cancel_lost(&mut self, name: (JobId, u32)) {
        let Some(pending_cancel) = self.pending_cancels.get_mut(&name) else { return };
        pending_cancel.stream = None;
        // [K3]
        let pause = backoff::pause(&mut self.rng, self.policy.retry_delay, backoff::CAP, pending_cancel.losses);
        pending_cancel.retry = self.now.after(pause);
        pending_cancel.losses = pending_cancel.losses.saturating_add(1);
        self.index_cancel(name);
    }

    pub(super) fn on_cancel_timeout(&mut self, name: (JobId, u32)) {
        let Some(pending_cancel) = self.pending_cancels.get(&name) else { return };
        if pending_cancel.until <= self.now {
            self.end_cancel(name);
        } else if pending_cancel.stream.is_none() && pending_cancel.retry <= self.now {
            self.say_cancel(name, None);
        } else {
            self.index_cancel(name);
        }
    }

    pub(super) fn retry_cancels(&mut self, peer: PeerId) {
        let waits = |pending_cancel: &PendingCancel| pending_cancel.peer == peer && pending_cancel.stream.is_none();
        let waiting: Vec<(JobId, u32)> = self
            .pending_cancels
            .iter()
            .filter(|(_, pending_cancel)| waits(pending_cancel))
            .map(|(name, _)| *name)
            .collect();
        waiting.into_iter().for_each(|name| self.say_cancel(name, None));
    }

    pub(super) fn end_cancel(&mut self, name: (JobId, u32)) {
        let Some(pending_cancel) = self.pending_cancels.remove(&name) else { return };
        self.deadlines.set(self.now, DeadlineKey::PendingCancel(name.0, name.1), None);
        if let Some(stream) = pending_cancel.stream {
            self.close_stream(stream);
        }
    }

    fn say_cancel(&mut self, name: (JobId, u32), stream: Option<StreamId>) {
        let Some(peer) = self.pending_cancels.get(&name).map(|pending_cancel| pending_cancel.peer) else { return };
        let role = Role::PendingCancel(name.0, name.1);
        let stream = stream.unwrap_or_else(|| self.open_stream(peer, role));
        let frames = self.limits.idle_frames.saturating_add(self.limits.window_tokens);
        let idle_frames = Bucket::new(self.now, frames);
        if let Some(state) = self.streams.get_mut(&stream) {
            (state.role, state.idle_frames) = (role, idle_frames);
        }
        self.outbox.send(stream, &Message::Cancel { job: name.0, attempt: name.1, voucher: None });
        if let Some(pending_cancel) = self.pending_cancels.get_mut(&name) {
            pending_cancel.stream = Some(stream);
        }
        self.index_cancel(name);
    }

    fn index_cancel(&mut self, name: (JobId, u32)) {
        let due = self.pending_cancels.get(&name).map(|pending_cancel| {
            let at = if pending_cancel.stream.is_none() {
                pending_cancel.retry.min(pending_cancel.until)
            } else {
                pending_cancel.until
            };
            Timeout { at, cause: Cause::PendingCancel }
        });
        self.deadlines.set(self.now, DeadlineKey::PendingCancel(name.0, name.1), due);
    }
}
