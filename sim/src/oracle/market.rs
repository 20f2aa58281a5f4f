//! Who is asked, awarded, tried again and blamed: the rules of the market beyond money.

use haggle_core::{
    JobId, PeerId,
    event::{Interrupted, PassedOver, TakeOver},
    spec::Failover,
};

use super::{Judge, Rule};

/// No job is tried again sooner after its provider broke off, in ms.
const SHORTEST_PAUSE: u64 = 100;

/// What a job's tries come to.
#[derive(Clone, Debug, Default)]
pub(super) struct Tries {
    /// Awards that count: neither declined nor never sent.
    counted: u32,
    /// The last award may still turn out not to count.
    is_fresh: bool,
    /// When a provider last broke off.
    broke: Option<u64>,
}

impl Judge {
    /// A node bans a peer by hand, or allows it again.
    pub(crate) fn banned(&mut self, node: u32, peer: PeerId, is_banned: bool) {
        if is_banned {
            self.by_hand.insert((node, peer));
        } else {
            self.by_hand.remove(&(node, peer));
        }
    }

    /// A provider is asked or awarded.
    pub(super) fn turned_to(&mut self, node: u32, job: JobId, peer: PeerId) {
        if self.by_hand.contains(&(node, peer)) {
            self.fail(Rule::Excluded, format_args!("{job:?} turns to {peer:?}, who is banned by hand"));
        }
        let spec = self.jobs.get(&job).and_then(|book| book.spec.as_ref());
        if spec.is_some_and(|spec| spec.exclude.contains(&peer)) {
            self.fail(Rule::Excluded, format_args!("{job:?} turns to {peer:?}, whom it excludes"));
        }
    }

    pub(super) fn try_begins(&mut self, job: JobId, peer: PeerId, offer: Option<u64>) {
        let now = self.now;
        if let Some(promised) = offer.and_then(|offer| self.offers.get(&(peer, offer)))
            && promised.until <= now
            && !self.is_skewed
        {
            let until = promised.until;
            self.fail(Rule::Offers, format_args!("{job:?} awards an offer that bound until {until} ms"));
        }
        let Some(book) = self.jobs.get_mut(&job) else { return };
        book.tries.counted += 1;
        book.tries.is_fresh = true;
        let (counted, broke) = (book.tries.counted, book.tries.broke.take());
        let (delivered, sealed) = (book.lines.iter().any(|line| line.tokens > 0), book.is_sealed());
        let Some((retries, failover)) = book.spec.as_ref().map(|spec| (spec.retries, spec.failover)) else { return };
        if counted > retries + 1 {
            self.fail(Rule::Attempts, format_args!("{job:?} is tried {counted} times, {retries} retries are allowed"));
        }
        if !self.is_skewed && broke.is_some_and(|broke| now < broke + SHORTEST_PAUSE) {
            self.fail(Rule::Attempts, format_args!("{job:?} is tried again at once"));
        }
        if delivered && failover == Failover::Never {
            self.fail(Rule::Failover, format_args!("{job:?} is never to be taken over, and is awarded again"));
        }
        // [R9]
        if sealed && failover == Failover::Continue {
            self.fail(Rule::Failover, format_args!("{job:?} can not be continued, and is awarded again"));
        }
    }

    /// The provider that was awarded last is out.
    pub(super) fn try_ends(&mut self, job: JobId, why: PassedOver) {
        let now = self.now;
        let Some(book) = self.jobs.get_mut(&job) else { return };
        if std::mem::take(&mut book.tries.is_fresh) && matches!(why, PassedOver::Declined(_) | PassedOver::Stream(_)) {
            book.tries.counted -= 1;
        }
        if matches!(why, PassedOver::Interrupted(_)) {
            book.tries.broke = Some(now);
        }
    }

    /// The provider that was awarded last makes one more offer instead of accepting.
    pub(super) fn try_is_void(&mut self, job: JobId) {
        if let Some(book) = self.jobs.get_mut(&job)
            && std::mem::take(&mut book.tries.is_fresh)
        {
            book.tries.counted -= 1;
        }
    }

    /// Nobody who keeps the protocol is said to break it.
    pub(super) fn blamed(&mut self, job: JobId, peer: PeerId, why: PassedOver) {
        let accused = matches!(
            why,
            PassedOver::Violation(_) | PassedOver::Interrupted(Interrupted::Violation(_) | Interrupted::Accused)
        );
        if accused && self.catalog.contains_key(&peer) && !self.is_noisy {
            self.fail(Rule::Blame, format_args!("{job:?}: {why:?} is said of {peer:?}, who kept the protocol"));
        }
    }

    pub(super) fn taken_over(&mut self, job: JobId, how: TakeOver) {
        let Some(book) = self.jobs.get(&job) else { return };
        let Some(spec) = &book.spec else { return };
        let fits = match how {
            TakeOver::Restarted => matches!(spec.failover, Failover::Restart | Failover::ContinueOrRestart),
            TakeOver::Exact | TakeOver::Spliced => {
                matches!(spec.failover, Failover::Continue | Failover::ContinueOrRestart)
            }
        };
        let run = book.lines.get(book.run..).unwrap_or_default();
        let wrote: Vec<_> = run.iter().filter(|line| line.tokens > 0).chain(run.last()).collect();
        let same = wrote.windows(2).all(|pair| {
            pair.iter().all(|line| line.answer.is_some())
                && pair[0].answer.map(|answer| answer.0) == pair[1].answer.map(|answer| answer.0)
        });
        let sealed = book.is_sealed();
        if !fits {
            self.fail(Rule::Failover, format_args!("{job:?} is taken over: {how:?}, which was not ordered"));
        }
        // [R9]
        if how != TakeOver::Restarted && sealed {
            self.fail(Rule::Failover, format_args!("{job:?} is taken over: {how:?}, which nobody can"));
        }
        if how == TakeOver::Exact && !same {
            self.fail(Rule::Failover, format_args!("{job:?} is said to go on exactly, by another class"));
        }
    }
}
