//! Tells of jobs: to people in words, to programs in JSON lines.

mod json;

use std::{collections::BTreeMap, io};

use haggle::{
    JobError, JobEvent, Offer, Receipt,
    core::{
        event::{Bill, ChoiceReason, TakeOver},
        money::Tariff,
        wire::message::{Channel, EndReason},
    },
    id,
    libp2p::PeerId,
};
use serde_json::json;

pub(crate) use json::offer_json;

use json::{ended_json, to_json};

use crate::{
    explain,
    money::decimal,
    screen::{Painted, Screen, Style, Transient, print_json, takes_raw, visible},
    spans::span,
};

/// Tells of one job.
pub(crate) struct Narrator {
    json: bool,
    /// Where people are told, beside the answer itself.
    talk: Screen,
    style: Style,
    /// Peers that are known by a name.
    names: BTreeMap<PeerId, String>,
    /// The answer goes out byte for byte.
    raw: bool,
    /// The answer is set off from what is told beside it: both go to the same place.
    mixed: bool,
    /// What the answer continues.
    opening: String,
    /// Offers since the last award.
    offers: usize,
    awarded: bool,
    /// What the model thinks is shown, beside the answer.
    thoughts: bool,
    /// The last thing that was written is a part of a thought.
    in_thought: bool,
    /// The last thing that was written is a part of the answer.
    in_answer: bool,
    /// The answer's last line has no end yet.
    in_line: bool,
    /// There was something to be read in it.
    said_something: bool,
    /// The prompt was a conversation.
    chat: bool,
    /// Of every choice only the outcome is told.
    brief: bool,
    /// What is waited for.
    waiting: Option<Transient>,
}

impl Narrator {
    /// The answer to stdout, everything else to stderr; with `json` everything to stdout. `raw`: a program reads the answer.
    pub(crate) fn new(json: bool, raw: bool) -> Self {
        let mixed = Screen::Out.is_terminal() && Screen::Err.is_terminal();
        Narrator { raw: takes_raw(raw), ..Narrator::to(json, Screen::Err, BTreeMap::new(), mixed) }
    }

    /// Everything to stdout, with names for peers.
    pub(crate) fn on_stdout(json: bool, names: BTreeMap<PeerId, String>) -> Self {
        Narrator::to(json, Screen::Out, names, true)
    }

    fn to(json: bool, talk: Screen, names: BTreeMap<PeerId, String>, mixed: bool) -> Self {
        Narrator {
            json,
            talk,
            style: talk.style(),
            names,
            raw: false,
            mixed,
            opening: String::new(),
            offers: 0,
            awarded: false,
            thoughts: false,
            in_thought: false,
            in_answer: false,
            in_line: false,
            said_something: false,
            chat: false,
            brief: false,
            waiting: None,
        }
    }

    /// The answer is a message, not the rest of a text.
    pub(crate) fn of_chat(mut self) -> Self {
        self.chat = true;
        self
    }

    /// Whether what the model thinks is shown.
    pub(crate) fn with_thoughts(mut self, shown: bool) -> Self {
        self.thoughts = shown;
        self
    }

    /// One answer of many: who was asked and beaten each time is no news.
    pub(crate) fn brief(mut self) -> Self {
        self.brief = true;
        self
    }

    /// A provider is looked for.
    pub(crate) fn seeks(&mut self, model: &str) {
        self.waits(format!("looking for {model}"));
    }

    /// Some time has passed: shows what is waited for, where that has a line of its own.
    pub(crate) fn wait(&self) {
        let has_line = self.talk == Screen::Err && !(self.in_answer && self.mixed) && !self.in_thought;
        if let Some(waiting) = self.waiting.as_ref().filter(|_| has_line && !self.json) {
            waiting.draw();
        }
    }

    fn waits(&mut self, what: String) {
        self.waiting = Some(Transient::new(what));
    }

    /// What is still to be told goes to people: nobody reads stdout any more.
    pub(crate) fn turn_to_stderr(&mut self) {
        (self.json, self.mixed, self.talk) = (false, false, Screen::Err);
        self.style = self.talk.style();
    }

    /// Shows the text that the answer continues before the answer.
    pub(crate) fn opening(&mut self, prompt: &str) {
        self.opening = prompt.to_owned();
    }

