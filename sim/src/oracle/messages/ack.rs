//! Ack: no more than the application has taken.

use super::Sent;
use crate::oracle::{Judge, Rule};

impl Judge {
    pub(super) fn ack_sent(&mut self, sent: Sent, next: u64, end: bool) {
        let Some((job, attempt)) = self.attached(sent.stream) else { return };
        let known = self.attempts.entry((sent.provider, job, attempt)).or_default();
        known.acked = known.acked.max(next);
        known.is_over |= end;
        // The end's acknowledgement says that all has arrived; nothing depends on the application any more.
        if !sent.core || end {
            return;
        }
        let book = self.jobs.get(&job);
        let consumed = book.map_or(0, |book| book.consumed.saturating_sub(book.before_restart)).max(known.prefix);
        if next > consumed {
            self.fail(Rule::Ack, format_args!("{job:?} acknowledges {next}, {consumed} were consumed"));
        }
    }
}
