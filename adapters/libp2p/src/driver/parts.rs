use std::sync::Arc;

use haggle_core::{Limits, Model, Policy, money::Amount, provider::Service};
use haggle_engine::Engine;
use haggle_flight::Recorder;
use libp2p::PeerId;

use super::Spawn;
use crate::{
    Config, ConfigError, Sale,
    runtime::Runtime,
    sale::{engines, service},
    state::{State, StoredAnswer},
};

/// What a driver is made of.
pub struct Parts {
    /// This node.
    pub me: PeerId,
    /// The network's name.
    pub network: String,
    /// Sizes and counts.
    pub limits: Limits,
    /// Times and tries.
    pub policy: Policy,
    /// What all jobs together may come to owe, restored ones included; `None`: without bound.
    pub account_budget: Option<Amount>,
    /// What is served; without models the node only buys.
    pub service: Service,
    /// The engine of each model that is served.
    pub engines: Vec<(Model, Arc<dyn Engine>)>,
    /// How tasks are started.
    pub spawn: Spawn,
    /// Where every step is recorded, if anywhere.
    pub recorder: Option<Recorder>,
    /// Where the node's state is kept, if it is; what is there is restored.
    pub state: Option<State>,
    /// What the application has stored of answers.
    pub stored: Vec<StoredAnswer>,
}

impl Parts {
    /// A node that buys, in the network `main`, with every limit at its default; the rest by assignment.
    pub fn new(me: PeerId, runtime: &impl Runtime) -> Self {
        let spawner = runtime.clone();
        Parts {
            me,
            network: Config::default().network,
            limits: Limits::default(),
            policy: Policy::default(),
            account_budget: None,
            service: Service::default(),
            engines: Vec::new(),
            spawn: Arc::new(move |task| spawner.spawn(task)),
            recorder: None,
            state: None,
            stored: Vec::new(),
        }
    }

    /// Has the node sell models, as many jobs at once as `config` says.
    ///
    /// # Errors
    /// What cannot be sold.
    pub fn sell(mut self, config: &Config, sales: &[Sale]) -> Result<Self, ConfigError> {
        self.service = service(config, sales)?;
        self.engines = engines(&self.service, sales.to_vec());
        Ok(self)
    }
}
