//! Ended: in time, with the whole answer and the right bill.

use haggle_core::{
    JobId,
    event::{Bill, Finished, Outcome},
};

use crate::oracle::{Judge, Rule, book::Line};

impl Judge {
    pub(super) fn ended(&mut self, job: JobId, outcome: &Outcome, bill: &Bill) {
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
}
