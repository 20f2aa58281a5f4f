//! Has a prompt answered.

use std::io::{self, IsTerminal, Read, Write};

use futures::{FutureExt, StreamExt, select};
use haggle::{
    Job, JobError, JobEvent, JobId, JobSpec, Model, Prompt, Receipt,
    core::{
        spec::Haggle,
        wire::{ChatMessage, message::Sampling},
    },
};

use crate::{
    args::{Ask, Global},
    exit::{Exit, Failed},
    ledger::{Entry, Ledger, LedgerError},
    narrator::Narrator,
    node::{self, Signals},
    settings::Settings,
};

pub(crate) async fn run(global: &Global, args: Ask) -> Result<Exit, Failed> {
    let prompt = prompt(&args)?;
    let mut settings = Settings::load(global, &args.node)?;
    settings.add_ledger(args.ledger.as_deref())?;
    let mut ledger = settings.ledger()?;
    let (node, criteria) = node::buyer(global, &args.node, &args.wanted, args.patience, Some(&args.record)).await?;
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
    let mut signals = Signals::listen()?;
    let events = node.events();
    let model = criteria.model.clone();
    let job = node.submit(JobSpec { criteria, ..spec }).await?;
    let id = job.id();
    // A recording is to know every reason; people hear those that they asked for.
    let tell = |narrator: &mut Narrator, event: &JobEvent| match event {
        JobEvent::Weighed(_) if !args.explain => Ok(()),
        event => narrator.event(event),
    };
    let followed = follow(job, &mut Narrator::new(global.json), &mut signals, tell).await;
    let booked = match (&followed, &mut ledger) {
        (Ok(Followed { ended, .. }), Some(ledger)) => book(ledger, id, &model, ended.as_ref()),
        _ => Ok(()),
    };
    // Every way out says goodbye: the provider is to know that all was received, or that nothing more is wanted.
    match followed {
        Ok(Followed { ended: Err(error), told: Ok(()) }) => {
            if let Err(unbooked) = &booked {
                writeln!(io::stderr(), "haggle: {unbooked}")?;
            }
            let failed = Failed::from(haggle::Error::Job(error));
            Err(node::explain_nobody(&node, events, &args.wanted, failed).await)
        }
        Ok(Followed { told, .. }) => {
            node.stop().await;
            told?;
            booked?;
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
    mut job: Job,
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
                        job.cancel();
                    }
                }
            }
            Some(Err(error)) => break Err(error),
            None => return Err(haggle::Error::Stopped.into()),
        }
    };
    Ok(Followed { told: told.and_then(|()| narrator.ended(ended.as_ref())), ended })
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
