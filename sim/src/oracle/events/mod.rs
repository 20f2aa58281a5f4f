//! What requesters tell their applications, a file for each kind that needs more than a line.

mod awarded;
mod ended;
mod tokens;

use haggle_core::{Event, JobId, PeerId, event::TakeOver};

use super::{Judge, Rule, book::Book};

impl Judge {
    /// A requester tells something.
    pub(crate) fn event(&mut self, node: u32, event: &Event<'_>) {
        if self.is_away {
            return;
        }
        self.cover_event(event);
        if let Event::Discovered { peer, advert } = event {
            self.advertised(node, *peer, advert);
        }
        let Some(job) = event.job() else { return };
        self.subject = Some(job);
        self.about_job(node, job, event);
        self.subject = None;
    }

    fn about_job(&mut self, node: u32, job: JobId, event: &Event<'_>) {
        let Some(book) = self.jobs.get(&job) else {
            return self.fail(Rule::Ending, format_args!("{} for unknown {job:?}", event.name()));
        };
        if book.ended || book.node != node {
            return self.fail(Rule::Ending, format_args!("{} after the ending of {job:?}", event.name()));
        }
        self.waits(job, event);
        match event {
            Event::Asked { peer, .. } => self.turned_to(node, job, *peer),
            Event::Awarded { attempt, quote, .. } => {
                self.turned_to(node, job, quote.peer);
                self.try_begins(job, quote.peer, quote.offer);
                self.awarded(job, *attempt, quote.peer, quote.tariff);
            }
            // Nothing more comes of an attempt whose provider fell out, or made one more offer instead of accepting.
            Event::PassedOver { peer, why, .. } => {
                self.blamed(job, *peer, *why);
                if self.leaves(job, *peer) {
                    self.try_ends(job, *why);
                }
            }
            Event::Offered { quote, .. } => {
                self.offer_arrives(quote.peer, quote.offer);
                if self.leaves(job, quote.peer) {
                    self.try_is_void(job);
                }
            }
            Event::TakenOver { how, .. } => {
                self.taken_over(job, *how);
                if let Some(book) = self.jobs.get_mut(&job)
                    && *how == TakeOver::Restarted
                {
                    book.before_restart += std::mem::take(&mut book.tokens);
                    book.aside = None;
                    book.run = book.lines.len().saturating_sub(1);
                }
            }
            Event::Negotiated { attempt, peer, tariff, .. } => {
                self.echoed(job, *attempt, *peer);
                let line = self.jobs[&job].lines.last().cloned();
                let agreed = (*attempt, *peer, *tariff);
                if line.as_ref().is_none_or(|line| (line.attempt, line.peer, line.tariff) != agreed) {
                    self.fail(Rule::Terms, format_args!("{job:?} agreed {tariff:?}, awarded {line:?}"));
                }
            }
            Event::Tokens { peer, seq, n, text, ids, channel, .. } => {
                self.tokens(job, *peer, (*seq, u64::from(*n)), (text, *ids), *channel);
            }
            Event::Ended { ending, .. } => {
                self.ended(job, &ending.outcome, &ending.bill);
                self.check_usage(job, &ending.outcome);
                self.check_no_retry(job, ending);
                self.close(node, job);
            }
            _ => {}
        }
        self.check_money(node, job);
    }

    /// Whether the peer was awarded last; then nothing more comes of that.
    fn leaves(&mut self, job: JobId, peer: PeerId) -> bool {
        let Some(book) = self.jobs.get_mut(&job) else { return false };
        let is_last = book.is_open && book.lines.last().is_some_and(|line| line.peer == peer);
        book.is_open &= !is_last;
        is_last
    }

    fn check_money(&mut self, node: u32, job: JobId) {
        let Some(book) = self.jobs.get(&job) else { return };
        if let Some(spec) = &book.spec
            && book.owed().max(book.held()) > spec.budget
        {
            let (held, budget) = (book.held(), spec.budget);
            self.fail(Rule::Budget, format_args!("{job:?} holds {held} of {budget}"));
        }
        let Some(Some(limit)) = self.accounts.get(&node).copied() else { return };
        let open = self.open.range((node, JobId([0; 16]))..=(node, JobId([255; 16])));
        let held: u128 = open.filter_map(|(_, job)| self.jobs.get(job)).map(Book::held).sum();
        let held = held + self.closed.get(&node).copied().unwrap_or(0);
        if held > u128::from(limit) {
            self.fail(Rule::Account, format_args!("all jobs hold {held} of {limit}"));
        }
    }
}
