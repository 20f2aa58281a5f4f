//! Has a prompt answered.

use std::{io, path::Path};

use futures::{FutureExt, StreamExt, select};
use futures_timer::Delay;
use haggle::{
    Job, JobError, JobEvent, JobId, JobSpec, Model, Prompt, Receipt,
    core::{spec::Haggle, wire::message::Sampling},
    state::State,
};

use crate::{
    advice::Offers,
    args::{Ask, Global, NodeArgs, Order},
    buyer::{self, Buyer, Past},
    exit::{Exit, Failed},
    journal::{End, Journal, Way},
    ledger::{Entry, Ledger, LedgerError},
    narrator::Narrator,
    prompt,
    screen::Transient,
    settings::Settings,
    signals::Signals,
};

pub(crate) async fn run(global: &Global, args: Ask) -> Result<Exit, Failed> {
    let state = args.state.as_deref().map(State::open).transpose().map_err(haggle::Error::from)?;
    match state {
        Some(state) if args.resume => Box::pin(resume(global, args, state)).await,
        state => Box::pin(ask(global, &args, state)).await,
    }
}

async fn ask(global: &Global, args: &Ask, state: Option<State>) -> Result<Exit, Failed> {
    let prompt = prompt::of(args)?;
    let ledger = ledger(global, &args.node, args.order.ledger.as_deref())?;
    // Everything is looked at, and the job is taken, before a complete answer makes room for the next.
    let folder = state.as_ref().map(|state| state.path().to_owned());
    folder.as_deref().map_or(Ok(()), Journal::check)?;
    let criteria = buyer::criteria(&args.wanted)?;
    let past = Past { recorder: Some(&args.record), state, stored: Vec::new() };
    let mut buyer = Buyer::start(global, &args.node, &args.wanted.provider, &args.order.waits, past).await?;
    buyer.prompt_bytes = Some(prompt::bytes(&prompt));
    let model = criteria.model.clone();
    let (is_text, order) = (matches!(prompt, Prompt::Raw(_)), &args.order);
    let spec = JobSpec {
        criteria,
        budget: order.budget.or(buyer.budget),
        deadline: args.wanted.deadline,
        explain: order.explain || args.record.record.is_some(),
        ..spec(order, &model, prompt)
    };
    // Of an answer before, only what its journal has is of use.
    drop(buyer.node.restored());
    let job = match buyer.node.submit(spec).await {
        Ok(job) => job,
        Err(error) => return buyer.end(Err(error.into())).await,
    };
    let journal = folder.map(|folder| Journal::begin(&folder, way(args), job.id())).transpose();
    let journal = match journal {
        Ok(journal) => journal,
        Err(failed) => {
            drop(job);
            return buyer.end(Err(failed)).await;
        }
    };
    let narrator = Narrator::new(global.json, order.raw).with_thoughts(order.thoughts);
    let asked = Asked { buyer, job, model, journal, ledger };
    asked.see_through(args, if is_text { narrator } else { narrator.of_chat() }).await
}

/// What an order says about a job, wherever it comes from.
pub(super) fn spec(order: &Order, model: &Model, prompt: Prompt) -> JobSpec {
    JobSpec {
        sampling: Sampling {
            temperature_milli: order.temperature,
            top_p_milli: order.top_p,
            top_k: order.top_k,
            seed: order.seed.unwrap_or_else(fresh_seed),
        },
        stop: order.stop.clone(),
        time_value: order.time_value,
        haggle: order.haggle.map_or(Haggle::Offers, Haggle::Bid),
        failover: buyer::failover(order),
        explain: order.explain,
        ..JobSpec::new(model.clone(), prompt, order.max_tokens)
    }
}

