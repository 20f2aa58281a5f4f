//! Byte-pair encoding with the vocabulary of a model file. Bytes without a token, as some control characters in some
//! vocabularies, are not read: what they stand for is unknown to the model.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};

use crate::gguf::{Gguf, LoadError, Value, malformed, unsupported};
use crate::words::{Rule, byte_to_char};

/// Rank and result of merging two tokens; the lowest rank goes first.
type Merges = HashMap<(u32, u32), (u32, u32)>;

/// A vocabulary.
pub(crate) struct Tokenizer {
    /// The bytes of all tokens, one after the other, and where each one ends.
    bytes: Vec<u8>,
    ends: Vec<u32>,
    /// What each token may do.
    uses: Vec<Use>,
    /// The token of each single byte, where there is one.
    singles: [Option<u32>; 256],
    merges: Merges,
    rule: Rule,
    longest: usize,
    /// Put before a prompt.
    pub(crate) begin: Option<u32>,
    /// Ends an answer.
    pub(crate) end: Vec<u32>,
    /// Begins and ends a turn of a conversation in ChatML.
    pub(crate) turns: Option<(u32, u32)>,
}

/// Control tokens that end an answer whatever else the file names: models write them at the end of a text or a turn.
const ENDS: [&str; 5] = ["<|endoftext|>", "<|im_end|>", "<|end|>", "<|eot_id|>", "</s>"];
const CONTROL: i32 = 3;

impl Tokenizer {
    pub(crate) fn load(gguf: &Gguf) -> Result<Self, LoadError> {
        let (model, words) = (gguf.text("tokenizer.ggml.model")?, gguf.text("tokenizer.ggml.pre")?);
        let rule = Rule::named(words).filter(|_| model == "gpt2").ok_or_else(|| {
            unsupported(format!("its vocabulary is {model}/{words}; gpt2/gpt-2 and gpt2/smollm are known"))
        })?;
        let spelled = gguf.texts("tokenizer.ggml.tokens")?;
        let kinds = gguf.integers("tokenizer.ggml.token_type")?.unwrap_or_else(|| vec![1; spelled.len()]);
        if spelled.is_empty() || kinds.len() != spelled.len() {
            return Err(malformed("the vocabulary is empty or its types are of another number"));
        }
        if kinds.contains(&4) {
            return Err(unsupported("its vocabulary has tokens of type 4 (user defined)"));
        }
        let spelling = (0..=255).map(|byte| (byte_to_char(byte), byte)).collect();
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        let mut ids = HashMap::new();
        for (&token, &kind) in spelled.iter().zip(&kinds) {
            if kind == 1 {
                spell(token, &spelling, &mut bytes)?;
                if token.is_empty() || ids.insert(token, ends.len() as u32).is_some() {
                    return Err(malformed(format!("token {token:?} is empty or occurs twice")));
                }
            }
            ends.push(bytes.len() as u32);
        }
        let single = |byte: u8| ids.get(byte_to_char(byte).encode_utf8(&mut [0; 4]) as &str).copied();
        let mut singles = [None; 256];
        (0..=255).zip(&mut singles).for_each(|(byte, token)| *token = single(byte));
        if let Some(byte) = (b' '..=b'~').find(|byte| singles[usize::from(*byte)].is_none()) {
            return Err(unsupported(format!("{:?} has no token in its vocabulary", char::from(byte))));
        }
        let longest = spelled.iter().map(|token| token.len()).max().unwrap_or(1);
        let merges = merges(gguf, &ids)?;
        let begin = match gguf.value("tokenizer.ggml.add_bos_token") {
            Some(Value::Flag(false)) => None,
            _ => special(gguf, "tokenizer.ggml.bos_token_id", ends.len())?,
        };
        let end = ["tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id"].map(|k| special(gguf, k, ends.len()));
        let mut end: Vec<u32> = end.into_iter().filter_map(Result::transpose).collect::<Result<_, _>>()?;
        let controls: BTreeMap<&str, u32> = (spelled.iter().zip(0..).zip(&kinds))
            .filter_map(|((token, id), kind)| (*kind == CONTROL).then_some((*token, id)))
            .collect();
        end.extend(ENDS.iter().filter_map(|token| controls.get(token)));
        end.sort_unstable();
        end.dedup();
        let turns = ["<|im_start|>", "<|im_end|>"].map(|token| controls.get(token).copied());
        let turns = match turns {
            [Some(begin), Some(end)] => Some((begin, end)),
            _ => None,
        };
        let mut tokenizer = Self { bytes, ends, uses: Vec::new(), singles, merges, rule, longest, begin, end, turns };
        tokenizer.uses = (0..).zip(&kinds).map(|(id, &kind)| Use::of(kind, tokenizer.bytes(id))).collect();
        Ok(tokenizer)
    }

    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// What a token stands for; nothing for control tokens.
    pub(crate) fn bytes(&self, token: u32) -> &[u8] {
        let end = |i: u32| self.ends[i as usize] as usize;
        &self.bytes[token.checked_sub(1).map_or(0, end)..end(token)]
    }

