//! Ended: in time, with the whole answer and the right bill, as its engine says that it ended.

use haggle_core::{
    JobId,
    event::{Bill, Ending, Failure, Finished, NoRetry, Outcome},
    spec::Failover,
    wire::message::EndReason,
};

use crate::{
    engine,
    oracle::{Judge, Rule, book::Line},
};

impl Judge {
    pub(super) fn ended(&mut self, job: JobId, outcome: &Outcome, bill: &Bill) {
        let Some(book) = self.jobs.get_mut(&job) else { return };
        book.find_lost(bill);
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
        if bill.owed != own || bill.tokens != tokens + book.before_restart || !agree || !counted || idle {
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

    /// How the answer ended, and what of it was thought and of the prompt known before, is what the engine said.
    // [X1]
    pub(super) fn check_usage(&mut self, job: JobId, outcome: &Outcome) {
        let Outcome::Finished(Finished::Answer { reason, prompt_tokens, tokens, thought, cached }) = outcome else {
            return;
        };
        let Some(book) = self.jobs.get(&job) else { return };
        let (Some(spec), Some(line)) = (&book.spec, book.lines.last()) else { return };
        let Some((answer, length)) = line.answer else { return };
        let count = engine::prompt_tokens(&spec.prompt);
        let thoughts = answer.thoughts(tokens.saturating_sub(line.tokens)..*tokens);
        let cut_short = length.max(1) > spec.max_tokens;
        let said = (
            if cut_short { EndReason::Length } else { answer.end() },
            count,
            (thoughts > 0).then_some(thoughts),
            answer.cached(count),
        );
        let told = (*reason, *prompt_tokens, *thought, *cached);
        // Where all tokens came and only the End is missing, nothing was said.
        let is_unsaid = told == (EndReason::Length, 0, None, None) && *tokens == spec.max_tokens;
        if told != said && !is_unsaid {
            self.fail(Rule::Usage, format_args!("{job:?} ends as {told:?}, its engine says {said:?}"));
        }
    }

    /// Where somebody saw what nobody can continue, it says that.
    // [R9]
    pub(super) fn check_no_retry(&mut self, job: JobId, ending: &Ending) {
        let Some(book) = self.jobs.get(&job).filter(|book| book.is_sealed()) else { return };
        let continues = book.spec.as_ref().is_some_and(|spec| spec.failover == Failover::Continue);
        let why = ending.no_retry;
        let broke = matches!(ending.outcome, Outcome::Failed(Failure::Interrupted(_)));
        if continues && broke && !matches!(why, Some(NoRetry::Forgotten | NoRetry::Complete)) {
            self.fail(Rule::Failover, format_args!("{job:?} can not be continued, and is given up for {why:?}"));
        }
    }
}
