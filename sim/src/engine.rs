//! The scripted engine: a model without a model. Its text is a pure function, so that an oracle can check every byte.

use haggle_core::wire::{Prompt, message::EndReason};

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
    /// Its class: engines of the same class write the same answer.
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
pub struct Answer(u64);

/// Fragments of one to seven bytes, one to four bytes a character.
const WORDS: [&str; 16] =
    [" the", " price", " of", ".", " é", "日", " 本語", "🙂", " a", "ß", " Ω", " market", "\n", " моё", "-", " haggle"];

impl Answer {
    /// The answer of a model to a prompt under a sampling seed, by an engine of this class.
    #[must_use]
    pub fn new(model: &[u8], class: u8, prompt: &Prompt, seed: u64) -> Self {
        let mut hash = model.iter().fold(mix(u64::from(class)) ^ seed, |hash, byte| mix(hash ^ u64::from(*byte)));
        let mut eat = |bytes: &[u8]| bytes.iter().for_each(|byte| hash = mix(hash ^ u64::from(*byte) ^ 0x100));
        match prompt {
            Prompt::Raw(text) | Prompt::Request(text) => eat(text.as_bytes()),
            Prompt::Chat(messages) => messages.iter().for_each(|message| {
                eat(message.role.as_bytes());
                eat(&[0]);
                eat(message.content.as_bytes());
                eat(&[0]);
            }),
            Prompt::Tokens(ids) => ids.iter().for_each(|id| eat(&id.to_le_bytes())),
        }
        Self(hash)
    }

    /// Another one.
    pub(crate) const fn misspelt(self) -> Self {
        Self(self.0 ^ 1)
    }

    /// The id of token `index`.
    #[must_use]
    pub const fn id(self, index: u64) -> u32 {
        (mix(self.0 ^ mix(index)) >> 32) as u32
    }

    /// The text of token `index`.
    #[must_use]
    pub const fn token(self, index: u64) -> &'static str {
        WORDS[(self.id(index) % WORDS.len() as u32) as usize]
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
    use super::*;

    #[test]
    fn an_answer_depends_on_model_prompt_and_seed() {
        let text = |model: &[u8], prompt: &str, seed| Answer::new(model, 0, &Prompt::Raw(prompt.into()), seed).text(50);
        assert_eq!(text(b"m", "p", 1), text(b"m", "p", 1));
        for other in [text(b"n", "p", 1), text(b"m", "q", 1), text(b"m", "p", 2)] {
            assert_ne!(text(b"m", "p", 1), other);
        }
        assert!(text(b"m", "p", 1).chars().any(|c| c.len_utf8() > 1));
    }
}