    /// Whether a token stands for text.
    pub(crate) fn is_text(&self, token: u32) -> bool {
        self.uses.get(token as usize).is_some_and(|&uses| uses != Use::Control)
    }

    /// Whether a token may come next after the bytes of an unfinished character, if there are any: the answer is
    /// UTF-8 throughout, and ends only after a whole character.
    pub(crate) fn may_follow(&self, open: &[u8], token: u32) -> bool {
        match self.uses[token as usize] {
            Use::Control => open.is_empty() && self.end.contains(&token),
            Use::Begin => open.is_empty() || begins_text(&[open, self.bytes(token)].concat()),
            Use::Within => !open.is_empty() && begins_text(&[open, self.bytes(token)].concat()),
        }
    }

    /// Fewer tokens than this never spell a text of so many bytes.
    pub(crate) fn least(&self, bytes: usize) -> usize {
        bytes / self.longest
    }

    /// The tokens of a text. Control tokens written out in it are text like any other.
    pub(crate) fn encode(&self, text: &str, into: &mut Vec<u32>) {
        for word in self.rule.words(text) {
            self.encode_word(word.as_bytes(), into);
        }
    }

    /// Merges neighbours, the lowest rank first and of equals the leftmost.
    fn encode_word(&self, word: &[u8], into: &mut Vec<u32>) {
        let mut links: Vec<Link> = (word.iter().enumerate())
            .map(|(i, &byte)| Link { token: self.singles[usize::from(byte)], before: i.wrapping_sub(1), after: i + 1 })
            .collect();
        let mut queue = BinaryHeap::new();
        for left in 0..links.len() {
            self.propose(&links, left, &mut queue);
        }
        while let Some(Reverse((_, left, pair, merged))) = queue.pop() {
            if pair_at(&links, left) != Some(pair) {
                continue; // One of the two has been merged otherwise.
            }
            let right = links[left].after;
            links[right].token = None;
            links[left].token = Some(merged);
            let after = links[right].after;
            links[left].after = after;
            if let Some(next) = links.get_mut(after) {
                next.before = left;
            }
            self.propose(&links, left, &mut queue);
            self.propose(&links, links[left].before, &mut queue);
        }
        into.extend(links.iter().filter_map(|link| link.token));
    }

    fn propose(&self, links: &[Link], left: usize, queue: &mut BinaryHeap<Reverse<Proposal>>) {
        if let Some(pair) = pair_at(links, left)
            && let Some(&(rank, merged)) = self.merges.get(&pair)
        {
            queue.push(Reverse((rank, left, pair, merged)));
        }
    }
}

/// What a token may do.
#[derive(Clone, Copy, PartialEq)]
enum Use {
    /// It stands for no text.
    Control,
    /// It may begin a text.
    Begin,
    /// It can only go on within a character.
    Within,
}

impl Use {
    fn of(kind: i32, bytes: &[u8]) -> Self {
        match kind {
            1 if begins_text(bytes) => Self::Begin,
            1 => Self::Within,
            _ => Self::Control,
        }
    }
}

/// Whether these bytes are text, or become text when more follow.
fn begins_text(bytes: &[u8]) -> bool {
    match str::from_utf8(bytes) {
        Ok(_) => true,
        Err(error) => error.error_len().is_none(),
    }
}

