//! What jobs need of an engine, and what engines can do: an award goes to who said that it can, and is declined by who
//! cannot.

use std::iter;

use haggle_core::{
    Model, PeerId,
    provider::Serving,
    wire::message::{Advert, Award, BodyKind, Features, ModelAdvert},
};

use super::{Judge, Rule};

/// Which models take requests, by all their names, and what their engines can do.
pub(super) type Abilities = Vec<(Model, Features)>;

/// What an award needs: a model that takes requests, whose engine can do this. `None`: prompts of text are enough.
pub(super) type Needs = Option<(Model, Features)>;

impl Judge {
    /// What a provider of the core serves from now on. What it served before still counts: an answer to what came then may
    /// be on its way.
    pub(crate) fn serves(&mut self, peer: PeerId, models: &[Serving]) {
        let now = abilities(models.iter().map(|serving| &serving.advert));
        let before = self.able.get(&peer).map_or_else(|| now.clone(), |[_, last]| last.clone());
        self.able.insert(peer, [before, now]);
    }

    /// A requester is told what a provider serves.
    pub(super) fn advertised(&mut self, node: u32, peer: PeerId, advert: &Advert) {
        let now = abilities(&advert.models);
        if now.is_empty() {
            self.told.remove(&(node, peer));
        } else {
            self.told.insert((node, peer), now);
        }
    }

    /// A requester of the core awards for the first time: what the job is and needs, and to who said that it can do that.
    // [A13]
    pub(super) fn check_needs(&mut self, provider: PeerId, award: &Award) {
        let Some(book) = self.jobs.get(&award.job) else { return };
        let Some(spec) = &book.spec else { return };
        let (job, require, kind) = (award.job, spec.require, spec.prompt.kind());
        let can = self.told.get(&(book.node, provider)).is_some_and(|told| meets(told, &needs(award)));
        if (award.kind, award.features.unwrap_or_default()) != (kind, require.unwrap_or_default()) {
            self.fail(Rule::Features, format_args!("{job:?} is {kind:?} and needs {require:?}, not what is awarded"));
        }
        if needs(award).is_some() && !can {
            self.fail(
                Rule::Features,
                format_args!("{job:?} goes to {provider:?}, which did not say that it can do it"),
            );
        }
    }

    /// A provider of the core accepts.
    // [A13]
    pub(super) fn check_ability(&mut self, from: PeerId, needs: &Needs) {
        let can = |able: &[Abilities; 2]| able.iter().any(|able| meets(able, needs));
        if needs.is_some() && !self.able.get(&from).is_some_and(can) {
            self.fail(Rule::Features, format_args!("{from:?} accepts what its engine can not do: {needs:?}"));
        }
    }

    /// A provider of the core declines an award, of which nothing is to be continued, as unsupported.
    // [A13]
    pub(super) fn check_inability(&mut self, from: PeerId, needs: &Needs) {
        let can = |able: &[Abilities; 2]| able.iter().all(|able| meets(able, needs));
        if needs.is_none() || self.able.get(&from).is_some_and(can) {
            self.fail(Rule::Features, format_args!("{from:?} declines what its engine can do: {needs:?}"));
        }
    }
}

/// What an award needs of its model.
pub(super) fn needs(award: &Award) -> Needs {
    let features = award.features.unwrap_or_default();
    let is_plain = award.kind != BodyKind::Request && features == Features::default();
    (!is_plain).then(|| (award.model.clone(), features))
}

fn abilities<'a>(models: impl IntoIterator<Item = &'a ModelAdvert>) -> Abilities {
    let named = |advert: &'a ModelAdvert| {
        let names = iter::once(&advert.model).chain(&advert.aliases);
        names.filter_map(|name| Some((name.clone(), advert.features?)))
    };
    models.into_iter().flat_map(named).collect()
}

fn meets(able: &Abilities, needs: &Needs) -> bool {
    let Some((model, needed)) = needs else { return true };
    able.iter().any(|(name, has)| name == model && has.0 & needed.0 == needed.0)
}
