//! The embedded engine: a llama-architecture model from a GGUF file, run right here.

use std::borrow::Cow;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::gguf::{Gguf, LoadError};
use crate::network::{Memory, Network};
use crate::output::Output;
use crate::sampler::choose;
use crate::tokenizer::Tokenizer;
use crate::{
    Done, Engine, ExactKind, Exactness, Failure, Generation, Message, ModelInfo, Piece, Prefix, PrefixUse, Prompt,
    Request, Sampling, Started, Step, Stop, Why,
};

/// Changes whenever the same request may give other tokens than before.
const NUMERICS: &[u8] = b"haggle-engine/numerics/1";
const STOP_STRINGS: usize = 16;
const STOP_BYTES: usize = 256;

/// A llama-architecture model from a GGUF file with tensors of type F32, F16 or Q8_0 and a `gpt-2` vocabulary.
///
/// The numbers are the same on every machine, and each draw depends on the seed and the position in the answer only:
/// an answer that was cut anywhere and goes on elsewhere, from a prefix with ids, is the uninterrupted answer.
/// A generation holds keys and values for the tokens it has read so far, at most for those of the context.
pub struct Llama {
    info: ModelInfo,
    model: Arc<Model>,
}

struct Model {
    network: Network,
    tokenizer: Tokenizer,
    context: usize,
    /// The file brings a template for conversations, which is not understood here.
    foreign_template: bool,
}

impl Llama {
    /// The model that comes with this crate, `haggle-tiny-stories`: a toy of 0.23 million parameters that tells tiny
    /// stories.
    ///
    /// # Errors
    /// [`LoadError::Digest`] if the embedded file is not the one this version was made with.
    pub fn tiny_stories() -> Result<Self, LoadError> {
        Self::from_gguf(
            crate::TINY_STORIES,
            include_bytes!("../model/haggle-tiny-stories.gguf"),
            Some(crate::TINY_STORIES_SHA256),
        )
    }

    /// The model in the bytes of a GGUF file, served under a name. The bytes are copied.
    ///
    /// # Errors
    /// [`LoadError::Digest`] if a SHA-256 is expected and the bytes have another one, the other [`LoadError`]s if the
    /// bytes are not a model this engine can run.
    pub fn from_gguf(name: &str, file: &[u8], expected: Option<[u8; 32]>) -> Result<Self, LoadError> {
        let weights: [u8; 32] = Sha256::digest(file).into();
        match expected {
            Some(expected) if expected != weights => return Err(LoadError::Digest { expected, found: weights }),
            _ => {}
        }
        let mut gguf = Gguf::parse(file)?;
        let tokenizer = Tokenizer::load(&gguf)?;
        let network = Network::load(&mut gguf, tokenizer.len())?;
        let foreign_template = gguf.value("tokenizer.chat_template").is_some();

        let mut class = Sha256::new().chain_update(NUMERICS).chain_update(weights);
        network.kinds.iter().for_each(|kind| class.update(kind.name()));
        let info = ModelInfo {
            name: name.to_string(),
            weights,
            context: network.context as u32,
            can_continue: true,
            exactness: Exactness { kind: ExactKind::Seeded, class: class.finalize().into() },
        };
        let context = network.context;
        Ok(Self { info, model: Arc::new(Model { network, tokenizer, context, foreign_template }) })
    }
}

impl Engine for Llama {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn start(&self, request: Request) -> Result<Box<dyn Generation>, Failure> {
        check(&request)?;
        let mut tokens = self.model.prompt(&request.prompt)?;
        let (prefix, answered) = self.model.prefix(request.prefix.as_ref(), &mut tokens)?;
        let (length, context) = (tokens.len(), self.model.context);
        if length >= context {
            return Err(overflow(length, context));
        }
        if tokens.is_empty() {
            return Err(bad("the prompt is empty, and this model needs at least one token to begin with"));
        }
        Ok(Box::new(Running {
            memory: self.model.network.memory(),
            model: self.model.clone(),
            prompt_tokens: length,
            prefix,
            tokens,
            read: 0,
            started: false,
            answered,
            sampling: request.sampling,
            max_tokens: request.max_tokens as usize,
            logits: Vec::new(),
            output: Output::new(request.stop),
            delivered: 0,
            ending: None,
        }))
    }
}

