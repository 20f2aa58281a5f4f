//! What makes time pass for one who waits.

use std::{
    future::poll_fn,
    pin::pin,
    sync::Weak,
    task::{Context, Poll, Waker},
};

/// A time that passes only while somebody waits: that of a simulated network.
pub(crate) trait Simulated: Send + Sync {
    /// Lets it pass until somebody was told something, for a task that has nothing yet. False: nothing is left to happen.
    /// `seen` is what the task knows of how far it went.
    fn pass(&self, seen: &mut Option<u64>, waker: &Waker) -> bool;

    /// There is something to do for a network at rest.
    fn stir(&self);
}

/// The time of a node. The real one passes by itself.
#[derive(Clone, Default)]
pub(crate) struct TimeSource {
    simulated: Option<Weak<dyn Simulated>>,
    seen: Option<u64>,
}

impl TimeSource {
    #[cfg(feature = "testing")]
    pub(crate) fn simulated(time: Weak<dyn Simulated>) -> Self {
        TimeSource { simulated: Some(time), seen: None }
    }

    pub(crate) fn is_simulated(&self) -> bool {
        self.simulated.is_some()
    }

    /// Whether it is that of one certain simulated network.
    #[cfg(feature = "testing")]
    pub(crate) fn is_of<T: Simulated>(&self, network: &std::sync::Arc<T>) -> bool {
        let of = std::sync::Arc::as_ptr(network);
        self.simulated.as_ref().is_some_and(|time| std::ptr::addr_eq(time.as_ptr(), of))
    }

    /// Polls, and lets a simulated network go on if there is nothing yet.
    pub(crate) fn poll<T>(
        &mut self,
        cx: &mut Context<'_>,
        mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        let mut polled = poll(cx);
        let simulated = self.simulated.as_ref().filter(|_| polled.is_pending()).and_then(Weak::upgrade);
        if let Some(time) = simulated {
            let has_passed = time.pass(&mut self.seen, cx.waker());
            polled = poll(cx);
            if polled.is_pending() {
                if has_passed {
                    cx.waker().wake_by_ref();
                }
                return polled;
            }
        }
        self.seen = None;
        polled
    }

    /// Waits, and lets a simulated network go on meanwhile.
    pub(crate) async fn wait<F: Future>(&self, future: F) -> F::Output {
        let mut future = pin!(future);
        let mut time_source = self.clone();
        poll_fn(|cx| time_source.poll(cx, |cx| future.as_mut().poll(cx))).await
    }

    /// There is something to do for a simulated network at rest.
    pub(crate) fn stir(&self) {
        if let Some(time) = self.simulated.as_ref().and_then(Weak::upgrade) {
            time.stir();
        }
    }
}

impl std::fmt::Debug for TimeSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TimeSource").field("is_simulated", &self.is_simulated()).finish_non_exhaustive()
    }
}
