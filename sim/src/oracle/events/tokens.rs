//! Tokens: dense, once, in order, and what the engine wrote, in its channels.

use haggle_core::{JobId, PeerId, wire::message::Channel};

use crate::oracle::{Judge, Rule};

impl Judge {
    // [W1] [W2]
    pub(super) fn tokens(
        &mut self,
        job: JobId,
        peer: PeerId,
        (seq, n): (u64, u64),
        (text, ids): (&str, Option<&[u8]>),
        channel: Option<Channel>,
    ) {
        let Some(book) = self.jobs.get_mut(&job) else { return };
        let expected = book.tokens;
        book.tokens += n;
        if channel.is_some() {
            book.aside.get_or_insert(seq);
        }
        let max = book.spec.as_ref().map_or(0, |spec| spec.max_tokens);
        let over = book.tokens > max;
        // What was told before a crash is told again as one piece.
        let retold = book.recovered;
        let Some(line) = book.lines.last_mut().filter(|line| line.peer == peer) else {
            return self.fail(Rule::Seq, format_args!("{job:?}: tokens of {peer:?}, who was not awarded last"));
        };
        line.tokens += n;
        // It goes on: what was lost comes again.
        line.lost = 0;
        let (attempt, end) = (line.attempt, seq + n);
        let differs = line.answer.is_some_and(|(answer, _)| {
            let ids_differ = ids.is_some_and(|ids| {
                !ids.chunks(4)
                    .map(<[u8]>::to_vec)
                    .eq((seq..seq + n).map(|index| answer.id(index).to_le_bytes().to_vec()))
            });
            let strays = (seq..seq + n).any(|index| answer.channel(index) != channel);
            ids_differ || strays || text != (seq..seq + n).map(|index| answer.token(index)).collect::<String>()
        });
        if seq != expected || n == 0 || over {
            self.fail(Rule::Seq, format_args!("{job:?}: {n} tokens at {seq}, expected {expected} of {max}"));
        }
        if differs {
            self.fail(Rule::Text, format_args!("{job:?}: token {seq} is not the engine's"));
        }
        if !retold && !self.was_sent((job, attempt, peer), end, (text, channel)) {
            self.fail(Rule::Text, format_args!("{job:?}: nobody sent token {seq} like that"));
        }
    }
}
