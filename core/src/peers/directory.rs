//! Who serves what: adverts as their providers gave them, and searches for more.
//!
//! It keeps raw adverts; whoever asks filters them anew, so that a changed filter acts at once. What sources name are hints:
//! nothing is believed of a peer but what it says of itself.

use alloc::{collections::BTreeMap, vec::Vec};

use crate::{
    id::{Model, PeerId, QueryId},
    limits::{Limits, MAX_HINTS, Policy},
    machine::{QueryOutcome, StreamFailure},
    time::Instant,
    wire::message::{Advert, ModelAdvert},
};

#[derive(Clone, Hash, Debug, Default)]
pub(crate) struct Directory {
    peers: BTreeMap<PeerId, Known>,
    searches: BTreeMap<Model, Search>,
}

#[derive(Clone, Hash, Debug)]
struct Known {
    what: What,
    at: Instant,
}

#[derive(Clone, Hash, Debug)]
enum What {
    Advert(Advert),
    Failed(StreamFailure),
}

#[derive(Clone, Hash, Debug)]
struct Search {
    state: SearchState,
    hints: Vec<PeerId>,
    /// Whether one of the hints was seen to serve the model.
    found: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum SearchState {
    Running { query: QueryId, until: Instant },
    Done { at: Instant, outcome: QueryOutcome },
}

/// What is known of a peer now.
pub(crate) enum Description<'a> {
    /// Nothing, or nothing fresh enough: it has to be asked.
    Unknown,
    Advert(&'a Advert),
    Failed(StreamFailure),
}

impl Directory {
    /// What is known of `peer`, no older than `not_before` and within the policy's time.
    pub(crate) fn standing(
        &self,
        now: Instant,
        policy: &Policy,
        peer: &PeerId,
        not_before: Instant,
        since: Instant,
    ) -> Description<'_> {
        let Some(known) = self.peers.get(peer).filter(|known| known.at >= not_before) else {
            return Description::Unknown;
        };
        let age = now.since(known.at);
        match &known.what {
            What::Advert(advert) if age < policy.found_ttl => Description::Advert(advert),
            What::Failed(failure) if age < policy.nobody_ttl || known.at >= since => Description::Failed(*failure),
            _ => Description::Unknown,
        }
    }

    /// Keeps what a peer says of itself.
    pub(crate) fn describe(&mut self, now: Instant, limits: &Limits, peer: PeerId, advert: Advert) {
        for (model, search) in &mut self.searches {
            if search.hints.contains(&peer) && serves(&advert, model).is_some() {
                search.found = true;
            }
        }
        self.know(limits, peer, Known { what: What::Advert(advert), at: now });
    }

    /// Keeps that a peer could not be asked.
    pub(crate) fn fail(&mut self, now: Instant, limits: &Limits, peer: PeerId, failure: StreamFailure) {
        self.know(limits, peer, Known { what: What::Failed(failure), at: now });
    }

    /// A failed peer may be tried again: it is connected.
    pub(crate) fn revive(&mut self, peer: &PeerId) {
        if self.peers.get(peer).is_some_and(|known| matches!(known.what, What::Failed(_))) {
            self.peers.remove(peer);
        }
    }

    fn know(&mut self, limits: &Limits, peer: PeerId, known: Known) {
        if !self.peers.contains_key(&peer) && self.peers.len() >= limits.known_peers as usize {
            let oldest = self.peers.iter().min_by_key(|(_, known)| known.at).map(|(peer, _)| *peer);
            oldest.map(|peer| self.peers.remove(&peer));
        }
        self.peers.insert(peer, known);
    }

    /// A peer's latest advert, whatever its age.
    pub(crate) fn advert(&self, peer: &PeerId) -> Option<&Advert> {
        match &self.peers.get(peer)?.what {
            What::Advert(advert) => Some(advert),
            What::Failed(_) => None,
        }
    }

