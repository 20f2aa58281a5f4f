//! Providers that leave or change their prices, and applications that cancel.

use haggle_core::{
    Instant, Millis, Provider,
    money::Price,
    wire::message::{Features, ModelAdvert},
};

use super::World;
use crate::net::Role;

impl World {
    pub(super) fn drain_provider(&mut self, node: u32, patience: u64) {
        self.at_provider(node, |provider, now| provider.drain(now, Millis(patience)));
    }

    pub(super) fn shut_down_provider(&mut self, node: u32) {
        self.at_provider(node, |provider, now| provider.shut_down(now));
    }

    fn at_provider(&mut self, node: u32, order: impl FnOnce(&mut Provider, Instant)) {
        let place = &mut self.nodes[node as usize];
        if let Some(side) = &mut place.provider {
            order(&mut side.machine, place.clock.read(self.now));
        }
        self.after(node, Role::Provider);
    }

    pub(super) fn cancel_nth(&mut self, nth: usize) {
        if let Some(job) = self.submission(nth)
            && !self.job(job).orphaned
        {
            // Refused if it has ended.
            let _refusal = self.cancel(job);
        }
    }

    pub(super) fn reprice(&mut self, node: u32, price_in: Price, price_out: Price) {
        self.change_models(node, |advert| (advert.price_in, advert.price_out) = (price_in, price_out));
    }

    pub(super) fn change_features(&mut self, node: u32, features: Option<Features>) {
        self.change_models(node, |advert| advert.features = features);
    }

    fn change_models(&mut self, node: u32, change: impl Fn(&mut ModelAdvert)) {
        let place = &mut self.nodes[node as usize];
        let (Some(config), Some(side)) = (&mut place.provider_config, &mut place.provider) else { return };
        config.service.models.iter_mut().for_each(|serving| change(&mut serving.advert));
        self.judge.serves(crate::NodeId(node).peer(), &config.service.models);
        // The same models as before: nothing to refuse.
        let changed = side.machine.set_models(config.service.models.clone());
        debug_assert!(changed.is_ok());
        self.after(node, Role::Provider);
    }
}