fn bad(detail: impl Into<String>) -> Failure {
    Failure::new(Why::BadRequest, detail)
}

fn overflow(tokens: usize, context: usize) -> Failure {
    let detail = format!("the prompt has at least {tokens} tokens, the context {context}; shorten the prompt");
    Failure::new(Why::ContextOverflow, detail)
}

fn check(request: &Request) -> Result<(), Failure> {
    if request.max_tokens == 0 {
        return Err(bad("max_tokens is 0; ask for at least 1 token"));
    }
    if request.stop.len() > STOP_STRINGS {
        return Err(bad(format!("{} stop strings; at most {STOP_STRINGS} are allowed", request.stop.len())));
    }
    if request.stop.iter().any(|stop| stop.is_empty() || stop.len() > STOP_BYTES) {
        return Err(bad(format!("a stop string is empty or longer than {STOP_BYTES} bytes")));
    }
    Ok(())
}

impl Model {
    fn prompt(&self, prompt: &Prompt) -> Result<Vec<u32>, Failure> {
        let text = match prompt {
            Prompt::Tokens(tokens) => {
                let known = self.tokenizer.len();
                return match tokens.iter().find(|&&token| token as usize >= known) {
                    Some(token) => Err(bad(format!("token {token} is not in the vocabulary of {known} tokens"))),
                    None => Ok(tokens.clone()),
                };
            }
            Prompt::Raw(text) => Cow::Borrowed(text),
            Prompt::Chat(_) if self.foreign_template => {
                return Err(bad("this engine does not know the model's template for conversations; send a raw prompt"));
            }
            Prompt::Chat(messages) => Cow::Owned(flatten(messages)?),
        };
        let mut tokens: Vec<u32> = self.tokenizer.begin.into_iter().collect();
        self.encode(&text, &mut tokens)?;
        Ok(tokens)
    }

    /// Appends the prefix, and tells how it was taken and how many tokens it stands for.
    fn prefix(&self, prefix: Option<&Prefix>, tokens: &mut Vec<u32>) -> Result<(PrefixUse, u64), Failure> {
        let Some(prefix) = prefix else { return Ok((PrefixUse::None, 0)) };
        let count = u64::from(prefix.tokens);
        if prefix.tokens as usize > prefix.text.len() {
            return Err(bad("the prefix has more tokens than bytes"));
        }
        if let Some(ids) = &prefix.ids
            && ids.len() as u64 == count
            && self.spells(ids, prefix.text.as_bytes())
        {
            tokens.extend(ids);
            return Ok((PrefixUse::Ids, count));
        }
        self.encode(&prefix.text, tokens)?;
        Ok((PrefixUse::Text, count))
    }

    fn spells(&self, ids: &[u32], mut text: &[u8]) -> bool {
        let all_match = ids.iter().all(|&id| {
            let rest = self.tokenizer.is_text(id).then(|| text.strip_prefix(self.tokenizer.bytes(id))).flatten();
            rest.map(|rest| text = rest).is_some()
        });
        all_match && text.is_empty()
    }

    /// Appends the tokens of a text. One that cannot fit is refused before any work is put into it.
    fn encode(&self, text: &str, tokens: &mut Vec<u32>) -> Result<(), Failure> {
        let least = tokens.len().saturating_add(self.tokenizer.least(text.len()));
        if least >= self.context {
            return Err(overflow(least, self.context));
        }
        self.tokenizer.encode(text, tokens);
        Ok(())
    }
}

