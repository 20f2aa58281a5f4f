//! Has a prompt answered.

use std::io::{self, IsTerminal, Read};

use futures::{FutureExt, StreamExt, select};
use haggle::{
    Job, JobError, JobEvent, JobSpec, Prompt,
    core::{
        spec::Haggle,
        wire::{ChatMessage, message::Sampling},
    },
};

use crate::{
    args::{Ask, Global},
    exit::{Exit, Failed},
    narrator::Narrator,
    node::{self, Signals},
};

pub(crate) async fn run(global: &Global, args: Ask) -> Result<Exit, Failed> {
    let prompt = prompt(&args)?;
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
    let job = node.submit(JobSpec { criteria, ..spec }).await?;
    // A recording is to know every reason; people hear those that they asked for.
    let tell = |narrator: &mut Narrator, event: &JobEvent| match event {
        JobEvent::Weighed(_) if !args.explain => Ok(()),
        event => narrator.event(event),
    };
    let followed = follow(job, &mut Narrator::new(global.json), &mut signals, tell).await;
    // Every way out says goodbye: the provider is to know that all was received, or that nothing more is wanted.
    match followed {
        Ok(Ok(())) => {
            node.stop().await;
            Ok(Exit::Done)
        }
        Ok(Err(error)) => {
            let failed = Failed::from(haggle::Error::Job(error));
            Err(node::explain_nobody(&node, events, &args.wanted, failed).await)
        }
        Err(failed) => {
            node.stop().await;
            Err(failed)
        }
    }
}

/// Tells of a job until it ends, each event by `tell`. Ctrl-C cancels it, and it is still told what it came to.
pub(crate) async fn follow(
    mut job: Job,
    narrator: &mut Narrator,
    signals: &mut Signals,
    mut tell: impl FnMut(&mut Narrator, &JobEvent) -> io::Result<()>,
) -> Result<Result<(), JobError>, Failed> {
    loop {
        let item = select! {
            item = job.next() => item,
            () = signals.next().fuse() => {
                job.cancel();
                continue;
            }
        };
        match item {
            Some(Ok(JobEvent::Finished(receipt))) => {
                narrator.ended(Ok(&receipt))?;
                return Ok(Ok(()));
            }
            Some(Ok(event)) => tell(narrator, &event)?,
            Some(Err(error)) => {
                narrator.ended(Err(&error))?;
                return Ok(Err(error));
            }
            None => return Err(haggle::Error::Stopped.into()),
        }
    }
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
