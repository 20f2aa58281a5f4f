//! A world as plain data: who takes part, what is asked for, what goes wrong. It can be drawn, written by hand, kept in a
//! file, cut down and run again; nothing else decides how the run goes.

mod check;
mod draw;
mod job;
mod text;

use std::panic::{AssertUnwindSafe, catch_unwind};

use haggle_core::{
    Limits, Policy,
    money::{Amount, Price},
    time::Millis,
    wire::message::Features,
};
use serde::{Deserialize, Serialize};

pub use self::{
    job::{DrawnPrompt, JobPlan, PromptPlan},
    text::PlanError,
};
use crate::{
    Broken, Drain, EngineScript, Fault, FaultKind, LinkConfig, Lookup, NodeId, Pace, ProviderConfig, Report,
    RequesterConfig, Rule, Schedule, World,
    adversary::{CHEATS, Cheat, PESTS, Pest, cheat, pest},
    points::Group,
    toml_forms::{features, is_default, wide, wide_option},
};

/// A world and everything that happens to it from outside.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Plan {
    /// Keys every draw of the world: machines' seeds, jitter, where bytes are cut.
    #[serde(with = "wide")]
    pub seed: u64,
    /// The model that is served and asked for, where nothing else is said.
    pub model: String,
    /// How links behave.
    pub link: LinkConfig,
    /// Whether nodes lie in regions of the earth, with the ways between these.
    pub regions: bool,
    /// Whether a machine is told of the end of streams that it closed itself.
    pub echo_close: bool,
    /// When outputs are drained.
    pub drain: Drain,
    /// How long a complete answer of a query takes, in ms.
    pub lookup_delay: u64,
    /// What queries meet.
    pub lookup: Lookup,
    /// When every fault that has a remedy is remedied, in ms; never, if it is not said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calm_at: Option<u64>,
    /// After so many events the faults end, one provider is whole again, everything else stays as it is; and whoever can
    /// pay has to be served in the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heal_after: Option<u64>,
    /// Whether each provider has to be awarded at least half of an equal share of all awards.
    #[serde(skip_serializing_if = "is_default")]
    pub fair: bool,
    /// Streams that all nodes together may order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub most_dials: Option<u64>,
    /// Events after which a run is taken to be endless.
    pub max_events: u64,
    /// Links that are set apart, in both directions.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<LinkPlan>,
    /// Who takes part; elsewhere nodes are named by their number here, from 0.
    pub nodes: Vec<NodePlan>,
    /// What is asked for; faults name jobs by their number here, from 0.
    pub jobs: Vec<JobPlan>,
    /// What goes wrong.
    pub faults: Vec<Fault>,
}

/// A link that is set apart.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinkPlan {
    /// Between which two nodes.
    pub between: (NodeId, NodeId),
    /// How it behaves.
    pub link: LinkConfig,
}

/// Who takes part.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum NodePlan {
    /// The shipped provider over a scripted engine.
    Provider(ProviderPlan),
    /// The shipped requester.
    Requester(RequesterPlan),
    /// A provider that cheats.
    Cheat(CheatPlan),
    /// A requester that pesters a provider.
    Pest(PestPlan),
    /// Nobody: a number that is not used.
    Absent,
}

/// The shipped provider over a scripted engine.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProviderPlan {
    /// What it serves; the plan's model if it is not said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Its price per 1,000,000 tokens read.
    pub price_in: Price,
    /// Its price per 1,000,000 tokens written.
    pub price_out: Price,
    /// Jobs computed at once.
    pub slots: u32,
    /// Jobs that may wait.
    pub queue: u32,
    /// The time to the first token that it announces, in ms.
    pub eta: u64,
    /// How long its offers bind, in ms.
    pub offer_expiry: u64,
    /// The least that it takes of its price, in thousandths.
    pub floor_permille: u32,
    /// Whether it can go on where another left off.
    pub can_continue: bool,
    /// Whether queries find it.
    pub published: bool,
    /// What its engine can do beyond prompts of text; if it is not said, bodies of kind request are not taken.
    #[serde(with = "features", skip_serializing_if = "Option::is_none")]
    pub features: Option<Features>,
    /// How its engine behaves.
    pub engine: EngineScript,
    /// The core's limits.
    #[serde(skip_serializing_if = "is_default")]
    pub limits: Limits,
}

