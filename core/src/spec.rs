//! What an application asks for.

use alloc::{string::String, vec::Vec};
use core::fmt;

use crate::{
    id::{Model, PeerId},
    money::{Amount, Price},
    time::Millis,
    wire::{
        Prompt,
        message::{Features, Sampling},
    },
};

/// A job: a prompt to be answered.
#[derive(Clone, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct JobSpec {
    /// Which model, and who may serve it.
    pub criteria: Criteria,
    /// What it is given.
    pub prompt: Prompt,
    /// Tokens to write, at most; at least 1.
    pub max_tokens: u64,
    /// What the job may cost over all attempts. Without one, only what is free is taken.
    #[cfg_attr(feature = "serde", serde(default))]
    pub budget: Option<Amount>,
    /// Time over all attempts, if shorter than [`crate::Policy::job_deadline`].
    #[cfg_attr(feature = "serde", serde(default))]
    pub deadline: Option<Millis>,
    /// How tokens are drawn.
    #[cfg_attr(feature = "serde", serde(default))]
    pub sampling: Sampling,
    /// Texts that end the answer: at most 4, of at most 64 bytes.
    #[cfg_attr(feature = "serde", serde(default))]
    pub stop: Vec<String>,
    /// What a second of waiting is worth, when offers are compared.
    #[cfg_attr(feature = "serde", serde(default))]
    pub time_value: Amount,
    /// Whether to bid, or to take the price as it is.
    #[cfg_attr(feature = "serde", serde(default))]
    pub haggle: Haggle,
    /// Who chooses among the offers.
    #[cfg_attr(feature = "serde", serde(default))]
    pub choose: Choose,
    /// What follows if a provider is lost after its first token.
    #[cfg_attr(feature = "serde", serde(default))]
    pub failover: Failover,
    /// Whether every step of the choice is told, with all who were looked at ([`crate::event::Event::Weighed`]).
    #[cfg_attr(feature = "serde", serde(default))]
    pub explain: bool,
}

impl JobSpec {
    /// A job with nothing but the necessary; the rest by assignment.
    #[must_use]
    pub fn new(model: Model, prompt: Prompt, max_tokens: u64) -> Self {
        Self {
            criteria: Criteria::new(model),
            prompt,
            max_tokens,
            budget: None,
            deadline: None,
            sampling: Sampling::default(),
            stop: Vec::new(),
            time_value: 0,
            haggle: Haggle::default(),
            choose: Choose::default(),
            failover: Failover::default(),
            explain: false,
        }
    }
}

impl fmt::Debug for JobSpec {
    // Without the texts that end the answer, as without the prompt's: whatever holds a job may be logged.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobSpec")
            .field("criteria", &self.criteria)
            .field("prompt", &self.prompt)
            .field("max_tokens", &self.max_tokens)
            .field("budget", &self.budget)
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}

/// Which providers come into question. Applied after every cache, so that a change acts at once.
#[derive(Clone, PartialEq, Eq, Hash, Debug, minicbor::Encode, minicbor::Decode)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
#[cbor(map)]
pub struct Criteria {
    /// The model, by name or alias.
    #[n(0)]
    pub model: Model,
    /// Posted price of reading, at most.
    #[cfg_attr(feature = "serde", serde(default))]
    #[n(1)]
    pub max_price_in: Option<Price>,
    /// Posted price of writing, at most.
    #[cfg_attr(feature = "serde", serde(default))]
    #[n(2)]
    pub max_price_out: Option<Price>,
    /// Context in tokens, at least.
    #[cfg_attr(feature = "serde", serde(default))]
    #[n(3)]
    pub min_context: u32,
    /// Asked first, if they fit.
    #[cfg_attr(feature = "serde", serde(default))]
    #[n(4)]
    pub prefer: Vec<PeerId>,
    /// Never asked.
    #[cfg_attr(feature = "serde", serde(default))]
    #[n(5)]
    pub exclude: Vec<PeerId>,
    /// If any: only these, and no search.
    #[cfg_attr(feature = "serde", serde(default))]
    #[n(6)]
    pub only: Vec<PeerId>,
    /// Providers to be found, at most; 0 is no limit.
    #[cfg_attr(feature = "serde", serde(default))]
    #[n(7)]
    pub limit: u32,
    /// Passes over every cache.
    #[cfg_attr(feature = "serde", serde(default))]
    #[n(8)]
    pub refresh: bool,
    /// What the engine has to be able to do beyond prompts of text. For a [`Prompt::Request`] it is there, and be it empty: only
    /// who takes requests at all is asked.
    #[cfg_attr(feature = "serde", serde(default))]
    #[n(9)]
    pub require: Option<Features>,
}

