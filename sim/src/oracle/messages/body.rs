//! Body: the prompt, in order and within its credit; and nowhere else.

use haggle_core::{JobId, wire::Prompt};

use super::Sent;
use crate::oracle::{Judge, Rule, book::JobSpecFacts};

/// Bytes of a prompt that give it away.
const MARK: usize = 16;

impl Judge {
    pub(super) fn body_sent(&mut self, sent: Sent, offset: u64, bytes: &[u8]) {
        if !sent.core {
            return;
        }
        let book = self.streams.entry(sent.stream).or_default();
        let in_order = book.body_sent == offset;
        book.body_sent += bytes.len() as u64;
        let (total, credit) = (book.body_sent, book.body_credit.max(book.unasked));
        let Some((job, _)) = book.attempt else {
            return self.fail(Rule::Secrecy, "a body is sent where nothing was awarded");
        };
        let spec = self.jobs.get(&job).and_then(|book| book.spec.as_ref());
        let Some(JobSpecFacts { prompt: prompt @ (Prompt::Raw(text) | Prompt::Request(text)), .. }) = spec else {
            return;
        };
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let rest = text.as_bytes().get(start..).unwrap_or_default();
        let same = match prompt {
            // [R9] Nothing is behind it.
            Prompt::Request(_) => rest.starts_with(bytes),
            // Behind the prompt comes what was delivered.
            _ => bytes.starts_with(&rest[..rest.len().min(bytes.len())]),
        };
        if !in_order || !same || total > credit {
            self.fail(
                Rule::Body,
                format_args!("{job:?}: {total} bytes of body sent, credit {credit}, as asked: {same}"),
            );
        }
    }

    /// Whether a frame holds a piece of a prompt of the requester.
    pub(super) fn tells_prompt(&self, node: u32, frame: &[u8]) -> bool {
        let open = self.open.range((node, JobId([0; 16]))..=(node, JobId([255; 16])));
        open.filter_map(|(_, job)| self.jobs.get(job)?.spec.as_ref()).any(|spec| match &spec.prompt {
            Prompt::Raw(text) | Prompt::Request(text) if text.len() >= MARK => {
                let (head, tail) = (&text.as_bytes()[..MARK], &text.as_bytes()[text.len() - MARK..]);
                frame.windows(MARK).any(|window| window == head || window == tail)
            }
            _ => false,
        })
    }
}
