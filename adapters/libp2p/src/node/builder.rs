//! How a node is put together and started.

use std::sync::Arc;

use futures::channel::oneshot;
use haggle_core::{Policy, money::Amount, wire::message::ModelAdvert};
use haggle_flight::Tape;
use libp2p::identity::Keypair;

use super::{Node, Sale, run, service};
use crate::{
    Config, Error,
    driver::{Driver, Parts},
    runtime::Runtime,
    state::{State, StoredAnswer},
};

/// How a node is put together.
#[derive(Debug)]
pub struct Builder {
    config: Config,
    key: Option<Keypair>,
    policy: Policy,
    account_budget: Option<Amount>,
    sales: Vec<Sale>,
    tape: Option<Tape>,
    state: Option<State>,
    stored: Vec<StoredAnswer>,
}

impl Builder {
    pub(super) fn new(config: Config) -> Self {
        Builder {
            config,
            key: None,
            policy: Policy::default(),
            account_budget: None,
            sales: Vec::new(),
            tape: None,
            state: None,
            stored: Vec::new(),
        }
    }

    /// The node's key, from [`key::load_or_create`](crate::key::load_or_create). Without one, the node has a new key.
    pub fn key(mut self, key: Keypair) -> Self {
        self.key = Some(key);
        self
    }

    /// Times and tries that the configuration does not name. Those that it names stand.
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// Bounds what all jobs of the node together may come to owe, those that are restored included, until
    /// [`Node::set_account_budget`] changes it. Without one, nothing is bounded.
    pub fn account_budget(mut self, budget: Option<Amount>) -> Self {
        self.account_budget = budget;
        self
    }

    /// Keeps the node's state in a directory, and restores what is there: its key unless another is given, scores and bans,
    /// what is owed, and its jobs, which [`Node::restored`] hands out.
    ///
    /// What an application has not yet stored of an answer when the process dies is told again; see [`Self::stored`].
    pub fn state(mut self, state: State) -> Self {
        self.state = Some(state);
        self
    }

    /// What the application has itself stored of answers: it is not told again. Of jobs that are not named, everything is.
    pub fn stored(mut self, stored: Vec<StoredAnswer>) -> Self {
        self.stored = stored;
        self
    }

    /// Sells a model.
    pub fn sell(mut self, sale: Sale) -> Self {
        self.sales.push(sale);
        self
    }

    /// Records every step of the node's machines, to be run again by [`flight::replay`](crate::flight::replay). If the file
    /// can not be written any more, [`NodeEvent::Failed`](crate::NodeEvent::Failed) says so with the code `record`, and the node goes on.
    pub fn record(mut self, tape: Tape) -> Self {
        self.tape = Some(tape);
        self
    }

    /// Starts the node. It listens when this returns.
    ///
    /// # Errors
    /// A setting that cannot work, an address that cannot be listened on, or a runtime without a network.
    pub async fn start<R: Runtime>(self, runtime: R) -> Result<Node, Error> {
        let settings = self.config.read(self.policy.clone())?;
        let key = match (self.key, &self.state) {
            (Some(key), _) => key,
            (None, Some(state)) => state.key()?,
            (None, None) => Keypair::generate_ed25519(),
        };
        let service = service(&self.config, &self.sales)?;
        let names =
            |advert: &ModelAdvert| [advert.model.clone()].into_iter().chain(advert.aliases.clone()).collect::<Vec<_>>();
        let models = service.models.iter().flat_map(|serving| names(&serving.advert)).collect();
        let engines = service.models.iter().map(|serving| serving.advert.model.clone());
        let engines = engines.zip(self.sales.iter().map(|sale| sale.engine.clone())).collect();
        let spawner = runtime.clone();
        let (driver, node) = Driver::new(Parts {
            me: key.public().to_peer_id(),
            network: self.config.network.clone(),
            limits: self.config.limits.clone(),
            policy: settings.policy.clone(),
            account_budget: self.account_budget,
            service,
            engines,
            spawn: Arc::new(move |task| spawner.spawn(task)),
            tape: self.tape,
            state: self.state,
            stored: self.stored,
        })?;
        let (ready, started) = oneshot::channel();
        let (config, tasks) = (self.config, runtime.clone());
        // Sockets are opened inside the runtime, wherever this future runs.
        tasks.spawn(Box::pin(async move {
            match run::swarm(&runtime, &key, &config, &settings) {
                Ok(swarm) => run::run(swarm, driver, config, settings, models, ready).await,
                Err(error) => {
                    drop(driver);
                    drop(ready.send(Err(error)));
                }
            }
        }));
        started.await.map_err(|_| Error::Stopped)??;
        Ok(node)
    }

    /// Starts the node in a simulated network instead: see [`testing`](crate::testing).
    ///
    /// # Errors
    /// A setting that cannot work, or that a simulated node cannot have: a key, a state directory, a recording.
    #[cfg(feature = "testing")]
    pub fn start_in(self, market: &crate::testing::Market) -> Result<Node, Error> {
        use haggle_sim::{EngineScript, ProviderConfig, RequesterConfig};

        let settings = self.config.read(self.policy)?;
        let absent = [("key", self.key.is_some()), ("state", self.state.is_some()), ("record", self.tape.is_some())];
        if let Some((path, _)) = absent.into_iter().find(|(_, is_set)| *is_set) {
            let problem = "is for real nodes: leave it out, a simulated one has no key and writes no file".into();
            return Err(crate::ConfigError { path: path.into(), problem }.into());
        }
        let service = service(&self.config, &self.sales)?;
        let engines = service.models.iter().map(|serving| serving.advert.model.clone());
        let engines: Vec<_> = engines.zip(self.sales.into_iter().map(|sale| sale.engine)).collect();
        let limits = self.config.limits;
        let provider = (!engines.is_empty()).then(|| ProviderConfig {
            service,
            limits: limits.clone(),
            engine: EngineScript::default(),
            published: true,
        });
        let (policy, account_budget) = (settings.policy, self.account_budget);
        let requester = RequesterConfig { policy, limits, account_budget, ..RequesterConfig::default() };
        market.seat(self.config.network, requester, provider, engines)
    }
}
