//! What can be said of a request that failed, beyond how it failed: who is there, what they sell, and which flag asks for it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::ToSocketAddrs,
};

use haggle::{
    Model,
    core::{
        event::{Failure, PassedOver},
        machine::{QueryOutcome, StreamFailure},
        spec::Failover,
        wire::message::{Advert, DeclineReason, ModelAdvert},
    },
    engine::TINY_STORIES,
    libp2p::{Multiaddr, PeerId, multiaddr::Protocol},
};

use crate::{names::nearest, narrator::short, screen::in_line};

/// Names that a message lists, at most.
const SOME: usize = 5;

/// What was asked for, and where.
pub(crate) struct Asked<'a> {
    pub(crate) name: &'a str,
    pub(crate) model: &'a Model,
    /// Only providers that were named.
    pub(crate) only: bool,
    /// Nobody but the local network.
    pub(crate) local: bool,
    pub(crate) network: String,
    pub(crate) connected: usize,
    /// All that were given.
    pub(crate) addresses: Vec<String>,
    pub(crate) max_tokens: Option<u64>,
    pub(crate) failover: Option<Failover>,
    pub(crate) took_part: Vec<PeerId>,
}

/// Providers, and what they said of themselves last.
#[derive(Default)]
pub(crate) struct Seen(BTreeMap<PeerId, Advert>);

impl Seen {
    pub(crate) fn add(&mut self, peer: PeerId, advert: Advert) {
        self.0.insert(peer, advert);
    }

    /// Everything that is sold.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&PeerId, &Advert, &ModelAdvert)> {
        self.0.iter().flat_map(|(peer, advert)| advert.models.iter().map(move |entry| (peer, advert, entry)))
    }

    /// Who sells a model.
    pub(crate) fn sells(&self, model: &Model) -> impl Iterator<Item = (&PeerId, &ModelAdvert)> {
        let is = |entry: &ModelAdvert| entry.model == *model || entry.aliases.contains(model);
        self.all().filter(move |(_, _, entry)| is(entry)).map(|(peer, _, entry)| (peer, entry))
    }

    /// What follows the failure's own sentence.
    pub(crate) fn advice(&self, asked: &Asked<'_>, failure: &Failure, delivered: u64) -> String {
        match failure {
            Failure::NobodyFound { unfit: 0, outcome } => self.nobody(asked, *outcome),
            Failure::Declined(PassedOver::Stream(StreamFailure::Unreachable)) => unknown_hosts(&asked.addresses),
            Failure::Context | Failure::Declined(PassedOver::Declined(DeclineReason::Context)) => self.context(asked),
            Failure::Interrupted(_) if delivered > 0 => self.others(asked),
            _ => String::new(),
        }
    }

    fn nobody(&self, asked: &Asked<'_>, outcome: QueryOutcome) -> String {
        if self.sells(asked.model).next().is_some() {
            return String::new();
        }
        let names = self.names();
        if names.is_empty() {
            return match outcome {
                _ if asked.local => {
                    ": nobody answered on the local network; to look further, give a bootstrap node with \
                     --bootstrap ADDR, or a provider with --provider ADDR"
                        .into()
                }
                QueryOutcome::Complete if asked.connected > 0 => format!(
                    " (model {:?}); nobody sells anything in the network {:?}: --network NAME asks another",
                    asked.name, asked.network
                ),
                _ => unknown_hosts(&asked.addresses),
            };
        }
        let near = nearest(asked.name, names.iter().map(String::as_str));
        let there = match near.as_slice() {
            [] => listed(&names),
            near => format!("did you mean {}?", near.join(" or ")),
        };
        let who = match (near.is_empty(), asked.only) {
            (false, _) => "",
            (true, true) => "what was asked sells ",
            (true, false) => "what is sold here: ",
        };
        let default = match asked.name {
            TINY_STORIES => ", which is asked for where --model says no other",
            _ => "",
        };
        format!(" (model {:?}{default}; {who}{there} --model NAME asks for one)", asked.name)
    }

    fn context(&self, asked: &Asked<'_>) -> String {
        let longest = self.sells(asked.model).map(|(_, entry)| entry.context).max();
        let (Some(longest), Some(ordered)) = (longest, asked.max_tokens) else { return String::new() };
        format!("; there is room for {longest} tokens of prompt and answer together, and --max-tokens orders {ordered}")
    }

    /// Who could begin anew, where nobody could go on.
    fn others(&self, asked: &Asked<'_>) -> String {
        if asked.failover != Some(Failover::Continue) {
            return String::new();
        }
        let mut others = self.sells(asked.model).filter(|(peer, _)| !asked.took_part.contains(peer));
        match others.next() {
            Some((peer, entry)) if !entry.can_continue => format!(
                "; {} sells the model too, and cannot go on with what another wrote: --failover restart has it begin anew",
                short(peer)
            ),
            Some((peer, _)) => format!("; {} sells the model too: ask again", short(peer)),
            None => String::new(),
        }
    }

    fn names(&self) -> BTreeSet<String> {
        let names = self.all().flat_map(|(_, _, entry)| [&entry.model].into_iter().chain(&entry.aliases));
        names.map(|name| in_line(&name.to_text())).collect()
    }
}

