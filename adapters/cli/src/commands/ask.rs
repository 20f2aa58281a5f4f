//! Has a prompt answered.

use std::io::{self, IsTerminal, Read, Write};

use futures::{FutureExt, StreamExt, select};
use haggle::{
    Events, Job, JobError, JobEvent, JobId, JobSpec, Model, Node, Prompt, Receipt,
    core::{
        spec::Haggle,
        wire::{ChatMessage, message::Sampling},
    },
    state::State,
};

use crate::{
    args::{Ask, Global, NodeArgs},
    exit::{Exit, Failed},
    journal::{End, Journal, Way},
    ledger::{Entry, Ledger, LedgerError},
    narrator::Narrator,
    node::{self, Past, Signals},
    screen::Screen,
    settings::Settings,
};

pub(crate) async fn run(global: &Global, args: Ask) -> Result<Exit, Failed> {
    let state = args.state.as_deref().map(State::open).transpose().map_err(haggle::Error::from)?;
    match state {
        Some(state) if args.resume => Box::pin(resume(global, args, state)).await,
        state => Box::pin(ask(global, &args, state)).await,
    }
}

async fn ask(global: &Global, args: &Ask, state: Option<State>) -> Result<Exit, Failed> {
    let prompt = prompt(args)?;
    let ledger = ledger(global, args)?;
    // Everything is looked at, and the job is taken, before a complete answer makes room for the next.
    let folder = state.as_ref().map(|state| state.path().to_owned());
    folder.as_deref().map_or(Ok(()), Journal::check)?;
    let past = Past { tape: Some(&args.record), state, stored: Vec::new() };
    let (node, criteria) = node::buyer(global, &args.node, &args.wanted, args.patience, past).await?;
    let spec = JobSpec {
        budget: args.budget,
        deadline: args.wanted.deadline,
        sampling: Sampling {
            temperature_milli: args.temperature,
            seed: args.seed.unwrap_or_else(fresh_seed),
            ..Sampling::default()
        },
        stop: args.stop.clone(),
        time_value: args.time_value,
        haggle: args.haggle.map_or(Haggle::Offers, Haggle::Bid),
        failover: args.failover,
        explain: args.explain || args.record.record.is_some(),
        ..JobSpec::new(criteria.model.clone(), prompt, args.max_tokens)
    };
    // Of an answer before, only what its journal has is of use.
    drop(node.restored());
    let events = node.events();
    let model = criteria.model.clone();
    let job = node.submit(JobSpec { criteria, ..spec }).await?;
    let journal = folder.map(|folder| Journal::begin(&folder, way(args), job.id())).transpose();
    let journal = match journal {
        Ok(journal) => journal,
        Err(failed) => {
            drop(job);
            return say_goodbye(&node, events, args, Err(failed), Ok(())).await;
        }
    };
    let asked = Asked { node, events, job, model, journal, ledger };
    asked.see_through(args, Narrator::new(global.json, args.raw)).await
}

/// Goes on with the answer that a process before this one did not complete. What it stored is written first.
async fn resume(global: &Global, mut args: Ask, state: State) -> Result<Exit, Failed> {
    let journal = Journal::load(state.path())?;
    let mut narrator = Narrator::new(global.json, args.raw);
    narrator.stored(&journal.text())?;
    if let Some(end) = journal.ended {
        narrator.end_line()?;
        return match end.exit {
            0 => Ok(Exit::Done),
            _ => Err(Failed::new(Exit::of(end.exit), end.code, format!("it ended before: {}", end.message))),
        };
    }
    go_the_way(&mut args, journal.way.clone());
    let ledger = ledger(global, &args)?;
    let path = state.path().display().to_string();
    let past = Past { tape: None, state: Some(state), stored: journal.stored() };
    let (node, criteria) = node::buyer(global, &args.node, &args.wanted, args.patience, past).await?;
    let events = node.events();
    let mut restored = node.restored();
    let at = restored.iter().position(|job| journal.job == Some(job.id()));
    let Some(job) = at.map(|at| restored.swap_remove(at)) else {
        node.stop().await;
        let text = format!(
            "{path}/requester.snapshot does not know the answer in {path}, so nobody can go on with it: what came of \
             it stays in answer.txt. To ask anew, choose another directory, or move answer.txt and journal.jsonl away"
        );
        return Err(Failed::new(Exit::Config, "nothing_to_resume", text));
    };
    let asked = Asked { node, events, job, model: criteria.model, journal: Some(journal), ledger };
    asked.see_through(&args, narrator).await
}

fn ledger(global: &Global, args: &Ask) -> Result<Option<Ledger>, Failed> {
    let mut settings = Settings::load(global, &args.node)?;
    settings.add_ledger(args.ledger.as_deref())?;
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
        ledger: args.ledger.clone(),
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
    args.ledger = args.ledger.take().or(way.ledger);
}

/// A job that was submitted, and where it is written down.
struct Asked {
    node: Node,
    events: Events,
    job: Job,
    model: Model,
    journal: Option<Journal>,
    ledger: Option<Ledger>,
}

