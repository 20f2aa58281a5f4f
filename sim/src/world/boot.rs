//! Processes that start: fresh machines, and who is found as a provider.

use haggle_core::{Provider, Requester};

use super::{World, node::Side};
use crate::{
    dice::{self, Purpose, Stream},
    net::Role,
    node::NodeId,
};

impl World {
    /// Gives a node fresh machines, as its process does when it starts.
    pub(super) fn boot(&mut self, node: u32) {
        let id = NodeId(node);
        let life = self.nodes[node as usize].life;
        let seeds = [Role::Requester, Role::Provider].map(|role| self.machine_seed(node, role, life));
        let place = &mut self.nodes[node as usize];
        place.alive = true;
        place.crashed = false;
        place.runs.clear();
        place.requester = place.requester_config.as_ref().map(|config| {
            match Requester::new(config.policy.clone(), config.limits.clone(), seeds[0]) {
                Ok(mut requester) => {
                    requester.set_account_budget(config.account_budget);
                    self.judge.account(node, config.account_budget);
                    Box::new(Side::new(requester))
                }
                Err(error) => panic!("a requester with {error}"),
            }
        });
        place.provider = place.provider_config.as_ref().map(|config| {
            match Provider::new(config.service.clone(), config.limits.clone(), seeds[1]) {
                Ok(provider) => Box::new(Side::new(provider)),
                Err(error) => panic!("a provider with {error}"),
            }
        });
        if let Some(config) = &place.provider_config {
            let models: Vec<Vec<Vec<u8>>> = config
                .service
                .models
                .iter()
                .map(|serving| {
                    let names = std::iter::once(&serving.advert.model).chain(&serving.advert.aliases);
                    names.map(|name| name.as_bytes().to_vec()).collect()
                })
                .collect();
            // What an engine of one's own writes is known to nobody.
            let models = models.into_iter().filter(|_| place.writer.is_none());
            let models = models.map(|names| (names, config.engine.length, config.engine.class)).collect();
            self.judge.provider(node, id.peer(), models, config.service.slots);
            self.judge.serves(id.peer(), &config.service.models);
        }
        self.publish(node);
        self.begin_storing(node);
    }

    /// Keys the draws of a machine, others in each life.
    pub(super) fn machine_seed(&self, node: u32, role: Role, life: u32) -> [u8; 32] {
        let mut seed = [0; 32];
        for (index, word) in seed.chunks_mut(8).enumerate() {
            let counter = (u64::from(life) << 8) | ((role as u64 + 1) << 4) | index as u64;
            let draw = dice::rand(self.seed, Stream::new(node, node, Purpose::Machine), counter);
            word.copy_from_slice(&draw.to_le_bytes());
        }
        seed
    }

    /// Lets queries find a provider.
    pub(super) fn publish(&mut self, node: u32) {
        let Some(config) = &self.nodes[node as usize].provider_config else { return };
        let models = config.service.models.iter().filter(|_| config.published);
        for name in models.flat_map(|serving| std::iter::once(&serving.advert.model).chain(&serving.advert.aliases)) {
            self.dht.publish(name.as_bytes(), NodeId(node).peer());
        }
    }
}
