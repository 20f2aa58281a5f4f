//! How a node is put together and started.

use std::{slice, sync::Arc};

use futures::channel::oneshot;
use haggle_core::{Policy, money::Amount, wire::message::ModelAdvert};
use haggle_flight::Recorder;
use libp2p::identity::Keypair;

use crate::{
    Config, Error, Node, Sale,
    driver::{Driver, Parts},
    run,
    runtime::Runtime,
    sale::{engines, service},
    state::{State, StoredAnswer},
};

impl Node {
    /// Puts a node together step by step.
    pub fn builder(config: Config) -> Builder {
        Builder::new(config)
    }

    /// Starts a node that only buys.
    ///
    /// # Errors
    /// As [`Builder::start`].
    pub async fn start<R: Runtime>(config: Config, runtime: R) -> Result<Self, Error> {
        Node::builder(config).start(runtime).await
    }
}

/// How a node is put together.
#[derive(Debug)]
pub struct Builder {
    pub(crate) config: Config,
    pub(crate) key: Option<Keypair>,
    pub(crate) policy: Policy,
    pub(crate) account_budget: Option<Amount>,
    pub(crate) sales: Vec<Sale>,
    pub(crate) recorder: Option<Recorder>,
    pub(crate) state: Option<State>,
    stored: Vec<StoredAnswer>,
}

impl Builder {
    fn new(config: Config) -> Self {
        Builder {
            config,
            key: None,
            policy: Policy::default(),
            account_budget: None,
            sales: Vec::new(),
            recorder: None,
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
    pub fn record(mut self, recorder: Recorder) -> Self {
        self.recorder = Some(recorder);
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
        let names = |advert: &ModelAdvert| [slice::from_ref(&advert.model), &advert.aliases].concat();
        let models = service.models.iter().flat_map(|serving| names(&serving.advert)).collect();
        let engines = engines(&service, self.sales);
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
            recorder: self.recorder,
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
}
