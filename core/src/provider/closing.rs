//! The way out: no new jobs, time for those that run, a typed end for the rest.

use alloc::vec::Vec;

use crate::{
    event::{ProviderEvent, ServedReason},
    id::AttemptId,
    machine::{Cause, Timeout},
    time::{Instant, Millis},
    wire::message::EndReason,
};

use super::{
    DeadlineKey, Provider,
    job::{Job, JobState},
};

/// Whether new jobs are taken.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Lifecycle {
    Open,
    /// Jobs that were taken before go on until then.
    Draining {
        until: Instant,
    },
    Shut,
}

impl Provider {
    /// Takes no new jobs from now on, and says so to whoever asks: `Draining`, which is held against nobody. Those that run
    /// go on for `patience`; what is left then is ended, typed. Said again, it can only shorten the time.
    pub fn drain(&mut self, now: Instant, patience: Millis) {
        self.advance_clock(now);
        let until = self.now.after(patience);
        self.lifecycle = match self.lifecycle {
            Lifecycle::Open => Lifecycle::Draining { until },
            Lifecycle::Draining { until: before } => Lifecycle::Draining { until: before.min(until) },
            Lifecycle::Shut => Lifecycle::Shut,
        };
        self.on_drain_due();
    }

    /// Ends every job now, typed, and takes no new ones.
    pub fn shut_down(&mut self, now: Instant) {
        self.advance_clock(now);
        self.lifecycle = Lifecycle::Shut;
        self.on_drain_due();
        // Nothing moves up into the slots that become free.
        self.queue.clear();
        let open: Vec<AttemptId> = self.jobs.iter().filter(|(_, job)| !job.is_ended()).map(|(id, _)| *id).collect();
        for attempt in open {
            if self.jobs.get(&attempt).is_some_and(Job::is_running) {
                self.outbox.event(ProviderEvent::Stop { attempt });
            }
            self.end_attempt(attempt, EndReason::Shutdown);
        }
    }

    /// Shuts down, and forgets the jobs whose end nobody acknowledged: nothing more will be heard of them. Each is told of
    /// by `Served`, so that the books are complete. The last call before a provider is dropped.
    pub fn close(&mut self, now: Instant) {
        self.shut_down(now);
        for (id, reason, stream) in self.jobs.iter().filter_map(left_over).collect::<Vec<_>>() {
            self.drop_job(id, ServedReason::Unacknowledged(reason));
            if let Some(stream) = stream {
                self.close_stream(stream);
            }
        }
    }

    /// True once a provider that drains has nothing more to do: every job is over and acknowledged, or was ended when its
    /// time was up.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        match self.lifecycle {
            Lifecycle::Open => false,
            Lifecycle::Draining { .. } => self.jobs.is_empty(),
            Lifecycle::Shut => true,
        }
    }

    pub(super) const fn is_closing(&self) -> bool {
        !matches!(self.lifecycle, Lifecycle::Open)
    }

    /// Ends what is left when its time is up, and keeps the deadline until then.
    pub(super) fn on_drain_due(&mut self) {
        let until = match self.lifecycle {
            Lifecycle::Draining { until } if until <= self.now => return self.shut_down(self.now),
            Lifecycle::Draining { until } => Some(until),
            Lifecycle::Open | Lifecycle::Shut => None,
        };
        self.deadlines.set(self.now, DeadlineKey::Drain, until.map(|at| Timeout { at, cause: Cause::Drain }));
    }
}

fn left_over((id, job): (&AttemptId, &Job)) -> Option<(AttemptId, EndReason, Option<crate::id::StreamId>)> {
    match job.state {
        JobState::Ended { reason, .. } => Some((*id, reason, job.stream())),
        _ => None,
    }
}
