//! The scripted engine: a model without a model. Its text is a pure function, so that an oracle can check every byte.

use std::ops::Range;

use haggle_core::wire::{
    Prompt,
    message::{Channel, EndReason},
};

use crate::dice::mix;

/// How an engine behaves.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EngineScript {
    /// Time to load the model, in ms: its server lets it go after each answer.
    pub load: u64,
    /// Whether it tells what it does before its first token.
    pub tells: bool,
    /// Time to read the prompt, in ms.
    pub prefill: u64,
    /// Time to write a token, in ms.
    pub token: u64,
    /// Tokens handed over at once, at least 1.
    pub piece: u32,
    /// Tokens after which the model ends its answer by itself.
    pub length: u64,
    /// Its class: engines of the same class write the same answer. One from [`Answer::IN_CHANNELS`] on thinks aloud, refuses
    /// and calls tools between its words.
    pub class: u8,
    /// Whether token ids are told.
    pub ids: bool,
    /// What goes wrong, if anything: at which token, and how.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trouble: Option<(u64, Trouble)>,
    /// In how many of 1,000 attempts, drawn for each.
    pub trouble_permille: u32,
}

/// What can go wrong in an engine.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trouble {
    /// It ends with an error.
    Fail(EndReason),
    /// It panics: what it was about to hand over is lost, and its guard reports an engine failure.
    Panic,
    /// It pauses for so many ms.
    Pause(u64),
    /// It never says anything again.
    Hang,
    /// It writes other tokens than its class and seed promise. The oracles tell: a plant that shows that they look.
    Misspell,
}

impl Default for EngineScript {
    fn default() -> Self {
        Self {
            load: 0,
            tells: true,
            prefill: 40,
            token: 10,
            piece: 1,
            length: 40,
            class: 0,
            ids: true,
            trouble: None,
            trouble_permille: 1000,
        }
    }
}

/// What an engine writes: the text of one (model, prompt, seed).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Answer {
    key: u64,
    in_channels: bool,
}

/// Fragments of one to seven bytes, one to four bytes a character.
const WORDS: [&str; 16] =
    [" the", " price", " of", ".", " é", "日", " 本語", "🙂", " a", "ß", " Ω", " market", "\n", " моё", "-", " haggle"];

/// Pieces of tool calls: a token of that channel is one JSON object.
const CALLS: [&str; 4] = [
    r#"{"index":0,"id":"c0","function":{"name":"look"}}"#,
    r#"{"index":0,"function":{"arguments":"{\"at\":"}}"#,
    r#"{"index":0,"function":{"arguments":"\"日\"}"}}"#,
    r#"{"index":1,"id":"c1","function":{"name":"buy","arguments":"{}"}}"#,
];

/// A channel is kept for so many tokens at least.
const SPAN: u64 = 4;

impl Answer {
    /// Engines of this class and of those above write in every channel.
    pub const IN_CHANNELS: u8 = 128;

    /// The answer of a model to a prompt under a sampling seed, by an engine of this class.
    #[must_use]
    pub fn new(model: &[u8], class: u8, prompt: &Prompt, seed: u64) -> Self {
        let mut hash = model.iter().fold(mix(u64::from(class)) ^ seed, |hash, byte| mix(hash ^ u64::from(*byte)));
        let mut eat = |bytes: &[u8]| bytes.iter().for_each(|byte| hash = mix(hash ^ u64::from(*byte) ^ 0x100));
        match prompt {
            Prompt::Raw(text) => eat(text.as_bytes()),
            // The same bytes as another kind of body ask for something else.
            Prompt::Request(json) => {
                eat(json.as_bytes());
                eat(&[0xff]);
            }
            Prompt::Chat(messages) => messages.iter().for_each(|message| {
                eat(message.role.as_bytes());
                eat(&[0]);
                eat(message.content.as_bytes());
                eat(&[0]);
            }),
            Prompt::Tokens(ids) => ids.iter().for_each(|id| eat(&id.to_le_bytes())),
        }
        Self { key: hash, in_channels: class >= Self::IN_CHANNELS }
    }

    /// Another one.
    pub(crate) const fn misspelt(self) -> Self {
        Self { key: self.key ^ 1, ..self }
    }

    /// The id of token `index`.
    #[must_use]
    pub const fn id(self, index: u64) -> u32 {
        (mix(self.key ^ mix(index)) >> 32) as u32
    }

