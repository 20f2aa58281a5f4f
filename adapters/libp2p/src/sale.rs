//! What a node sells.

use std::{collections::BTreeSet, sync::Arc};

use haggle_core::{
    Model,
    money::Price,
    provider::{Service, Serving},
    time::Millis,
    wire::{
        ANY_MODEL,
        message::{Exactness, ExactnessKind, Features, MAX_ALIASES, MAX_MODELS, ModelAdvert},
    },
};
use haggle_engine::{Engine, ExactKind};

use crate::{Config, ConfigError, config::millis};

/// A model that a node sells.
#[derive(Clone)]
pub struct Sale {
    /// What computes it. Several sales may share one engine.
    pub engine: Arc<dyn Engine>,
    /// The name under which it is found; the engine's own if empty.
    pub name: String,
    /// Other names it answers to, at most 5.
    pub aliases: Vec<String>,
    /// Micro-units per 1,000,000 tokens read.
    pub price_in: Price,
    /// Micro-units per 1,000,000 tokens written.
    pub price_out: Price,
    /// Bytes of a prompt that are counted as one token read; a prompt is priced before it is seen.
    pub bytes_per_token: u32,
    /// Time from a slot to the first token: a guess, which is offered until a job was served; then what was measured is.
    pub eta: Millis,
    /// Where the way down for bidders would end, in thousandths of the posted price: nobody is given more than three quarters of
    /// that way. 1000 does not haggle.
    pub floor_permille: u32,
}

impl Sale {
    /// An engine's model, free of charge; the rest by assignment.
    pub fn new(engine: Arc<dyn Engine>) -> Self {
        Sale {
            engine,
            name: String::new(),
            aliases: Vec::new(),
            price_in: 0,
            price_out: 0,
            bytes_per_token: 4,
            eta: Millis::from_secs(1),
            floor_permille: 1_000,
        }
    }

    fn name(&self) -> &str {
        if self.name.is_empty() { &self.engine.info().name } else { &self.name }
    }

    fn serving(&self) -> Result<Serving, ConfigError> {
        let info = self.engine.info();
        let model = |name: &str| {
            Model::new(name.as_bytes()).filter(|_| name != ANY_MODEL).ok_or_else(|| ConfigError {
                path: "model".into(),
                problem: format!("{name:?} cannot be a model's name; it must have 1 to 128 bytes and not be \"*\""),
            })
        };
        if self.aliases.len() > MAX_ALIASES {
            return Err(ConfigError { path: "aliases".into(), problem: format!("must be at most {MAX_ALIASES}") });
        }
        let kind = match info.exactness.kind {
            ExactKind::None => ExactnessKind::None,
            ExactKind::Greedy => ExactnessKind::Greedy,
            ExactKind::Seeded => ExactnessKind::Seeded,
        };
        Ok(Serving {
            advert: ModelAdvert {
                model: model(self.name())?,
                aliases: self.aliases.iter().map(|alias| model(alias)).collect::<Result<_, _>>()?,
                context: info.context,
                price_in: self.price_in,
                bytes_per_token: self.bytes_per_token,
                price_out: self.price_out,
                eta: self.eta,
                can_continue: info.can_continue,
                exactness: Exactness { kind, class: info.exactness.class },
                features: info.features.map(Features),
                longest: None,
                price_part: None,
            },
            floor_permille: self.floor_permille,
        })
    }
}

impl std::fmt::Debug for Sale {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sale").field("name", &self.name()).field("price_out", &self.price_out).finish_non_exhaustive()
    }
}

/// The models that are sold, as the core has them.
pub(crate) fn servings(sales: &[Sale]) -> Result<Vec<Serving>, ConfigError> {
    if sales.len() > MAX_MODELS {
        return Err(ConfigError { path: "models".into(), problem: format!("must be at most {MAX_MODELS}") });
    }
    let models = sales.iter().map(Sale::serving).collect::<Result<Vec<_>, _>>()?;
    let mut names = BTreeSet::new();
    for advert in models.iter().map(|serving| &serving.advert) {
        for name in [&advert.model].into_iter().chain(&advert.aliases) {
            if !names.insert(name) {
                let problem = format!("{:?} is sold twice; every name and alias is for one model", name.to_text());
                return Err(ConfigError { path: "models".into(), problem });
            }
        }
    }
    Ok(models)
}

/// What is sold, and how, as the core has it.
pub(crate) fn service(config: &Config, sales: &[Sale]) -> Result<Service, ConfigError> {
    let models = servings(sales)?;
    Ok(Service {
        models,
        slots: config.slots,
        queue: config.queue,
        job_ttl: millis(config.job_ttl),
        stall: millis(config.stall_timeout),
        ..Service::default()
    })
}

/// The engine of each model of a service that was made of these sales.
pub(crate) fn engines(service: &Service, sales: Vec<Sale>) -> Vec<(Model, Arc<dyn Engine>)> {
    let models = service.models.iter().map(|serving| serving.advert.model.clone());
    models.zip(sales.into_iter().map(|sale| sale.engine)).collect()
}