/// A token within a word that is being merged, or none where one has been.
struct Link {
    token: Option<u32>,
    before: usize,
    after: usize,
}

/// Rank, place, the two tokens, their result.
type Proposal = (u32, usize, (u32, u32), u32);

fn pair_at(links: &[Link], left: usize) -> Option<(u32, u32)> {
    let link = links.get(left)?;
    Some((link.token?, links.get(link.after)?.token?))
}

fn spell(token: &str, spelling: &HashMap<char, u8>, into: &mut Vec<u8>) -> Result<(), LoadError> {
    for c in token.chars() {
        into.push(*spelling.get(&c).ok_or_else(|| malformed(format!("token {token:?} stands for no bytes")))?);
    }
    Ok(())
}

fn merges(gguf: &Gguf, ids: &HashMap<&str, u32>) -> Result<Merges, LoadError> {
    let mut merges = HashMap::new();
    for (rank, merge) in gguf.texts("tokenizer.ggml.merges")?.into_iter().enumerate() {
        let pair = merge.split_once(' ').and_then(|(left, right)| {
            let joined = [left, right].concat();
            Some(((*ids.get(left)?, *ids.get(right)?), *ids.get(joined.as_str())?))
        });
        let (pair, merged) = pair.ok_or_else(|| malformed(format!("merge {merge:?} is not one of tokens")))?;
        merges.entry(pair).or_insert((rank as u32, merged));
    }
    Ok(merges)
}

fn special(gguf: &Gguf, key: &str, vocabulary: usize) -> Result<Option<u32>, LoadError> {
    match gguf.value(key) {
        None => Ok(None),
        Some(_) => gguf.number(key, 0..=vocabulary as u64 - 1).map(|id| Some(id as u32)),
    }
}

#[cfg(test)]
mod tests {
    use super::Tokenizer;
    use crate::gguf::Gguf;
    use crate::sample;

    const FILE: &[u8] = include_bytes!("../model/haggle-tiny-stories.gguf");

    const TEXTS: [&str; 8] = [
        "Once upon a time, there was a little fox named Lily.",
        "It's what I'd say: we've 12345 things they'll   never, ever forget...",
        "  spaces \n\n\t and\r\nlines \u{a0} ",
        "\u{1f600}\u{1f1e6}\u{1f1f9} \u{fc}ber \u{4e16}\u{754c} \u{0} \u{10ffff}",
        "<|begin|><|end|>",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "theretherethetheerehertthehe forestforestforest",
        "",
    ];

    fn tokenizer() -> Tokenizer {
        Tokenizer::load(&Gguf::parse(FILE).expect("sound")).expect("sound")
    }

    fn encode(tokenizer: &Tokenizer, text: &str) -> Vec<u32> {
        let mut tokens = Vec::new();
        tokenizer.encode(text, &mut tokens);
        tokens
    }

    /// The rule as it is written down: merge the pair of the lowest rank, the leftmost first, until none is left.
    fn plainly(tokenizer: &Tokenizer, text: &str) -> Vec<u32> {
        let mut all = Vec::new();
        for word in tokenizer.rule.words(text) {
            let mut tokens: Vec<u32> = word.bytes().filter_map(|b| tokenizer.singles[usize::from(b)]).collect();
            let best = |tokens: &[u32]| {
                let pairs = tokens.windows(2).enumerate();
                pairs.filter_map(|(i, p)| tokenizer.merges.get(&(p[0], p[1])).map(|&(rank, to)| (rank, i, to))).min()
            };
            while let Some((_, at, merged)) = best(&tokens) {
                tokens.splice(at..at + 2, [merged]);
            }
            all.extend(tokens);
        }
        all
    }

    #[test]
    fn tokens_spell_their_text() {
        let tokenizer = tokenizer();
        for text in TEXTS {
            let tokens = encode(&tokenizer, text);
            let bytes: Vec<u8> = tokens.iter().flat_map(|&token| tokenizer.bytes(token).to_vec()).collect();
            assert_eq!(bytes, text.as_bytes());
            assert!(
                tokens.len() >= tokenizer.least(text.len()) && tokens.iter().all(|&token| tokenizer.is_text(token))
            );
        }
        assert!(encode(&tokenizer, TEXTS[0]).len() < TEXTS[0].len() / 2, "merges are applied");
    }

