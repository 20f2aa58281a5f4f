//! A talk with a model: every answer knows what was said before.

use std::{
    io::{self, BufRead, IsTerminal, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use futures::{FutureExt, StreamExt, channel::mpsc, select};
use haggle::{
    Channel, Criteria, Error, JobError, JobEvent, JobSpec, Prompt, Receipt,
    core::{
        event::{Failure, TakeOver},
        money::Amount,
        wire::ChatMessage,
    },
};
use serde_json::json;

use super::ask::{book, follow, ledger, spec};
use crate::{
    args::{Chat, Global},
    buyer::{self, Buyer, Past},
    exit::{Exit, Failed},
    ledger::Ledger,
    money::decimal,
    narrator::Narrator,
    prompt::{self, ASSISTANT, SYSTEM, USER, message},
    screen::{Screen, print_json},
    signals::Signals,
};

pub(crate) async fn run(global: &Global, args: &Chat) -> Result<Exit, Failed> {
    let ledger = ledger(global, &args.node, args.order.ledger.as_deref())?;
    let criteria = buyer::criteria(&args.wanted)?;
    let mut signals = Signals::listen()?;
    let buyer = Buyer::start(global, &args.node, &args.wanted.provider, &args.order.waits, Past::default()).await?;
    let budget = args.order.budget.or(buyer.budget);
    let mut talk =
        Talk { global, args, buyer, criteria, ledger, budget, owed: 0, said: Vec::new(), ends: told_to_end()? };
    talk.begin_anew();
    let ended = talk.until_over(&mut signals).await;
    talk.buyer.node.stop().await;
    ended
}

/// What somebody typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line<'a> {
    Empty,
    New,
    Bye,
    /// It looks like a command, and is none: sent to a model it would be paid for.
    Unknown(&'a str),
    Message(&'a str),
}

impl<'a> Line<'a> {
    fn read(line: &'a str) -> Self {
        let text = line.trim();
        let Some(rest) = text.strip_prefix('/') else {
            return if text.is_empty() { Line::Empty } else { Line::Message(text) };
        };
        let word = rest.split_whitespace().next().unwrap_or_default();
        match rest {
            "new" => Line::New,
            "bye" | "quit" | "exit" => Line::Bye,
            rest if rest.starts_with('/') => Line::Message(rest),
            // A path is no command.
            _ if word.is_empty() || !word.bytes().all(|byte| byte.is_ascii_alphabetic()) => Line::Message(text),
            _ => Line::Unknown(word),
        }
    }
}

/// What was said, and what it cost.
struct Talk<'a> {
    global: &'a Global,
    args: &'a Chat,
    buyer: Buyer,
    criteria: Criteria,
    ledger: Option<Ledger>,
    /// For all answers together.
    budget: Option<Amount>,
    owed: u128,
    said: Vec<ChatMessage>,
    /// The program was told to end, which is more than Ctrl-C.
    ends: Arc<AtomicBool>,
}

impl Talk<'_> {
    fn begin_anew(&mut self) {
        self.said = self.args.order.system.iter().map(|system| message(SYSTEM, system)).collect();
    }

    /// One turn a line. The talk ended as its last turn did; people know how that was.
    async fn until_over(&mut self, signals: &mut Signals) -> Result<Exit, Failed> {
        let typed = io::stdin().is_terminal();
        let mut lines = read_lines()?;
        let mut last = Exit::Done;
        if typed {
            Screen::Err.put(b"A line is a message; /bye or Ctrl-D ends the talk, Ctrl-C an answer.\n")?;
        }
        loop {
            if typed {
                Screen::Err.put(b"\n> ")?;
            }
            let line = select! {
                line = lines.next().fuse() => line.transpose()?,
                () = signals.next().fuse() => return Ok(Exit::Cancelled),
            };
            match line.as_deref().map(Line::read) {
                None | Some(Line::Bye) => break,
                Some(Line::Empty) => {}
                Some(Line::New) => self.begin_anew(),
                Some(Line::Unknown(word)) => writeln!(
                    Screen::Err,
                    "haggle: /{word} is no command, and nothing was sent: /new forgets what was said, /bye ends the talk; \
                     a message that begins with / is written with two: //{word}"
                )?,
                Some(Line::Message(text)) => last = self.turn(text, signals).await?,
            }
            if self.ends.load(Ordering::Relaxed) {
                return Ok(Exit::Cancelled);
            }
        }
        if typed {
            Screen::Err.put(b"\n")?;
            last = Exit::Done;
        }
        Ok(last)
    }

    /// Asks, and tells the answer. What cannot be answered is as if it had not been said.
    async fn turn(&mut self, text: &str, signals: &mut Signals) -> Result<Exit, Failed> {
        let order = &self.args.order;
        self.said.push(message(USER, text));
        self.buyer.prompt_bytes = Some(prompt::bytes(&Prompt::Chat(self.said.clone())));
        let left = self.budget.map(|budget| budget.saturating_sub(Amount::try_from(self.owed).unwrap_or(Amount::MAX)));
        let spec = JobSpec {
            budget: left,
            criteria: self.criteria.clone(),
            deadline: self.args.wanted.deadline,
            ..spec(order, &self.criteria.model, Prompt::Chat(self.said.clone()))
        };
        let mut narrator = Narrator::new(self.global.json, order.raw).with_thoughts(order.thoughts).of_chat().brief();
        narrator.seeks(&self.args.wanted.model);
        let mut job = match self.buyer.node.submit(spec).await {
            Ok(job) => job,
            Err(error) => {
                self.said.pop();
                return self.failed(error).await;
            }
        };
        let mut answer = String::new();
        let followed = follow(&mut job, &mut narrator, signals, |narrator, event| {
            match event {
                JobEvent::Tokens { text, channel: None | Some(Channel::Refusal), .. } => answer.push_str(text),
                JobEvent::TakenOver { how: TakeOver::Restarted, .. } => answer.clear(),
                JobEvent::Weighed(_) if !order.explain => return Ok(()),
                _ => {}
            }
            narrator.event(event)
        })
        .await?;
        let ended = followed.ended.as_ref();
        if let Some(ledger) = &mut self.ledger {
            book(ledger, job.id(), &self.criteria.model, ended)?;
        }
        self.buyer.offers = followed.offers;
        self.add_up(&mut narrator, ended)?;
        match answer.is_empty() {
            true => drop(self.said.pop()),
            // What was cut off was said all the same: the next turn can refer to it.
            false => self.said.push(message(ASSISTANT, &answer)),
        }
        drop(job);
        match followed.outcome()? {
            Ok(_) => Ok(Exit::Done),
            Err(error) if error.failure == Failure::Cancelled => Ok(Exit::Cancelled),
            Err(error) => self.failed(Error::Job(error)).await,
        }
    }

    fn add_up(&mut self, narrator: &mut Narrator, ended: Result<&Receipt, &JobError>) -> io::Result<()> {
        let bill = ended.map_or_else(|error| &*error.bill, |receipt| &receipt.bill);
        self.owed = self.owed.saturating_add(bill.owed);
        if self.global.json {
            return print_json(&json!({
                "event": "chat:turn", "owed_in_all": decimal(self.owed), "budget": self.budget.map(decimal),
            }));
        }
        let of = self.budget.map_or(String::new(), |budget| format!(" of {}", decimal(budget)));
        narrator.line("in all", format!("{}{of} units for this talk", decimal(self.owed)))
    }

    /// Tells why there is no answer: the talk goes on.
    async fn failed(&mut self, error: Error) -> Result<Exit, Failed> {
        let failed = self.buyer.explain(error, &self.args.wanted, Some(&self.args.order)).await;
        failed.tell(self.global.json);
        Ok(failed.exit)
    }
}

fn told_to_end() -> Result<Arc<AtomicBool>, Failed> {
    let ends = Arc::new(AtomicBool::new(false));
    #[cfg(unix)]
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGHUP] {
        let failed = |error: io::Error| Failed::new(Exit::Other, "signals", error.to_string());
        signal_hook::flag::register(signal, ends.clone()).map_err(failed)?;
    }
    Ok(ends)
}

