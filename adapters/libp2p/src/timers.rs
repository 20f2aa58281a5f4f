//! Timers: those of `futures-timer`, which every runtime has, and a count of them.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::atomic::{AtomicUsize, Ordering},
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use futures::FutureExt;

static SET: AtomicUsize = AtomicUsize::new(0);

/// How many timers the nodes of this process have set. A node that was stopped has none. Those that libp2p sets live inside of
/// its tasks, and end with them.
pub fn timers() -> usize {
    SET.load(Ordering::SeqCst)
}

/// A timer that rings once.
#[derive(Debug)]
pub(crate) struct Delay(futures_timer::Delay);

impl Delay {
    pub(crate) fn new(after: Duration) -> Self {
        SET.fetch_add(1, Ordering::SeqCst);
        Delay(futures_timer::Delay::new(after))
    }
}

impl Future for Delay {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.0.poll_unpin(cx)
    }
}

impl Drop for Delay {
    fn drop(&mut self) {
        SET.fetch_sub(1, Ordering::SeqCst);
    }
}

/// One timer for a deadline that moves often, mostly to later: the timer is set again only when it has to ring earlier,
/// or has rung too early.
#[derive(Debug, Default)]
pub(crate) struct Alarm(Option<(Instant, Delay)>);

impl Alarm {
    /// Waits until `due`; for ever without one.
    pub(crate) async fn at(&mut self, due: Option<Instant>) {
        poll_fn(|cx| {
            let Some(due) = due else { return Poll::Pending };
            loop {
                let now = Instant::now();
                if due <= now {
                    return Poll::Ready(());
                }
                let (_, timer) = match &mut self.0 {
                    Some(set) if set.0 <= due => set,
                    unset => unset.insert((due, Delay::new(due - now))),
                };
                ready!(timer.poll_unpin(cx));
                self.0 = None;
            }
        })
        .await;
    }
}
