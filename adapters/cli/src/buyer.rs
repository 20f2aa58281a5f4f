//! A node that only buys, what it is to look for, and whom it has seen.

use std::time::Instant;

use futures::{FutureExt, StreamExt};
use haggle::{
    Config, Criteria, Error, Events, JobError, Model, Node,
    core::{
        PeerId as CorePeerId, Policy, event::Failure, machine::QueryOutcome, money::Amount, spec::Failover,
        time::Millis, wire::ANY_MODEL,
    },
    id,
    key::KeyLock,
    libp2p::{Multiaddr, PeerId, multiaddr::Protocol},
    state::{State, StoredAnswer},
};

use crate::{
    advice::{Asked, Offers, Seen},
    args::{Global, NodeArgs, Order, Record, Waits, Wanted},
    exit::{Exit, Failed},
    node,
    screen::{Screen, Transient},
    settings::Settings,
};

/// What a node has behind it, or leaves behind.
#[derive(Default)]
pub(crate) struct Past<'a> {
    pub(crate) recorder: Option<&'a Record>,
    pub(crate) state: Option<State>,
    pub(crate) stored: Vec<StoredAnswer>,
}

/// The node of a command that buys.
pub(crate) struct Buyer {
    pub(crate) node: Node,
    /// What the configuration allows to be owed.
    pub(crate) budget: Option<Amount>,
    /// What the last job was offered.
    pub(crate) offers: Offers,
    /// How long its prompt was, if there was one.
    pub(crate) prompt_bytes: Option<u64>,
    events: Events,
    seen: Seen,
    config: Config,
    started: Instant,
    /// Of a key that others know this node by.
    _lock: Option<KeyLock>,
}

impl Buyer {
    /// Starts a node that asks `providers`, or whoever is found.
    pub(crate) async fn start(
        global: &Global,
        args: &NodeArgs,
        providers: &[String],
        waits: &Waits,
        past: Past<'_>,
    ) -> Result<Self, Failed> {
        let mut settings = Settings::load(global, args)?;
        settings.add_providers(providers)?;
        settings.add_waits(waits)?;
        let config = settings.config()?;
        if config.bootstrap_nodes.is_empty() && config.providers.is_empty() && !config.enable_mdns {
            return Err(Failed::new(
                Exit::Config,
                "no_source",
                "there is nobody to ask: give a bootstrap node with --bootstrap ADDR, a provider with --provider ADDR, \
                 or look around the local network with --mdns true",
            ));
        }
        let budget = settings.budget()?;
        let mut builder = Node::builder(config.clone());
        if let Some(to) = past.recorder {
            builder = node::record(builder, to)?;
        }
        let mut lock = None;
        if let Some(file) = &args.key {
            let (key, held) = node::load_named(file)?;
            (builder, lock) = (builder.key(key), Some(held));
        }
        if let Some(state) = past.state {
            builder = builder.state(state).stored(past.stored);
        }
        let node = node::start(builder).await?;
        let events = node.events();
        let started = Instant::now();
        let (seen, offers) = (Seen::default(), Offers::default());
        Ok(Buyer { node, budget, offers, prompt_bytes: None, events, seen, config, started, _lock: lock })
    }

    pub(crate) fn bootstrap_nodes(&self) -> &[String] {
        &self.config.bootstrap_nodes
    }

    pub(crate) fn network(&self) -> &str {
        &self.config.network
    }

    /// What is wrong with the way into the network, if it is known.
    pub(crate) fn trouble(&mut self) -> Option<String> {
        let given = self.config.bootstrap_nodes.clone();
        self.seen().trouble(&given)
    }

    /// Whom this node was told of until now.
    pub(crate) fn seen(&mut self) -> &Seen {
        while let Some(Some(event)) = self.events.next().now_or_never() {
            self.seen.add(event);
        }
        &self.seen
    }

    /// Looks for whoever sells anything. Nothing is missing if nobody does: it is what there is to be seen.
    pub(crate) async fn look_around(&mut self, only: Vec<CorePeerId>, deadline: Millis) -> Result<&Seen, Failed> {
        let criteria = Criteria { only, refresh: true, ..Criteria::new(node::model(ANY_MODEL)?) };
        match self.node.discover(criteria, Some(deadline)).await {
            Ok(_) | Err(Error::Job(_)) => Ok(self.seen()),
            Err(error) => Err(error.into()),
        }
    }

