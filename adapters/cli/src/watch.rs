//! What a person who serves sees while it runs, what is written into the books meanwhile, and how it ends.

use std::{
    io::{self, Write},
    time::{Duration, Instant},
};

use futures::{FutureExt, StreamExt, select};
use futures_timer::Delay;
use haggle::{Events, Load, Node, NodeEvent, Scope, config::span};
use serde_json::json;

use crate::{
    exit::Failed,
    ledger::{Entry, Ledger},
    node::Signals,
    screen::{Screen, print_json},
    settings::Running,
    tally::{Span, Tally},
};

/// Follows a provider until it is told to end.
pub(crate) struct Watch {
    json: bool,
    running: Running,
    ledger: Option<Ledger>,
    /// Since the last line.
    tally: Tally,
    /// Since the start.
    all: Tally,
    since: Instant,
    started: Instant,
    /// Tokens written until the last line.
    tokens: u64,
}

impl Watch {
    pub(crate) fn new(json: bool, running: Running, ledger: Option<Ledger>) -> Self {
        let now = Instant::now();
        let (tally, all) = (Tally::default(), Tally::default());
        Watch { json, running, ledger, tally, all, since: now, started: now, tokens: 0 }
    }

    /// Runs until the first signal, then drains; a second signal, or the end of the time for it, ends what still runs.
    pub(crate) async fn until_ended(mut self, node: &Node, signals: &mut Signals) -> Result<(), Failed> {
        let mut events = node.events();
        let watched = self.serve(node, &mut events, signals).await;
        let drained = match watched {
            Ok(()) => self.drain(node, &mut events, signals).await,
            failed => failed,
        };
        node.stop().await;
        // What ended with the node is in its last events.
        let mut booked = Ok(());
        while let Some(event) = events.next().await {
            booked = booked.and(self.take(&event));
        }
        let synced = self.ledger.as_ref().map_or(Ok(()), Ledger::sync);
        self.say_all(node)?;
        drained.and(booked).and(synced.map_err(Failed::from))
    }

    async fn serve(&mut self, node: &Node, events: &mut Events, signals: &mut Signals) -> Result<(), Failed> {
        let every = self.running.status_every;
        let mut due = Delay::new(self.period()).fuse();
        loop {
            select! {
                () = signals.next().fuse() => return Ok(()),
                event = events.next().fuse() => match event {
                    Some(event) => self.take(&event)?,
                    None => return Err(haggle::Error::Stopped.into()),
                },
                () = due => {
                    due = Delay::new(self.period()).fuse();
                    if !every.is_zero() {
                        self.say(node)?;
                    }
                }
            }
        }
    }

    /// From one line to the next; for somebody who wants none, long.
    fn period(&self) -> Duration {
        if self.running.status_every.is_zero() { span::MAX } else { self.running.status_every }
    }

    async fn drain(&mut self, node: &Node, events: &mut Events, signals: &mut Signals) -> Result<(), Failed> {
        let patience = self.running.drain;
        let mut left = node.load().jobs;
        let for_them = if left == 0 { String::new() } else { format!(", for {} s at most", patience.as_secs()) };
        self.say_left(left, &format!("taking no new jobs; {left} still run{for_them} (again to end at once)"))?;
        let mut draining = std::pin::pin!(node.drain(patience).fuse());
        loop {
            select! {
                drained = draining => break drained?,
                () = signals.next().fuse() => break,
                event = events.next().fuse() => if let Some(event) = event {
                    self.take(&event)?;
                    let now = node.load().jobs;
                    if matches!(event, NodeEvent::Served { .. }) && now != left {
                        left = now;
                        self.say_left(left, &format!("{left} jobs left"))?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Counts an event, writes it into the books, and tells of it if it is news.
    fn take(&mut self, event: &NodeEvent) -> Result<(), Failed> {
        self.tally.count(event);
        self.all.count(event);
        if let Some(ledger) = &mut self.ledger {
            match event {
                NodeEvent::Missed(n) => {
                    writeln!(Screen::Err, "haggle: {n} events were missed; the ledger may lack as many lines")?;
                }
                event => Entry::sold(event).map_or(Ok(()), |entry| ledger.add(&entry))?,
            }
        }
        let news = match event {
            NodeEvent::Dialled { from } => dialled(*from).to_owned(),
            NodeEvent::Observed { ip } => format!("others see this machine at {ip}"),
            _ => return Ok(()),
        };
        if self.json {
            return Ok(print_json(&json!({"event": event.name(), "text": news}))?);
        }
        Ok(writeln!(Screen::Err, "{news}")?)
    }

    /// The line of a period.
    fn say(&mut self, node: &Node) -> io::Result<()> {
        let Load { jobs, tokens } = node.load();
        let span = Span { millis: millis(self.since.elapsed()), tokens: tokens.saturating_sub(self.tokens) };
        (self.since, self.tokens) = (Instant::now(), tokens);
        let tally = std::mem::take(&mut self.tally);
        if self.json {
            return print_json(&tally.to_json(span, self.all.owed(), jobs));
        }
        writeln!(Screen::Err, "{}", tally.line(span, self.all.owed(), jobs))
    }

    /// The line of everything, at the end.
    fn say_all(&mut self, node: &Node) -> io::Result<()> {
        if self.running.status_every.is_zero() {
            return Ok(());
        }
        (self.since, self.tokens) = (self.started, 0);
        self.tally = self.all.clone();
        self.say(node)
    }

    fn say_left(&self, left: usize, text: &str) -> io::Result<()> {
        if self.json {
            print_json(&json!({"event": "draining", "left": left}))?;
        }
        writeln!(Screen::Err, "haggle: {text}")
    }
}

/// What being dialled from there shows.
pub(crate) fn dialled(from: Scope) -> &'static str {
    match from {
        Scope::Loopback => "reached from this machine; from further away is not known yet",
        Scope::Private => "reached from the local network; from the internet is not known yet",
        Scope::Global => "reached from the internet",
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
