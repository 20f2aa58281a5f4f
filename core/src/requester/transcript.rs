//! The run of a job: the tokens that were delivered, so that another provider can go on where one broke off.

use alloc::{collections::VecDeque, string::String, vec::Vec};

use crate::wire::{
    MAX_OVERLAP,
    message::{Exactness, ExactnessKind},
};

/// Text and ids delivered so far, from token 0.
#[derive(Clone, PartialEq, Eq, Hash, Default, minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
pub(super) struct Transcript {
    #[n(0)]
    text: String,
    /// Ids of all tokens, as long as every provider told them.
    #[cbor(n(1), with = "minicbor::bytes")]
    ids: Vec<u8>,
    #[n(2)]
    tokens: u64,
    /// Where each of the last chunks began: its first token and its text.
    #[n(3)]
    marks: VecDeque<(u64, usize)>,
    /// What the providers that wrote it promise of equal bytes; nothing if they differ.
    #[n(4)]
    class: Option<Exactness>,
    /// Tokens that the application has taken.
    #[n(5)]
    consumed: u64,
}

/// The part of a run that a provider is given to continue, and what it is to write again as evidence.
#[derive(Clone, PartialEq, Eq, Hash, Default, minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
pub(super) struct Prefix {
    #[n(0)]
    pub(super) tokens: u64,
    #[n(1)]
    pub(super) text_bytes: usize,
    #[n(2)]
    pub(super) id_bytes: usize,
    /// Tokens between the prefix and the run's end.
    #[n(3)]
    pub(super) overlap: u32,
}

impl Transcript {
    pub(super) const fn tokens(&self) -> u64 {
        self.tokens
    }

    pub(super) const fn consumed(&self) -> u64 {
        self.consumed
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Bytes that it holds.
    pub(super) const fn bytes(&self) -> u64 {
        (self.text.len() + self.ids.len()) as u64
    }

    pub(super) fn ids(&self) -> &[u8] {
        &self.ids
    }

    /// Adds what was delivered.
    pub(super) fn push(&mut self, n: u32, text: &str, ids: Option<&[u8]>) {
        self.marks.push_back((self.tokens, self.text.len()));
        while self.marks.front().is_some_and(|(token, _)| self.tokens - token >= u64::from(MAX_OVERLAP)) {
            self.marks.pop_front();
        }
        let all_ids = self.ids.len() as u64 == 4 * self.tokens;
        match ids {
            Some(ids) if all_ids => self.ids.extend_from_slice(ids),
            _ => self.ids.clear(),
        }
        self.tokens += u64::from(n);
        self.text.push_str(text);
    }

    /// Whether pushing could have led here.
    pub(super) fn is_possible(&self) -> bool {
        let Self { text, ids, tokens, marks, class: _, consumed } = self;
        let in_text = marks.iter().all(|(token, at)| token < tokens && text.is_char_boundary(*at));
        let ids_fit = ids.is_empty() || tokens.checked_mul(4) == Some(ids.len() as u64);
        let counted = text.is_empty() || *tokens <= text.len() as u64;
        *tokens < 1 << 56
            && in_text
            && ids_fit
            && counted
            && consumed <= tokens
            && marks.len() <= MAX_OVERLAP as usize + 1
    }

    /// Whether its text is no longer held.
    pub(super) const fn is_forgotten(&self) -> bool {
        self.tokens > 0 && self.text.is_empty()
    }

    /// Sets what the application has taken.
    pub(super) fn set_consumed(&mut self, tokens: u64) {
        self.consumed = tokens.min(self.tokens);
    }

    /// The tokens from `at` on, whose text begins at `text_at`, as text and ids.
    pub(super) fn rest(&self, at: u64, text_at: usize) -> (&str, Option<&[u8]>) {
        let ids_known = self.ids.len() as u64 == 4 * self.tokens;
        let ids = self.ids.get(4 * at as usize..).filter(|_| ids_known);
        (self.text.get(text_at..).unwrap_or_default(), ids)
    }

    /// Keeps only the counts: nobody will continue it.
    pub(super) fn forget_text(&mut self) {
        self.text.clear();
        self.ids.clear();
        self.marks.clear();
    }

    /// The application took tokens; what it was never given does not count.
    pub(super) fn consume(&mut self, tokens: u64) {
        self.consumed = self.consumed.saturating_add(tokens).min(self.tokens);
    }

    /// Notes who writes on: from two classes comes none.
    pub(super) fn is_written_by(&mut self, class: Exactness) {
        self.class = match self.class {
            None if self.tokens == 0 => Some(class),
            Some(own) if own == class => Some(own),
            _ => None,
        };
    }

    /// Whether a provider of this class can be held to the same bytes.
    pub(super) fn can_be_exact(&self, class: Exactness, temperature_milli: u32) -> bool {
        let covers = match class.kind {
            ExactnessKind::None => false,
            ExactnessKind::Greedy => temperature_milli == 0,
            ExactnessKind::Seeded => true,
        };
        covers && self.class == Some(class)
    }

    /// What a provider is given. One that can be held to the same bytes gets ids, and writes the last tokens again.
    pub(super) fn prefix(&self, exact: bool) -> Prefix {
        let whole = Prefix { tokens: self.tokens, text_bytes: self.text.len(), id_bytes: 0, overlap: 0 };
        // The run's first token is no evidence: without it there is no prefix.
        let mark = self.marks.iter().find(|(token, _)| self.tokens - token <= u64::from(MAX_OVERLAP) && *token > 0);
        let ids_known = self.ids.len() as u64 == 4 * self.tokens;
        match mark {
            Some((token, text)) if exact => Prefix {
                tokens: *token,
                text_bytes: *text,
                id_bytes: if ids_known { 4 * *token as usize } else { 0 },
                overlap: (self.tokens - token) as u32,
            },
            _ => whole,
        }
    }
}

impl core::fmt::Debug for Transcript {
    // Without the text: state is printed in failing tests and logs.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Transcript")
            .field("tokens", &self.tokens)
            .field("consumed", &self.consumed)
            .finish_non_exhaustive()
    }
}

