//! The contract between an engine and whoever drives it. Plain data, integers only, as they cross the wire.

use std::{fmt, time::Duration};

/// A model that can answer requests. Shared by all its generations; cheap to call from any thread.
pub trait Engine: Send + Sync {
    /// What this engine serves. Never changes during its life.
    fn info(&self) -> &ModelInfo;

    /// Checks a request and prepares to answer it, without evaluating any token yet.
    ///
    /// # Errors
    /// [`Why::BadRequest`] and [`Why::ContextOverflow`] for what is wrong with the request, [`Why::Engine`] and
    /// [`Why::Unavailable`] for what is wrong with the engine.
    fn start(&self, request: Request) -> Result<Box<dyn Generation>, Failure>;

    /// Asks to be told whenever the engine becomes unable to answer, and able again. Whoever drives it does not start
    /// generations meanwhile. Engines inside of this process are always able: by default nobody is ever told.
    fn watch(&self, _watcher: Watcher) {}

    /// How long the first text of its last answers took. `None`: nothing was served yet, and whatever is told instead is
    /// a guess.
    fn first_text(&self) -> Option<Duration> {
        None
    }
}

/// Told of the outage that began, or by `None` that it is over; from any thread, also from inside of a step. Returns
/// false when nobody listens any more.
pub type Watcher = Box<dyn Fn(Option<&Outage>) -> bool + Send>;

/// An engine can not answer for a while. What was asked meanwhile would fail with [`Why::Unavailable`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outage {
    /// How long it is expected to last.
    pub lasts: Duration,
    /// What happened and what to do about it, for people. Holds no secret and no text of a prompt.
    pub detail: String,
}

/// One answer in the making. Dropping it cancels it: an engine computes inside [`Generation::step`] only.
pub trait Generation: Send {
    /// Evaluates at most `budget` tokens (of the prompt or of the answer; 0 counts as 1) and returns at the first
    /// thing worth telling. The budget bounds how long one call may take and changes nothing else: the pieces are
    /// the same whatever the budgets were.
    ///
    /// The order is: any number of [`Step::Working`] and [`Step::Waiting`] anywhere, one [`Step::Started`], then any
    /// number of [`Step::Piece`], then one ending, [`Step::Done`] or [`Step::Failed`]. After the ending every call
    /// returns the ending again.
    fn step(&mut self, budget: u32) -> Step;

    /// What it is doing, as far as can be seen. Between two calls of [`Generation::step`] of which none was
    /// [`Step::Waiting`], something moved.
    fn phase(&self) -> Phase {
        Phase::Unknown
    }
}

/// What a generation is doing before its first text, and then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Phase {
    /// Nobody tells.
    Unknown,
    /// It was asked for, and nothing came back yet: others are answered before.
    Queued,
    /// The model is being loaded, as far as can be told.
    Loading,
    /// The prompt is being read.
    Reading,
    /// The model thinks, and has written nothing of the answer's text.
    Thinking,
    /// Text has come.
    Writing,
}

/// What one call of [`Generation::step`] came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The budget was used up without anything to deliver (the prompt is being read, or a token is held back because
    /// it ends inside a character). Call again at once.
    Working,
    /// Nothing to compute until something outside moves, for instance an upstream server. Call again later.
    Waiting,
    /// The prompt has been read.
    Started(Started),
    /// The next part of the answer.
    Piece(Piece),
    /// The answer is complete.
    Done(Done),
    /// The answer ends here, with the pieces delivered so far.
    Failed(Failure),
}

impl Step {
    /// Whether this is the ending, [`Step::Done`] or [`Step::Failed`].
    pub fn is_ending(&self) -> bool {
        matches!(self, Self::Done(_) | Self::Failed(_))
    }
}

/// Told once, when the prompt has been read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Started {
    /// Tokens of the prompt and its template; those of the prefix are a part of the answer. 0: known only when the answer is
    /// [`Done`].
    pub prompt_tokens: u32,
    /// How many of them did not have to be evaluated; `None`: nobody tells.
    pub cached: Option<u32>,
    /// How the prefix was taken up.
    pub prefix: PrefixUse,
}

/// How a generation took up the prefix it was asked to continue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PrefixUse {
    /// There was none.
    None,
    /// By its token ids: within one exactness class the rest is the rest of the uninterrupted answer.
    Ids,
    /// By its text, because ids were missing or not those of this text: the rest is a new sample.
    Text,
}

/// Tokens of the answer, in order. Only whole characters are delivered: a token that ends inside one is held back
/// and counted with the next piece, so the tokens of a piece never exceed its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// How many tokens, at least 1.
    pub n: u32,
    /// Their text, never empty.
    pub text: String,
    /// Their `n` ids, from engines that know them. If a stop string cuts the last token of an answer, its id is here
    /// all the same.
    pub ids: Option<Vec<u32>>,
    /// What it is, if not the answer's text. A piece is of one channel.
    pub channel: Option<Channel>,
}

/// What a piece is, if not a part of the answer's text. Its tokens count like those of text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Channel {
    /// What the model thinks before it answers.
    Thought,
    /// Why it does not answer.
    Refusal,
    /// A piece of a call of a tool: one JSON object with the `index` of the call, its `id` and `name` in its first piece, and
    /// a part of the text of its `arguments`.
    ToolCall,
}