    /// Says more about a search, or a job, that failed: what is there instead, and how it is asked for.
    pub(crate) async fn explain(&mut self, error: Error, wanted: &Wanted, order: Option<&Order>) -> Failed {
        const A_LOOK: Millis = Millis(3_000);
        let job = match &error {
            Error::Job(job) => Some(job.clone()),
            _ => None,
        };
        let failed = Failed::from(error);
        let Some(job) = job else { return failed };
        let Ok(model) = node::model(&wanted.model) else { return failed };
        // Who wants to be back soon is not kept.
        let began_to_explain = Millis(u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX));
        let has_time = wanted.deadline.is_none_or(|deadline| deadline >= A_LOOK);
        // Where nobody could be asked for it, nobody can be for others.
        let is_unknown = matches!(job.failure, Failure::NobodyFound { outcome: QueryOutcome::Complete, unfit: 0 });
        if is_unknown && wanted.provider.is_empty() && has_time && !self.config.bootstrap_nodes.is_empty() {
            let look = Transient::during("looking for what is sold instead", self.look_around(Vec::new(), A_LOOK));
            if let Err(failed) = look.await {
                return failed;
            }
        }
        // A search that was given less than it needs, and met no other trouble, was cut off by that.
        let needs = Policy::default().query_timeout;
        let is_cut = matches!(job.failure, Failure::NobodyFound { outcome: QueryOutcome::TimedOut, .. });
        let is_cut = is_cut && self.trouble().is_none();
        let mut asked = self.asked(wanted, order, &model, &job);
        asked.took_too_long =
            wanted.deadline.is_some_and(|deadline| began_to_explain >= deadline || is_cut && deadline < needs);
        if let Some(message) = self.seen().instead(&asked, &job.failure) {
            return failed.instead(message);
        }
        let advice = self.seen().advice(&asked, &job.failure, job.tokens_delivered());
        failed.explained(advice)
    }

    /// Says goodbye on every way out: a provider is to know that all was received, or that nothing more is wanted.
    pub(crate) async fn end<T>(self, ended: Result<T, Failed>) -> Result<T, Failed> {
        self.node.stop().await;
        ended
    }

    fn asked<'a>(&self, wanted: &'a Wanted, order: Option<&Order>, model: &'a Model, job: &JobError) -> Asked<'a> {
        Asked {
            model,
            wanted,
            took_too_long: false,
            only: named(&wanted.provider).iter().filter_map(id::to_libp2p).collect(),
            local: self.config.bootstrap_nodes.is_empty() && self.config.providers.is_empty(),
            network: self.config.network.clone(),
            connected: self.node.connected_peers().len(),
            addresses: [&self.config.bootstrap_nodes[..], &self.config.providers].concat(),
            max_tokens: order.map(|order| order.max_tokens),
            prompt_bytes: self.prompt_bytes,
            offers: self.offers,
            failover: order.map(failover),
            took_part: job.providers().collect(),
        }
    }
}

/// What was printed into a file or to a program cannot be taken back; a person sees that an answer begins anew.
pub(crate) fn failover(order: &Order) -> Failover {
    let is_seen = Screen::Out.is_terminal();
    order.failover.unwrap_or(if is_seen { Failover::ContinueOrRestart } else { Failover::Continue })
}

/// Which providers come into question.
pub(crate) fn criteria(wanted: &Wanted) -> Result<Criteria, Failed> {
    let core = |peers: &[PeerId]| -> Vec<CorePeerId> { peers.iter().filter_map(id::to_core).collect() };
    Ok(Criteria {
        max_price_in: wanted.max_price_in,
        max_price_out: wanted.max_price_out,
        min_context: wanted.min_context,
        prefer: core(&wanted.prefer),
        exclude: core(&wanted.exclude),
        only: named(&wanted.provider),
        refresh: wanted.refresh,
        ..Criteria::new(node::model(&wanted.model)?)
    })
}

/// The peers of addresses that were checked with the settings.
pub(crate) fn named(addresses: &[String]) -> Vec<CorePeerId> {
    let peer = |address: &String| match address.parse::<Multiaddr>().ok()?.iter().last() {
        Some(Protocol::P2p(peer)) => id::to_core(&peer),
        _ => None,
    };
    addresses.iter().filter_map(peer).collect()
}
