//! What a model is given: a text to be continued, or a conversation.

use std::{
    fs::File,
    io::{self, IsTerminal, Read},
    path::Path,
};

use haggle::{Prompt, core::wire::ChatMessage};
use serde::Deserialize;

use crate::{args::Ask, exit::Failed};

/// More cannot be sent by any limit.
const MOST: u64 = 64 << 20;

/// The prompt of `ask`.
pub(crate) fn of(args: &Ask) -> Result<Prompt, Failed> {
    let mut messages = match &args.messages {
        Some(file) => conversation(file)?,
        None => Vec::new(),
    };
    if let Some(system) = &args.order.system {
        if messages.iter().any(|message| message.role == SYSTEM) {
            return Err(Failed::usage(
                "messages",
                "--system: the conversation in --messages has a system's message already",
            ));
        }
        messages.insert(0, message(SYSTEM, system));
    }
    let text = match &args.prompt {
        None if args.messages.is_some() => None,
        prompt => Some(text(prompt.as_deref())?),
    };
    match text {
        Some(text) if messages.is_empty() && !args.chat => Ok(Prompt::Raw(text)),
        text => {
            messages.extend(text.map(|text| message(USER, &text)));
            Ok(Prompt::Chat(messages))
        }
    }
}

/// How long it is, as it is sent.
pub(crate) fn bytes(prompt: &Prompt) -> u64 {
    prompt.encode().len() as u64
}

pub(crate) const SYSTEM: &str = "system";
pub(crate) const USER: &str = "user";
pub(crate) const ASSISTANT: &str = "assistant";

pub(crate) fn message(role: &str, content: &str) -> ChatMessage {
    ChatMessage { role: role.into(), content: content.into() }
}

fn text(prompt: Option<&str>) -> Result<String, Failed> {
    let text = match prompt {
        None if io::stdin().is_terminal() => {
            let how = "give a prompt: haggle ask \"Once upon a time\", or - to type it";
            return Err(Failed::usage("usage", how));
        }
        None | Some("-") => read(io::stdin().lock(), "stdin", "the prompt on stdin")?,
        Some(text) => text.to_owned(),
    };
    match text.is_empty() {
        true => Err(Failed::usage("empty_prompt", "the prompt is empty")),
        false => Ok(text),
    }
}

/// A message of a file: what else it has would not reach the model.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Message {
    role: String,
    content: String,
}

fn conversation(file: &Path) -> Result<Vec<ChatMessage>, Failed> {
    let name = file.display().to_string();
    let wrong = |why: String| Failed::usage("messages", format!("--messages {name}: {why}"));
    let opened = File::open(file).map_err(|error| wrong(error.to_string()))?;
    let text = read(opened, "messages", &format!("the conversation in {name}"))?;
    let form = "write a JSON list such as [{\"role\": \"user\", \"content\": \"Hi\"}], where role is system, user or assistant";
    let messages: Vec<Message> = serde_json::from_str(&text).map_err(|error| wrong(format!("{error}; {form}")))?;
    if messages.is_empty() {
        return Err(wrong(format!("it is empty; {form}")));
    }
    if let Some(other) = messages.iter().find(|message| ![SYSTEM, USER, ASSISTANT].contains(&message.role.as_str())) {
        return Err(wrong(format!("no model knows the role {:?}; {form}", other.role)));
    }
    Ok(messages.into_iter().map(|Message { role, content }| ChatMessage { role, content }).collect())
}

fn read(from: impl Read, code: &'static str, what: &str) -> Result<String, Failed> {
    let mut bytes = Vec::new();
    let read = from.take(MOST + 1).read_to_end(&mut bytes);
    read.map_err(|error| Failed::usage(code, format!("cannot read {what}: {error}")))?;
    if bytes.len() as u64 > MOST {
        return Err(Failed::usage("prompt_too_long", format!("{what} has more than {MOST} bytes: shorten it")));
    }
    String::from_utf8(bytes).map_err(|_| Failed::usage(code, format!("{what} is not UTF-8 text")))
}