impl Asked {
    /// Follows the job to its end. What comes is stored before it is told, and how it ended before the node may forget it.
    async fn see_through(self, args: &Ask, mut narrator: Narrator) -> Result<Exit, Failed> {
        let Asked { node, events, mut job, model, mut journal, mut ledger } = self;
        let mut signals = match Signals::listen() {
            Ok(signals) => signals,
            Err(failed) => {
                drop(job);
                return say_goodbye(&node, events, args, Err(failed), Ok(())).await;
            }
        };
        let tell = |narrator: &mut Narrator, event: &JobEvent| {
            journal.as_mut().map_or(Ok(()), |journal| journal.event(event))?;
            match event {
                // A recording is to know every reason; people hear those that they asked for.
                JobEvent::Weighed(_) if !args.explain => Ok(()),
                event => narrator.event(event),
            }
        };
        let followed = follow(&mut job, &mut narrator, &mut signals, tell).await;
        let booked = match (&followed, &mut ledger) {
            (Ok(Followed { ended, .. }), Some(ledger)) => book(ledger, job.id(), &model, ended.as_ref()),
            _ => Ok(()),
        };
        let stored = match (&followed, &mut journal) {
            (Ok(Followed { ended, .. }), Some(journal)) => journal.end(End::of(ended.as_ref().map(drop))),
            _ => Ok(()),
        };
        drop(job);
        let kept = booked.map_err(Failed::from).and(stored.map_err(Failed::from));
        say_goodbye(&node, events, args, followed, kept).await
    }
}

async fn say_goodbye(
    node: &Node,
    events: Events,
    args: &Ask,
    followed: Result<Followed, Failed>,
    kept: Result<(), Failed>,
) -> Result<Exit, Failed> {
    // Every way out says goodbye: the provider is to know that all was received, or that nothing more is wanted.
    match followed {
        Ok(Followed { ended: Err(error), told: Ok(()) }) => {
            if let Err(lost) = &kept {
                // Without stderr there is nobody to tell, and the goodbye is still to be said.
                let _ = writeln!(Screen::Err, "haggle: {}", lost.message);
            }
            let failed = Failed::from(haggle::Error::Job(error));
            Err(node::explain_nobody(node, events, &args.wanted, failed).await)
        }
        Ok(Followed { told, .. }) => {
            node.stop().await;
            told?;
            kept?;
            Ok(Exit::Done)
        }
        Err(failed) => {
            node.stop().await;
            Err(failed)
        }
    }
}

/// Writes a job's bill into the ledger.
fn book(ledger: &mut Ledger, job: JobId, model: &Model, ended: Result<&Receipt, &JobError>) -> Result<(), LedgerError> {
    Entry::bought(job, model, ended).iter().try_for_each(|entry| ledger.add(entry))?;
    ledger.sync()
}

/// A job that is over.
pub(crate) struct Followed {
    /// What it came to.
    pub(crate) ended: Result<Receipt, JobError>,
    /// Whether it could be told; if not, the job was cancelled.
    told: io::Result<()>,
}

impl Followed {
    /// The first thing that went wrong.
    pub(crate) fn result(self) -> Result<(), Failed> {
        self.told?;
        Ok(self.ended.map(drop).map_err(haggle::Error::Job)?)
    }
}

/// Tells of a job until it ends, each event by `tell`. Ctrl-C cancels it, and it is still told what it came to.
pub(crate) async fn follow(
    job: &mut Job,
    narrator: &mut Narrator,
    signals: &mut Signals,
    mut tell: impl FnMut(&mut Narrator, &JobEvent) -> io::Result<()>,
) -> Result<Followed, Failed> {
    let mut told = Ok(());
    let ended = loop {
        let item = select! {
            item = job.next() => item,
            () = signals.next().fuse() => {
                job.cancel();
                continue;
            }
        };
        match item {
            Some(Ok(JobEvent::Finished(receipt))) => break Ok(receipt),
            Some(Ok(event)) => {
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
    Ok(Followed { told: told.and(bill), ended })
}

fn prompt(args: &Ask) -> Result<Prompt, Failed> {
    let text = match args.prompt.as_deref() {
        None if io::stdin().is_terminal() => {
            let how = "give a prompt: haggle ask \"Once upon a time\", or - to type it";
            return Err(Failed::usage("usage", how));
        }
        None | Some("-") => read_stdin()?,
        Some(text) => text.to_owned(),
    };
    if text.is_empty() {
        return Err(Failed::usage("empty_prompt", "the prompt is empty"));
    }
    Ok(match args.chat {
        true => Prompt::Chat(vec![ChatMessage { role: "user".into(), content: text }]),
        false => Prompt::Raw(text),
    })
}

/// Reads no more than the largest prompt that any limit can allow, and a byte.
fn read_stdin() -> Result<String, Failed> {
    const MOST: u64 = 64 << 20;
    let mut bytes = Vec::new();
    let read = io::stdin().lock().take(MOST + 1).read_to_end(&mut bytes);
    read.map_err(|error| Failed::usage("stdin", format!("cannot read the prompt from stdin: {error}")))?;
    if bytes.len() as u64 > MOST {
        return Err(Failed::usage("prompt_too_long", format!("the prompt has more than {MOST} bytes: shorten it")));
    }
    String::from_utf8(bytes).map_err(|_| Failed::usage("stdin", "the prompt on stdin is not UTF-8 text"))
}

/// Different every time; it is told to the provider and need not be secret.
fn fresh_seed() -> u64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    RandomState::new().build_hasher().finish()
}
