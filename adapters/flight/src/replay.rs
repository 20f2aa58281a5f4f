//! Runs a recording again, and compares.

use std::{io, path::Path};

use haggle_core::{Event, Instant, Machine, Output, Provider, ProviderEvent, Requester};

use crate::{
    recorded::{Answer, Outs},
    recorder::{self, Damage, Lines},
    step::{Bytes, Line, Step, Who},
};

/// What a replay came to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Summary {
    /// Steps that were run again.
    pub steps: u64,
    /// Outputs that were the same, byte for byte.
    pub outputs: u64,
    /// The time of the last step, in milliseconds on the node's clock.
    pub until: u64,
    /// When the recording began, in milliseconds since 1970.
    pub began: u64,
    /// The recording ends in the middle of a line: the node was killed there.
    pub torn: bool,
}

/// A moment of a recording, as it is told.
#[derive(Debug)]
pub struct Moment<'a> {
    /// Milliseconds on the node's clock.
    pub at: u64,
    /// Which machine.
    pub who: Who,
    /// What it was.
    pub what: What<'a>,
}

/// What happened in a moment.
#[derive(Debug)]
pub enum What<'a> {
    /// Something was done to the machine; in words.
    Step(&'a str),
    /// The requester told something.
    Requester(&'a Event<'a>),
    /// The provider told something.
    Provider(&'a ProviderEvent),
    /// Of a redacted recording: an event, as it was written down.
    Seen(&'a serde_json::Value),
    /// Any other output, in words.
    Output(&'a str),
}

/// Why a replay did not go to the end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// The file can not be read.
    #[error("cannot read the recording: {0}")]
    Io(#[from] io::Error),
    /// The file is not what was recorded.
    #[error(transparent)]
    Damage(#[from] Damage),
    /// It was recorded without contents.
    #[error("this recording is redacted: it can be explained, but nothing in it can be run again and compared")]
    Redacted,
    /// This core decides otherwise than the one that was recorded.
    #[error(
        "line {line}, at {at} ms: the {who:?} does otherwise than was recorded by version {version} ({problem}): it is \
         another version, or was built from other sources"
    )]
    Diverged {
        /// Of the recording.
        line: u64,
        /// Milliseconds on the node's clock.
        at: u64,
        /// Which machine.
        who: Who,
        /// The version that was recorded.
        version: String,
        /// What differs.
        problem: String,
    },
}

/// Runs a recording again up to a time on its clock, in milliseconds, and compares all answers and outputs. `tell` hears
/// every moment. A redacted recording is told, and ends in [`ReplayError::Redacted`].
///
/// # Errors
/// When the file is no whole recording, or this core decides otherwise; all before it was told.
pub fn replay(path: &Path, until: u64, mut tell: impl FnMut(&Moment<'_>)) -> Result<Summary, ReplayError> {
    let text = recorder::read(path)?;
    let (header, mut lines) = Lines::begin(&text)?;
    let mut flight = Flight::default();
    let mut summary = Summary { began: header.began, ..Summary::default() };
    while let Some(line) = lines.next_line()? {
        if line.at > until {
            break;
        }
        summary.until = summary.until.max(line.at);
        summary.steps += 1;
        if let Step::Out { count, .. } = line.step {
            summary.outputs += count;
        }
        let (at, who) = (line.at, line.who);
        let diverged =
            |problem| ReplayError::Diverged { line: lines.number(), at, who, version: header.version.clone(), problem };
        flight.run(line, &mut tell).map_err(diverged)?;
    }
    summary.torn = lines.torn;
    if header.redacted { Err(ReplayError::Redacted) } else { Ok(summary) }
}

/// The machines of a recording.
#[derive(Default)]
struct Flight {
    requester: Option<Requester>,
    provider: Option<Provider>,
}

impl Flight {
    fn run(&mut self, line: Line<'_>, tell: &mut impl FnMut(&Moment<'_>)) -> Result<(), String> {
        let Line { at, who, step, got } = line;
        match step {
            Step::Seen(event) => {
                tell(&Moment { at, who, what: What::Seen(&event) });
                return Ok(());
            }
            Step::Out { count, digest: Bytes(digest) } => return self.take(at, who, count, &digest, tell),
            _ => {}
        }
        tell(&Moment { at, who, what: What::Step(&words(&step)) });
        let now = Instant::from_millis(at);
        let answer = match who {
            Who::Requester => run_requester(&mut self.requester, now, step)?,
            Who::Provider => run_provider(&mut self.provider, now, step)?,
        };
        if answer == got { Ok(()) } else { Err(format!("it answers {answer:?}, recorded is {got:?}")) }
    }

    /// Takes as many outputs as were taken then.
    fn take(
        &mut self,
        at: u64,
        who: Who,
        count: u64,
        digest: &[u8],
        tell: &mut impl FnMut(&Moment<'_>),
    ) -> Result<(), String> {
        let mut outs = Outs::default();
        for taken in 0..count {
            let is_there = match who {
                Who::Requester => self.requester.as_mut().and_then(Machine::poll_output).map(|output| {
                    outs.add(&output);
                    match &output {
                        Output::Event(event) => tell(&Moment { at, who, what: What::Requester(event) }),
                        other => tell(&Moment { at, who, what: What::Output(&output_words(other)) }),
                    }
                }),
                Who::Provider => self.provider.as_mut().and_then(Machine::poll_output).map(|output| {
                    outs.add(&output);
                    match &output {
                        Output::Event(event) => tell(&Moment { at, who, what: What::Provider(event) }),
                        other => tell(&Moment { at, who, what: What::Output(&output_words(other)) }),
                    }
                }),
            };
            if is_there.is_none() {
                return Err(format!("it has {taken} outputs, recorded are {count}"));
            }
        }
        match outs.take() {
            Some((_, same)) if same == digest => Ok(()),
            _ => Err(format!("one of its {count} outputs differs from what was recorded")),
        }
    }
}

fn run_requester(machine: &mut Option<Requester>, now: Instant, step: Step<'_>) -> Result<String, String> {
    if let Step::NewRequester { policy, limits, seed } = step {
        *machine =
            Some(Requester::new(policy, limits, seed).map_err(|error| format!("{}: {}", error.field, error.must))?);
        return Ok(String::new());
    }
    let machine = machine.as_mut().ok_or("it is used before it is made")?;
    Ok(match step {
        Step::Fact(fact) => {
            machine.handle_input(now, fact.input());
            String::new()
        }
        Step::Requester(command) => machine.command(now, command).words(),
        _ => return Err("a requester can not do that".into()),
    })
}

fn run_provider(machine: &mut Option<Provider>, now: Instant, step: Step<'_>) -> Result<String, String> {
    if let Step::NewProvider { service, limits, seed } = step {
        *machine =
            Some(Provider::new(service, limits, seed).map_err(|error| format!("{}: {}", error.field, error.must))?);
        return Ok(String::new());
    }
    let machine = machine.as_mut().ok_or("it is used before it is made")?;
    Ok(match step {
        Step::Fact(fact) => {
            machine.handle_input(now, fact.input());
            String::new()
        }
        Step::Provider(command) => machine.command(now, command).words(),
        _ => return Err("a provider can not do that".into()),
    })
}

/// A step in words, without contents.
fn words(step: &Step<'_>) -> String {
    use crate::step::Fact;
    match step {
        Step::NewRequester { .. } | Step::NewProvider { .. } => "begins".into(),
        Step::Fact(Fact::Received(stream, Bytes(bytes))) => {
            format!("receives {} bytes on stream {stream}", bytes.len())
        }
        Step::Fact(Fact::PeersFound(query, peers)) => format!("query {query} finds {} peers", peers.len()),
        Step::Fact(fact) => format!("hears {fact:?}"),
        Step::Requester(command) => command.to_string(),
        Step::Provider(command) => command.to_string(),
        Step::Out { .. } | Step::Seen(_) => String::new(),
    }
}

fn output_words<E>(output: &Output<'_, E>) -> String {
    match output {
        Output::Open { stream, peer } => format!("opens stream {} to {peer:?}", stream.0),
        Output::Transmit { stream, bytes } => format!("sends {} bytes on stream {}", bytes.len(), stream.0),
        Output::Close(stream) => format!("closes stream {}", stream.0),
        Output::Reset(stream) => format!("resets stream {}", stream.0),
        Output::StartQuery { query, model } => format!("starts query {} for {}", query.0, model.to_text()),
        Output::CancelQuery(query) => format!("gives query {} up", query.0),
        Output::Event(_) => "tells an event".into(),
    }
}