/// The shipped requester.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RequesterPlan {
    /// What all its jobs together may come to owe.
    #[serde(with = "wide_option", skip_serializing_if = "Option::is_none")]
    pub account_budget: Option<Amount>,
    /// How fast its application takes tokens.
    pub pace: Pace,
    /// The core's times and tries.
    #[serde(skip_serializing_if = "is_default")]
    pub policy: Policy,
    /// The core's limits.
    #[serde(skip_serializing_if = "is_default")]
    pub limits: Limits,
}

/// A provider that cheats.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheatPlan {
    /// How.
    pub how: Cheat,
    /// The price it posts per 1,000,000 tokens read.
    #[serde(default)]
    pub price_in: Price,
    /// The price it posts per 1,000,000 tokens written.
    #[serde(default)]
    pub price_out: Price,
}

/// A requester that pesters a provider.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PestPlan {
    /// How.
    pub how: Pest,
    /// Whom.
    pub target: NodeId,
    /// Over how many streams.
    pub streams: u32,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            seed: 0,
            model: "model".into(),
            link: LinkConfig::default(),
            regions: false,
            echo_close: false,
            drain: Drain::AtOnce,
            lookup_delay: 100,
            lookup: Lookup::Answers,
            calm_at: None,
            heal_after: None,
            fair: false,
            most_dials: None,
            max_events: 20_000_000,
            links: Vec::new(),
            nodes: Vec::new(),
            jobs: Vec::new(),
            faults: Vec::new(),
        }
    }
}

impl Default for ProviderPlan {
    fn default() -> Self {
        Self {
            model: None,
            price_in: 100_000,
            price_out: 400_000,
            slots: 1,
            queue: 4,
            eta: 100,
            offer_expiry: 60_000,
            floor_permille: 1000,
            can_continue: true,
            published: true,
            features: None,
            engine: EngineScript::default(),
            limits: Limits::default(),
        }
    }
}

impl Plan {
    /// The world before its first event, with its jobs and faults to come.
    ///
    /// # Panics
    /// If [`Plan::check`] refuses the plan.
    #[must_use]
    pub fn world(&self) -> World {
        let mut world = World::new(self.seed);
        world.config.default_link = self.link;
        world.config.regions = self.regions;
        world.config.echo_close = self.echo_close;
        world.config.drain = self.drain;
        world.config.max_events = self.max_events;
        world.dht.delay = self.lookup_delay;
        world.dht.lookup = self.lookup;
        self.nodes.iter().for_each(|node| self.add_node(&mut world, node));
        for fault in &self.faults {
            if let FaultKind::Crash(node, _) = fault.what {
                world.keep_state(node);
            }
        }
        self.links.iter().for_each(|link| world.set_link(link.between.0, link.between.1, link.link));
        for job in &self.jobs {
            world.submit_at(job.at, job.node, job.spec(&self.model));
        }
        world.apply(&Schedule { faults: self.faults.clone() });
        world.apply(&Schedule { faults: self.remedies() });
        world
    }

    /// Runs it to the end.
    ///
    /// # Panics
    /// If [`Plan::check`] refuses the plan.
    #[must_use]
    pub fn run(&self) -> Report {
        let mut world = self.world();
        self.finish(&mut world);
        world.report()
    }

    /// Runs a world of this plan to its end, and judges it. A panic of the core is a broken rule.
    pub fn finish(&self, world: &mut World) {
        self.finish_or_stop(world, |_| false);
    }