/// How an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Done {
    /// Why it ended.
    pub stop: Stop,
    /// As told by [`Started`], if it was known there; 0 if it was never told.
    pub prompt_tokens: u32,
    /// The sum of [`Piece::n`]: tokens delivered by this generation over all channels, without the prefix.
    pub new_tokens: u32,
    /// As told by [`Started`], if it was known there.
    pub cached: Option<u32>,
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// The model said that it is done.
    End,
    /// A stop string of the request was met; neither it nor what follows is delivered.
    Text,
    /// `max_tokens` is used up.
    MaxTokens,
    /// The model's context is full.
    Context,
    /// The model calls tools.
    ToolCalls,
    /// A filter of what it may say has cut it short.
    Filtered,
}

/// What to answer, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// What the model reads.
    pub prompt: Prompt,
    /// The beginning of the answer, if another generation has already delivered it. It is continued, not repeated.
    pub prefix: Option<Prefix>,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// New tokens at most, at least 1. A prefix does not count: lower this by what was delivered.
    pub max_tokens: u32,
    /// Texts that end the answer. None may be empty; an engine may limit their number and length, none below 4 of
    /// 256 bytes.
    pub stop: Vec<String>,
}

/// What the model reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Prompt {
    /// A conversation, brought into one text by the template of the model.
    Chat(Vec<Message>),
    /// Text as it is, without a template.
    Raw(String),
    /// Token ids as they are.
    Tokens(Vec<u32>),
    /// One JSON object: a request with all that it can hold, for engines with [`ModelInfo::features`]. Nobody checked it.
    Request(String),
}

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// What was said.
    pub content: String,
}

/// The beginning of an answer, cut between two pieces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prefix {
    /// The text delivered so far. It decides, whatever the ids are.
    pub text: String,
    /// How many tokens it was: the position from which the answer goes on.
    pub tokens: u32,
    /// Its token ids, if all are known and come from a model with the same digest.
    pub ids: Option<Vec<u32>>,
}

/// How tokens are chosen. Integers, so that every node reads the same values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sampling {
    /// Temperature in thousandths. 0 always takes the likeliest token.
    pub temperature_milli: u32,
    /// Only the `top_k` likeliest tokens are candidates. 0 sets no limit.
    pub top_k: u32,
    /// Only the likeliest tokens that together reach this probability, in thousandths, are candidates. 1000 and more
    /// set no limit.
    pub top_p_milli: u32,
    /// The draw for a token depends on this seed and the position of the token in the answer, on nothing else.
    pub seed: u64,
}

impl Default for Sampling {
    /// Temperature 0.8 without limits, seed 0.
    fn default() -> Self {
        Self { temperature_milli: 800, top_k: 0, top_p_milli: 1000, seed: 0 }
    }
}

/// What an engine serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelInfo {
    /// Its name, compared by equality; at most 128 bytes.
    pub name: String,
    /// SHA-256 of the file of weights; zeros where the file is out of sight.
    pub weights: [u8; 32],
    /// Tokens that fit into the context: prompt, prefix and answer together.
    pub context: u32,
    /// What a [`Prompt::Request`] may ask for, as bits of PROTOCOL.md. `None`: none is taken.
    pub features: Option<u32>,
    /// Whether a [`Request::prefix`] is understood.
    pub can_continue: bool,
    /// When two engines write the same bytes.
    pub exactness: Exactness,
}

/// When two engines write the same bytes: when their classes are equal and their kind covers the sampling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exactness {
    /// Under which sampling.
    pub kind: ExactKind,
    /// Opaque, compared by equality. Derived from the version of engine and numerics, the digest of the weights and
    /// their quantisation.
    pub class: [u8; 32],
}

/// Under which sampling engines of one class write the same bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ExactKind {
    /// Under none.
    None,
    /// At temperature 0.
    Greedy,
    /// At any temperature with the same seed, also when continued from a prefix with ids.
    Seeded,
}

/// Why there is no (more) answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Whose fault it is.
    pub why: Why,
    /// What happened and what to do about it, for people. Holds no text of the prompt.
    pub detail: String,
}

impl Failure {
    /// A failure with its explanation.
    pub fn new(why: Why, detail: impl Into<String>) -> Self {
        Self { why, detail: detail.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.why.code(), self.detail)
    }
}

impl std::error::Error for Failure {}

/// Whose fault a failure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Why {
    /// The request cannot be answered by anybody as it stands.
    BadRequest,
    /// Prompt and prefix leave no room for an answer in the context of the model.
    ContextOverflow,
    /// The engine broke. The same request may work elsewhere.
    Engine,
    /// The engine cannot answer now, and began nothing. The same request may work elsewhere or later.
    Unavailable,
    /// The answer broke off without an ending. It may be continued elsewhere.
    Truncated,
}

impl Why {
    /// Whether another provider of the same model may do better with the same request.
    pub fn another_may_help(self) -> bool {
        matches!(self, Self::Engine | Self::Unavailable | Self::Truncated)
    }

    /// A stable name for logs and metrics.
    pub fn code(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::ContextOverflow => "context_overflow",
            Self::Engine => "engine",
            Self::Unavailable => "unavailable",
            Self::Truncated => "truncated",
        }
    }
}
