//! Award: at the price that was asked, within the job's budget, and nothing to be continued that nobody can.

use haggle_core::wire::message::Award;
use sha2::{Digest, Sha256};

use super::{Sent, StreamBook, offer::lower};
use crate::oracle::{Judge, Rule, book::Book, cost, features};

impl Judge {
    pub(super) fn award_sent(&mut self, sent: Sent, award: &Award, frame: &[u8]) {
        let Sent { stream, provider, core, unasked, .. } = sent;
        self.subject = Some(award.job);
        let book = self.streams.entry(stream).or_default();
        let (asked, terms) = (book.asked, Sha256::digest(frame).into());
        let dear = award.offer.is_some() && asked.is_some_and(|asked| lower(asked, award.tariff) != award.tariff);
        let (attempt, awarded) = ((award.job, award.attempt), Some((award.offer, award.tariff)));
        let (epoch, needs) = (award.epoch, features::needs(award));
        *book = StreamBook { attempt: Some(attempt), epoch, terms, awarded, needs, unasked, ..StreamBook::default() };
        if core && dear {
            let what = format_args!("{:?} is awarded, {asked:?} was asked before", award.tariff);
            self.fail(Rule::Terms, what);
        }
        let known = self.attempts.entry((provider, award.job, award.attempt)).or_default();
        known.prefix = award.prefix_tokens;
        let is_first = known.said == 0;
        known.acked = known.acked.max(award.prefix_tokens);
        self.says_epoch(provider, attempt, epoch, core);
        if core {
            self.check_room(sent, award);
            self.check_prefix(award);
        }
        // One that is repeated stays what it was, whatever the provider says of itself by then.
        if core && is_first {
            self.check_needs(provider, award);
        }
    }

    /// What nobody can continue is shown to nobody.
    // [R9]
    fn check_prefix(&mut self, award: &Award) {
        let sealed = self.jobs.get(&award.job).is_some_and(Book::is_sealed);
        if award.prefix_tokens > 0 && sealed {
            self.fail(Rule::Failover, format_args!("{:?} is to be continued, which nobody can", award.job));
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