/// `A, B and 3 more.`
fn listed(names: &BTreeSet<String>) -> String {
    let some: Vec<&str> = names.iter().take(SOME).map(String::as_str).collect();
    match names.len() - some.len() {
        0 => format!("{}.", some.join(", ")),
        more => format!("{} and {more} more (`haggle models` shows all).", some.join(", ")),
    }
}

/// The hosts of addresses whose names nobody knows: they may be why nobody was reached.
fn unknown_hosts(addresses: &[String]) -> String {
    let host = |address: &String| match address.parse::<Multiaddr>().ok()?.iter().next()? {
        Protocol::Dns(host) | Protocol::Dns4(host) | Protocol::Dns6(host) => Some(host.into_owned()),
        _ => None,
    };
    let unknown = |host: &String| (host.as_str(), 0).to_socket_addrs().is_err();
    let hosts: BTreeSet<String> = addresses.iter().filter_map(host).filter(unknown).collect();
    match hosts.len() {
        0 => String::new(),
        _ => format!("; no address is known for the name {}", hosts.into_iter().collect::<Vec<_>>().join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use haggle::core::{
        time::Millis,
        wire::message::{Exactness, ExactnessKind},
    };

    use super::*;

    fn model(name: &str) -> Model {
        Model::new(name.as_bytes()).expect("a name")
    }

    fn seen(names: &[&str], can_continue: bool) -> Seen {
        let entry = |name: &&str| ModelAdvert {
            model: model(name),
            aliases: Vec::new(),
            context: 1_024,
            price_in: 0,
            bytes_per_token: 4,
            price_out: 0,
            eta: Millis(1),
            can_continue,
            exactness: Exactness { kind: ExactnessKind::None, class: Default::default() },
        };
        let mut seen = Seen::default();
        let models = names.iter().map(entry).collect();
        seen.add(PeerId::random(), Advert { models, slots: 1, free: 1, queued: 0 });
        seen
    }

    fn advice(seen: &Seen, failure: Failure, tokens: u64, change: impl FnOnce(&mut Asked<'_>)) -> String {
        let wanted = model("llama");
        let mut asked = Asked {
            name: "llama",
            model: &wanted,
            only: false,
            local: false,
            network: "main".into(),
            connected: 1,
            addresses: Vec::new(),
            max_tokens: Some(256),
            failover: Some(Failover::Continue),
            took_part: Vec::new(),
        };
        change(&mut asked);
        seen.advice(&asked, &failure, tokens)
    }

    #[test]
    fn nobody_there_is_told_by_where_was_looked() {
        let nobody = |outcome| Failure::NobodyFound { outcome, unfit: 0 };
        let none = Seen::default();
        let told = advice(&none, nobody(QueryOutcome::Complete), 0, |asked| asked.local = true);
        assert!(told.contains("--bootstrap ADDR") && told.contains("--provider ADDR"), "{told}");
        let told = advice(&none, nobody(QueryOutcome::Complete), 0, |_| {});
        assert!(told.contains("network \"main\"") && told.contains("--network NAME"), "{told}");
        assert_eq!(advice(&none, nobody(QueryOutcome::TimedOut), 0, |_| {}), "");
        let names = ["a-1", "b-2", "c-3", "d-4", "e-5", "f-6", "g-7"];
        let told = advice(&seen(&names, true), nobody(QueryOutcome::Complete), 0, |_| {});
        assert!(told.contains("a-1, b-2, c-3, d-4, e-5 and 2 more (`haggle models`"), "{told}");
        assert_eq!(advice(&seen(&["llama"], true), nobody(QueryOutcome::Complete), 0, |_| {}), "");
    }

    #[test]
    fn another_provider_is_named_where_it_could_have_helped() {
        let lost = Failure::Interrupted(haggle::core::event::Interrupted::Lost);
        let other = seen(&["llama"], false);
        let peer = *other.0.keys().next().expect("one");
        let told = advice(&other, lost, 3, |_| {});
        assert!(told.contains(&short(&peer)) && told.contains("--failover restart"), "{told}");
        // Nothing was delivered, it took part itself, it sells something else, or nobody was to go on.
        assert_eq!(advice(&other, lost, 0, |_| {}), "");
        assert_eq!(advice(&other, lost, 3, |asked| asked.took_part.push(peer)), "");
        assert_eq!(advice(&seen(&["other"], false), lost, 3, |_| {}), "");
        assert_eq!(advice(&other, lost, 3, |asked| asked.failover = Some(Failover::Never)), "");
        let told = advice(&seen(&["llama"], true), lost, 3, |_| {});
        assert!(told.contains("ask again") && !told.contains("--failover"), "{told}");
    }
}
