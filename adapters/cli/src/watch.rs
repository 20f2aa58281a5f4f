//! What a person who serves sees while it runs, what is written into the books meanwhile, and how it ends.

use std::{
    collections::BTreeSet,
    io::Write,
    path::Path,
    time::{Duration, Instant},
};

use futures::{FutureExt, StreamExt, select};
use futures_timer::Delay;
use haggle::{Events, Load, Node, NodeEvent, config::span, libp2p::PeerId};
use serde_json::{Value, json};

use crate::{
    clock,
    entrance::{Entrance, Standing, dialled},
    exit::Failed,
    ledger::{Books, Entry, Late},
    screen::{Screen, tell_json},
    settings::Running,
    shop::Shop,
    signals::{Signals, Wish},
    tally::{Span, Tally},
    vitals::Vitals,
};

/// Lines that wait for a disk that is full are tried again after this time.
const TRY_AGAIN: Duration = Duration::from_secs(10);

/// Follows a provider until it is told to end. What it tells stops nothing if nobody listens.
pub(crate) struct Watch<'a> {
    json: bool,
    shop: Shop<'a>,
    running: Running,
    books: Option<Books>,
    entrance: Entrance,
    /// Bootstrap nodes that are connected.
    met: BTreeSet<PeerId>,
    /// Since the last line.
    tally: Tally,
    vitals: Vitals,
    since: Instant,
    started: Instant,
    /// Tokens written until the last line.
    tokens: u64,
}

impl<'a> Watch<'a> {
    pub(crate) fn new(json: bool, shop: Shop<'a>, books: Option<Books>, vitals: Vitals) -> Result<Self, Failed> {
        let now = Instant::now();
        let tally = Tally::default();
        let (running, entrance) = (shop.settings().running()?, Entrance::new(&shop.settings().config()?));
        Ok(Watch {
            json,
            shop,
            running,
            books,
            entrance,
            met: BTreeSet::new(),
            tally,
            vitals,
            since: now,
            started: now,
            tokens: 0,
        })
    }

    /// Runs until it is told to end, then drains; told again, or at the end of the time for it, it ends what still runs.
    pub(crate) async fn until_ended(mut self, node: &Node, signals: &mut Signals) -> Result<(), Failed> {
        let mut events = node.events();
        // Who was faster than that is told all the same, and once.
        for peer in node.connected_peers() {
            self.take(&NodeEvent::PeerConnected { peer })?;
        }
        let watched = self.serve(node, &mut events, signals).await;
        let drained = match watched {
            Ok(()) => self.drain(node, &mut events, signals).await,
            failed => failed,
        };
        let standing = self.entrance.standing(&node.connected_peers());
        node.stop().await;
        // What ended with the node is in its last events.
        let mut booked = Ok(());
        while let Some(event) = events.next().await {
            booked = booked.and(self.take(&event));
        }
        let closed = self.close_books();
        self.say_all(node, standing);
        drained.and(booked).and(closed)
    }