    /// The text of token `index`.
    #[must_use]
    pub const fn token(self, index: u64) -> &'static str {
        let id = self.id(index) as usize;
        match self.channel(index) {
            Some(Channel::ToolCall) => CALLS[id % CALLS.len()],
            _ => WORDS[id % WORDS.len()],
        }
    }

    /// The channel of token `index`.
    #[must_use]
    pub const fn channel(self, index: u64) -> Option<Channel> {
        if !self.in_channels {
            return None;
        }
        match mix(self.key ^ mix(!(index / SPAN))) % 8 {
            0 | 1 => Some(Channel::Thought),
            2 => Some(Channel::Refusal),
            3 => Some(Channel::ToolCall),
            _ => None,
        }
    }

    /// How many of the tokens from `index` on, at most `most`, may go out as one piece: of one channel, and of tool calls one.
    #[must_use]
    pub fn piece(self, index: u64, most: u64) -> u64 {
        match self.channel(index) {
            _ if !self.in_channels => most,
            Some(Channel::ToolCall) => most.min(1),
            own => (index..index + most).take_while(|next| self.channel(*next) == own).count() as u64,
        }
    }

    /// How many of these tokens are thoughts.
    #[must_use]
    pub fn thoughts(self, tokens: Range<u64>) -> u64 {
        tokens.filter(|index| self.channel(*index) == Some(Channel::Thought)).count() as u64
    }

    /// How it ends where nothing cuts it short.
    #[must_use]
    pub const fn end(self) -> EndReason {
        match mix(!self.key) % 4 {
            0 if self.in_channels => EndReason::ToolCalls,
            1 if self.in_channels => EndReason::Filtered,
            _ => EndReason::Stop,
        }
    }

    /// How many of the prompt's tokens its engine says that it had read before.
    #[must_use]
    pub const fn cached(self, prompt_tokens: u64) -> Option<u64> {
        if self.in_channels { Some(mix(self.key) % (prompt_tokens + 1)) } else { None }
    }

    /// The text of the first `tokens` tokens.
    #[must_use]
    pub fn text(self, tokens: u64) -> String {
        (0..tokens).map(|index| self.token(index)).collect()
    }
}

/// What an engine counts a prompt as.
pub(crate) fn prompt_tokens(prompt: &Prompt) -> u64 {
    let bytes = match prompt {
        Prompt::Raw(text) | Prompt::Request(text) => text.len(),
        Prompt::Chat(messages) => messages.iter().map(|message| message.role.len() + message.content.len()).sum(),
        Prompt::Tokens(ids) => return ids.len() as u64,
    };
    (bytes as u64).div_ceil(4)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn an_answer_depends_on_model_prompt_and_seed() {
        let text = |model: &[u8], prompt: &str, seed| Answer::new(model, 0, &Prompt::Raw(prompt.into()), seed).text(50);
        assert_eq!(text(b"m", "p", 1), text(b"m", "p", 1));
        for other in [text(b"n", "p", 1), text(b"m", "q", 1), text(b"m", "p", 2)] {
            assert_ne!(text(b"m", "p", 1), other);
        }
        assert!(text(b"m", "p", 1).chars().any(|c| c.len_utf8() > 1));
        let of = |prompt: Prompt| Answer::new(b"m", 0, &prompt, 1);
        assert_ne!(of(Prompt::Raw("{}".into())), of(Prompt::Request("{}".into())));
    }

    #[test]
    fn an_answer_in_channels_is_cut_where_they_change() {
        let answer = Answer::new(b"m", Answer::IN_CHANNELS, &Prompt::Raw("p".into()), 1);
        let mut seen = BTreeSet::new();
        let mut at = 0;
        while at < 400 {
            let n = answer.piece(at, 8);
            let channel = answer.channel(at);
            assert!((1..=8).contains(&n) && (at..at + n).all(|index| answer.channel(index) == channel));
            assert!(channel != Some(Channel::ToolCall) || (n == 1 && answer.token(at).starts_with('{')));
            seen.insert(channel);
            at += n;
        }
        assert_eq!(seen.len(), 4);
        assert!(answer.thoughts(0..400) > 0 && answer.cached(9).is_some_and(|cached| cached <= 9));
        let plain = Answer::new(b"m", 0, &Prompt::Raw("p".into()), 1);
        assert_eq!((plain.piece(0, 8), plain.thoughts(0..400), plain.cached(9)), (8, 0, None));
    }
}