    /// The same, but stops as soon as a rule is broken that is looked for.
    pub fn finish_or_stop(&self, world: &mut World, stop: impl Fn(&Broken) -> bool) {
        let run = || {
            let mut seen = 0;
            loop {
                let broken = world.broken();
                if broken[seen..].iter().any(&stop) {
                    return true;
                }
                seen = broken.len();
                if self.heal_after.is_some_and(|events| !world.is_healed() && world.events() >= events) {
                    world.heal(&self.model);
                }
                if !world.has_more() {
                    world.run_to_end();
                    return false;
                }
                world.step();
            }
        };
        let result = catch_unwind(AssertUnwindSafe(run));
        if let Ok(true) = result {
            return;
        }
        if let Err(cause) = result {
            let text = cause.downcast_ref::<String>().map(String::as_str);
            let what = text.or_else(|| cause.downcast_ref::<&str>().copied()).unwrap_or("no words");
            return world.fail(Rule::Panic, what);
        }
        if self.heal_after.is_some() {
            // The last job of a healed world is another one.
            return world.judge_healed();
        }
        if self.fair {
            world.judge_shares();
        }
        if let Some(most) = self.most_dials {
            world.judge_dials(most);
        }
        for (nth, _) in self.jobs.iter().enumerate().filter(|(_, job)| job.must_finish) {
            match world.submitted(nth).map(|job| (job.finished().is_some(), job.failure())) {
                Some((true, _)) => {}
                Some((false, failure)) => world.fail(Rule::Liveness, &format!("job {nth} is not served: {failure:?}")),
                None => world.fail(Rule::Liveness, &format!("job {nth} was refused")),
            }
        }
    }

    /// How many nodes take part.
    #[must_use]
    pub fn present(&self) -> usize {
        self.nodes.iter().filter(|node| **node != NodePlan::Absent).count()
    }

    fn add_node(&self, world: &mut World, node: &NodePlan) {
        match node {
            NodePlan::Provider(plan) => world.add_provider(plan.config(&self.model)),
            NodePlan::Requester(plan) => world.add_requester(RequesterConfig {
                policy: plan.policy.clone(),
                limits: plan.limits.clone(),
                account_budget: plan.account_budget,
                pace: plan.pace,
            }),
            NodePlan::Cheat(plan) => {
                let script = cheat(&self.model, plan.price_in, plan.price_out, plan.how);
                let node = world.add_script(&[&self.model], script);
                world.set_actor(node, Group::Cheat, CHEATS.iter().position(|how| *how == plan.how).unwrap_or(0));
                node
            }
            NodePlan::Pest(plan) => {
                // Who pesters with a job has to get one: it pays what is posted.
                let takes_jobs = matches!(
                    plan.how,
                    Pest::NeverAcks | Pest::AcksBeyond | Pest::HitAndRun | Pest::OldEpoch | Pest::OldAward
                );
                let (price_in, price_out) = match self.nodes.get(plan.target.0 as usize) {
                    Some(NodePlan::Provider(target)) if takes_jobs => (target.price_in, target.price_out),
                    _ => (0, 0),
                };
                let script = pest(plan.target, &self.model, price_in, price_out, plan.streams, plan.how);
                let node = world.add_script(&[], script);
                world.set_actor(node, Group::Pest, PESTS.iter().position(|how| *how == plan.how).unwrap_or(0));
                node
            }
            NodePlan::Absent => world.add_node(None, None),
        };
    }

    /// What calms the network down.
    fn remedies(&self) -> Vec<Fault> {
        let Some(at) = self.calm_at else { return Vec::new() };
        let lookup = FaultKind::Lookup(Lookup::Answers);
        let remedies = self.faults.iter().filter_map(|fault| fault.what.remedy());
        std::iter::once(lookup).chain(remedies).map(|what| Fault { at, what }).collect()
    }
}

impl ProviderPlan {
    fn config(&self, model: &str) -> ProviderConfig {
        let model = self.model.as_deref().unwrap_or(model);
        let mut config = ProviderConfig::new(model, self.price_in, self.price_out).slots(self.slots);
        config = config.engine(self.engine.clone());
        config.service.queue = self.queue;
        config.service.offer_expiry = Millis(self.offer_expiry);
        config.service.models[0].advert.eta = Millis(self.eta);
        config.service.models[0].advert.can_continue = self.can_continue;
        config.service.models[0].advert.features = self.features;
        config.service.models[0].floor_permille = self.floor_permille;
        config.limits = self.limits.clone();
        config.published = self.published;
        config
    }
}