    #[test]
    fn the_queue_merges_as_the_plain_rule() {
        let tokenizer = tokenizer();
        for text in TEXTS {
            assert_eq!(encode(&tokenizer, text), plainly(&tokenizer, text), "{text:?}");
        }
    }

    /// Recorded from llama.cpp with the same vocabulary.
    #[test]
    fn tokens_are_those_of_llama_cpp() {
        let recorded: [(&str, &[u32]); 3] = [
            (
                "Once upon a time, it's \u{fc}ber \u{1f600}  x\n\ny",
                &[
                    439, 440, 260, 438, 46, 302, 41, 117, 34, 197, 190, 100, 281, 34, 242, 161, 154, 130, 34, 34, 122,
                    12, 12, 123,
                ],
            ),
            (
                "  spaces \n\n\t and\r\nlines 'tis we'll 12345 ",
                &[
                    34, 261, 114, 99, 101, 298, 34, 12, 12, 11, 273, 15, 12, 110, 271, 298, 34, 41, 118, 296, 262, 103,
                    41, 280, 34, 51, 52, 53, 54, 55, 34,
                ],
            ),
            (
                "Tell me a story about a dragon.\nOnce upon a time",
                &[86, 392, 333, 260, 372, 123, 476, 260, 272, 339, 105, 283, 48, 12, 439, 440, 260, 438],
            ),
        ];
        for (text, tokens) in recorded {
            assert_eq!(encode(&tokenizer(), text), tokens, "{text:?}");
        }
    }

    /// Recorded from llama.cpp (node-llama-cpp 3.22.1) with the same file.
    #[test]
    fn tokens_of_smollm2_are_those_of_llama_cpp() {
        let recorded: [(&str, &[u32]); 7] = [
            (
                "In 2024, it's 7 up: we'll pay $12,345.67!",
                &[
                    788, 216, 34, 32, 34, 36, 28, 357, 506, 216, 39, 614, 42, 392, 3060, 2290, 1885, 33, 34, 28, 35,
                    36, 37, 30, 38, 39, 17,
                ],
            ),
            ("  two  spaces\n\n\tand\r\n tabs  5", &[216, 827, 216, 5600, 1116, 197, 397, 2738, 29416, 256, 37]),
            (
                "def f(x):\n    return x**2  # \u{fc}ber \u{4e16}\u{754c}\u{1f600}\n",
                &[
                    1604, 275, 24, 104, 727, 472, 1003, 1792, 828, 34, 216, 907, 5549, 137, 593, 216, 7906, 240, 178,
                    239, 230, 10813, 242, 218, 198,
                ],
            ),
            (
                "\u{939}\u{93f}\u{928}\u{94d}\u{926}\u{940} \u{e20}\u{e32}\u{e29}\u{e32} \u{2163} x\u{b2} \u{661}\u{662}",
                &[
                    4300, 134, 27011, 30658, 16525, 44757, 37189, 216, 10283, 250, 43662, 10283, 119, 43662, 216, 173,
                    223, 113, 1792, 19133, 216, 164, 111, 164, 112,
                ],
            ),
            ("a\u{4}b \u{50000}c", &[81, 82, 216, 234, 218, 218, 83]),
            ("e\u{301} \u{feff}x\u{200b}\u{a0}y", &[85, 151, 219, 216, 186, 136, 140, 104, 321, 229, 15442, 105]),
            ("I'LL It'S don't", &[57, 23, 16421, 657, 23, 67, 1326, 982]),
        ];
        let Some(path) = sample::smollm2() else { return };
        let file = std::fs::read(path).expect("the file");
        let tokenizer = Tokenizer::load(&Gguf::parse(&file).expect("sound")).expect("sound");
        for (text, tokens) in recorded {
            assert_eq!(encode(&tokenizer, text), tokens, "{text:?}");
        }
    }

    #[test]
    fn a_word_of_any_length_takes_time_in_proportion() {
        // At the square of its length this would take an hour.
        assert!(encode(&tokenizer(), &"stories".repeat(100_000)).len() > 100_000);
    }
}
