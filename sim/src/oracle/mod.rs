//! The rules, kept by separate books: nothing here asks the core what is right.

mod bytes;
mod market;
mod reach;
mod rules;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use haggle_core::{
    Event, JobId, JobSpec, PeerId, ProviderEvent,
    event::{Bill, Finished, Outcome, ServedReason, TakeOver, Work},
    money::Tariff,
    spec::Failover,
    wire::Prompt,
};

pub use rules::{Broken, Rule};

use self::{
    bytes::{AttemptBook, StreamBook},
    market::{Promise, Tries},
};
use crate::{
    engine::Answer,
    points::{Group, Points},
};

/// What is owed for an attempt, by the oracle's own formula (rule M2).
#[must_use]
pub fn owed(tariff: Tariff, tokens: u64) -> u128 {
    if tokens == 0 { 0 } else { cost(tariff, tokens) }
}

fn cost(tariff: Tariff, tokens: u64) -> u128 {
    let micros = u128::from(tariff.price_out) * u128::from(tokens);
    // Asked at every event; most fit into 64 bits, which divide far faster.
    let whole = match u64::try_from(micros) {
        Ok(micros) => u128::from(micros.div_ceil(1_000_000)),
        Err(_) => micros.div_ceil(1_000_000),
    };
    u128::from(tariff.fee_in) + whole
}

/// A model's own name and its aliases, and the length of the answers of the engine behind it, and its class.
type Listing = (Vec<Vec<u8>>, u64, u8);

/// The oracle's books.
#[derive(Clone, Debug, Default)]
pub(crate) struct Judge {
    pub(crate) broken: Vec<Broken>,
    pub(crate) now: u64,
    /// The job that is being looked at.
    pub(crate) subject: Option<JobId>,
    jobs: BTreeMap<JobId, Book>,
    /// Jobs by requester whose ending is still to come.
    open: BTreeSet<(u32, JobId)>,
    accounts: BTreeMap<u32, Option<u64>>,
    /// Owed by ended jobs.
    closed: BTreeMap<u32, u128>,
    /// Models and names of honest providers, with the length of their engine's answers.
    catalog: BTreeMap<PeerId, Vec<Listing>>,
    streams: BTreeMap<u64, StreamBook>,
    attempts: BTreeMap<(PeerId, JobId, u32), AttemptBook>,
    slots: BTreeMap<u32, (u32, u32)>,
    /// What was asked to be computed, ended jobs included: a cancelled one may still start.
    asked: BTreeSet<(u32, Answer, u64)>,
    /// Who is banned by hand, and by whom.
    by_hand: BTreeSet<(u32, PeerId)>,
    /// Which points were reached.
    pub(crate) points: Points,
    actors: BTreeMap<PeerId, (Group, usize)>,
    offers: BTreeMap<(PeerId, u64), Promise>,
    /// Who lost everything it knew, or whose clock stepped over the time for which it keeps it.
    forgetful: BTreeSet<PeerId>,
    /// Bytes were changed on their way: who seems to break the protocol may be innocent.
    pub(crate) is_noisy: bool,
    /// Clocks differ, or stood still: what a node takes for time is its own.
    pub(crate) is_skewed: bool,
    /// It does not look at all.
    is_away: bool,
}

#[derive(Clone, Debug)]
struct Book {
    node: u32,
    deadline: u64,
    spec: Option<JobSpecFacts>,
    /// Tokens of the run; of earlier runs, that another provider began anew.
    tokens: u64,
    stale: u64,
    consumed: u64,
    lines: Vec<Line>,
    /// The last line's attempt may still come to owe more.
    is_open: bool,
    ended: bool,
    /// It was lost with its node.
    died: bool,
    tries: Tries,
    /// Of [`crate::points::PHASES`].
    phase: u8,
    resumed: bool,
    /// Its node came back from a crash: numbers of attempts are skipped.
    recovered: bool,
    /// What its node has stored of it: its tries, and whether its last attempt was open.
    stored: (Tries, bool),
}

