//! The embedded engine: a llama-architecture model from a GGUF file, run right here.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::chat::{Part, Template};
use crate::gguf::{Gguf, LoadError};
use crate::network::{Memory, Network};
use crate::output::Output;
use crate::sampler::{Candidate, choose};
use crate::tokenizer::Tokenizer;
use crate::{
    Done, Engine, ExactKind, Exactness, Failure, Generation, ModelInfo, Phase, Piece, Prefix, PrefixUse, Prompt,
    Request, Sampling, Started, Step, Stop, Why,
};

/// Changes whenever the same request may give other tokens than before.
const NUMERICS: &[u8] = b"haggle-engine/numerics/1";
const STOP_STRINGS: usize = 16;
const STOP_BYTES: usize = 256;

/// A llama-architecture model from a GGUF file with tensors of type F32, F16, Q8_0, Q4_0 or Q4_1 and a `gpt2`
/// vocabulary.
///
/// The numbers are the same on every machine and with any number of threads, and each draw depends on the seed and the
/// position in the answer only: an answer that was cut anywhere and goes on elsewhere, from a prefix with ids, is the
/// uninterrupted answer. A generation holds keys and values for the tokens it has read so far, at most for those of the
/// context.
pub struct Llama {
    info: ModelInfo,
    model: Arc<Model>,
    threads: usize,
}

struct Model {
    network: Network,
    tokenizer: Tokenizer,
    template: Template,
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

    /// The model in a GGUF file, served under the name that it gives itself, or that of the file if it gives none that
    /// fits. While it is being loaded, it is in memory twice.
    ///
    /// # Errors
    /// [`LoadError::Unreadable`] if the file cannot be read as a whole, else those of [`Llama::from_gguf`].
    pub fn open(path: &Path) -> Result<Self, LoadError> {
        let file = read(path)?;
        let gguf = Gguf::parse(&file)?;
        let fits = |name: &&str| (1..=128).contains(&name.trim().len());
        let own = gguf.value("general.name").is_some().then(|| gguf.text("general.name")).transpose()?;
        let stem = || path.file_stem().and_then(|stem| stem.to_str()).filter(fits);
        let name = own.filter(fits).or_else(stem).unwrap_or("model").trim();
        Self::load(name, &file, gguf)
    }

    /// The model in the bytes of a GGUF file, served under a name. The bytes are copied.
    ///
    /// # Errors
    /// [`LoadError::Digest`] if a SHA-256 is expected and the bytes have another one, the other [`LoadError`]s if the
    /// bytes are not a model this engine can run.
    pub fn from_gguf(name: &str, file: &[u8], expected: Option<[u8; 32]>) -> Result<Self, LoadError> {
        if let Some(expected) = expected {
            let found: [u8; 32] = Sha256::digest(file).into();
            if found != expected {
                return Err(LoadError::Digest { expected, found });
            }
        }
        Self::load(name, file, Gguf::parse(file)?)
    }

    fn load(name: &str, file: &[u8], mut gguf: Gguf) -> Result<Self, LoadError> {
        let tokenizer = Tokenizer::load(&gguf)?;
        let network = Network::load(&mut gguf, tokenizer.len())?;
        let template = Template::load(&gguf, &tokenizer)?;
        let weights: [u8; 32] = Sha256::digest(file).into();
        let mut class = Sha256::new().chain_update(NUMERICS).chain_update(weights);
        network.kinds.iter().for_each(|kind| class.update(kind.name()));
        let info = ModelInfo {
            features: None,
            name: name.to_string(),
            weights,
            context: network.context as u32,
            can_continue: true,
            exactness: Exactness { kind: ExactKind::Seeded, class: class.finalize().into() },
        };
        Ok(Self { info, model: Arc::new(Model { network, tokenizer, template }), threads: 1 })
    }

    /// Served under another name.
    pub fn with_name(mut self, name: &str) -> Self {
        self.info.name = name.to_string();
        self
    }

    /// With a context of at most so many tokens, at least 1: keys and values of a long one take much memory.
    pub fn with_context(mut self, tokens: u32) -> Self {
        self.info.context = self.info.context.min(tokens.max(1));
        self
    }

    /// Computed by so many threads, if the model is large enough to be worth it; otherwise by that which steps it.
    /// The others live for one step only.
    pub fn with_threads(mut self, threads: usize) -> Self {
        // Below this, waiting for each other takes longer than computing.
        const WEIGHTS: usize = 4_000_000;
        self.threads = threads.clamp(1, (self.model.network.weights / WEIGHTS).max(1));
        self
    }

    /// How many threads compute a step.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Whether it was trained on conversations and knows how to read them; a raw prompt is then continued as a text,
    /// not answered.
    pub fn is_chat(&self) -> bool {
        matches!(self.model.template, Template::ChatMl { .. })
    }
}

/// The whole file, and no more memory than it is long.
fn read(path: &Path) -> Result<Vec<u8>, LoadError> {
    let unreadable = |why: String| LoadError::Unreadable { what: format!("{}: {why}", path.display()) };
    let mut file = File::open(path).map_err(|error| unreadable(error.to_string()))?;
    let about = file.metadata().map_err(|error| unreadable(error.to_string()))?;
    if !about.is_file() {
        return Err(unreadable("it is not a regular file".into()));
    }
    let mut bytes = Vec::new();
    let room = usize::try_from(about.len()).ok().and_then(|len| bytes.try_reserve_exact(len).ok());
    room.ok_or_else(|| unreadable(format!("its {} bytes do not fit into memory", about.len())))?;
    let mut limited = (&mut file).take(about.len());
    limited.read_to_end(&mut bytes).map_err(|error| unreadable(error.to_string()))?;
    Ok(bytes)
}

