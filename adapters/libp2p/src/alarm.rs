use std::{
    future::poll_fn,
    task::{Poll, ready},
    time::Instant,
};

use futures::FutureExt;
use futures_timer::Delay;

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