/// The lines of stdin, on a thread of its own: whoever reads there waits for people.
fn read_lines() -> Result<mpsc::Receiver<Result<String, Failed>>, Failed> {
    // A line more than are asked for.
    let (mut sender, lines) = mpsc::channel(0);
    let read = move || {
        for line in io::stdin().lock().lines() {
            let line =
                line.map_err(|error| Failed::usage("stdin", format!("cannot read the messages on stdin: {error}")));
            if futures::executor::block_on(futures::SinkExt::send(&mut sender, line)).is_err() {
                return;
            }
        }
    };
    let failed = |error: io::Error| Failed::new(Exit::Other, "threads", error.to_string());
    thread::Builder::new().name("stdin".into()).spawn(read).map_err(failed)?;
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_in_a_command_is_no_message_and_a_slash_can_be_said() {
        for (line, read) in [
            ("", Line::Empty),
            (" Hello ", Line::Message("Hello")),
            ("/new", Line::New),
            ("/bye", Line::Bye),
            ("/quit", Line::Bye),
            ("/exit ", Line::Bye),
            ("/help", Line::Unknown("help")),
            ("/help me", Line::Unknown("help")),
            ("//help me", Line::Message("/help me")),
            ("/etc/passwd is what?", Line::Message("/etc/passwd is what?")),
            ("/", Line::Message("/")),
        ] {
            assert_eq!(Line::read(line), read, "{line:?}");
        }
    }
}
