//! Conversations, brought into the form a model was trained on.

use crate::gguf::{Gguf, LoadError, Value};
use crate::tokenizer::Tokenizer;
use crate::{Failure, Message, Why};

/// How a conversation becomes tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Template {
    /// What was said, turn by turn, each on a line of its own, without roles: for models without any template.
    Lines,
    /// ChatML: each turn between two control tokens.
    ChatMl {
        begin: u32,
        end: u32,
        /// What the system says unless the conversation begins otherwise.
        system: Option<String>,
    },
    /// The file brings a template that is not understood here.
    Foreign,
}

/// A part of a prompt.
pub(crate) enum Part<'a> {
    Text(&'a str),
    Token(u32),
}

impl Template {
    /// Templates are programs in a language of their own, which is not run here: one that speaks of ChatML's tokens is
    /// taken for ChatML, with the system's first words if they stand in it as plain text.
    pub(crate) fn load(gguf: &Gguf, tokenizer: &Tokenizer) -> Result<Self, LoadError> {
        if !matches!(gguf.value("tokenizer.chat_template"), Some(Value::Text(_))) {
            return Ok(Self::Lines);
        }
        let template = gguf.text("tokenizer.chat_template")?;
        Ok(match tokenizer.turns {
            Some((begin, end)) if template.contains("<|im_start|>") => {
                Self::ChatMl { begin, end, system: first_words(template) }
            }
            _ => Self::Foreign,
        })
    }

    /// The parts of a prompt that asks for the next turn.
    ///
    /// # Errors
    /// [`Why::BadRequest`].
    pub(crate) fn parts<'a>(&'a self, messages: &'a [Message]) -> Result<Vec<Part<'a>>, Failure> {
        check(messages)?;
        match self {
            Self::Foreign => {
                Err(bad("this engine does not know the model's template for conversations; send a raw prompt"))
            }
            Self::Lines => {
                let lines = messages.iter().flat_map(|message| [Part::Text("\n"), Part::Text(&message.content)]);
                Ok(lines.skip(1).collect())
            }
            Self::ChatMl { begin, end, system } => {
                let system = system.as_deref().filter(|_| messages[0].role != "system").map(|text| ("system", text));
                let turns = messages.iter().map(|message| (message.role.as_str(), message.content.as_str()));
                let mut parts = Vec::new();
                for (role, content) in system.into_iter().chain(turns) {
                    let text = [role, "\n", content].map(Part::Text);
                    parts.push(Part::Token(*begin));
                    parts.extend(text);
                    parts.extend([Part::Token(*end), Part::Text("\n")]);
                }
                parts.extend([Part::Token(*begin), Part::Text("assistant\n")]);
                Ok(parts)
            }
        }
    }
}

fn bad(detail: impl Into<String>) -> Failure {
    Failure::new(Why::BadRequest, detail)
}

// [A12]
fn check(messages: &[Message]) -> Result<(), Failure> {
    if messages.is_empty() {
        return Err(bad("the conversation is empty"));
    }
    match messages.iter().position(|m| !["system", "user", "assistant"].contains(&m.role.as_str())) {
        Some(odd) => Err(bad(format!("message {odd} has an unknown role; known are system, user and assistant"))),
        None => Ok(()),
    }
}

/// What the template lets the system say first, if that is written out in it.
fn first_words(template: &str) -> Option<String> {
    let (_, rest) = template.split_once("<|im_start|>system")?;
    let rest = rest.strip_prefix('\n').or_else(|| rest.strip_prefix("\\n"))?;
    let (words, _) = rest.split_once("<|im_end|>")?;
    // A quotation mark ends the plain text.
    (!words.contains(['\'', '"', '{', '\\'])).then(|| words.to_string())
}

#[cfg(test)]
mod tests {
    use super::first_words;

    #[test]
    fn the_systems_first_words_are_found_where_they_stand() {
        let smol = "{% if loop.first %}{{ '<|im_start|>system\nYou are kind.<|im_end|>\n' }}{% endif %}";
        assert_eq!(first_words(smol).as_deref(), Some("You are kind."));
        assert_eq!(first_words(&smol.replace('\n', "\\n")).as_deref(), Some("You are kind."));
        assert_eq!(first_words("{{ '<|im_start|>' + role + '\n' }}"), None);
        assert_eq!(first_words("'<|im_start|>system\n' + messages[0].content + '<|im_end|>'"), None);
    }
}
