//! Learns a vocabulary of byte pairs.

use std::collections::{BTreeMap, HashMap};

use crate::words::words;

/// Ids of the two control tokens; the 256 bytes follow, then the merged pairs.
pub(crate) const BOS: u16 = 0;
pub(crate) const EOS: u16 = 1;
pub(crate) const FIRST_BYTE: u16 = 2;

/// A learned vocabulary.
pub(crate) struct Vocab {
    /// The bytes of each token from [`FIRST_BYTE`] on.
    pub(crate) bytes: Vec<Vec<u8>>,
    /// The pairs merged, the most frequent first.
    pub(crate) merges: Vec<(u16, u16)>,
    cache: HashMap<String, Vec<u16>>,
}

impl Vocab {
    /// Learns `size` tokens from documents. Ties go to the lower pair, so that the result depends on the text alone.
    pub(crate) fn learn(documents: &[String], size: usize) -> Self {
        let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
        for word in documents.iter().flat_map(|d| words(d)) {
            *counts.entry(word).or_default() += 1;
        }
        let mut spelled: Vec<(Vec<u16>, u64)> = counts.into_iter().map(|(word, n)| (spell(word), n)).collect();
        let mut vocab = Self { bytes: (0..=255).map(|b| vec![b]).collect(), merges: Vec::new(), cache: HashMap::new() };
        while vocab.len() < size {
            let mut pairs: BTreeMap<(u16, u16), u64> = BTreeMap::new();
            for (word, n) in &spelled {
                for pair in word.windows(2) {
                    *pairs.entry((pair[0], pair[1])).or_default() += n;
                }
            }
            let (&best, _) = pairs.iter().max_by_key(|&(&pair, &n)| (n, std::cmp::Reverse(pair))).expect("enough text");
            let new = vocab.len() as u16;
            let joined = [vocab.token(best.0), vocab.token(best.1)].concat();
            vocab.bytes.push(joined);
            vocab.merges.push(best);
            for (word, _) in &mut spelled {
                merge(word, best, new);
            }
        }
        vocab
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len() + FIRST_BYTE as usize
    }

    fn token(&self, id: u16) -> &[u8] {
        &self.bytes[(id - FIRST_BYTE) as usize]
    }

    /// The tokens of a document with its two control tokens.
    pub(crate) fn encode(&mut self, document: &str, into: &mut Vec<u16>) {
        into.push(BOS);
        for word in words(document) {
            if !self.cache.contains_key(word) {
                let mut tokens = spell(word);
                let first = FIRST_BYTE + 256;
                for (i, &pair) in self.merges.iter().enumerate() {
                    merge(&mut tokens, pair, first + i as u16);
                }
                self.cache.insert(word.to_string(), tokens);
            }
            into.extend(&self.cache[word]);
        }
        into.push(EOS);
    }
}

fn spell(word: &str) -> Vec<u16> {
    word.bytes().map(|b| FIRST_BYTE + u16::from(b)).collect()
}

fn merge(word: &mut Vec<u16>, pair: (u16, u16), new: u16) {
    let mut i = 0;
    while i + 1 < word.len() {
        if (word[i], word[i + 1]) == pair {
            word[i] = new;
            word.remove(i + 1);
        }
        i += 1;
    }
}
