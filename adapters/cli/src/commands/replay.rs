//! Runs a recording again.

use std::io::{self, Write};

use haggle::{
    core::Event,
    flight::{Moment, ReplayError, What, Who, replay},
    id,
    libp2p::PeerId,
};
use serde_json::{Value, json};

use crate::{
    args::{Global, Replay},
    exit::{Exit, Failed},
    explain,
    money::decimal,
    narrator::short,
    screen::{Screen, in_line, print_json},
};

pub(crate) fn run(global: &Global, args: &Replay) -> Result<Exit, Failed> {
    let until = args.until.map_or(u64::MAX, |until| until.0);
    // The first line that can not be written ends the telling, and is reported after the replay.
    let mut written: io::Result<()> = Ok(());
    let outcome = replay(&args.file, until, |moment| {
        if args.explain && written.is_ok() {
            written = if global.json { print_json(&to_json(moment)) } else { tell(moment) };
        }
    });
    written?;
    let summary = match outcome {
        Ok(summary) => summary,
        // It was told, which is all that can be done with it.
        Err(ReplayError::Redacted) if args.explain => return Ok(Exit::Done),
        Err(error) => return Err(Failed::new(exit(&error), code(&error), error.to_string())),
    };
    if summary.steps == 0 && args.until.is_none() {
        let text = "there is no step in the recording: nothing was run again or compared. It was cut off, or the node was \
                    killed before it did anything";
        return Err(Failed::usage("empty", text));
    }
    if global.json {
        print_json(&json!({
            "event": "replayed", "steps": summary.steps, "outputs": summary.outputs, "until_ms": summary.until,
            "began_ms": summary.began, "torn": summary.torn,
        }))?;
        return Ok(Exit::Done);
    }
    let mut out = Screen::Out;
    let seconds = summary.until / 1000;
    let steps = summary.steps;
    writeln!(out, "the same again: {steps} steps in {seconds} s, {} outputs equal byte for byte", summary.outputs)?;
    if summary.torn {
        writeln!(out, "the recording ends in the middle of a line: the node was killed there")?;
    }
    Ok(Exit::Done)
}

fn exit(error: &ReplayError) -> Exit {
    match error {
        ReplayError::Io(_) | ReplayError::Redacted | ReplayError::Damage(_) => Exit::Usage,
        _ => Exit::Other,
    }
}

fn code(error: &ReplayError) -> &'static str {
    match error {
        ReplayError::Io(_) => "recording",
        ReplayError::Damage(_) => "damaged",
        ReplayError::Redacted => "redacted",
        _ => "diverged",
    }
}

fn tell(moment: &Moment<'_>) -> io::Result<()> {
    let mut out = Screen::Out;
    let mut line = |text: &str| {
        let seconds = moment.at / 1000;
        writeln!(out, "{seconds:>6}.{:03} {:>9} {}", moment.at % 1000, who(moment.who), in_line(text))
    };
    match &moment.what {
        What::Step(words) => line(words),
        What::Output(words) => line(&format!("  {words}")),
        What::Requester(Event::Weighed { weighing, .. }) => {
            let name = |peer: &PeerId| short(peer);
            explain::lines(weighing, name).iter().try_for_each(|words| line(&format!("    {words}")))
        }
        What::Requester(event) => line(&format!("  tells {}: {}", event.name(), facts(event))),
        What::Provider(event) => line(&format!("  tells {event:?}")),
        What::Seen(event) => line(&format!("  tells {event}")),
    }
}

/// What people want to know of an event.
fn facts(event: &Event<'_>) -> String {
    let name = |peer| id::to_libp2p(peer).map(|peer| short(&peer)).unwrap_or_default();
    match event {
        Event::Discovered { peer, advert } => {
            let models: Vec<String> = advert.models.iter().map(|entry| entry.model.to_text()).collect();
            format!("{} serves {}", name(peer), models.join(", "))
        }
        Event::Asked { peer, .. } => name(peer),
        Event::Offered { quote, .. } => format!("{} at most {} units", name(&quote.peer), decimal(quote.cost)),
        Event::PassedOver { peer, why, .. } => format!("{}: {why}", name(peer)),
        Event::Awarded { quote, reason, attempt, .. } => {
            format!("attempt {attempt} to {}: {reason:?}", name(&quote.peer))
        }
        Event::Negotiated { peer, .. } | Event::Cut { peer, .. } => name(peer),
        Event::Working { peer, phase, .. } => format!("{} {phase}", name(peer)),
        Event::Resumed { peer, seq, .. } => format!("{} at token {seq}", name(peer)),
        Event::TakenOver { peer, seq, how, .. } => format!("{} at token {seq}: {how:?}", name(peer)),
        Event::Tokens { seq, n, text, channel: None, .. } => format!("{n} from {seq}: {text:?}"),
        Event::Tokens { seq, n, text, channel: Some(channel), .. } => format!("{n} from {seq}, {channel:?}: {text:?}"),
        Event::Ended { ending, .. } => format!(
            "{}, {} tokens, {} units owed",
            match &ending.outcome {
                haggle::core::event::Outcome::Finished(_) => "finished".into(),
                haggle::core::event::Outcome::Failed(failure) => match ending.no_retry {
                    Some(why) => format!("{failure}; no further attempt: {why}"),
                    None => failure.to_string(),
                },
            },
            ending.bill.tokens,
            decimal(ending.bill.owed)
        ),
        Event::ChoiceDue { quotes, .. } => format!("{} offers", quotes.len()),
        Event::Weighed { .. } => String::new(),
    }
}

fn to_json(moment: &Moment<'_>) -> Value {
    let what = match &moment.what {
        What::Step(words) => json!({"step": words}),
        What::Output(words) => json!({"output": words}),
        What::Requester(event) => json!({"event": event.name(), "data": event}),
        What::Provider(event) => json!({"event": event}),
        What::Seen(event) => json!({"event": event}),
    };
    json!({"at_ms": moment.at, "who": who(moment.who), "what": what})
}

const fn who(who: Who) -> &'static str {
    match who {
        Who::Requester => "requester",
        Who::Provider => "provider",
    }
}
