//! Awarded: attempts are counted on, and what will be written is known.

use haggle_core::{JobId, PeerId, money::Tariff};

use crate::{
    engine::Answer,
    oracle::{Judge, Rule, book::Line},
};

impl Judge {
    pub(super) fn awarded(&mut self, job: JobId, attempt: u32, peer: PeerId, tariff: Tariff) {
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
        book.lines.push(Line { attempt, peer, tariff, tokens: 0, lost: 0, answer });
        if !follows {
            self.fail(Rule::Terms, format_args!("{job:?} awards attempt {attempt} out of turn"));
        }
    }
}