/// Goes on with the answer that a process before this one did not complete. What it stored is written first.
async fn resume(global: &Global, mut args: Ask, state: State) -> Result<Exit, Failed> {
    let journal = Journal::load(state.path())?;
    let mut narrator = Narrator::new(global.json, args.order.raw).with_thoughts(args.order.thoughts);
    narrator.stored(&journal.text())?;
    if let Some(end) = journal.ended {
        narrator.end_line()?;
        return match end.exit {
            0 => Ok(Exit::Done),
            _ => Err(Failed::new(Exit::of(end.exit), end.code, format!("it ended before: {}", end.message))),
        };
    }
    go_the_way(&mut args, journal.way.clone());
    let ledger = ledger(global, &args.node, args.order.ledger.as_deref())?;
    let path = state.path().display().to_string();
    let model = buyer::criteria(&args.wanted)?.model;
    let past = Past { recorder: None, state: Some(state), stored: journal.stored() };
    let buyer = Buyer::start(global, &args.node, &args.wanted.provider, &args.order.waits, past).await?;
    let mut restored = buyer.node.restored();
    let at = restored.iter().position(|job| journal.job == Some(job.id()));
    let Some(job) = at.map(|at| restored.swap_remove(at)) else {
        let text = format!(
            "{path}/requester.snapshot does not know the answer in {path}, so nobody can go on with it: what came of \
             it stays in answer.txt. To ask anew, choose another directory, or move answer.txt and journal.jsonl away"
        );
        return buyer.end(Err(Failed::new(Exit::Config, "nothing_to_resume", text))).await;
    };
    let asked = Asked { buyer, job, model, journal: Some(journal), ledger };
    asked.see_through(&args, narrator).await
}

/// The books that are to be kept, if any are.
pub(super) fn ledger(global: &Global, node: &NodeArgs, file: Option<&Path>) -> Result<Option<Ledger>, Failed> {
    let mut settings = Settings::load(global, node)?;
    settings.add_ledger(file)?;
    settings.ledger()
}

/// How the network is reached, and what else a resumed job needs to know.
fn way(args: &Ask) -> Way {
    let NodeArgs { bootstrap, network, mdns, dht, set, .. } = &args.node;
    Way {
        bootstrap: bootstrap.clone(),
        providers: args.wanted.provider.clone(),
        network: network.clone(),
        mdns: *mdns,
        dht: *dht,
        set: set.clone(),
        model: args.wanted.model.clone(),
        ledger: args.order.ledger.clone(),
    }
}

/// The way of the process before, where this one was not told another.
fn go_the_way(args: &mut Ask, way: Way) {
    if args.node.bootstrap.is_empty() && args.wanted.provider.is_empty() {
        args.node.bootstrap = way.bootstrap;
        args.wanted.provider = way.providers;
    }
    args.node.network = args.node.network.take().or(way.network);
    args.node.mdns = args.node.mdns.or(way.mdns);
    args.node.dht = args.node.dht.or(way.dht);
    args.node.set.splice(..0, way.set);
    args.wanted.model = way.model;
    args.order.ledger = args.order.ledger.take().or(way.ledger);
}

/// A job that was submitted, and where it is written down.
struct Asked {
    buyer: Buyer,
    job: Job,
    model: Model,
    journal: Option<Journal>,
    ledger: Option<Ledger>,
}

impl Asked {
    /// Follows the job to its end. What comes is stored before it is told, and how it ended before the node may forget it.
    async fn see_through(self, args: &Ask, mut narrator: Narrator) -> Result<Exit, Failed> {
        let Asked { buyer, mut job, model, mut journal, mut ledger } = self;
        let mut signals = match Signals::listen() {
            Ok(signals) => signals,
            Err(failed) => {
                drop(job);
                return buyer.end(Err(failed)).await;
            }
        };
        narrator.seeks(&args.wanted.model);
        let tell = |narrator: &mut Narrator, event: &JobEvent| {
            journal.as_mut().map_or(Ok(()), |journal| journal.event(event))?;
            match event {
                // A recording is to know every reason; people hear those that they asked for.
                JobEvent::Weighed(_) if !args.order.explain => Ok(()),
                event => narrator.event(event),
            }
        };
        let followed = match follow(&mut job, &mut narrator, &mut signals, tell).await {
            Ok(followed) => followed,
            Err(failed) => return buyer.end(Err(failed)).await,
        };
        let ended = followed.ended.as_ref();
        let booked = ledger.as_mut().map_or(Ok(()), |ledger| book(ledger, job.id(), &model, ended));
        let stored = journal.as_mut().map_or(Ok(()), |journal| journal.end(End::of(ended.map(drop))));
        drop(job);
        say_goodbye(buyer, args, followed, booked.map_err(Failed::from).and(stored.map_err(Failed::from))).await
    }
}

