//! The body of a job: the prompt as it crosses the wire.

use alloc::{string::String, vec::Vec};
use core::fmt;

use super::message::BodyKind;

/// What the model is given.
#[derive(Clone, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
pub enum Prompt {
    /// Messages of a conversation; the provider applies the model's own template.
    Chat(Vec<ChatMessage>),
    /// Text to be continued as it stands.
    Raw(String),
    /// Token ids of the model's own vocabulary.
    Tokens(Vec<u32>),
}

/// One message of a conversation.
#[derive(Clone, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ChatMessage {
    /// Who speaks: `system`, `user` or `assistant`.
    pub role: String,
    /// What is said.
    pub content: String,
}

/// A body that is not what its kind says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PromptError(pub BodyKind);
