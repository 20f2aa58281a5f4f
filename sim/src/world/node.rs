//! A node as it runs: its machines, its engine's attempts, its clock and its disk.

use std::{collections::BTreeMap, fmt};

use haggle_core::{
    AttemptId, Event, Input, Instant, Machine, Model, Output, PeerId, Provider, ProviderEvent, QueryId, Requester,
    StreamId, event::Work, machine::Timeout, wire::message::EndReason,
};

use crate::{
    clock::NodeClock,
    engine::{Answer, EngineScript, Trouble, prompt_tokens},
    net::{Buffers, Role},
    node::{ProviderConfig, RequesterConfig},
    script::Script,
    writer::{Words, Writer, Writing},
};

#[derive(Clone)]
pub(super) struct Node {
    pub(super) alive: bool,
    pub(super) clock: NodeClock,
    /// It stands still until then.
    pub(super) asleep_until: u64,
    /// How many times as long its engine takes.
    pub(super) slow: u64,
    /// What it has stored, if it does store its state.
    pub(super) disk: Option<Box<Disk>>,
    /// Its process crashed, and will be back.
    pub(super) crashed: bool,
    /// How often it was restarted: what belongs to an earlier life is ignored.
    pub(super) life: u32,
    pub(super) requester: Option<Box<Side<Requester>>>,
    pub(super) provider: Option<Box<Side<Provider>>>,
    pub(super) script: Option<Box<dyn Script>>,
    /// Its script reads no messages.
    pub(super) reads_bytes: bool,
    pub(super) requester_config: Option<Box<RequesterConfig>>,
    pub(super) provider_config: Option<Box<ProviderConfig>>,
    /// Its engine, if it is not the scripted one.
    pub(super) writer: Option<Box<dyn Writer>>,
    /// Peers that its application told it of.
    pub(super) contacts: Vec<PeerId>,
    pub(super) runs: BTreeMap<AttemptId, Run>,
    /// Streams with an end here, the oldest first.
    pub(super) conns: Vec<u64>,
}

impl Node {
    pub(super) fn new(requester: Option<RequesterConfig>, provider: Option<ProviderConfig>) -> Self {
        Self {
            alive: true,
            clock: NodeClock::default(),
            asleep_until: 0,
            slow: 1,
            disk: None,
            crashed: false,
            life: 0,
            requester: None,
            provider: None,
            script: None,
            reads_bytes: false,
            requester_config: requester.map(Box::new),
            provider_config: provider.map(Box::new),
            writer: None,
            contacts: Vec::new(),
            runs: BTreeMap::new(),
            conns: Vec::new(),
        }
    }

    /// The machine that plays a part, with all that belongs to it; `None` for a script, and for a part that nobody plays.
    pub(super) fn side(&self, role: Role) -> Option<&Side<dyn AnyMachine>> {
        match role {
            Role::Requester => self.requester.as_deref().map(|side| -> &Side<dyn AnyMachine> { side }),
            Role::Provider => self.provider.as_deref().map(|side| -> &Side<dyn AnyMachine> { side }),
            Role::Script => None,
        }
    }

    /// The same, to be changed.
    pub(super) fn side_mut(&mut self, role: Role) -> Option<&mut Side<dyn AnyMachine>> {
        match role {
            Role::Requester => self.requester.as_deref_mut().map(|side| -> &mut Side<dyn AnyMachine> { side }),
            Role::Provider => self.provider.as_deref_mut().map(|side| -> &mut Side<dyn AnyMachine> { side }),
            Role::Script => None,
        }
    }

    /// The stream that one of its machines, or its script, calls so.
    pub(super) fn conn_of(&self, role: Role, id: StreamId) -> Option<u64> {
        if role == Role::Script {
            return Some(id.0);
        }
        self.side(role)?.streams.get(&id).copied()
    }

    pub(super) fn bind(&mut self, role: Role, id: StreamId, conn: u64) {
        if let Some(side) = self.side_mut(role) {
            side.streams.insert(id, conn);
        }
    }

    pub(super) fn unbind(&mut self, role: Role, id: StreamId) {
        if let Some(side) = self.side_mut(role) {
            side.streams.remove(&id);
        }
    }

    pub(super) const fn lives(&self, life: u32) -> bool {
        self.alive && self.life == life
    }

    /// A moment of its own clock.
    pub(super) fn shows(&self, now: u64) -> Instant {
        Instant::from_millis(self.clock.shows(now))
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("alive", &self.alive).field("life", &self.life).finish_non_exhaustive()
    }
}