    /// Peers with their latest adverts, whatever their age.
    pub(crate) fn adverts(&self) -> impl Iterator<Item = (&PeerId, &Advert)> {
        self.peers.iter().filter_map(|(peer, known)| match &known.what {
            What::Advert(advert) => Some((peer, advert)),
            What::Failed(_) => None,
        })
    }

    /// Whether a search for the model has to be started for somebody who takes nothing older than `not_before`.
    pub(crate) fn needs_search(&self, now: Instant, policy: &Policy, model: &Model, not_before: Instant) -> bool {
        let Some(search) = self.searches.get(model) else { return true };
        match search.state {
            SearchState::Running { .. } => false,
            SearchState::Done { at, .. } => {
                let ttl = if search.found { policy.found_ttl } else { policy.nobody_ttl };
                at < not_before || now.since(at) >= ttl
            }
        }
    }

    /// Notes that a search was started. Of an older one's hints, those that were seen to serve the model stay.
    pub(crate) fn start_search(&mut self, limits: &Limits, model: Model, query: QueryId, until: Instant) {
        if !self.searches.contains_key(&model) && self.searches.len() >= limits.lookups as usize {
            self.drop_oldest_search();
        }
        let state = SearchState::Running { query, until };
        let mut hints = self.searches.remove(&model).map(|search| search.hints).unwrap_or_default();
        hints.retain(|peer| match self.peers.get(peer) {
            Some(Known { what: What::Advert(advert), .. }) => serves(advert, &model).is_some(),
            _ => false,
        });
        let found = !hints.is_empty();
        self.searches.insert(model, Search { state, hints, found });
    }

    fn drop_oldest_search(&mut self) {
        let oldest = self
            .searches
            .iter()
            .filter_map(|(model, search)| match search.state {
                SearchState::Done { at, .. } => Some((at, model.clone())),
                SearchState::Running { .. } => None,
            })
            .min();
        oldest.map(|(_, model)| self.searches.remove(&model));
    }

    /// Adds what a source named; says for which model.
    pub(crate) fn hint(&mut self, query: QueryId, peers: &[PeerId]) -> Option<Model> {
        let (model, search) = self.running(query)?;
        for peer in peers {
            if search.hints.len() >= MAX_HINTS {
                break;
            }
            if !search.hints.contains(peer) {
                search.hints.push(*peer);
            }
        }
        Some(model)
    }

    /// Ends a search; says for which model.
    pub(crate) fn end_search(&mut self, now: Instant, query: QueryId, outcome: QueryOutcome) -> Option<Model> {
        let (model, search) = self.running(query)?;
        search.state = SearchState::Done { at: now, outcome };
        Some(model)
    }

    fn running(&mut self, query: QueryId) -> Option<(Model, &mut Search)> {
        let is_it = |state: &SearchState| matches!(state, SearchState::Running { query: q, .. } if *q == query);
        let (model, search) = self.searches.iter_mut().find(|(_, search)| is_it(&search.state))?;
        Some((model.clone(), search))
    }

    pub(crate) fn search(&self, model: &Model) -> Option<SearchState> {
        self.searches.get(model).map(|search| search.state)
    }

    /// Who was named for the model.
    pub(crate) fn hints(&self, model: &Model) -> &[PeerId] {
        self.searches.get(model).map_or(&[], |search| &search.hints)
    }

    /// The query that runs under this name, with its model and time.
    pub(crate) fn running_until(&self, query: QueryId) -> Option<Instant> {
        self.searches.values().find_map(|search| match search.state {
            SearchState::Running { query: q, until } if q == query => Some(until),
            _ => None,
        })
    }
}

/// The advert's entry for a model, by name or alias.
pub(crate) fn serves<'a>(advert: &'a Advert, model: &Model) -> Option<&'a ModelAdvert> {
    advert.models.iter().find(|entry| entry.model == *model || entry.aliases.contains(model))
}
