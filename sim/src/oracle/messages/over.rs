//! Cancel, End, Gone and Decline: one side tells the other that an attempt is over.

use haggle_core::{JobId, PeerId};

use crate::oracle::{Judge, Rule};

impl Judge {
    pub(super) fn is_over(&mut self, provider: PeerId, (job, attempt): (JobId, u32)) {
        self.attempts.entry((provider, job, attempt)).or_default().is_over = true;
    }

    pub(super) fn is_cancelled(&mut self, provider: PeerId, (job, attempt): (JobId, u32)) {
        self.attempts.entry((provider, job, attempt)).or_default().is_cancelled = true;
        self.is_over(provider, (job, attempt));
    }

    /// In the end: whoever was left had been told, or had said so itself.
    pub(crate) fn check_fences(&mut self) {
        let left = self.attempts.iter().filter(|(_, known)| known.echoed && !known.is_over);
        let told = |job: &JobId| self.jobs.get(job).is_some_and(|book| !book.died);
        let left: Vec<_> = left.map(|(name, _)| *name).filter(|(_, job, _)| told(job)).collect();
        for (peer, job, attempt) in left {
            self.fail(Rule::Fence, format_args!("{job:?}: {peer:?} is not told that attempt {attempt} is over"));
        }
    }
}
