//! The way from a node's builder into a simulated network.

use haggle_sim::{EngineScript, ProviderConfig, RequesterConfig};

use super::Market;
use crate::{
    Builder, ConfigError, Error, Node,
    sale::{engines, service},
};

impl Builder {
    /// Starts the node in a simulated network instead: see [`testing`](super).
    ///
    /// # Errors
    /// A setting that cannot work, or that a simulated node cannot have: a key, a state directory, a recording.
    pub fn start_in(self, market: &Market) -> Result<Node, Error> {
        let settings = self.config.read(self.policy)?;
        let absent =
            [("key", self.key.is_some()), ("state", self.state.is_some()), ("record", self.recorder.is_some())];
        if let Some((path, _)) = absent.into_iter().find(|(_, is_set)| *is_set) {
            let problem = "is for real nodes: leave it out, a simulated one has no key and writes no file".into();
            return Err(ConfigError { path: path.into(), problem }.into());
        }
        let service = service(&self.config, &self.sales)?;
        let engines = engines(&service, self.sales);
        let limits = self.config.limits;
        let provider = (!engines.is_empty()).then(|| ProviderConfig {
            service,
            limits: limits.clone(),
            engine: EngineScript::default(),
            published: true,
        });
        let (policy, account_budget) = (settings.policy, self.account_budget);
        let requester = RequesterConfig { policy, limits, account_budget, ..RequesterConfig::default() };
        market.add_node(self.config.network, requester, provider, engines)
    }
}
