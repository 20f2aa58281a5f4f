//! What providers compute, and what they say that they served.

use haggle_core::{
    PeerId, ProviderEvent,
    event::{ServedReason, Work},
};

use super::{Judge, Rule, owed};
use crate::engine::Answer;

impl Judge {
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

    /// An attempt is over at its provider; `honest`: its requester is the core.
    pub(crate) fn served(&mut self, event: &ProviderEvent, honest: bool) {
        let ProviderEvent::Served { peer, reason, .. } = event else { return };
        if honest && !self.is_noisy && matches!(reason, ServedReason::Violation(_)) {
            self.fail(Rule::Blame, format_args!("{reason:?} is said of {peer:?}, who kept the protocol"));
        }
    }
}