impl core::fmt::Debug for Prefix {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} tokens, {} to be written again", self.tokens, self.overlap)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_evidence_begins_at_a_chunk_within_eight_tokens() {
        let mut transcript = Transcript::default();
        for chunk in 0..10_u32 {
            transcript.push(3, "abc", Some(&[chunk as u8; 12]));
        }
        let prefix = transcript.prefix(true);
        assert_eq!((prefix.tokens, prefix.overlap), (24, 6), "the chunk at 24; the one at 21 is 9 back");
        assert_eq!((prefix.text_bytes, prefix.id_bytes), (24, 96));
        let whole = transcript.prefix(false);
        assert_eq!((whole.tokens, whole.overlap, whole.id_bytes), (30, 0, 0));
    }

    #[test]
    fn ids_are_all_or_none() {
        let mut transcript = Transcript::default();
        transcript.push(1, "a", Some(&[0; 4]));
        transcript.push(1, "b", None);
        transcript.push(1, "c", Some(&[0; 4]));
        assert_eq!(transcript.ids(), b"");
        assert_eq!(transcript.prefix(true).id_bytes, 0);
    }

    #[test]
    fn one_class_may_be_exact_two_are_not() {
        let class = |n| Exactness { kind: ExactnessKind::Seeded, class: [n; 32] };
        let mut transcript = Transcript::default();
        transcript.is_written_by(class(1));
        transcript.push(1, "a", None);
        assert!(transcript.can_be_exact(class(1), 800));
        assert!(!transcript.can_be_exact(class(2), 800));
        let greedy = Exactness { kind: ExactnessKind::Greedy, class: [3; 32] };
        let mut other = Transcript::default();
        other.is_written_by(greedy);
        assert!(other.can_be_exact(greedy, 0) && !other.can_be_exact(greedy, 1));
        transcript.is_written_by(class(2));
        assert!(!transcript.can_be_exact(class(1), 800) && !transcript.can_be_exact(class(2), 800));
    }
}
