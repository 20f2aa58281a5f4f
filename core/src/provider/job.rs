//! A job as its provider sees it: one attempt.

use alloc::vec::Vec;

use crate::{
    digest::TextHash,
    id::{PeerId, StreamId},
    machine::{Cause, Timeout},
    time::{Instant, Millis},
    window::Window,
    wire::message::{Accepted, Award, EndReason},
};

use super::Service;

#[derive(Clone, Hash, Debug)]
pub(super) struct Job {
    pub(super) peer: PeerId,
    pub(super) stream: StreamId,
    pub(super) award: Award,
    pub(super) stage: Stage,
    pub(super) body: Vec<u8>,
    pub(super) prompt_tokens: u64,
    pub(super) window: Window,
    pub(super) text_bytes: u64,
    pub(super) text_hash: TextHash,
    /// The engine was told that there is no room.
    pub(super) blocked: bool,
    pub(super) awarded: Instant,
    pub(super) heard: Instant,
    pub(super) sent: Instant,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Stage {
    /// The body comes.
    Receiving,
    /// Waits for a slot.
    Queued,
    /// Has a slot.
    Running,
    /// End was sent; it waits to be acknowledged.
    Ended { reason: EndReason, until: Instant },
}

impl Job {
    pub(super) fn new(now: Instant, peer: PeerId, stream: StreamId, award: Award, accepted: &Accepted) -> Self {
        Self {
            peer,
            stream,
            stage: Stage::Receiving,
            body: Vec::new(),
            prompt_tokens: 0,
            window: Window::new(accepted.window_tokens, accepted.window_bytes),
            text_bytes: 0,
            text_hash: TextHash::default(),
            blocked: false,
            awarded: now,
            heard: now,
            sent: now,
            award,
        }
    }

    pub(super) const fn is_running(&self) -> bool {
        matches!(self.stage, Stage::Running)
    }

    pub(super) const fn is_ended(&self) -> bool {
        matches!(self.stage, Stage::Ended { .. })
    }

    /// How it ended, if it did.
    pub(super) const fn ended(&self) -> Option<EndReason> {
        match self.stage {
            Stage::Ended { reason, .. } => Some(reason),
            _ => None,
        }
    }

    pub(super) fn is_body_complete(&self) -> bool {
        matches!(self.stage, Stage::Receiving) && self.body.len() as u64 == self.award.body_bytes
    }

    /// When the body would be too slow: it has a while to begin, then a rate to keep.
    pub(super) fn body_due(&self, service: &Service) -> Instant {
        let spent = (self.body.len() as u64).saturating_mul(1000) / service.body_rate.max(1);
        self.awarded.after(service.handshake).after(Millis(spent))
    }

    pub(super) fn timeout(&self, service: &Service) -> Timeout {
        let due = |at, cause| Timeout { at, cause };
        let idle = due(self.heard.after(service.idle), Cause::Idle);
        let life = due(self.sent.after(service.keepalive), Cause::Keepalive);
        match self.stage {
            Stage::Receiving => due(self.body_due(service), Cause::BodyRate).min(idle).min(life),
            Stage::Queued | Stage::Running => idle.min(life),
            Stage::Ended { until, .. } => due(until, Cause::Linger),
        }
    }
}
