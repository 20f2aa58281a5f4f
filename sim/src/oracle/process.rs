//! What becomes of nodes: they sleep, die, store, crash and come back, and their clocks are set.

use haggle_core::JobId;

use super::Judge;
use crate::points::Group;

impl Judge {
    /// A node stands still until then: no job of it ends before.
    pub(crate) fn sleeps(&mut self, node: u32, until: u64) {
        self.each_open(node, |book| {
            book.deadline = book.deadline.max(until);
            book.wait = None;
        });
    }

    /// A node's clock was set: it may take for old what is not.
    pub(crate) fn clock_set(&mut self, node: u32) {
        self.forgetful.insert(crate::node::peer_id(node));
    }

    /// A node's clock makes its deadlines come later.
    pub(crate) fn delayed(&mut self, node: u32, ms: u64) {
        self.each_open(node, |book| {
            book.deadline = book.deadline.saturating_add(ms);
            book.wait = None;
        });
    }

    /// The node is dead: its jobs can not be ended any more, its slots are gone.
    pub(crate) fn died(&mut self, node: u32) {
        let jobs: Vec<_> = self.open.iter().filter(|(owner, _)| *owner == node).copied().collect();
        for (node, job) in jobs {
            self.close(node, job);
            self.jobs.entry(job).and_modify(|book| book.died = true);
        }
        // Whom it had left is not told any more.
        self.jobs.values_mut().filter(|book| book.node == node).for_each(|book| book.died = true);
        // A new life's account knows nothing of the old one's.
        self.closed.remove(&node);
        self.forgetful.insert(crate::node::peer_id(node));
        self.by_hand.retain(|(owner, _)| *owner != node);
        self.slots_freed(node);
    }

    /// The node's process is gone, and with it what it computed. Its jobs will go on.
    pub(crate) fn slots_freed(&mut self, node: u32) {
        if let Some((used, _)) = self.slots.get_mut(&node) {
            *used = 0;
        }
    }

    /// The node has stored its state.
    pub(crate) fn stored(&mut self, node: u32) {
        self.each_open(node, |book| book.stored = (book.tries.clone(), book.is_open));
    }

    /// The node's memory is gone: it will know what it had stored.
    pub(crate) fn crashed(&mut self, node: u32) {
        let mut phases = Vec::new();
        for (_, job) in self.open.range((node, JobId([0; 16]))..=(node, JobId([255; 16]))) {
            if let Some(book) = self.jobs.get_mut(job) {
                (book.tries, book.is_open) = book.stored.clone();
                phases.push(usize::from(book.phase));
            }
        }
        phases.into_iter().for_each(|phase| self.cover(Group::Recovery, phase));
    }

    /// The application lost so many of the last tokens that it was told: they are to be told again.
    pub(crate) fn forgotten(&mut self, job: JobId, tokens: u64) {
        let Some(book) = self.jobs.get_mut(&job) else { return };
        book.recovered = true;
        book.tokens = book.tokens.saturating_sub(tokens);
        let is_aside = book.aside.is_some();
        book.aside = book.aside.filter(|first| *first < book.tokens);
        let mut left = tokens;
        for line in book.lines.iter_mut().rev() {
            let part = left.min(line.tokens);
            line.tokens -= part;
            // Nobody keeps the text of a run that is not all text.
            line.lost = if is_aside { part } else { 0 };
            left -= part;
        }
    }
}
