//! What can be said of a request that failed, beyond how it failed: who is there, what they sell, and which flag asks for it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::ToSocketAddrs,
};

use haggle::{
    JobEvent, Model, NodeEvent,
    core::{
        event::{Failure, PassedOver},
        machine::{QueryOutcome, StreamFailure},
        money::Amount,
        spec::Failover,
        time::Millis,
        wire::message::{Advert, DeclineReason, ModelAdvert},
    },
    engine::TINY_STORIES,
    libp2p::{Multiaddr, PeerId, multiaddr::Protocol},
};

use crate::{args::Wanted, money::decimal, names::nearest, narrator::short, screen::in_line, spans::span};

/// Names that a message lists, at most.
const SOME: usize = 5;

/// What was asked for, and where.
pub(crate) struct Asked<'a> {
    pub(crate) wanted: &'a Wanted,
    pub(crate) model: &'a Model,
    /// The providers that were named; without any, whoever is found.
    pub(crate) only: Vec<PeerId>,
    /// The time of `--deadline` was over.
    pub(crate) took_too_long: bool,
    /// Nobody but the local network.
    pub(crate) local: bool,
    pub(crate) network: String,
    pub(crate) connected: usize,
    /// All that were given.
    pub(crate) addresses: Vec<String>,
    pub(crate) max_tokens: Option<u64>,
    pub(crate) prompt_bytes: Option<u64>,
    pub(crate) offers: Offers,
    pub(crate) failover: Option<Failover>,
    pub(crate) took_part: Vec<PeerId>,
}

/// The best of what a job was offered, each figure for itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Offers {
    /// The soonest first token.
    eta: Option<Millis>,
    /// The least for reading the prompt.
    fee_in: Option<Amount>,
}

impl Offers {
    pub(crate) fn add(&mut self, event: &JobEvent) {
        if let JobEvent::Offered(offer) = event {
            self.eta = Some(self.eta.map_or(offer.eta, |eta| eta.min(offer.eta)));
            self.fee_in = Some(self.fee_in.map_or(offer.tariff.fee_in, |fee| fee.min(offer.tariff.fee_in)));
        }
    }
}

/// Whom a node was told of.
#[derive(Default)]
pub(crate) struct Seen {
    /// Providers, and what they said of themselves last.
    adverts: BTreeMap<PeerId, Advert>,
    /// Who was reached, whatever they are.
    reached: BTreeSet<PeerId>,
    /// What is wrong with the way into the network, by the last that was told.
    trouble: Option<String>,
}

impl Seen {
    pub(crate) fn add(&mut self, event: NodeEvent) {
        match event {
            NodeEvent::Discovered { peer, advert } => drop(self.adverts.insert(peer, advert)),
            NodeEvent::PeerConnected { peer } => drop(self.reached.insert(peer)),
            NodeEvent::Failed { code: "bootstrap_unreachable", detail } => self.trouble = Some(detail),
            _ => {}
        }
    }