/// A machine with its streams and its timer.
#[derive(Clone)]
pub(super) struct Side<M: ?Sized> {
    pub(super) streams: BTreeMap<StreamId, u64>,
    /// When its one live timer goes off, and which of those in the queue it is.
    pub(super) timer: Option<u64>,
    pub(super) generation: u64,
    /// A late drain is in the queue.
    pub(super) drain_due: bool,
    pub(super) machine: M,
}

impl<M> Side<M> {
    pub(super) const fn new(machine: M) -> Self {
        Self { streams: BTreeMap::new(), timer: None, generation: 0, drain_due: false, machine }
    }
}

/// A requester or a provider: what is done alike to both, whatever they tell.
pub(super) trait AnyMachine {
    /// Tells it a fact; says whether a copy of it, told the same if there is to be one, says and becomes the same.
    fn tell(&mut self, now: Instant, input: Input<'_>, doubles: bool) -> bool;
    /// What it says next.
    fn says(&mut self, spare: &mut Buffers) -> Option<Said<'_>>;
    /// Its next deadline.
    fn due(&self) -> Option<Timeout>;
    fn state(&self, now: Instant) -> [u8; 32];
    /// Shows each of its tables with its limit.
    fn each_table(&self, node: &Node, show: &mut dyn FnMut(&str, u64, u64));
}

/// Something that a machine says.
pub(super) enum Said<'a> {
    Order(Order),
    Event(Event<'a>),
    Served(ProviderEvent),
}

/// An output without its borrow.
pub(super) enum Order {
    Open(StreamId, PeerId),
    Transmit(StreamId, Vec<u8>),
    Close(StreamId),
    Reset(StreamId),
    StartQuery(QueryId, Model),
    CancelQuery(QueryId),
}

impl AnyMachine for Requester {
    fn tell(&mut self, now: Instant, input: Input<'_>, doubles: bool) -> bool {
        tell(self, now, input, doubles, |machine| machine.digest(now))
    }

    fn says(&mut self, spare: &mut Buffers) -> Option<Said<'_>> {
        Some(own(self.poll_output()?, spare).map_or_else(Said::Event, Said::Order))
    }

    fn due(&self) -> Option<Timeout> {
        self.poll_timeout()
    }

    fn state(&self, now: Instant) -> [u8; 32] {
        self.digest(now)
    }

    fn each_table(&self, node: &Node, show: &mut dyn FnMut(&str, u64, u64)) {
        if let Some(config) = &node.requester_config {
            show("jobs", self.open_jobs() as u64, u64::from(config.limits.jobs));
        }
    }
}

impl AnyMachine for Provider {
    fn tell(&mut self, now: Instant, input: Input<'_>, doubles: bool) -> bool {
        tell(self, now, input, doubles, |machine| machine.digest(now))
    }

    fn says(&mut self, spare: &mut Buffers) -> Option<Said<'_>> {
        Some(own(self.poll_output()?, spare).map_or_else(Said::Served, Said::Order))
    }

    fn due(&self) -> Option<Timeout> {
        self.poll_timeout()
    }

    fn state(&self, now: Instant) -> [u8; 32] {
        self.digest(now)
    }

    fn each_table(&self, node: &Node, show: &mut dyn FnMut(&str, u64, u64)) {
        let Some(config) = &node.provider_config else { return };
        let limits = &config.limits;
        show("jobs", self.open_jobs() as u64, u64::from(limits.jobs));
        show("streams", self.open_streams() as u64, u64::from(limits.streams));
        show("offers", self.open_offers() as u64, u64::from(limits.offers));
        show("bytes", self.held_bytes(), limits.node_bytes);
        show("slots", u64::from(self.taken_slots()), u64::from(config.service.slots));
        show("jobs in the queue", u64::from(self.advert().queued), u64::from(config.service.queue));
    }
}

fn tell<M: Machine + Clone>(
    machine: &mut M,
    now: Instant,
    input: Input<'_>,
    doubles: bool,
    digest: impl Fn(&M) -> [u8; 32],
) -> bool
where
    for<'a> M::Event<'a>: fmt::Debug,
{
    let double = doubles.then(|| machine.clone());
    machine.handle_input(now, input);
    let Some(mut double) = double else { return true };
    double.handle_input(now, input);
    let said = |mut machine: M| {
        let mut said = Vec::new();
        while let Some(output) = machine.poll_output() {
            said.push(format!("{output:?}"));
        }
        said
    };
    digest(machine) == digest(&double)
        && machine.poll_timeout() == double.poll_timeout()
        && said(machine.clone()) == said(double)
}

