//! A Cancel that has to arrive: a provider that may still compute is told until it confirms. Rule W7.

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

use super::context::{Context, Farewell, Key, Role};

impl Context {
    /// A Cancel that was not confirmed before the process died is said again.
    pub(super) fn repeat_farewell(&mut self, name: (JobId, u32), peer: PeerId, until: Instant) {
        let until = until.min(self.now.after(self.policy.detached_ttl));
        if until > self.now {
            self.make_room();
            self.farewells.insert(name, Farewell { peer, stream: None, until, retry: self.now, losses: 0 });
            self.say_cancel(name, None);
        }
    }

    /// Cancels an attempt, on its own stream if it has one.
    pub(super) fn say_farewell(&mut self, name: (JobId, u32), peer: PeerId, stream: Option<StreamId>) {
        self.make_room();
        let until = self.now.after(self.policy.detached_ttl);
        self.farewells.insert(name, Farewell { peer, stream: None, until, retry: self.now, losses: 0 });
        self.say_cancel(name, stream.filter(|stream| self.streams.contains_key(stream)));
    }

    /// The oldest is given up if there are too many.
    fn make_room(&mut self) {
        if self.farewells.len() >= self.limits.pending_cancels as usize {
            let oldest = self.farewells.iter().min_by_key(|(_, farewell)| farewell.until).map(|(name, _)| *name);
            if let Some(oldest) = oldest {
                self.end_farewell(oldest);
            }
        }
    }

    /// Only the confirmation matters any more; tokens on their way are as many as the window let out.
    pub(super) fn on_farewell_message(
        &mut self,
        name: (JobId, u32),
        stream: StreamId,
        message: &Message<'_>,
    ) -> Result<(), Violation> {
        if matches!(message, Message::End(_) | Message::Gone(_) | Message::Decline(_)) {
            self.end_farewell(name);
            return Ok(());
        }
        self.charge_idle_frame(stream)
    }

    pub(super) fn on_farewell_lost(&mut self, name: (JobId, u32)) {
        let Some(farewell) = self.farewells.get_mut(&name) else { return };
        farewell.stream = None;
        let pause = backoff::pause(&mut self.rng, self.policy.retry_delay, backoff::CAP, farewell.losses);
        farewell.retry = self.now.after(pause);
        farewell.losses = farewell.losses.saturating_add(1);
        self.index_farewell(name);
    }

    pub(super) fn on_farewell_timeout(&mut self, name: (JobId, u32)) {
        let Some(farewell) = self.farewells.get(&name) else { return };
        if farewell.until <= self.now {
            self.end_farewell(name);
        } else if farewell.stream.is_none() && farewell.retry <= self.now {
            self.say_cancel(name, None);
        } else {
            self.index_farewell(name);
        }
    }

    pub(super) fn retry_farewells(&mut self, peer: PeerId) {
        let waits = |farewell: &Farewell| farewell.peer == peer && farewell.stream.is_none();
        let waiting: Vec<(JobId, u32)> =
            self.farewells.iter().filter(|(_, farewell)| waits(farewell)).map(|(name, _)| *name).collect();
        waiting.into_iter().for_each(|name| self.say_cancel(name, None));
    }

    pub(super) fn end_farewell(&mut self, name: (JobId, u32)) {
        let Some(farewell) = self.farewells.remove(&name) else { return };
        self.deadlines.set(self.now, Key::Farewell(name.0, name.1), None);
        if let Some(stream) = farewell.stream {
            self.close_stream(stream);
        }
    }

    fn say_cancel(&mut self, name: (JobId, u32), stream: Option<StreamId>) {
        let Some(peer) = self.farewells.get(&name).map(|farewell| farewell.peer) else { return };
        let role = Role::Farewell(name.0, name.1);
        let stream = stream.unwrap_or_else(|| self.open_stream(peer, role));
        let frames = self.limits.idle_frames.saturating_add(self.limits.window_tokens);
        let idle_frames = Bucket::new(self.now, frames);
        if let Some(state) = self.streams.get_mut(&stream) {
            (state.role, state.idle_frames) = (role, idle_frames);
        }
        self.outbox.send(stream, &Message::Cancel { job: name.0, attempt: name.1 });
        if let Some(farewell) = self.farewells.get_mut(&name) {
            farewell.stream = Some(stream);
        }
        self.index_farewell(name);
    }

    fn index_farewell(&mut self, name: (JobId, u32)) {
        let due = self.farewells.get(&name).map(|farewell| {
            let at = if farewell.stream.is_none() { farewell.retry.min(farewell.until) } else { farewell.until };
            Timeout { at, cause: Cause::Farewell }
        });
        self.deadlines.set(self.now, Key::Farewell(name.0, name.1), due);
    }
}
