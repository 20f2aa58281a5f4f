//! The body of a job: the prompt as it crosses the wire.

use alloc::{string::String, vec::Vec};
use core::{fmt, mem::size_of};

use minicbor::{Decoder, Encoder, encode::Write};

use super::{codec::Unwritten, message::BodyKind};

/// Messages in a chat, at most.
pub const MAX_MESSAGES: usize = 1024;
/// Bytes in a message's role, at most; ASCII.
pub const MAX_ROLE: usize = 32;

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
    /// One JSON object: a request with all that it can hold, the engine's to read.
    Request(String),
}

/// One message of a conversation.
#[derive(Clone, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ChatMessage {
    /// Who speaks: `system`, `user` or `assistant`. 1 to [`MAX_ROLE`] bytes of ASCII.
    pub role: String,
    /// What is said.
    pub content: String,
}

/// A prompt that can not be sent, or a body that is not what its kind says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum PromptError {
    /// There is nothing in it.
    Empty,
    /// Raw text, or a request, is not UTF-8.
    NotUtf8,
    /// A request is too short for a JSON object.
    NotRequest,
    /// Token ids do not come in four bytes each.
    NotTokens,
    /// Not the canonical CBOR of `[role, content]` pairs.
    NotChat,
    /// More messages than [`MAX_MESSAGES`], or than 64 and one for every 16 bytes of body.
    TooManyMessages,
    /// A role is empty, longer than [`MAX_ROLE`], or not ASCII.
    BadRole,
}

impl fmt::Display for PromptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "the prompt is empty",
            Self::NotUtf8 => "the prompt is not UTF-8",
            Self::NotRequest => "a request is one JSON object: it has at least the two bytes of {}",
            Self::NotTokens => "token ids have four bytes each",
            Self::NotChat => "the chat is not a canonical CBOR array of [role, content] pairs",
            Self::TooManyMessages => {
                "a chat has at most 1024 messages, and at most 64 and one for every 16 bytes: join the short ones"
            }
            Self::BadRole => "a role has 1 to 32 bytes of ASCII",
        })
    }
}

impl core::error::Error for PromptError {}

impl Prompt {
    /// What its body is.
    #[must_use]
    pub const fn kind(&self) -> BodyKind {
        match self {
            Self::Chat(_) => BodyKind::Chat,
            Self::Raw(_) => BodyKind::Raw,
            Self::Tokens(_) => BodyKind::Tokens,
            Self::Request(_) => BodyKind::Request,
        }
    }

    /// Whether [`Prompt::decode`] will take what [`Prompt::encode`] writes.
    ///
    /// # Errors
    /// What has to be changed.
    pub fn check(&self) -> Result<(), PromptError> {
        match self {
            Self::Raw(text) => check(!text.is_empty(), PromptError::Empty),
            Self::Tokens(ids) => check(!ids.is_empty(), PromptError::Empty),
            Self::Request(json) => check_request(json.len()),
            Self::Chat(messages) => {
                check_count(messages.len() as u64, self.encode().len())?;
                check(messages.iter().all(|message| is_role(&message.role)), PromptError::BadRole)
            }
        }
    }

    /// The bytes that cross the wire.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Chat(messages) => {
                let mut body = Vec::new();
                // Writing to a vector can not fail.
                let _infallible = write_chat(messages, &mut body);
                body
            }
            Self::Raw(text) | Self::Request(text) => text.as_bytes().to_vec(),
            Self::Tokens(ids) => ids.iter().flat_map(|id| id.to_le_bytes()).collect(),
        }
    }

    /// The prompt in a body's bytes, the prefix excluded. Takes at most four times their memory and 4 KiB.
    ///
    /// # Errors
    /// [`PromptError`] for everything that [`Prompt::encode`] does not write.
    pub fn decode(kind: BodyKind, body: &[u8]) -> Result<Self, PromptError> {
        check(!body.is_empty(), PromptError::Empty)?;
        match kind {
            BodyKind::Chat => read_chat(body).map(Self::Chat),
            BodyKind::Raw => read_text(body).map(Self::Raw),
            BodyKind::Request => {
                check_request(body.len())?;
                read_text(body).map(Self::Request)
            }
            BodyKind::Tokens => {
                let (ids, rest) = body.as_chunks::<4>();
                check(rest.is_empty(), PromptError::NotTokens)?;
                Ok(Self::Tokens(ids.iter().map(|id| u32::from_le_bytes(*id)).collect()))
            }
        }
    }
}

impl fmt::Debug for Prompt {
    // Without the text: whatever holds a prompt may be logged.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Chat(messages) => f.debug_tuple("Chat").field(messages).finish(),
            Self::Raw(text) => write!(f, "Raw({} bytes)", text.len()),
            Self::Request(json) => write!(f, "Request({} bytes)", json.len()),
            Self::Tokens(ids) => write!(f, "Tokens({})", ids.len()),
        }
    }
}

impl fmt::Debug for ChatMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Message({} bytes)", self.content.len())
    }
}

fn read_text(body: &[u8]) -> Result<String, PromptError> {
    str::from_utf8(body).map(String::from).map_err(|_| PromptError::NotUtf8)
}

/// No JSON is read here: what is inside is the engine's affair.
fn check_request(bytes: usize) -> Result<(), PromptError> {
    check(bytes > 0, PromptError::Empty)?;
    check(bytes >= 2, PromptError::NotRequest)
}

fn read_chat(body: &[u8]) -> Result<Vec<ChatMessage>, PromptError> {
    let mut decoder = Decoder::new(body);
    let count = decoder.array().ok().flatten().ok_or(PromptError::NotChat)?;
    check_count(count, body.len())?;
    let mut messages = Vec::with_capacity(count as usize);
    for _ in 0..count {
        check(matches!(decoder.array(), Ok(Some(2))), PromptError::NotChat)?;
        let role = decoder.str().map_err(|_| PromptError::NotChat)?;
        check(is_role(role), PromptError::BadRole)?;
        let content = decoder.str().map_err(|_| PromptError::NotChat)?;
        messages.push(ChatMessage { role: role.into(), content: content.into() });
    }
    let mut rest = Unwritten(body);
    match write_chat(&messages, &mut rest) {
        Ok(()) if rest.0.is_empty() => Ok(messages),
        _ => Err(PromptError::NotChat),
    }
}

fn write_chat<W: Write>(messages: &[ChatMessage], to: W) -> Result<(), minicbor::encode::Error<W::Error>> {
    let mut encoder = Encoder::new(to);
    encoder.array(messages.len() as u64)?;
    for message in messages {
        encoder.array(2)?.str(&message.role)?.str(&message.content)?;
    }
    Ok(())
}

/// Many tiny messages would take far more memory than bytes on the wire: their number is tied to those.
fn check_count(count: u64, bytes: usize) -> Result<(), PromptError> {
    const { assert!(size_of::<ChatMessage>() <= 48) }
    check(count > 0, PromptError::Empty)?;
    check(count <= (64 + bytes / 16).min(MAX_MESSAGES) as u64, PromptError::TooManyMessages)
}

fn is_role(role: &str) -> bool {
    (1..=MAX_ROLE).contains(&role.len()) && role.is_ascii()
}

fn check(ok: bool, error: PromptError) -> Result<(), PromptError> {
    if ok { Ok(()) } else { Err(error) }
}
