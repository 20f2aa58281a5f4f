//! Resume and Resumed: every stream of an attempt has an epoch of its own, newer than the last.

use haggle_core::{JobId, PeerId};

use super::{Sent, StreamBook};
use crate::oracle::{Judge, Rule};

impl Judge {
    pub(super) fn resume_sent(&mut self, sent: Sent, attempt: (JobId, u32), epoch: u32) {
        self.subject = Some(attempt.0);
        let book = StreamBook { attempt: Some(attempt), epoch, ..StreamBook::default() };
        self.streams.insert(sent.stream, book);
        self.says_epoch(sent.provider, attempt, epoch, sent.core);
    }

    pub(super) fn resumed_sent(&mut self, sent: Sent, attempt: (JobId, u32)) {
        let epoch = self.streams.entry(sent.stream).or_default().epoch;
        self.attaches(sent.provider, attempt, epoch, sent.core);
    }

    /// A requester says which epoch of an attempt begins: one that it never said before, not even before a crash.
    pub(super) fn says_epoch(&mut self, to: PeerId, (job, attempt): (JobId, u32), epoch: u32, core: bool) {
        let known = self.attempts.entry((to, job, attempt)).or_default();
        let newest = known.said;
        known.said = newest.max(epoch);
        if core && epoch <= newest {
            self.fail(Rule::Epoch, format_args!("{job:?}: epoch {epoch} of attempt {attempt} begins, it had {newest}"));
        }
    }

    /// A provider attaches an attempt to the stream.
    pub(super) fn attaches(&mut self, from: PeerId, (job, attempt): (JobId, u32), epoch: u32, core: bool) {
        let known = self.attempts.entry((from, job, attempt)).or_default();
        let newest = known.epoch;
        known.epoch = newest.max(epoch);
        if core && epoch <= newest {
            self.fail(Rule::Epoch, format_args!("{job:?} attaches to epoch {epoch}, it had {newest} already"));
        }
    }
}