#[derive(Clone, Debug)]
struct JobSpecFacts {
    model: Vec<u8>,
    prompt: Prompt,
    seed: u64,
    max_tokens: u64,
    budget: u128,
    failover: Failover,
    exclude: Vec<PeerId>,
    retries: u32,
}

#[derive(Clone, Debug)]
struct Line {
    attempt: u32,
    peer: PeerId,
    tariff: Tariff,
    tokens: u64,
    answer: Option<(Answer, u64)>,
}

impl Judge {
    /// From now on nothing is judged, which is said at once.
    pub(crate) fn look_away(&mut self) {
        self.is_away = true;
        self.fail(Rule::Watched, "this world has no oracles: nothing of it is judged");
    }

    pub(crate) const fn is_away(&self) -> bool {
        self.is_away
    }

    pub(crate) fn fail(&mut self, rule: Rule, what: impl fmt::Display) {
        if self.broken.len() < 100 {
            self.broken.push(Broken { rule, at: self.now, job: self.subject, what: what.to_string() });
        }
    }

    pub(crate) fn provider(&mut self, node: u32, peer: PeerId, models: Vec<Listing>, slots: u32) {
        self.catalog.insert(peer, models);
        self.slots.insert(node, (0, slots));
    }

    pub(crate) fn account(&mut self, node: u32, budget: Option<u64>) {
        self.accounts.insert(node, budget);
    }

