//! The way out: no new jobs, time for those that run, a typed end for the rest.

use alloc::vec::Vec;

use crate::{
    machine::{Cause, Timeout},
    time::{Instant, Millis},
    wire::message::EndReason,
};

use super::{
    Provider,
    context::{DeadlineKey, Lifecycle},
};

impl Provider {
    /// Takes no new jobs from now on, and says so to whoever asks: `Draining`, which is held against nobody. Those that run
    /// go on for `patience`; what is left then is ended, typed. Said again, it can only shorten the time.
    pub fn drain(&mut self, now: Instant, patience: Millis) {
        self.cx.advance_clock(now);
        let until = self.cx.now.after(patience);
        self.cx.lifecycle = match self.cx.lifecycle {
            Lifecycle::Open => Lifecycle::Draining { until },
            Lifecycle::Draining { until: before } => Lifecycle::Draining { until: before.min(until) },
            Lifecycle::Shut => Lifecycle::Shut,
        };
        self.on_drain_due();
    }

    /// Ends every job now, typed, and takes no new ones.
    pub fn shut_down(&mut self, now: Instant) {
        self.cx.advance_clock(now);
        self.cx.lifecycle = Lifecycle::Shut;
        self.on_drain_due();
        // Nothing moves up into the slots that become free.
        self.cx.queue.clear();
        let open = self.jobs.values().filter(|job| !job.is_ended()).map(|job| job.id);
        for attempt in open.collect::<Vec<_>>() {
            self.drive(attempt, |job, cx| job.stop(cx, EndReason::Shutdown));
        }
    }

    /// Shuts down, and forgets the jobs whose end nobody acknowledged: nothing more will be heard of them. Each is told of
    /// by `Served`, so that the books are complete. The last call before a provider is dropped.
    pub fn close(&mut self, now: Instant) {
        self.shut_down(now);
        for attempt in self.jobs.keys().copied().collect::<Vec<_>>() {
            self.drive(attempt, |job, _| job.close_books());
        }
    }

    /// True once a provider that drains has nothing more to do: every job is over and acknowledged, or was ended when its
    /// time was up.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        match self.cx.lifecycle {
            Lifecycle::Open => false,
            Lifecycle::Draining { .. } => self.jobs.is_empty(),
            Lifecycle::Shut => true,
        }
    }

    /// Ends what is left when its time is up, and keeps the deadline until then.
    pub(super) fn on_drain_due(&mut self) {
        let until = match self.cx.lifecycle {
            Lifecycle::Draining { until } if until <= self.cx.now => return self.shut_down(self.cx.now),
            Lifecycle::Draining { until } => Some(until),
            Lifecycle::Open | Lifecycle::Shut => None,
        };
        self.cx.deadlines.set(self.cx.now, DeadlineKey::Drain, until.map(|at| Timeout { at, cause: Cause::Drain }));
    }
}
