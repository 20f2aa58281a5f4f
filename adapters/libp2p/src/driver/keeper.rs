//! When the machines' state is written down: at once where it must not be lost, else at a calm pace.

use std::time::{Duration, Instant as Clock};

use haggle_core::{Event, ProviderEvent};

use super::Driver;
use crate::state::{PROVIDER, REQUESTER, State};

/// What is not urgent is written no more often.
const PACE: Duration = Duration::from_secs(1);
/// Writing takes no more than one part in so many of the time.
const SHARE: u32 = 20;

/// The state directory, and what in it is out of date.
pub(super) struct Keeper {
    pub(super) state: State,
    requester: Stale,
    provider: Stale,
    /// When what can wait is written.
    pub(super) due: Option<Clock>,
    pause: Duration,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stale {
    No,
    Calm,
    Urgent,
}

impl Keeper {
    pub(super) fn new(state: State) -> Self {
        // What was restored goes on under new names: that is written before it is said.
        Keeper { state, requester: Stale::Urgent, provider: Stale::Urgent, due: None, pause: PACE }
    }

    pub(super) fn heard(&mut self, event: &Event<'_>) {
        let stale = match event {
            Event::Awarded { .. } | Event::Resumed { .. } | Event::TakenOver { .. } | Event::Ended { .. } => {
                Stale::Urgent
            }
            Event::Tokens { .. } | Event::PassedOver { .. } | Event::Cut { .. } => Stale::Calm,
            _ => Stale::No,
        };
        self.requester = self.requester.max(stale);
    }

    pub(super) fn served(&mut self, event: &ProviderEvent) {
        if matches!(event, ProviderEvent::Start { .. } | ProviderEvent::Served { .. }) {
            self.provider = Stale::Urgent;
        }
    }
}

impl Driver {
    /// The requester was changed by its application, and that must not be lost.
    pub(super) fn keep_at_once(&mut self) {
        if let Some(keeper) = &mut self.keeper {
            keeper.requester = Stale::Urgent;
        }
    }

    /// It was changed, and that can wait.
    pub(super) fn keep_later(&mut self) {
        if let Some(keeper) = &mut self.keeper {
            keeper.requester = keeper.requester.max(Stale::Calm);
        }
    }

    /// Writes down what has to be, before anything else happens.
    pub(super) fn keep(&mut self, all: bool) {
        let now = self.now();
        let Some(keeper) = &mut self.keeper else { return };
        let clock = Clock::now();
        let is_due = keeper.due.is_some_and(|due| due <= clock);
        let write = |stale: Stale| stale == Stale::Urgent || (stale == Stale::Calm && is_due) || all;
        let mut written = Ok(());
        if write(keeper.requester) {
            written = keeper.state.store(REQUESTER, &self.requester.snapshot(now));
            keeper.requester = Stale::No;
            keeper.pause = PACE.max(clock.elapsed() * SHARE);
            keeper.due = None;
        }
        if let Some(provider) = self.provider.as_ref().filter(|_| write(keeper.provider)) {
            written = written.and(keeper.state.store(PROVIDER, &provider.snapshot(now)));
            keeper.provider = Stale::No;
        }
        if keeper.requester == Stale::Calm && keeper.due.is_none() {
            keeper.due = clock.checked_add(keeper.pause);
        }
        if let Err(error) = written {
            self.on_failure("state", error.to_string());
        }
    }
}