impl Engine for Llama {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn start(&self, request: Request) -> Result<Box<dyn Generation>, Failure> {
        check(&request)?;
        let context = self.info.context as usize;
        let reader = Reader { model: &self.model, context };
        let mut tokens = reader.prompt(&request.prompt)?;
        let prompt_tokens = tokens.len();
        let (prefix, answered) = reader.prefix(request.prefix.as_ref(), &mut tokens)?;
        let length = tokens.len();
        if length >= context {
            return Err(overflow(length, context));
        }
        if tokens.is_empty() {
            return Err(bad("the prompt is empty, and this model needs at least one token to begin with"));
        }
        Ok(Box::new(Running {
            memory: self.model.network.memory(self.threads),
            model: self.model.clone(),
            context,
            prompt_tokens,
            given: length,
            prefix,
            tokens,
            read: 0,
            started: false,
            answered,
            sampling: request.sampling,
            max_tokens: request.max_tokens as usize,
            candidates: Vec::new(),
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

/// Turns requests into tokens.
struct Reader<'a> {
    model: &'a Model,
    context: usize,
}

impl Reader<'_> {
    fn prompt(&self, prompt: &Prompt) -> Result<Vec<u32>, Failure> {
        let parts = match prompt {
            Prompt::Tokens(tokens) => {
                let known = self.model.tokenizer.len();
                return match tokens.iter().find(|&&token| token as usize >= known) {
                    Some(token) => Err(bad(format!("token {token} is not in the vocabulary of {known} tokens"))),
                    None => Ok(tokens.clone()),
                };
            }
            Prompt::Request(_) => return Err(bad("this engine takes text, chats and token ids, no requests")),
            Prompt::Raw(text) => vec![Part::Text(text)],
            Prompt::Chat(messages) => self.model.template.parts(messages)?,
        };
        let mut tokens: Vec<u32> = self.model.tokenizer.begin.into_iter().collect();
        // Words do not end where a part ends, but where a control token stands.
        let mut text = String::new();
        for part in parts {
            match part {
                Part::Text(more) => text.push_str(more),
                Part::Token(token) => {
                    self.encode(&text, &mut tokens)?;
                    tokens.push(token);
                    text.clear();
                }
            }
        }
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
            let rest =
                self.model.tokenizer.is_text(id).then(|| text.strip_prefix(self.model.tokenizer.bytes(id))).flatten();
            rest.map(|rest| text = rest).is_some()
        });
        all_match && text.is_empty()
    }

    /// Appends the tokens of a text. One that cannot fit is refused before any work is put into it.
    fn encode(&self, text: &str, tokens: &mut Vec<u32>) -> Result<(), Failure> {
        let least = tokens.len().saturating_add(self.model.tokenizer.least(text.len()));
        if least >= self.context {
            return Err(overflow(least, self.context));
        }
        self.model.tokenizer.encode(text, tokens);
        Ok(())
    }
}

/// One answer in the making.
struct Running {
    model: Arc<Model>,
    context: usize,
    memory: Memory,
    /// Prompt, prefix and what was chosen since, of which `read` have been evaluated.
    tokens: Vec<u32>,
    read: usize,
    /// Of these, the prompt's own.
    prompt_tokens: usize,
    /// Of these, prompt and prefix.
    given: usize,
    prefix: PrefixUse,
    started: bool,
    /// Tokens of the answer before this generation.
    answered: u64,
    sampling: Sampling,
    max_tokens: usize,
    candidates: Vec<Candidate>,
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
                    cached: None,
                    prefix: self.prefix,
                });
            }
            if let Some(step) = self.choose() {
                return step;
            }
        }
    }

    fn phase(&self) -> Phase {
        if self.delivered == 0 { Phase::Reading } else { Phase::Writing }
    }
}

impl Running {
    /// Evaluates what has not been read yet, as far as the budget goes. Whether that is all.
    fn read_on(&mut self, budget: &mut u32) -> bool {
        while self.read < self.tokens.len() {
            if *budget == 0 {
                return false;
            }
            let left = &self.tokens[self.read..];
            let network = &self.model.network;
            let chunk = &left[..left.len().min(*budget as usize).min(network.chunk)];
            network.read(chunk, chunk.len() == left.len(), &mut self.memory);
            *budget -= chunk.len() as u32;
            self.read += chunk.len();
        }
        true
    }

    /// Chooses the next token, or ends. `None` if there is nothing to tell yet.
    fn choose(&mut self) -> Option<Step> {
        let chosen = self.tokens.len() - self.given;
        if chosen >= self.max_tokens {
            return Some(self.end(Stop::MaxTokens));
        }
        if self.tokens.len() >= self.context {
            return Some(self.end(Stop::Context));
        }
        let (tokenizer, open) = (&self.model.tokenizer, self.output.open());
        let allowed = |token| tokenizer.may_follow(open, token);
        let place = self.answered + chosen as u64;
        let choice =
            choose(self.memory.logits(&self.model.network), allowed, &self.sampling, place, &mut self.candidates);
        let Some(token) = choice else {
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
        let done = Done { stop, prompt_tokens: self.prompt_tokens as u32, new_tokens: self.delivered, cached: None };
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