    /// Tells of an event.
    pub(crate) fn event(&mut self, event: &JobEvent) -> io::Result<()> {
        self.expect(event);
        if self.json {
            return match event {
                JobEvent::Finished(_) => Ok(()),
                event => print_json(&to_json(event)),
            };
        }
        match event {
            JobEvent::Weighed(weighing) => {
                let lines = explain::lines(weighing, |peer| self.name(peer));
                lines.iter().try_for_each(|line| self.line("why", line))
            }
            JobEvent::Asked { .. } if self.brief => Ok(()),
            JobEvent::Asked { peer } => self.line("asked", self.name(peer)),
            JobEvent::Offered(offer) => {
                if std::mem::take(&mut self.awarded) {
                    self.offers = 0;
                }
                self.offers += 1;
                if self.brief {
                    return Ok(());
                }
                let text = format!("{}  {}", self.name(&offer.peer), terms(offer));
                self.line("offer", text)
            }
            JobEvent::PassedOver { peer, why } => {
                let text = format!("{}: {why}", self.name(peer));
                self.line("passed", text)
            }
            JobEvent::Awarded { offer, reason, attempt } => {
                self.awarded = true;
                let again = if *attempt > 1 { format!(" (attempt {attempt})") } else { String::new() };
                let name = self.style.good(&self.name(&offer.peer));
                let cost = if self.brief { format!("at most {} units, ", decimal(offer.cost)) } else { String::new() };
                self.line("award", name.then(format!("{again}: {cost}{}", why(*reason, self.offers))))
            }
            JobEvent::Cut { peer, patience, .. } => {
                let seconds = patience.0.div_ceil(1000);
                let text = format!("{}: the connection is lost; it is tried again for {seconds} s", self.name(peer));
                self.line("cut", text)
            }
            JobEvent::Resumed { peer, seq, .. } => {
                let text = format!("{} goes on at token {seq}", self.name(peer));
                self.line("resumed", text)
            }
            JobEvent::TakenOver { peer, seq, how, .. } => {
                if *how == TakeOver::Restarted && !self.mixed {
                    // Two answers are not to run into each other where only they are written.
                    Screen::Out.put(b"\n")?;
                }
                let text = format!("{} takes over at token {seq}: {}", self.name(peer), taken_over(*how));
                self.line("over", text)
            }
            JobEvent::Tokens { text, channel: Some(Channel::Thought), .. } if self.thoughts => self.thought(text),
            // Who asked reads a refusal as the answer.
            JobEvent::Tokens { text, channel: None | Some(Channel::Refusal), .. } => self.tokens(text),
            _ => Ok(()),
        }
    }

    /// What is waited for after an event.
    fn expect(&mut self, event: &JobEvent) {
        match event {
            JobEvent::Asked { .. } => self.waits("waiting for offers".into()),
            JobEvent::Awarded { offer, .. } => {
                self.waits(format!("waiting for {}: first token", self.name(&offer.peer)));
            }
            JobEvent::Working { peer, phase, .. } => self.waits(format!("waiting: {} {phase}", self.name(peer))),
            JobEvent::Cut { peer, .. } => self.waits(format!("trying to reach {} again", self.name(peer))),
            JobEvent::Resumed { peer, .. } | JobEvent::TakenOver { peer, .. } => {
                self.waits(format!("waiting for {}: next token", self.name(peer)));
            }
            JobEvent::Tokens { channel: Some(Channel::Thought), peer, .. } => {
                self.waits(format!("{} thinks", self.name(peer)));
            }
            JobEvent::Tokens { .. } => self.waiting = None,
            _ => {}
        }
    }

    /// The part of the answer that an earlier process stored.
    pub(crate) fn stored(&mut self, text: &str) -> io::Result<()> {
        match text {
            "" => Ok(()),
            text if self.json => print_json(&json!({"event": "answer:stored", "text": text})),
            text => self.tokens(text),
        }
    }

    /// Tells how the job ended; what went wrong is told by whoever prints the error.
    pub(crate) fn ended(&mut self, ending: Result<&Receipt, &JobError>) -> io::Result<()> {
        let bill = ending.map_or_else(|error| &*error.bill, |receipt| &receipt.bill);
        if self.json {
            return print_json(&ended_json(ending));
        }
        self.waiting = None;
        // Who does not read the answer is told what it costs all the same.
        let read = self.end_line();
        self.bill(ending, bill)?;
        read
    }

    fn bill(&mut self, ending: Result<&Receipt, &JobError>, bill: &Bill) -> io::Result<()> {
        self.set_off()?;
        if bill.lines.is_empty() {
            return Ok(());
        }
        if let Ok(receipt) = ending {
            let read = match receipt.prompt_tokens {
                0 => "tokens read: not told".into(),
                read => format!("{read} tokens read"),
            };
            let thought = match receipt.thought {
                None | Some(0) => String::new(),
                Some(thought) => format!(" ({thought} of them thought)"),
            };
            self.line("end", format!("{read}, {} written{thought}: {}", receipt.tokens, end(receipt.reason)))?;
            if !self.said_something {
                self.line("empty", if self.chat { EMPTY_MESSAGE } else { EMPTY_TEXT })?;
            }
        }
        for line in &bill.lines {
            let peer = id::to_libp2p(&line.peer).map(|peer| self.name(&peer)).unwrap_or_default();
            let Tariff { fee_in, price_out } = line.tariff;
            let again = match line.reread {
                0 => String::new(),
                reread => format!(" ({reread} tokens read again)"),
            };
            // It fits a terminal of 80 columns with names of 8 letters and 9,999 tokens.
            let text = format!(
                "{peer}: prompt {}{again} + {} tokens at {}/million = {}",
                decimal(if line.tokens > 0 { fee_in } else { 0 }),
                line.tokens,
                decimal(price_out),
                decimal(line.owed),
            );
            self.line("bill", text)?;
        }
        let owed = self.style.bold(&format!("{} units", decimal(bill.owed)));
        self.line("owed", owed.then("; settlement: none (this version pays nothing)"))
    }

