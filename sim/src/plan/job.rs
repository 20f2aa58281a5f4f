//! A job of a plan, and what its model is given.

use haggle_core::{
    JobSpec,
    money::Amount,
    spec::{Choose, Failover, Haggle},
    time::Millis,
    wire::{Prompt, message::Features},
};
use serde::{Deserialize, Serialize};

use crate::{
    NodeId,
    dice::mix,
    name,
    toml_forms::{features, is_default, wide, wide_option},
};

/// A job.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct JobPlan {
    /// When it is submitted, in ms.
    pub at: u64,
    /// By whom.
    pub node: NodeId,
    /// For which model; the plan's if it is not said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// What the model is given.
    pub prompt: PromptPlan,
    /// Tokens to write, at most.
    pub max_tokens: u64,
    /// What it may cost over all attempts; without one only what is free is taken.
    #[serde(with = "wide_option", skip_serializing_if = "Option::is_none")]
    pub budget: Option<Amount>,
    /// Time over all attempts, in ms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline: Option<u64>,
    /// What a second of waiting is worth.
    pub time_value: Amount,
    /// Whether to bid.
    pub haggle: Haggle,
    /// Who chooses among offers.
    pub choose: Choose,
    /// What follows if a provider is lost after its first token.
    pub failover: Failover,
    /// Keys the draws of the model.
    #[serde(with = "wide")]
    pub sampling_seed: u64,
    /// Passes over every cache.
    pub refresh: bool,
    /// Whether every choice is explained.
    pub explain: bool,
    /// Never asked.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<NodeId>,
    /// What the engine has to be able to do beyond prompts of text.
    #[serde(with = "features", skip_serializing_if = "Option::is_none")]
    pub require: Option<Features>,
    /// Whether the prompt is a body of kind request: then a text is its JSON, and drawn letters are wrapped in some.
    #[serde(skip_serializing_if = "is_default")]
    pub request: bool,
    /// Whether a run is broken in which it does not finish.
    pub must_finish: bool,
}

/// What a model is given.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum PromptPlan {
    /// This text.
    Text(String),
    /// Letters that a key draws.
    Drawn(DrawnPrompt),
}

/// Letters that a key draws.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DrawnPrompt {
    /// How many, at least 1.
    pub bytes: u64,
    /// Which.
    pub key: u32,
}

impl Default for JobPlan {
    fn default() -> Self {
        Self {
            at: 0,
            node: NodeId(0),
            model: None,
            prompt: PromptPlan::Text("Once upon a time there was a market without a square.".into()),
            max_tokens: 30,
            budget: None,
            deadline: None,
            time_value: 0,
            haggle: Haggle::default(),
            choose: Choose::default(),
            failover: Failover::default(),
            sampling_seed: 0,
            refresh: false,
            explain: false,
            exclude: Vec::new(),
            require: None,
            request: false,
            must_finish: false,
        }
    }
}

impl JobPlan {
    pub(super) fn spec(&self, model: &str) -> JobSpec {
        let model = name(self.model.as_deref().unwrap_or(model));
        let mut spec = JobSpec::new(model, self.prompt(), self.max_tokens);
        spec.budget = self.budget;
        spec.deadline = self.deadline.map(Millis);
        spec.time_value = self.time_value;
        spec.haggle = self.haggle;
        spec.choose = self.choose;
        spec.failover = self.failover;
        spec.sampling.seed = self.sampling_seed;
        spec.explain = self.explain;
        spec.criteria.refresh = self.refresh;
        spec.criteria.exclude = self.exclude.iter().map(|node| node.peer()).collect();
        spec.criteria.require = self.require.or(self.request.then(Features::default));
        spec
    }

    fn prompt(&self) -> Prompt {
        match &self.prompt {
            PromptPlan::Drawn(_) if self.request => {
                Prompt::Request(format!(r#"{{"prompt":"{}"}}"#, self.prompt.text()))
            }
            PromptPlan::Text(json) if self.request => Prompt::Request(json.clone()),
            prompt => Prompt::Raw(prompt.text()),
        }
    }
}

impl PromptPlan {
    fn text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Drawn(DrawnPrompt { bytes, key }) => {
                let word = |index: u64| format!("{:016x}", mix(u64::from(*key) ^ mix(index)));
                let mut text: String = (0..bytes.div_ceil(16)).map(word).collect();
                text.truncate(usize::try_from(*bytes).unwrap_or(usize::MAX));
                text
            }
        }
    }
}