    async fn serve(&mut self, node: &Node, events: &mut Events, signals: &mut Signals) -> Result<(), Failed> {
        let (mut due, mut again) = (Delay::new(self.period()).fuse(), Delay::new(TRY_AGAIN).fuse());
        loop {
            select! {
                wish = signals.wish().fuse() => match wish {
                    Wish::End => return Ok(()),
                    Wish::Reload => {
                        self.reload(node).await;
                        due = Delay::new(self.period()).fuse();
                    }
                },
                event = events.next().fuse() => match event {
                    Some(event) => self.take(&event)?,
                    None => return Err(haggle::Error::Stopped.into()),
                },
                () = due => {
                    due = Delay::new(self.period()).fuse();
                    self.say(node);
                }
                () = again => {
                    again = Delay::new(TRY_AGAIN).fuse();
                    self.write_late()?;
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
        self.vitals.drains();
        let mut left = node.load().jobs;
        let for_them = if left == 0 { String::new() } else { format!(", for {} s at most", patience.as_secs()) };
        self.say_left(left, &format!("taking no new jobs; {left} still run{for_them} (again to end at once)"));
        let mut draining = std::pin::pin!(node.drain(patience).fuse());
        let mut due = Delay::new(self.period()).fuse();
        loop {
            select! {
                drained = draining => break drained?,
                () = signals.next().fuse() => break,
                () = due => {
                    due = Delay::new(self.period()).fuse();
                    self.say(node);
                }
                event = events.next().fuse() => if let Some(event) = event {
                    self.take(&event)?;
                    let now = node.load().jobs;
                    if matches!(event, NodeEvent::Served { .. }) && now != left {
                        left = now;
                        self.say_left(left, &format!("{left} jobs left"));
                    }
                }
            }
        }
        Ok(())
    }

    /// Opens the ledger anew, and does what the settings say now. Whatever cannot be done leaves everything as it was.
    async fn reload(&mut self, node: &Node) {
        let ledger = self.books.as_ref().map(|books| books.path().to_owned());
        if let Some(path) = ledger {
            self.reopen(&path);
        }
        match self.shop.reload(node).await {
            Ok(change) => {
                self.vitals.sells(self.shop.described());
                if let Ok(running) = self.shop.settings().running() {
                    self.running = running;
                }
                self.tell("reloaded", &format!("the settings were read again; {change}"), change.to_json());
            }
            Err(failed) => {
                let text = format!("the settings stay as they were: {}", failed.message);
                self.tell("reload_failed", &text, failed.to_json()["error"].clone());
            }
        }
    }

    fn reopen(&mut self, path: &Path) {
        let Some(books) = &mut self.books else { return };
        match books.reopen(path) {
            Ok(None) => {}
            Ok(Some(torn)) => drop(writeln!(Screen::Err, "haggle: {}: {torn}; it is cut off", path.display())),
            Err(error) => drop(writeln!(Screen::Err, "haggle: {error}; the one before is kept")),
        }
    }

    /// Counts an event, writes it into the books, and tells of it if it is news.
    fn take(&mut self, event: &NodeEvent) -> Result<(), Failed> {
        self.tally.count(event);
        self.vitals.heard(event);
        if let Some(books) = &mut self.books {
            if let NodeEvent::Missed(n) = event {
                let _ = writeln!(Screen::Err, "haggle: {n} events were missed; the ledger may lack as many lines");
            }
            if let Some(entry) = Entry::sold(event) {
                let late = books.add(Instant::now(), entry)?;
                self.tell_late(late);
            }
        }
        let news = match event {
            NodeEvent::Dialled { from } => dialled(*from).to_owned(),
            NodeEvent::Observed { ip } => format!("others see this machine at {ip}"),
            NodeEvent::PeerConnected { peer } if self.entrance.leads_through(peer) && self.met.insert(*peer) => {
                format!("in the network by bootstrap node {peer}")
            }
            NodeEvent::PeerDisconnected { peer } if self.met.remove(peer) => {
                format!("the connection to bootstrap node {peer} is lost; it is dialled again")
            }
            // People have it from the log.
            NodeEvent::Failed { code, detail } if self.json => {
                tell_json(&json!({"event": event.name(), "code": code, "text": detail}));
                return Ok(());
            }
            _ => return Ok(()),
        };
        if self.json {
            tell_json(&json!({"event": event.name(), "text": news}));
        } else {
            let _ = writeln!(Screen::Err, "{news}");
        }
        Ok(())
    }

    fn write_late(&mut self) -> Result<(), Failed> {
        let late = self.books.as_mut().map_or(Ok(None), |books| books.write(Instant::now()))?;
        self.tell_late(late);
        Ok(())
    }

    fn tell_late(&self, late: Option<Late>) {
        if let Some(late) = late {
            self.tell(late.error.code(), &late.to_string(), json!({"lines": late.lines}));
        }
    }

    /// What cannot be written into the ledger is written where it can be.
    fn close_books(&mut self) -> Result<(), Failed> {
        let Some(books) = &mut self.books else { return Ok(()) };
        let written = books.write(Instant::now());
        for entry in books.late() {
            let line = serde_json::to_string(entry).unwrap_or_default();
            let _ = writeln!(Screen::Err, "haggle: not in the ledger: {line}");
        }
        if let Some(late) = written? {
            return Err(late.error.into());
        }
        match books.late().len() {
            0 => Ok(books.sync()?),
            lines => {
                let text = format!("{lines} lines could not be written into the ledger; they are above");
                Err(Failed::new(crate::exit::Exit::Other, "ledger", text))
            }
        }
    }

    /// The line of a period.
    fn say(&mut self, node: &Node) {
        self.say_with(node, self.entrance.standing(&node.connected_peers()));
    }

    fn say_with(&mut self, node: &Node, standing: Standing) {
        let Load { jobs, tokens } = node.load();
        let span = Span { millis: millis(self.since.elapsed()), tokens: tokens.saturating_sub(self.tokens) };
        (self.since, self.tokens) = (Instant::now(), tokens);
        let tally = std::mem::take(&mut self.tally);
        let time = clock::utc(clock::now());
        if self.json {
            let mut line = tally.to_json(span, self.vitals.all().owed(), jobs);
            line["time"] = time.into();
            line["peers"] = standing.peers.into();
            line["bootstrap"] = standing.to_json();
            tell_json(&line);
        } else {
            let line = tally.line(span, self.vitals.all().owed(), jobs);
            let _ = writeln!(Screen::Err, "{time} {line}, {standing}");
        }
    }

    /// The line of everything, at the end: with those who were connected before it.
    fn say_all(&mut self, node: &Node, standing: Standing) {
        if self.running.status_every.is_zero() {
            return;
        }
        (self.since, self.tokens) = (self.started, 0);
        self.tally = self.vitals.all();
        self.say_with(node, standing);
    }

    fn say_left(&self, left: usize, text: &str) {
        if self.json {
            tell_json(&json!({"event": "draining", "left": left}));
        }
        let _ = writeln!(Screen::Err, "haggle: {text}");
    }

    /// Tells of something that the operator has done, or has to see to.
    fn tell(&self, event: &str, text: &str, detail: Value) {
        if self.json {
            tell_json(&json!({"event": event, "text": text, "detail": detail}));
        }
        let _ = writeln!(Screen::Err, "haggle: {text}");
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