    /// A line for people.
    pub(crate) fn line(&mut self, label: &str, text: impl Into<Painted>) -> io::Result<()> {
        if !self.json {
            self.set_off()?;
            let label = self.style.dim(&format!("{label:>8}"));
            self.talk.paint(&label.then(" ").then(text).then("\n"))?;
        }
        Ok(())
    }

    /// Sets what follows off from the answer, if both go to the same place.
    fn set_off(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.in_thought) {
            self.talk.put(b"\n")?;
        }
        if std::mem::take(&mut self.in_answer) && self.mixed {
            self.end_line()?;
            Screen::Out.put(b"\n")?;
        }
        Ok(())
    }

    /// Ends the answer's last line: what people read are lines, while programs get what was written and nothing else. A
    /// person sees a pipe's end where one of the outputs is a terminal; a talk has its turns in lines.
    pub(crate) fn end_line(&mut self) -> io::Result<()> {
        let is_seen = self.brief || Screen::Out.is_terminal() || Screen::Err.is_terminal();
        if std::mem::take(&mut self.in_line) && !self.raw && is_seen {
            Screen::Out.put(b"\n")?;
        }
        Ok(())
    }

    fn tokens(&mut self, text: &str) -> io::Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        if self.in_thought {
            self.set_off()?;
        }
        if !self.in_answer && self.mixed {
            // The part before a takeover was set off below.
            let opening = self.style.bold(&std::mem::take(&mut self.opening));
            Screen::Out.paint(&Painted::from("\n").then(opening))?;
        }
        self.in_answer = true;
        self.said_something |= !text.trim().is_empty();
        self.in_line = !text.ends_with('\n');
        match self.raw {
            true => Screen::Out.put(text.as_bytes()),
            false => Screen::Out.put(visible(text).as_bytes()),
        }
    }

    /// What is thought goes where people are told, never where the answer goes alone.
    fn thought(&mut self, text: &str) -> io::Result<()> {
        if !self.in_thought {
            self.set_off()?;
            self.talk.put(b"\n")?;
        }
        self.in_thought = true;
        self.talk.paint(&self.style.dim(text))
    }

    fn name(&self, peer: &PeerId) -> String {
        self.names.get(peer).cloned().unwrap_or_else(|| short(peer))
    }
}

const EMPTY_TEXT: &str = "there is nothing to read in the answer: the model took the prompt for a text that is complete. \
     A question is asked with --chat";
const EMPTY_MESSAGE: &str = "there is nothing to read in the answer: if the model thinks before it answers, \
     allow it more with --max-tokens";

/// The end of a peer's id: the beginning says only what kind of key it is.
pub(crate) fn short(peer: &PeerId) -> String {
    let id = peer.to_string();
    format!("…{}", &id[id.len().saturating_sub(8)..])
}

/// An offer's price in words.
fn terms(offer: &Offer) -> String {
    format!(
        "at most {} units ({} for the prompt, {} per million written); says: first token in {}",
        decimal(offer.cost),
        decimal(offer.tariff.fee_in),
        decimal(offer.tariff.price_out),
        span(offer.eta)
    )
}

fn why(reason: ChoiceReason, offers: usize) -> String {
    match reason {
        ChoiceReason::Only => "the only offer that fits".into(),
        ChoiceReason::Cheapest => format!("the cheapest of {offers} offers"),
        ChoiceReason::Fastest => "as cheap as the next, and faster".into(),
        ChoiceReason::Lot => "drawn by lot among equal offers".into(),
        ChoiceReason::Posted => "its posted price is the best known".into(),
        ChoiceReason::Application => "chosen by hand".into(),
        ChoiceReason::Proven => "more is to be expected than of who offers less".into(),
    }
}

fn end(reason: EndReason) -> &'static str {
    match reason {
        EndReason::Stop => "the answer is complete",
        EndReason::Length => "cut at the limit of --max-tokens, as the provider counts",
        EndReason::Context => "the model's context is full",
        EndReason::ToolCalls => "the model calls tools",
        EndReason::Filtered => "cut short by a filter of what it may say",
        _ => "ended by the provider",
    }
}

fn taken_over(how: TakeOver) -> &'static str {
    match how {
        TakeOver::Exact => "the same text as if nothing had happened",
        TakeOver::Spliced => "it goes on in its own words",
        TakeOver::Restarted => "it begins anew",
    }
}