/// The template for conversations: what was said, turn by turn, each on a line of its own, without roles.
fn flatten(messages: &[Message]) -> Result<String, Failure> {
    if messages.is_empty() {
        return Err(bad("the conversation is empty"));
    }
    if let Some(odd) = messages.iter().position(|m| !["system", "user", "assistant"].contains(&m.role.as_str())) {
        return Err(bad(format!("message {odd} has an unknown role; known are system, user and assistant")));
    }
    Ok(messages.iter().map(|m| m.content.as_str()).collect::<Vec<_>>().join("\n"))
}

/// One answer in the making.
struct Running {
    model: Arc<Model>,
    memory: Memory,
    /// Prompt, prefix and what was chosen since, of which `read` have been evaluated.
    tokens: Vec<u32>,
    read: usize,
    prompt_tokens: usize,
    prefix: PrefixUse,
    started: bool,
    /// Tokens of the answer before this generation.
    answered: u64,
    sampling: Sampling,
    max_tokens: usize,
    logits: Vec<f32>,
    output: Output,
    delivered: u32,
    ending: Option<Step>,
}

impl Generation for Running {
    fn step(&mut self, budget: u32) -> Step {
        if let Some(ending) = &self.ending {
            return ending.clone();
        }
        let mut budget = budget.max(1);
        loop {
            if !self.read_on(&mut budget) {
                return Step::Working;
            }
            if !self.started {
                self.started = true;
                return Step::Started(Started {
                    prompt_tokens: self.prompt_tokens as u32,
                    cached: 0,
                    prefix: self.prefix,
                });
            }
            if let Some(step) = self.choose() {
                return step;
            }
        }
    }
}

impl Running {
    /// Evaluates what has not been read yet, as far as the budget goes. Whether that is all.
    fn read_on(&mut self, budget: &mut u32) -> bool {
        let network = &self.model.network;
        while let Some(&token) = self.tokens.get(self.read) {
            if *budget == 0 {
                return false;
            }
            *budget -= 1;
            network.read(token, &mut self.memory);
            self.read += 1;
            if self.read == self.tokens.len() {
                network.predict(&mut self.memory, &mut self.logits);
            }
        }
        true
    }

    /// Chooses the next token, or ends. `None` if there is nothing to tell yet.
    fn choose(&mut self) -> Option<Step> {
        let chosen = self.tokens.len() - self.prompt_tokens;
        if chosen >= self.max_tokens {
            return Some(self.end(Stop::MaxTokens));
        }
        if self.tokens.len() >= self.model.context {
            return Some(self.end(Stop::Context));
        }
        let (tokenizer, open) = (&self.model.tokenizer, self.output.open());
        let allowed = |token| tokenizer.may_follow(open, token);
        let Some(token) = choose(&self.logits, allowed, &self.sampling, self.answered + chosen as u64) else {
            let failure = Failure::new(Why::Engine, "the model computed something that is not a number");
            return Some(self.ended(Step::Failed(failure)));
        };
        if tokenizer.end.contains(&token) {
            return Some(self.end(Stop::End));
        }
        self.tokens.push(token);
        match self.output.push(token, tokenizer.bytes(token)) {
            (piece, true) => Some(self.last(piece, Stop::Text)),
            (piece, false) => piece.map(|piece| self.deliver(piece)),
        }
    }

    fn end(&mut self, stop: Stop) -> Step {
        let piece = self.output.flush();
        self.last(piece, stop)
    }

    /// The last piece, if there is one, before the ending.
    fn last(&mut self, piece: Option<Piece>, stop: Stop) -> Step {
        let piece = piece.map(|piece| self.deliver(piece));
        let done = Done { stop, prompt_tokens: self.prompt_tokens as u32, new_tokens: self.delivered };
        let done = self.ended(Step::Done(done));
        piece.unwrap_or(done)
    }

    fn deliver(&mut self, piece: Piece) -> Step {
        self.delivered += piece.n;
        Step::Piece(piece)
    }

    fn ended(&mut self, step: Step) -> Step {
        self.ending = Some(step.clone());
        step
    }
}