/// An order without its borrow, or else the event.
fn own<E>(output: Output<'_, E>, spare: &mut Buffers) -> Result<Order, E> {
    Ok(match output {
        Output::Open { stream, peer } => Order::Open(stream, peer),
        Output::Transmit { stream, bytes } => Order::Transmit(stream, spare.copy(bytes)),
        Output::Close(stream) => Order::Close(stream),
        Output::Reset(stream) => Order::Reset(stream),
        Output::StartQuery { query, model } => Order::StartQuery(query, model.clone()),
        Output::CancelQuery(query) => Order::CancelQuery(query),
        Output::Event(event) => return Err(event),
    })
}

/// What a node had on its disk at a time.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Checkpoint {
    /// When, in ms of its own clock.
    pub at: u64,
    /// Its requester's snapshot, if it buys.
    pub requester: Option<Vec<u8>>,
    /// Its provider's snapshot, if it sells.
    pub provider: Option<Vec<u8>>,
}

/// Where a node stores its state.
#[derive(Clone, Default)]
pub(super) struct Disk {
    pub(super) stored: Checkpoint,
    /// How often it was asked whether to store what need not be stored at once.
    pub(super) asked: u64,
}

/// An attempt in a scripted engine.
#[derive(Clone, Debug)]
pub(super) struct Run {
    pub(super) answer: Answer,
    pub(super) prompt_tokens: u64,
    pub(super) end: u64,
    pub(super) reason: EndReason,
    pub(super) next: u64,
    pub(super) started: bool,
    /// Its model is being loaded.
    pub(super) loads: bool,
    /// Tokens in a piece, at most: less than the script's where the requester's window is narrow.
    pub(super) limit: u32,
    /// The window is full: `Room` will say when it is not.
    pub(super) blocked: bool,
    pub(super) trouble: Option<(u64, Trouble)>,
    /// Where an engine of one's own writes it: the attempt, and what did not fit the window yet.
    pub(super) own: Option<(Box<dyn Writing>, Option<Words>)>,
}

impl Run {
    pub(super) fn new(work: &Work, engine: &EngineScript) -> Self {
        let end = engine.length.max(1).min(work.prefix_tokens + work.max_tokens);
        let answer = Answer::new(work.model.as_bytes(), engine.class, &work.prompt, work.sampling.seed);
        Self {
            answer,
            prompt_tokens: prompt_tokens(&work.prompt),
            end,
            reason: if engine.length.max(1) > end { EndReason::Length } else { answer.end() },
            next: work.prefix_tokens,
            started: false,
            loads: engine.load > 0,
            limit: engine.piece.clamp(1, 1000).min(work.window_tokens.max(1)),
            blocked: false,
            trouble: engine.trouble,
            own: None,
        }
    }

    /// What comes next, troubles that are due included.
    pub(super) fn next_step(&mut self) -> Step {
        let mut n = u64::from(self.limit).min(self.end.saturating_sub(self.next));
        match self.trouble {
            Some((at, Trouble::Panic)) if self.next + n > at => return Step::End(EndReason::Engine),
            Some((at, Trouble::Fail(reason))) if self.next >= at => return Step::End(reason),
            Some((at, Trouble::Hang)) if self.next >= at => return Step::Hang,
            Some((at, Trouble::Misspell)) if self.next >= at => {
                self.answer = self.answer.misspelt();
                self.trouble = None;
            }
            Some((at, Trouble::Pause(ms))) if self.next >= at => {
                self.trouble = None;
                return Step::Pause(ms.max(1));
            }
            Some((at, Trouble::Fail(_) | Trouble::Hang | Trouble::Pause(_))) => n = n.min(at - self.next),
            _ => {}
        }
        // Where it goes on where another broke off, it may have nothing to add.
        if n == 0 { Step::End(self.reason) } else { Step::Write(self.answer.piece(self.next, n)) }
    }

    /// The text and the ids of the next tokens.
    pub(super) fn write(&self, n: u64) -> (String, Vec<u8>) {
        let tokens = self.next..self.next + n;
        let text = tokens.clone().map(|index| self.answer.token(index)).collect();
        (text, tokens.flat_map(|index| self.answer.id(index).to_le_bytes()).collect())
    }
}

/// What a scripted engine does next.
pub(super) enum Step {
    Write(u64),
    End(EndReason),
    Hang,
    /// For so many ms.
    Pause(u64),
}