    pub(crate) fn submitted(&mut self, job: JobId, node: u32, deadline: u64, retries: u32, spec: Option<&JobSpec>) {
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
            exclude: spec.criteria.exclude.clone(),
            retries,
        });
        let book = Book {
            node,
            deadline,
            spec,
            tokens: 0,
            stale: 0,
            consumed: 0,
            lines: Vec::new(),
            is_open: false,
            ended: false,
            died: false,
            tries: Tries::default(),
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

    /// A node stands still until then: no job of it ends before.
    pub(crate) fn sleeps(&mut self, node: u32, until: u64) {
        self.each_open(node, |book| book.deadline = book.deadline.max(until));
    }

    /// A node's clock was set: it may take for old what is not.
    pub(crate) fn clock_set(&mut self, node: u32) {
        self.forgetful.insert(crate::node::peer_id(node));
    }

    /// A node's clock makes its deadlines come later.
    pub(crate) fn delayed(&mut self, node: u32, ms: u64) {
        self.each_open(node, |book| book.deadline = book.deadline.saturating_add(ms));
    }

    fn each_open(&mut self, node: u32, change: impl Fn(&mut Book)) {
        for (_, job) in self.open.range((node, JobId([0; 16]))..=(node, JobId([255; 16]))) {
            if let Some(book) = self.jobs.get_mut(job) {
                change(book);
            }
        }
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
        phases.into_iter().for_each(|phase| self.reach(Group::Recovery, phase));
    }

    /// The application lost so many of the last tokens that it was told: they are to be told again.
    pub(crate) fn forgotten(&mut self, job: JobId, tokens: u64) {
        let Some(book) = self.jobs.get_mut(&job) else { return };
        book.recovered = true;
        book.tokens = book.tokens.saturating_sub(tokens);
        let mut left = tokens;
        for line in book.lines.iter_mut().rev() {
            let part = left.min(line.tokens);
            line.tokens -= part;
            left -= part;
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

    fn close(&mut self, node: u32, job: JobId) {
        self.open.remove(&(node, job));
        if let Some(book) = self.jobs.get_mut(&job) {
            book.ended = true;
            *self.closed.entry(node).or_default() += book.owed();
            // Texts are not needed any more.
            book.spec = None;
        }
    }

    pub(crate) fn event(&mut self, node: u32, event: &Event<'_>) {
        if self.is_away {
            return;
        }
        self.reach_event(event);
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
                    book.stale += std::mem::take(&mut book.tokens);
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
            Event::Tokens { peer, seq, n, text, ids, .. } => {
                self.tokens(job, *peer, *seq, u64::from(*n), text, *ids);
            }
            Event::Ended { ending, .. } => {
                self.ended(job, &ending.outcome, &ending.bill);
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

    fn awarded(&mut self, job: JobId, attempt: u32, peer: PeerId, tariff: Tariff) {
        let Some(book) = self.jobs.get_mut(&job) else { return };
        let Some(spec) = &book.spec else {
            return self.fail(Rule::Terms, format_args!("{job:?} awards, but only asked"));
        };
        let names = self.catalog.get(&peer).and_then(|models| {
            models
                .iter()
                .find(|(names, ..)| names.contains(&spec.model))
                .map(|(names, length, class)| (&names[0], *length, *class))
        });
        let answer = names.map(|(own, length, class)| (Answer::new(own, class, &spec.prompt, spec.seed), length));
        let last = book.lines.last();
        let follows = attempt == last.map_or(1, |line| line.attempt + 1)
            || last.is_some_and(|line| line.attempt == attempt && line.tokens == 0)
            || (book.recovered && last.is_none_or(|line| line.attempt < attempt));
        book.is_open = true;
        book.lines.push(Line { attempt, peer, tariff, tokens: 0, answer });
        if !follows {
            self.fail(Rule::Terms, format_args!("{job:?} awards attempt {attempt} out of turn"));
        }
    }

    fn tokens(&mut self, job: JobId, peer: PeerId, seq: u64, n: u64, text: &str, ids: Option<&[u8]>) {
        let Some(book) = self.jobs.get_mut(&job) else { return };
        let expected = book.tokens;
        book.tokens += n;
        let max = book.spec.as_ref().map_or(0, |spec| spec.max_tokens);
        let over = book.tokens > max;
        // What was told before a crash is told again as one piece.
        let retold = book.recovered;
        let Some(line) = book.lines.last_mut().filter(|line| line.peer == peer) else {
            return self.fail(Rule::Seq, format_args!("{job:?}: tokens of {peer:?}, who was not awarded last"));
        };
        line.tokens += n;
        let (attempt, end) = (line.attempt, seq + n);
        let differs = line.answer.is_some_and(|(answer, _)| {
            let ids_differ = ids.is_some_and(|ids| {
                !ids.chunks(4)
                    .map(<[u8]>::to_vec)
                    .eq((seq..seq + n).map(|index| answer.id(index).to_le_bytes().to_vec()))
            });
            ids_differ || text != (seq..seq + n).map(|index| answer.token(index)).collect::<String>()
        });
        if seq != expected || n == 0 || over {
            self.fail(Rule::Seq, format_args!("{job:?}: {n} tokens at {seq}, expected {expected} of {max}"));
        }
        if differs {
            self.fail(Rule::Text, format_args!("{job:?}: token {seq} is not the engine's"));
        }
        if !retold && !self.was_sent(job, attempt, peer, end, text) {
            self.fail(Rule::Text, format_args!("{job:?}: nobody sent token {seq} like that"));
        }
    }

    fn ended(&mut self, job: JobId, outcome: &Outcome, bill: &Bill) {
        let Some(book) = self.jobs.get(&job) else { return };
        let (own, tokens) = (book.owed(), book.tokens);
        let late = self.now > book.deadline;
        let lines: Vec<_> = book.lines.iter().filter(|line| line.tokens > 0).map(Line::figures).collect();
        let billed: Vec<_> = bill.lines.iter().filter(|line| line.tokens > 0).collect();
        let agree = lines.len() == billed.len()
            && lines
                .iter()
                .zip(&billed)
                .all(|(own, line)| *own == (line.attempt, line.peer, line.tariff, line.tokens, line.owed));
        let alone = lines.len() == 1 && book.lines.last().is_some_and(|line| line.tokens > 0);
        let whole = match (outcome, book.lines.last().and_then(|line| line.answer)) {
            // Of several providers, each has its own idea of where the answer ends.
            (Outcome::Finished(Finished::Answer { .. }), Some((_, length))) if alone => {
                tokens == length.max(1).min(book.spec.as_ref().map_or(0, |spec| spec.max_tokens))
            }
            _ => true,
        };
        let counted = !matches!(outcome, Outcome::Finished(Finished::Answer { tokens: told, .. }) if *told != tokens);
        let idle = bill.lines.iter().any(|line| line.tokens == 0 && line.owed > 0);
        let deadline = book.deadline;
        if bill.owed != own || bill.tokens != tokens + book.stale || !agree || !counted || idle {
            self.fail(Rule::Bill, format_args!("{job:?}: billed {bill:?}, own count {own} for {tokens} tokens"));
        }
        if !whole {
            self.fail(
                Rule::Text,
                format_args!("{job:?} finished after {tokens} tokens, which is not the whole answer"),
            );
        }
        if late {
            self.fail(Rule::Deadline, format_args!("{job:?} should have ended by {deadline} ms"));
        }
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

    /// The application has taken `tokens` in all.
    pub(crate) fn consumed(&mut self, job: JobId, tokens: u64) {
        if let Some(book) = self.jobs.get_mut(&job) {
            book.consumed = tokens;
        }
    }

    /// Checks what a provider's engine is given; a slot is taken.
    pub(crate) fn started(&mut self, node: u32, work: &Work, honest: bool) {
        let (used, slots) = self.slots.entry(node).or_default();
        *used += 1;
        let (used, slots) = (*used, *slots);
        if used > slots {
            self.fail(Rule::Slots, format_args!("{used} jobs on {slots} slots"));
        }
        let content = Answer::new(&[], 0, &work.prompt, work.sampling.seed);
        let max_tokens = work.prefix_tokens + work.max_tokens;
        let asked =
            crate::node::node_of(work.peer).is_some_and(|node| self.asked.contains(&(node, content, max_tokens)));
        if honest && !asked && !self.is_away {
            self.fail(Rule::Work, format_args!("{:?} did not ask for what is computed", work.peer));
        }
    }

    /// A slot is free again.
    pub(crate) fn stopped(&mut self, node: u32) {
        if let Some((used, _)) = self.slots.get_mut(&node) {
            *used = used.saturating_sub(1);
        }
    }

    /// What a provider tells of itself, against the requester's own count.
    pub(crate) fn provider_event(&mut self, peer: PeerId, event: &ProviderEvent) {
        let ProviderEvent::Served { job, attempt, tariff, reason, tokens, acked, owed: claimed, .. } = event else {
            return;
        };
        if acked > tokens {
            self.fail(Rule::Ack, format_args!("{acked} of {tokens} tokens acknowledged"));
        }
        let book = self.jobs.get(job);
        let line = book.and_then(|book| book.lines.iter().find(|line| (line.attempt, line.peer) == (*attempt, peer)));
        let Some(line) = line.cloned() else { return };
        let whole = matches!(reason, ServedReason::Acknowledged(_));
        let agree = if whole { *acked == line.tokens } else { *acked <= line.tokens };
        if !agree || line.tariff != *tariff || *claimed != owed(*tariff, *acked) {
            self.fail(Rule::Ledger, format_args!("{job:?}: {line:?}, the provider says {event:?}"));
        }
    }
}

impl Book {
    /// Owed for all attempts so far.
    fn owed(&self) -> u128 {
        self.lines.iter().map(|line| owed(line.tariff, line.tokens)).sum()
    }

    /// Owed for closed attempts, and reserved for the open one.
    fn held(&self) -> u128 {
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
    fn figures(&self) -> (u32, PeerId, Tariff, u64, u128) {
        (self.attempt, self.peer, self.tariff, self.tokens, owed(self.tariff, self.tokens))
    }
}