    /// Everything that is sold.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&PeerId, &Advert, &ModelAdvert)> {
        self.adverts.iter().flat_map(|(peer, advert)| advert.models.iter().map(move |entry| (peer, advert, entry)))
    }

    /// Who sells a model.
    pub(crate) fn sells(&self, model: &Model) -> impl Iterator<Item = (&PeerId, &ModelAdvert)> {
        let is = |entry: &ModelAdvert| entry.model == *model || entry.aliases.contains(model);
        self.all().filter(move |(_, _, entry)| is(entry)).map(|(peer, _, entry)| (peer, entry))
    }

    /// What is wrong with the way into the network, if it is known.
    pub(crate) fn trouble(&self, asked: &[String]) -> Option<String> {
        self.trouble.as_ref().map(|trouble| format!("{trouble}{}", unknown_hosts(asked)))
    }

    /// What is known better than the failure's own sentence says it.
    pub(crate) fn instead(&self, asked: &Asked<'_>, failure: &Failure) -> Option<String> {
        let known = self.sells_nothing(asked, failure).or_else(|| self.no_entrance(asked, failure));
        known
            .or_else(|| too_soon(asked, failure))
            .or_else(|| self.too_long(asked, failure))
            .or_else(|| too_dear(asked, failure))
    }

    /// What follows the failure's own sentence.
    pub(crate) fn advice(&self, asked: &Asked<'_>, failure: &Failure, delivered: u64) -> String {
        match failure {
            Failure::NobodyFound { .. } if asked.took_too_long => {
                "; the time of --deadline was over: allow more".into()
            }
            Failure::NobodyFound { unfit: 0, outcome } => self.nobody(asked, *outcome),
            Failure::NobodyFound { .. } => self.unfit(asked),
            Failure::Declined(PassedOver::Stream(StreamFailure::Unreachable)) => unknown_hosts(&asked.addresses),
            Failure::Declined(PassedOver::TooSlow) => asked
                .offers
                .eta
                .map_or(String::new(), |eta| format!("; its first token comes in {}: raise --deadline", span(eta))),
            Failure::Interrupted(_) if delivered > 0 => self.others(asked),
            _ => String::new(),
        }
    }

    /// The peer that was asked is there, but no provider: what the failure says of it is not why.
    fn sells_nothing(&self, asked: &Asked<'_>, failure: &Failure) -> Option<String> {
        let Failure::Declined(PassedOver::Stream(_)) = failure else { return None };
        let is_there = |peer: &&PeerId| self.reached.contains(peer) && !self.adverts.contains_key(peer);
        let peer = asked.only.iter().find(is_there)?;
        Some(format!(
            "{} answers, but sells nothing: if it is a bootstrap node give it with --bootstrap ADDR; else one of the two \
             needs another version of haggle",
            short(peer)
        ))
    }

    /// Nobody was asked, for the network was not entered.
    fn no_entrance(&self, asked: &Asked<'_>, failure: &Failure) -> Option<String> {
        let Failure::NobodyFound { outcome: QueryOutcome::TimedOut, unfit: 0 } = failure else { return None };
        let trouble = self.trouble(&asked.addresses).filter(|_| !asked.took_too_long && self.adverts.is_empty())?;
        Some(format!("nobody who serves the model was found in time: {trouble}"))
    }

    /// What there is, beside what was asked for.
    fn unfit(&self, asked: &Asked<'_>) -> String {
        let all: Vec<&ModelAdvert> = self.sells(asked.model).map(|(_, entry)| entry).collect();
        let wanted = asked.wanted;
        let mut said = Vec::new();
        if let (Some(most), Some(least)) = (wanted.max_price_in, all.iter().map(|entry| entry.price_in).min()) {
            said.push(format!("it is read from {} a million on (--max-price-in {})", decimal(least), decimal(most)));
        }
        if let (Some(most), Some(least)) = (wanted.max_price_out, all.iter().map(|entry| entry.price_out).min()) {
            said.push(format!(
                "it is written from {} a million on (--max-price-out {})",
                decimal(least),
                decimal(most)
            ));
        }
        if let (1.., Some(most)) = (wanted.min_context, all.iter().map(|entry| entry.context).max()) {
            said.push(format!("there is room for {most} tokens (--min-context {})", wanted.min_context));
        }
        if !wanted.exclude.is_empty() {
            said.push(format!("--exclude leaves {} out", wanted.exclude.len()));
        }
        said.iter().map(|said| format!("; {said}")).collect()
    }

    fn nobody(&self, asked: &Asked<'_>, outcome: QueryOutcome) -> String {
        if self.sells(asked.model).next().is_some() {
            return self.unfit(asked);
        }
        let name = asked.wanted.model.as_str();
        let names = self.names();
        if names.is_empty() {
            return match outcome {
                _ if asked.only.iter().any(|peer| self.adverts.contains_key(peer)) => {
                    ": the provider that was asked sells nothing just now (its server may be down): try again later"
                        .into()
                }
                _ if !asked.wanted.exclude.is_empty() => self.unfit(asked),
                _ if asked.local => {
                    ": nobody answered on the local network; to look further, give a bootstrap node with \
                     --bootstrap ADDR, or a provider with --provider ADDR"
                        .into()
                }
                QueryOutcome::Complete if asked.connected > 0 => format!(
                    " (model {name:?}); nobody sells anything in the network {:?}: --network NAME asks another",
                    asked.network
                ),
                _ => match self.trouble(&asked.addresses) {
                    Some(trouble) => format!("; {trouble}"),
                    None => unknown_hosts(&asked.addresses),
                },
            };
        }
        let near = nearest(name, names.iter().map(String::as_str));
        let there = match near.as_slice() {
            [] => listed(&names),
            near => format!("did you mean {}?", near.join(" or ")),
        };
        let who = match (near.is_empty(), !asked.only.is_empty()) {
            (false, _) => "",
            (true, true) => "what was asked sells ",
            (true, false) => "what is sold here: ",
        };
        let default = match name {
            TINY_STORIES => ", which is asked for where --model says no other",
            _ => "",
        };
        format!(" (model {name:?}{default}; {who}{there} --model NAME asks for one)")
    }

    /// Prompt and answer do not fit, and by how much. Where the prompt alone does not, a shorter answer is no way out.
    fn too_long(&self, asked: &Asked<'_>, failure: &Failure) -> Option<String> {
        let (Failure::Context | Failure::Declined(PassedOver::Declined(DeclineReason::Context))) = failure else {
            return None;
        };
        let longest = self.sells(asked.model).map(|(_, entry)| entry).max_by_key(|entry| entry.context)?;
        let (room, ordered) = (longest.context, asked.max_tokens?);
        let read = asked.prompt_bytes.map(|bytes| bytes.div_ceil(u64::from(longest.bytes_per_token)));
        let prompt = asked.prompt_bytes.zip(read);
        let prompt = prompt
            .map_or(String::new(), |(bytes, read)| format!("the prompt has {bytes} bytes, about {read} tokens, and "));
        let way_out = match read {
            Some(read) if read >= u64::from(room) => "shorten the prompt",
            _ => "shorten the prompt or lower --max-tokens",
        };
        Some(format!(
            "prompt and answer do not fit the model's context: there is room for {room} tokens of both together; \
             {prompt}--max-tokens orders {ordered}: {way_out}"
        ))
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

/// The time was too short for the search, whoever could have been found.
fn too_soon(asked: &Asked<'_>, failure: &Failure) -> Option<String> {
    let Failure::NobodyFound { outcome: QueryOutcome::TimedOut, unfit: 0 } = failure else { return None };
    let deadline = asked.wanted.deadline.filter(|_| asked.took_too_long)?;
    Some(format!(
        "the {} of --deadline were over before anybody was found who serves the model: allow more, such as --deadline 10s",
        span(deadline)
    ))
}

/// Reading the prompt costs more than the budget has: a shorter answer is no way out.
fn too_dear(asked: &Asked<'_>, failure: &Failure) -> Option<String> {
    let Failure::OverBudget { cheapest, budget: budget @ 1.. } = failure else { return None };
    let fee = asked.offers.fee_in.filter(|fee| u128::from(*fee) >= *budget)?;
    Some(format!(
        "reading the prompt alone costs {} units at least, the budget is {}: shorten the prompt, or raise --budget to {}",
        decimal(fee),
        decimal(*budget),
        decimal(*cheapest)
    ))
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
            features: None,
            longest: None,
            price_part: None,
        };
        let mut seen = Seen::default();
        let advert = Advert { models: names.iter().map(entry).collect(), slots: 1, free: 1, queued: 0, methods: None };
        seen.add(NodeEvent::Discovered { peer: PeerId::random(), advert });
        seen
    }

    fn wanted() -> Wanted {
        Wanted {
            model: "llama".into(),
            provider: Vec::new(),
            max_price_in: None,
            max_price_out: None,
            min_context: 0,
            prefer: Vec::new(),
            exclude: Vec::new(),
            refresh: false,
            deadline: None,
        }
    }

    fn advice(seen: &Seen, failure: Failure, tokens: u64, change: impl FnOnce(&mut Asked<'_>)) -> String {
        told(&wanted(), change, |asked| seen.advice(asked, &failure, tokens))
    }

    fn instead(seen: &Seen, failure: Failure, change: impl FnOnce(&mut Asked<'_>)) -> Option<String> {
        let wanted = Wanted { deadline: Some(Millis(20)), ..wanted() };
        told(&wanted, change, |asked| seen.instead(asked, &failure))
    }

    fn told<T>(wanted: &Wanted, change: impl FnOnce(&mut Asked<'_>), tell: impl FnOnce(&Asked<'_>) -> T) -> T {
        let model = model("llama");
        let mut asked = Asked {
            wanted,
            model: &model,
            only: Vec::new(),
            took_too_long: false,
            local: false,
            network: "main".into(),
            connected: 1,
            addresses: Vec::new(),
            max_tokens: Some(256),
            prompt_bytes: None,
            offers: Offers::default(),
            failover: Some(Failover::Continue),
            took_part: Vec::new(),
        };
        change(&mut asked);
        tell(&asked)
    }

    #[test]
    fn what_was_too_short_too_long_or_too_dear_is_told_with_its_figures() {
        let (none, some) = (Seen::default(), seen(&["llama"], true));
        let lost = Failure::NobodyFound { outcome: QueryOutcome::TimedOut, unfit: 0 };
        let told = instead(&none, lost, |asked| asked.took_too_long = true).expect("a reason");
        assert!(told.contains("20 ms of --deadline") && !told.contains("bootstrap"), "{told}");
        assert_eq!(instead(&none, lost, |_| {}), None);

        let context =
            |bytes| instead(&some, Failure::Context, |asked| asked.prompt_bytes = Some(bytes)).expect("sizes");
        let told = context(3_200);
        assert!(told.contains("3200 bytes, about 800 tokens") && told.contains("--max-tokens orders 256"), "{told}");
        assert!(told.contains("room for 1024 tokens") && told.ends_with("or lower --max-tokens"), "{told}");
        assert!(context(4_096).ends_with(": shorten the prompt"), "it does not fit by itself");

        let dear = Failure::OverBudget { cheapest: 9_000_000, budget: 1_000_000 };
        let offered = |fee| Offers { eta: Some(Millis(10_900)), fee_in: Some(fee) };
        let told = instead(&some, dear, |asked| asked.offers = offered(2_000_000)).expect("the fee");
        assert!(told.contains("costs 2 units") && told.contains("raise --budget to 9"), "{told}");
        assert_eq!(instead(&some, dear, |asked| asked.offers = offered(999_999)), None, "a shorter answer would do");

        let slow = Failure::Declined(PassedOver::TooSlow);
        let told = advice(&some, slow, 0, |asked| asked.offers = offered(0));
        assert!(told.contains("in 10.9 s: raise --deadline"), "{told}");

        let nothing = seen(&[], true);
        let peer = *nothing.adverts.keys().next().expect("one");
        let empty = Failure::NobodyFound { outcome: QueryOutcome::Complete, unfit: 0 };
        let told = advice(&nothing, empty, 0, |asked| asked.only = vec![peer]);
        assert!(told.contains("sells nothing just now") && !told.contains("network"), "{told}");
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
        let told = advice(&none, nobody(QueryOutcome::Complete), 0, |asked| asked.took_too_long = true);
        assert!(told.contains("--deadline"), "{told}");
        assert_eq!(advice(&none, Failure::Deadline, 0, |asked| asked.took_too_long = true), "", "it is said already");
        let mut lost = Seen::default();
        let detail = "nobody answers there".to_owned();
        lost.add(NodeEvent::Failed { code: "bootstrap_unreachable", detail });
        assert_eq!(
            advice(&lost, nobody(QueryOutcome::Complete), 0, |asked| asked.connected = 0),
            "; nobody answers there"
        );
        let names = ["a-1", "b-2", "c-3", "d-4", "e-5", "f-6", "g-7"];
        let told = advice(&seen(&names, true), nobody(QueryOutcome::Complete), 0, |_| {});
        assert!(told.contains("a-1, b-2, c-3, d-4, e-5 and 2 more (`haggle models`"), "{told}");
        assert_eq!(advice(&seen(&["llama"], true), nobody(QueryOutcome::Complete), 0, |_| {}), "");
    }

    #[test]
    fn another_provider_is_named_where_it_could_have_helped() {
        let lost = Failure::Interrupted(haggle::core::event::Interrupted::Lost);
        let other = seen(&["llama"], false);
        let peer = *other.adverts.keys().next().expect("one");
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
