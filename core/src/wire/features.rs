//! What an engine can do beyond text, what a chunk carries, and what a provider is busy with.

use minicbor::{Decode, Encode};

/// What an engine can do, or what a job needs: a set of bits. Those that are not known are kept, and mean nothing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Encode, Decode)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(transparent))]
#[cbor(transparent)]
pub struct Features(#[n(0)] pub u32);

// [A14]
impl Features {
    /// Calls tools.
    pub const TOOLS: Self = Self(1);
    /// Calls several tools at once.
    pub const PARALLEL_TOOLS: Self = Self(1 << 1);
    /// Answers with some JSON object.
    pub const JSON_OBJECT: Self = Self(1 << 2);
    /// Answers with JSON of a given schema.
    pub const JSON_SCHEMA: Self = Self(1 << 3);
    /// Reads images.
    pub const IMAGES: Self = Self(1 << 4);
    /// Reads sound.
    pub const AUDIO: Self = Self(1 << 5);
    /// Reads files.
    pub const FILES: Self = Self(1 << 6);
    /// Thinks before it answers.
    pub const REASONING: Self = Self(1 << 7);
    /// Takes presence and frequency penalties.
    pub const PENALTIES: Self = Self(1 << 8);
    /// Takes a bias of single tokens.
    pub const LOGIT_BIAS: Self = Self(1 << 9);
    /// Samples with a least probability.
    pub const MIN_P: Self = Self(1 << 10);
    /// Tells probabilities.
    pub const LOGPROBS: Self = Self(1 << 11);

    /// The names of the known bits, in order: as configurations and programs spell them.
    pub const NAMES: [&'static str; 12] = [
        "tools",
        "parallel_tools",
        "json_object",
        "json_schema",
        "images",
        "audio",
        "files",
        "reasoning",
        "penalties",
        "logit_bias",
        "min_p",
        "logprobs",
    ];

    /// Whether all of `needed` are there.
    #[must_use]
    pub const fn contain(self, needed: Self) -> bool {
        self.0 & needed.0 == needed.0
    }

    /// Those of either.
    #[must_use]
    pub const fn with(self, more: Self) -> Self {
        Self(self.0 | more.0)
    }

    /// The names of its known bits.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::NAMES.into_iter().enumerate().filter(move |(bit, _)| self.0 & (1 << bit) != 0).map(|(_, name)| name)
    }

    /// The bit of a name; `None` if it is none of [`Self::NAMES`].
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::NAMES.iter().position(|known| *known == name).map(|bit| Self(1 << bit))
    }
}

/// What the text of a chunk is, if it is not part of the answer's text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Encode, Decode)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[cbor(index_only)]
pub enum Channel {
    /// What the model thinks before it answers.
    #[n(1)]
    Thought,
    /// Why the model does not answer.
    #[n(2)]
    Refusal,
    /// A piece of a tool call: one JSON object.
    #[n(3)]
    ToolCall,
}

impl Channel {
    /// Its number on the wire and in the hash of a run.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Thought => 1,
            Self::Refusal => 2,
            Self::ToolCall => 3,
        }
    }
}

/// What a provider does while no token can be told.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Encode, Decode)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[cbor(index_only)]
pub enum Phase {
    /// The job waits for a slot.
    #[n(0)]
    Queued,
    /// The model is being loaded.
    #[n(1)]
    Loading,
    /// The prompt is being read.
    #[n(2)]
    Reading,
    /// The model thinks, and does not show it.
    #[n(3)]
    Thinking,
}
