//! Award: at the price that was asked, and within the job's budget.

use haggle_core::wire::message::Award;
use sha2::{Digest, Sha256};

use super::{Sent, StreamBook, offer::lower};
use crate::oracle::{Judge, Rule, cost};

impl Judge {
    pub(super) fn award_sent(&mut self, sent: Sent, award: &Award, frame: &[u8]) {
        let Sent { stream, provider, core, unasked, .. } = sent;
        self.subject = Some(award.job);
        let book = self.streams.entry(stream).or_default();
        let (asked, terms) = (book.asked, Sha256::digest(frame).into());
        let dear = award.offer.is_some() && asked.is_some_and(|asked| lower(asked, award.tariff) != award.tariff);
        let (attempt, awarded) = ((award.job, award.attempt), Some((award.offer, award.tariff)));
        let epoch = award.epoch;
        *book = StreamBook { attempt: Some(attempt), epoch, terms, awarded, unasked, ..StreamBook::default() };
        if core && dear {
            let what = format_args!("{:?} is awarded, {asked:?} was asked before", award.tariff);
            self.fail(Rule::Terms, what);
        }
        let known = self.attempts.entry((provider, award.job, award.attempt)).or_default();
        known.prefix = award.prefix_tokens;
        known.acked = known.acked.max(award.prefix_tokens);
        self.says_epoch(provider, attempt, epoch, core);
        if core {
            self.check_room(sent, award);
        }
    }

    /// The requester has room for all that it orders.
    // [M4]
    fn check_room(&mut self, sent: Sent, award: &Award) {
        let Some(book) = self.jobs.get(&award.job) else { return };
        let Some(spec) = &book.spec else { return };
        let (job, ordered) = (award.job, award.max_tokens - u64::from(award.overlap));
        let (total, budget) = (book.owed() + cost(award.tariff, ordered), spec.budget);
        if total > budget {
            self.fail(Rule::Budget, format_args!("{job:?} awards {:?} for {total} of {budget}", sent.provider));
        }
    }
}