async fn say_goodbye(
    mut buyer: Buyer,
    args: &Ask,
    followed: Followed,
    kept: Result<(), Failed>,
) -> Result<Exit, Failed> {
    buyer.offers = followed.offers;
    let ended = match followed.outcome() {
        Ok(Err(error)) => {
            if let Err(lost) = &kept {
                lost.tell(false);
            }
            Err(buyer.explain(haggle::Error::Job(error), &args.wanted, Some(&args.order)).await)
        }
        Ok(Ok(_)) => kept.map(|()| Exit::Done),
        Err(untold) => Err(untold.into()),
    };
    buyer.end(ended).await
}

/// Writes a job's bill into the ledger.
pub(super) fn book(
    ledger: &mut Ledger,
    job: JobId,
    model: &Model,
    ended: Result<&Receipt, &JobError>,
) -> Result<(), LedgerError> {
    Entry::bought(job, model, ended).iter().try_for_each(|entry| ledger.add(entry))?;
    ledger.sync()
}

/// A job that is over.
pub(crate) struct Followed {
    /// What it came to.
    pub(crate) ended: Result<Receipt, JobError>,
    /// What it was offered.
    pub(crate) offers: Offers,
    /// Whether it could be told; if not, the job was cancelled.
    told: io::Result<()>,
}

impl Followed {
    /// What it came to, if that could be told: what nobody reads was cancelled.
    pub(crate) fn outcome(self) -> io::Result<Result<Receipt, JobError>> {
        self.told.map(|()| self.ended)
    }

    /// The first thing that went wrong.
    pub(crate) fn result(self) -> Result<(), Failed> {
        Ok(self.outcome()?.map(drop).map_err(haggle::Error::Job)?)
    }
}

/// Tells of a job until it ends, each event by `tell`. Ctrl-C cancels it, and it is still told what it came to.
pub(crate) async fn follow(
    job: &mut Job,
    narrator: &mut Narrator,
    signals: &mut Signals,
    mut tell: impl FnMut(&mut Narrator, &JobEvent) -> io::Result<()>,
) -> Result<Followed, Failed> {
    let (mut told, mut offers) = (Ok(()), Offers::default());
    let mut tick = Delay::new(Transient::EVERY).fuse();
    let ended = loop {
        let item = select! {
            item = job.next() => item,
            () = tick => {
                tick = Delay::new(Transient::EVERY).fuse();
                narrator.wait();
                continue;
            }
            () = signals.next().fuse() => {
                job.cancel();
                continue;
            }
        };
        match item {
            Some(Ok(JobEvent::Finished(receipt))) => break Ok(receipt),
            Some(Ok(event)) => {
                offers.add(&event);
                if told.is_ok() {
                    told = tell(narrator, &event);
                    if told.is_err() {
                        narrator.turn_to_stderr();
                        job.cancel();
                    }
                }
            }
            Some(Err(error)) => break Err(error),
            None => return Err(haggle::Error::Stopped.into()),
        }
    };
    // Whether it was read to its end or not: what it costs is told.
    let bill = narrator.ended(ended.as_ref());
    Ok(Followed { told: told.and(bill), offers, ended })
}

/// Different every time; it is told to the provider and need not be secret.
fn fresh_seed() -> u64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    RandomState::new().build_hasher().finish()
}