impl Criteria {
    /// Everybody who serves the model.
    #[must_use]
    pub fn new(model: Model) -> Self {
        Self {
            model,
            max_price_in: None,
            max_price_out: None,
            min_context: 0,
            prefer: Vec::new(),
            exclude: Vec::new(),
            only: Vec::new(),
            limit: 0,
            refresh: false,
            require: None,
        }
    }
}

/// Whether to bid below an offer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, minicbor::Encode, minicbor::Decode)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[cbor(map)]
pub enum Haggle {
    /// No: a posted price that is known already is awarded without an Rfq.
    #[default]
    #[n(0)]
    No,
    /// Offers are asked for, even where a posted price is known.
    #[n(1)]
    Offers,
    /// The first bid is this share of the first offer, in thousandths (1 to 999); bids rise to the offer in 2 rounds.
    #[n(2)]
    Bid(#[n(0)] u32),
}

/// Who chooses among offers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, minicbor::Encode, minicbor::Decode)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[cbor(index_only)]
pub enum Choose {
    /// The core: least cost plus time value, within budget and deadline.
    #[default]
    #[n(0)]
    Core,
    /// The application, by `award`, once the offers are in.
    #[n(1)]
    Application,
}

/// What follows if a provider is lost for good after its first token.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, minicbor::Encode, minicbor::Decode)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[cbor(index_only)]
pub enum Failover {
    /// Another one goes on after the last token. It reads prompt and answer again, which the bill shows.
    #[default]
    #[n(0)]
    Continue,
    /// Another one begins anew; what was delivered before is owed too.
    #[n(1)]
    Restart,
    /// The job ends as interrupted.
    #[n(2)]
    Never,
    /// Another one goes on, and where nobody can, another one begins anew: for whoever can take back what was shown.
    #[n(3)]
    ContinueOrRestart,
}

impl Failover {
    /// Whether another provider may go on after the last token.
    pub(crate) const fn may_continue(self) -> bool {
        matches!(self, Self::Continue | Self::ContinueOrRestart)
    }
}

/// A question for prices: nothing is awarded, no prompt is needed.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct QuoteSpec {
    /// Which model, and who may serve it.
    pub criteria: Criteria,
    /// Bytes of the prompt.
    pub body_bytes: u64,
    /// Tokens to write, at most; at least 1.
    pub max_tokens: u64,
    /// Time in all, if shorter than the policy's.
    pub deadline: Option<Millis>,
    /// Whether to bid.
    pub haggle: Haggle,
}

#[cfg(all(test, feature = "serde"))]
mod tests {
    use super::*;
    use crate::{Limits, Policy};
    use alloc::string::ToString as _;

    #[test]
    fn settings_and_specs_survive_a_text_format() {
        let mut spec = JobSpec::new(Model::new(b"m").unwrap(), Prompt::Raw("p".into()), 5);
        spec.criteria.only = alloc::vec![PeerId::new(&[1, 0xab]).unwrap()];
        spec.haggle = Haggle::Bid(900);
        let text = serde_json::to_string(&spec).unwrap();
        assert!(text.contains("\"01ab\""), "{text}");
        assert!(serde_json::from_str::<JobSpec>(&text).unwrap() == spec);
        let limits = serde_json::to_string(&Limits::default()).unwrap();
        assert_eq!(serde_json::from_str::<Limits>(&limits).unwrap(), Limits::default());
        assert_eq!(serde_json::from_str::<Policy>("{}").unwrap(), Policy::default());
    }

    #[test]
    fn unknown_fields_are_refused_by_name() {
        let wrong = serde_json::from_str::<Limits>(r#"{"jobz": 1}"#).unwrap_err();
        assert!(wrong.to_string().contains("jobz"));
        assert!(
            serde_json::from_str::<JobSpec>(r#"{"criteria": {"model": ""}, "prompt": {"raw": "p"}, "max_tokens": 1}"#)
                .is_err()
        );
    }
}
