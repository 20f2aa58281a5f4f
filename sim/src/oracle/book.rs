//! What is kept of every job, from its submission to its ending.

use haggle_core::{
    JobId, JobSpec, PeerId, Policy,
    event::Bill,
    money::Tariff,
    spec::Failover,
    wire::{Prompt, message::Features},
};

use super::{Judge, Rule, cost, market::Tries, owed, patience::Wait};
use crate::engine::Answer;

/// A job as the oracle counts it.
#[derive(Clone, Debug)]
pub(super) struct Book {
    pub(super) node: u32,
    pub(super) deadline: u64,
    pub(super) spec: Option<JobSpecFacts>,
    /// Tokens of the run.
    pub(super) tokens: u64,
    /// The first of them that is no text: nobody continues such a run.
    pub(super) aside: Option<u64>,
    /// Tokens of earlier runs, that another provider began anew.
    pub(super) before_restart: u64,
    pub(super) consumed: u64,
    pub(super) lines: Vec<Line>,
    /// The first line of the run.
    pub(super) run: usize,
    /// The last line's attempt may still come to owe more.
    pub(super) is_open: bool,
    pub(super) ended: bool,
    /// It was lost with its node.
    pub(super) died: bool,
    pub(super) tries: Tries,
    pub(super) wait: Option<Wait>,
    /// Of [`crate::points::PHASES`].
    pub(super) phase: u8,
    pub(super) resumed: bool,
    /// Its node came back from a crash: numbers of attempts are skipped.
    pub(super) recovered: bool,
    /// What its node has stored of it: its tries, and whether its last attempt was open.
    pub(super) stored: (Tries, bool),
}

/// What was ordered.
#[derive(Clone, Debug)]
pub(super) struct JobSpecFacts {
    pub(super) model: Vec<u8>,
    pub(super) prompt: Prompt,
    pub(super) seed: u64,
    pub(super) max_tokens: u64,
    pub(super) budget: u128,
    pub(super) failover: Failover,
    pub(super) require: Option<Features>,
    pub(super) exclude: Vec<PeerId>,
    pub(super) retries: u32,
    /// How long a first token is waited for in all, and without a word of the work on it, in ms.
    pub(super) patience: (u64, u64),
}

/// An attempt on its bill.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) attempt: u32,
    pub(super) peer: PeerId,
    pub(super) tariff: Tariff,
    pub(super) tokens: u64,
    /// Tokens that its application was told and lost in a crash, and that may come no more: they were accepted.
    pub(super) lost: u64,
    pub(super) answer: Option<(Answer, u64)>,
}

impl Judge {
    pub(crate) fn submitted(&mut self, job: JobId, node: u32, deadline: u64, policy: &Policy, spec: Option<&JobSpec>) {
        if self.is_away {
            return;
        }
        if let Some(spec) = spec {
            self.asked.insert((node, Answer::new(&[], 0, &spec.prompt, spec.sampling.seed), spec.max_tokens));
        }
        let spec = spec.map(|spec| JobSpecFacts {
            model: spec.criteria.model.as_bytes().to_vec(),
            prompt: spec.prompt.clone(),
            seed: spec.sampling.seed,
            max_tokens: spec.max_tokens,
            budget: spec.budget.map_or(0, u128::from),
            failover: spec.failover,
            require: spec.criteria.require,
            exclude: spec.criteria.exclude.clone(),
            retries: policy.max_retries,
            patience: (policy.first_token.0, policy.work_gap.0),
        });
        let book = Book {
            node,
            deadline,
            spec,
            tokens: 0,
            aside: None,
            before_restart: 0,
            consumed: 0,
            lines: Vec::new(),
            run: 0,
            is_open: false,
            ended: false,
            died: false,
            tries: Tries::default(),
            wait: None,
            phase: 0,
            resumed: false,
            recovered: false,
            stored: <(Tries, bool)>::default(),
        };
        if self.jobs.insert(job, book).is_some() {
            self.fail(Rule::Ending, format_args!("{job:?} was minted twice"));
        }
        self.open.insert((node, job));
    }

    /// The application has taken `tokens` in all.
    pub(crate) fn consumed(&mut self, job: JobId, tokens: u64) {
        if let Some(book) = self.jobs.get_mut(&job) {
            book.consumed = tokens;
        }
    }

    /// Owed by the jobs that ended in a node's present life.
    pub(crate) fn closed(&self, node: u32) -> u128 {
        self.closed.get(&node).copied().unwrap_or(0)
    }

    /// Jobs that have not ended on living nodes.
    pub(crate) fn unended(&self) -> impl Iterator<Item = JobId> + '_ {
        self.open.iter().map(|(_, job)| *job)
    }

    pub(super) fn close(&mut self, node: u32, job: JobId) {
        self.open.remove(&(node, job));
        if let Some(book) = self.jobs.get_mut(&job) {
            book.ended = true;
            *self.closed.entry(node).or_default() += book.owed();
            // Texts are not needed any more.
            book.spec = None;
        }
    }

    pub(super) fn each_open(&mut self, node: u32, change: impl Fn(&mut Book)) {
        for (_, job) in self.open.range((node, JobId([0; 16]))..=(node, JobId([255; 16]))) {
            if let Some(book) = self.jobs.get_mut(job) {
                change(book);
            }
        }
    }
}

impl Book {
    /// Owed for all attempts so far.
    pub(super) fn owed(&self) -> u128 {
        self.lines.iter().map(|line| owed(line.tariff, line.tokens)).sum()
    }

    /// Whether something was delivered that nobody else may go on with: an answer to a request, or one that is not all text.
    // [R9]
    pub(super) fn is_sealed(&self) -> bool {
        let request = self.spec.as_ref().is_some_and(|spec| matches!(spec.prompt, Prompt::Request(_)));
        self.tokens > 0 && (request || self.aside.is_some())
    }

    /// Of what was lost in a crash, counts what the bill says that the requester had accepted.
    // [M3]
    pub(super) fn find_lost(&mut self, bill: &Bill) {
        for (index, line) in self.lines.iter_mut().enumerate().filter(|(_, line)| line.lost > 0) {
            let billed = bill.lines.iter().find(|billed| (billed.attempt, billed.peer) == (line.attempt, line.peer));
            let more = billed.map_or(0, |billed| billed.tokens.saturating_sub(line.tokens));
            if more <= line.lost {
                line.tokens += more;
                *(if index < self.run { &mut self.before_restart } else { &mut self.tokens }) += more;
            }
        }
    }

    /// Owed for closed attempts, and reserved for the open one.
    pub(super) fn held(&self) -> u128 {
        let Some((open, closed)) = self.lines.split_last() else { return 0 };
        let closed: u128 = closed.iter().map(|line| owed(line.tariff, line.tokens)).sum();
        let Some(spec) = self.spec.as_ref().filter(|_| !self.ended && self.is_open) else {
            return closed + owed(open.tariff, open.tokens);
        };
        let before: u64 = self.tokens.saturating_sub(open.tokens);
        closed + cost(open.tariff, spec.max_tokens.saturating_sub(before))
    }
}

impl Line {
    pub(super) fn figures(&self) -> (u32, PeerId, Tariff, u64, u128) {
        (self.attempt, self.peer, self.tariff, self.tokens, owed(self.tariff, self.tokens))
    }
}
