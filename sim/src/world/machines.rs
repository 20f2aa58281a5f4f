//! Inputs for the machines, and what becomes of their outputs.

use std::fmt;

use haggle_core::{
    Event, Input, Instant, JobId, Machine, Model, Output, PeerId, ProviderEvent, QueryId, StreamId, event::TakeOver,
    machine::QueryOutcome,
};

use super::{
    Drain, Happening, INSTANT_END, Lane, Told, World, kind,
    recovery::{Urgency, told_again, urgency},
};
use crate::{
    dice::{Purpose, Stream, rand},
    job::keep,
    net::{Buffers, Lookup, Role},
    node::{Pace, peer_id},
    oracle::Rule,
    script::Heard,
};

/// An output without its borrow.
enum Order {
    Open(StreamId, PeerId),
    Transmit(StreamId, Vec<u8>),
    Close(StreamId),
    Reset(StreamId),
    StartQuery(QueryId, Model),
    CancelQuery(QueryId),
}

/// Every so many inputs, the state of the machine that took the last of them goes into the trace.
const LOOK_EVERY: u64 = 256;

/// Every so many inputs, the tables of the machine that took the last of them are compared with their limits.
const BOUNDS_EVERY: u64 = 8;

/// Kinds of trace records; inputs have theirs from [`input_kind`].
mod record {
    pub(super) const TRANSMIT: u8 = 32;
    pub(super) const EVENT: u8 = 33;
    pub(super) const ORDER: u8 = 34;
    pub(super) const STATE: u8 = 36;
}

impl World {
    pub(super) fn happen(&mut self, lane: Lane, happening: Happening) {
        match happening {
            Happening::Timer { node, role, .. } => self.input_timeout(node, role),
            Happening::Drain { node, role } => self.late_drain(node, role),
            Happening::Dial { conn } => self.dial_arrives(lane, conn),
            Happening::Dialled { conn, result } => self.dialled(conn, result),
            Happening::Pump { conn, from } => self.pump(lane, conn, from),
            Happening::Severed { conn, end } => self.end_closes(conn, end, true),
            Happening::Echo { node, life, role, id } => {
                if self.lives(node, life) {
                    self.input(node, role, Input::StreamClosed(id));
                }
            }
            Happening::Found { node, life, query, peers } => {
                if self.lives(node, life) && self.dht.live.contains(&(node, query)) {
                    self.input(node, Role::Requester, Input::PeersFound(query, &peers));
                }
            }
            Happening::QueryDone { node, life, query, outcome } => {
                if self.lives(node, life) && self.dht.live.remove(&(node, query)) {
                    self.input(node, Role::Requester, Input::QueryDone(query, outcome));
                }
            }
            Happening::Engine { node, life, attempt } => {
                if self.lives(node, life) {
                    self.engine_step(node, attempt);
                }
            }
            Happening::App { job } => self.app_step(job),
            Happening::Wake { node, life, conn } => {
                if self.lives(node, life) {
                    self.hear(node, conn, Heard::Woken);
                }
            }
            Happening::Start { node, life } => {
                if self.lives(node, life) {
                    self.hear(node, 0, Heard::Start);
                }
            }
            Happening::Return { node, life } => self.come_back(node, life),
            Happening::Fault(fault) => self.fault(fault),
            Happening::Submit { nth, node, spec } => {
                // A refusal is an answer; the number stays without a job.
                if self.nodes[node as usize].alive {
                    let _refusal = self.submit_nth(nth, node, *spec);
                }
            }
        }
    }

    fn lives(&self, node: u32, life: u32) -> bool {
        let node = &self.nodes[node as usize];
        node.alive && node.life == life
    }

    /// Hands a fact to a machine and carries out what follows.
    pub(super) fn input(&mut self, node: u32, role: Role, input: Input<'_>) {
        let place = &mut self.nodes[node as usize];
        if !place.alive {
            return;
        }
        if !matches!(input, Input::Received(..)) {
            // What arrives was recorded with its sender.
            self.trace.record(self.now, node, node, input_kind(&input) | ((role as u8) << 4), &[]);
        }
        self.judge.reach_input(role == Role::Provider, input_kind(&input));
        if let Some(log) = &mut self.log {
            log.input(self.now, node, role, &input);
        }
        let now = place.clock.read(self.now);
        let alike =
            match role {
                Role::Requester => place.requester.as_mut().is_none_or(|side| {
                    tell(&mut side.machine, now, input, self.doubles, |machine| machine.digest(now))
                }),
                Role::Provider => place.provider.as_mut().is_none_or(|side| {
                    tell(&mut side.machine, now, input, self.doubles, |machine| machine.digest(now))
                }),
                Role::Script => return,
            };
        self.judge_double(node, role, alike);
        self.after(node, role);
    }

    fn judge_double(&mut self, node: u32, role: Role, alike: bool) {
        if !alike {
            let what = format_args!("{role:?} {node}: the same fact, told to a copy, led elsewhere");
            self.judge.fail(Rule::Determinism, what);
        }
    }

    /// What follows every call of a machine: its outputs, and its next deadline.
    pub(super) fn after(&mut self, node: u32, role: Role) {
        self.inputs += 1;
        if self.inputs.is_multiple_of(BOUNDS_EVERY) {
            self.check_bounds(node, role);
        }
        if self.inputs.is_multiple_of(LOOK_EVERY) {
            self.record_state(node, role);
        }
        match self.drain {
            Drain::AtOnce => {
                self.drain_some(node, role, u32::MAX);
            }
            Drain::Late => self.drain_later(node, role),
            Drain::Batches(size) => {
                self.drain_some(node, role, size);
                self.drain_later(node, role);
            }
        }
        self.arm(node, role);
    }

    /// Takes the state of a machine into the trace: what it did not say yet counts too.
    fn record_state(&mut self, node: u32, role: Role) {
        let place = &self.nodes[node as usize];
        let now = Instant::from_millis(place.clock.shows(self.now));
        let digest = match role {
            Role::Requester => place.requester.as_ref().map(|side| side.machine.digest(now)),
            Role::Provider => place.provider.as_ref().map(|side| side.machine.digest(now)),
            Role::Script => None,
        };
        if let Some(digest) = digest {
            self.trace.record(self.now, node, node, record::STATE, &digest);
        }
    }

    fn drain_later(&mut self, node: u32, role: Role) {
        let place = &mut self.nodes[node as usize];
        let due = match role {
            Role::Requester => place.requester.as_mut().map(|side| &mut side.drain_due),
            Role::Provider => place.provider.as_mut().map(|side| &mut side.drain_due),
            Role::Script => None,
        };
        if let Some(due) = due.filter(|due| !**due) {
            *due = true;
            self.push(self.now, INSTANT_END, role as u8, node, Happening::Drain { node, role });
        }
    }

    fn late_drain(&mut self, node: u32, role: Role) {
        let place = &mut self.nodes[node as usize];
        match role {
            Role::Requester => place.requester.as_mut().map(|side| side.drain_due = false),
            Role::Provider => place.provider.as_mut().map(|side| side.drain_due = false),
            Role::Script => None,
        };
        let size = if let Drain::Batches(size) = self.drain { size.max(1) } else { u32::MAX };
        if self.drain_some(node, role, size) == size {
            self.drain_later(node, role);
        }
        self.arm(node, role);
    }

    /// Carries out at most `max` outputs; says how many there were.
    fn drain_some(&mut self, node: u32, role: Role, max: u32) -> u32 {
        let mut done = 0;
        while done < max {
            let more = match role {
                Role::Requester => self.drain_requester(node),
                Role::Provider => self.drain_provider(node),
                Role::Script => false,
            };
            if !more {
                break;
            }
            done += 1;
        }
        done
    }

    fn drain_requester(&mut self, node: u32) -> bool {
        let place = &mut self.nodes[node as usize];
        let stores = self.stores || place.disk.is_some();
        let Some(side) = &mut place.requester else { return false };
        let order = match side.machine.poll_output() {
            None => return false,
            Some(Output::Event(event)) => {
                self.trace.record(self.now, node, node, record::EVENT, event.name().as_bytes());
                if let Some(log) = &mut self.log {
                    log.event(self.now, node, &event);
                }
                if let (Some(queue), Some(told)) = (&mut self.told, Told::event(&event)) {
                    queue.push_back((crate::NodeId(node), told));
                }
                let urgency = if stores { urgency(&event) } else { Urgency::None };
                // An application that has stored how a job ended takes no notice when it is told again.
                let due = if told_again(&mut self.judge, &self.jobs, &event) {
                    None
                } else {
                    self.judge.event(node, &event);
                    note(&mut self.jobs, stores, self.now, &event)
                };
                let ended = if let Event::Ended { job, .. } = event { Some((job, self.now + 1)) } else { None };
                for (job, at) in due.into_iter().chain(ended.filter(|_| stores)) {
                    self.push(at, INSTANT_END, kind::APP, node, Happening::App { job });
                }
                self.store_if(node, urgency);
                return true;
            }
            Some(output) => own(output, &mut self.spare),
        };
        self.obey(node, Role::Requester, order);
        true
    }

    fn drain_provider(&mut self, node: u32) -> bool {
        let Some(side) = &mut self.nodes[node as usize].provider else { return false };
        let order = match side.machine.poll_output() {
            None => return false,
            Some(Output::Event(event)) => {
                self.trace.record(self.now, node, node, record::EVENT, &[]);
                if let Some(log) = &mut self.log {
                    log.provider_event(self.now, node, &event);
                }
                if let (Some(queue), Some(told)) = (&mut self.told, Told::served(&event)) {
                    queue.push_back((crate::NodeId(node), told));
                }
                let is_urgent = matches!(event, ProviderEvent::Start { .. } | ProviderEvent::Served { .. });
                self.provider_event(node, event);
                if is_urgent {
                    self.store(node);
                }
                return true;
            }
            Some(output) => own(output, &mut self.spare),
        };
        self.obey(node, Role::Provider, order);
        true
    }

    fn obey(&mut self, node: u32, role: Role, order: Option<Order>) {
        let Some(order) = order else { return };
        match order {
            Order::Open(stream, peer) => self.open(node, role, stream, peer),
            Order::Transmit(stream, bytes) => {
                self.trace.record(self.now, node, node, record::TRANSMIT, &bytes);
                self.frames += frames(&bytes);
                self.transmit(node, role, stream, bytes);
            }
            Order::Close(stream) => {
                self.trace.record(self.now, node, node, record::ORDER, &[1]);
                self.close(node, role, stream, false);
            }
            Order::Reset(stream) => {
                self.trace.record(self.now, node, node, record::ORDER, &[2]);
                self.judge_reset(node, role, stream);
                self.close(node, role, stream, true);
            }
            Order::StartQuery(query, model) => self.start_query(node, query, &model),
            Order::CancelQuery(query) => {
                self.trace.record(self.now, node, node, record::ORDER, &[3]);
                self.dht.live.remove(&(node, query));
            }
        }
    }

    fn judge_reset(&mut self, node: u32, role: Role, stream: StreamId) {
        let Some(conn) = self.conn_of(node, role, stream).filter(|_| role == Role::Provider) else { return };
        let other = self.conns.get(conn).map(|record| record.ends[0].role);
        self.judge.provider_resets(conn, peer_id(node), other == Some(Role::Requester));
    }

    fn start_query(&mut self, node: u32, query: QueryId, model: &Model) {
        self.trace.record(self.now, node, node, record::ORDER, model.as_bytes());
        self.dht.queries += 1;
        self.dht.live.insert((node, query));
        let life = self.nodes[node as usize].life;
        let mut known = self.dht.records.get(model.as_bytes()).map(|record| record.peers.clone()).unwrap_or_default();
        let contacts = self.nodes[node as usize].contacts.iter().filter(|peer| !known.contains(peer)).copied();
        known.extend(contacts.collect::<Vec<_>>());
        let (half, whole) = ((self.dht.delay / 2).max(1), self.dht.delay.max(1));
        let (parts, end): (Vec<(u64, Vec<PeerId>)>, _) = match self.dht.lookup {
            Lookup::Answers => {
                let (first, second) = known.split_at(known.len().div_ceil(2));
                (vec![(half, first.to_vec()), (whole, second.to_vec())], Some((whole, QueryOutcome::Complete)))
            }
            Lookup::Partial(count) => {
                let first = known.into_iter().take(count as usize).collect();
                (vec![(half, first)], Some((whole * 10, QueryOutcome::TimedOut)))
            }
            Lookup::Poisoned(count) => {
                let parts = vec![(half, self.nobodies(query, count)), (whole, known)];
                (parts, Some((whole, QueryOutcome::Complete)))
            }
            Lookup::Eclipsed(count) => {
                (vec![(half, self.nobodies(query, count))], Some((whole, QueryOutcome::Complete)))
            }
            Lookup::Empty => (Vec::new(), Some((whole, QueryOutcome::Complete))),
            Lookup::TimesOut => (Vec::new(), Some((whole * 10, QueryOutcome::TimedOut))),
            Lookup::Silent => (Vec::new(), None),
            Lookup::NoSource => (Vec::new(), Some((1, QueryOutcome::NoSource))),
        };
        for (after, peers) in parts.into_iter().filter(|(_, peers)| !peers.is_empty()) {
            self.push(self.now + after, node, kind::QUERY, node, Happening::Found { node, life, query, peers });
        }
        if let Some((after, outcome)) = end {
            self.push(self.now + after, node, kind::QUERY, node, Happening::QueryDone { node, life, query, outcome });
        }
    }

    /// Peers that are not there, others for every query.
    fn nobodies(&self, query: QueryId, count: u32) -> Vec<PeerId> {
        let stream = Stream::new(0, 0, Purpose::Lookup);
        let node = |nth: u32| rand(self.seed, stream, (query.0 << 16) ^ u64::from(nth)) as u32 | (1 << 31);
        (0..count).map(|nth| peer_id(node(nth))).collect()
    }

    /// Sees to it that a timer goes off no later than the machine's next deadline.
    fn arm(&mut self, node: u32, role: Role) {
        let now = self.now;
        let place = &mut self.nodes[node as usize];
        let (due, timer, generation) = match role {
            Role::Requester => match &mut place.requester {
                Some(side) => (side.machine.poll_timeout(), &mut side.timer, &mut side.generation),
                None => return,
            },
            Role::Provider => match &mut place.provider {
                Some(side) => (side.machine.poll_timeout(), &mut side.timer, &mut side.generation),
                None => return,
            },
            Role::Script => return,
        };
        let Some(at) = due.map(|due| place.clock.when(due.at.as_millis()).max(now)) else { return };
        // A timer that goes off too early looks again; only one that would come too late is replaced.
        if at < u64::MAX && timer.is_none_or(|armed| at < armed) {
            *timer = Some(at);
            *generation += 1;
            let generation = *generation;
            self.push(at, node, kind::TIMER, role as u32, Happening::Timer { node, role, generation });
        }
    }

    /// Sets a machine's timer anew: its clock does not show what it did when the timer was set.
    pub(super) fn rearm(&mut self, node: u32, role: Role) {
        let place = &mut self.nodes[node as usize];
        match role {
            Role::Requester => place.requester.as_mut().map(|side| side.timer = None),
            Role::Provider => place.provider.as_mut().map(|side| side.timer = None),
            Role::Script => None,
        };
        self.arm(node, role);
    }

    /// Whether a timer that goes off is live, and the machine's deadline has come; if it comes later, a new one is set.
    pub(super) fn is_due(&mut self, node: u32, role: Role, generation: u64, at: u64) -> bool {
        let place = &mut self.nodes[node as usize];
        let (due, timer, live) = match role {
            Role::Requester => match &mut place.requester {
                Some(side) => (side.machine.poll_timeout(), &mut side.timer, side.generation),
                None => return false,
            },
            Role::Provider => match &mut place.provider {
                Some(side) => (side.machine.poll_timeout(), &mut side.timer, side.generation),
                None => return false,
            },
            Role::Script => return false,
        };
        if !place.alive || live != generation {
            return false;
        }
        *timer = None;
        let is_due = due.is_some_and(|due| due.at.as_millis() <= place.clock.shows(at));
        if !is_due {
            self.arm(node, role);
        }
        is_due
    }

    fn input_timeout(&mut self, node: u32, role: Role) {
        self.trace.record(self.now, node, node, role as u8, &[]);
        let place = &self.nodes[node as usize];
        let due = match role {
            Role::Requester => place.requester.as_ref().and_then(|side| side.machine.poll_timeout()),
            _ => place.provider.as_ref().and_then(|side| side.machine.poll_timeout()),
        };
        if let Some(due) = due {
            self.judge.reach_deadline(role == Role::Provider, due.cause);
        }
        if let Some(log) = &mut self.log {
            log.input(self.now, node, role, &Input::Timeout);
        }
        let place = &mut self.nodes[node as usize];
        let now = place.clock.read(self.now);
        let mut alike = true;
        let next = match role {
            Role::Requester => place.requester.as_mut().and_then(|side| {
                alike = tell(&mut side.machine, now, Input::Timeout, self.doubles, |machine| machine.digest(now));
                side.machine.poll_timeout()
            }),
            Role::Provider => place.provider.as_mut().and_then(|side| {
                alike = tell(&mut side.machine, now, Input::Timeout, self.doubles, |machine| machine.digest(now));
                side.machine.poll_timeout()
            }),
            Role::Script => None,
        };
        self.judge_double(node, role, alike);
        if let Some(next) = next.filter(|next| next.at <= now) {
            self.judge.fail(Rule::Timer, format_args!("{role:?} {node}: {next:?} after the timeout of {now:?}"));
            // Time goes on, or the run would hang here.
            self.drain_some(node, role, u32::MAX);
            return;
        }
        self.after(node, role);
    }
}

/// Tells a machine a fact; says whether a copy of it, told the same, says and becomes the same.
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

/// How many frames some bytes are.
fn frames(mut bytes: &[u8]) -> u64 {
    let mut count = 0;
    while let [high, low, rest @ ..] = bytes {
        count += 1;
        bytes = rest.get(usize::from(u16::from_be_bytes([*high, *low]))..).unwrap_or_default();
    }
    count
}

fn own<E>(output: Output<'_, E>, spare: &mut Buffers) -> Option<Order> {
    Some(match output {
        Output::Open { stream, peer } => Order::Open(stream, peer),
        Output::Transmit { stream, bytes } => Order::Transmit(stream, spare.copy(bytes)),
        Output::Close(stream) => Order::Close(stream),
        Output::Reset(stream) => Order::Reset(stream),
        Output::StartQuery { query, model } => Order::StartQuery(query, model.clone()),
        Output::CancelQuery(query) => Order::CancelQuery(query),
        Output::Event(_) => return None,
    })
}

pub(super) const fn input_kind(input: &Input<'_>) -> u8 {
    match input {
        Input::Timeout => 0,
        Input::StreamOpened(_) => 1,
        Input::StreamFailed(..) => 2,
        Input::Received(..) => 3,
        Input::StreamClosed(_) => 4,
        Input::PeersFound(..) => 5,
        Input::QueryDone(..) => 6,
        Input::PeerConnected(_) => 7,
        Input::PeerGone(_) => 8,
    }
}

/// Tells the application's record of an event; a job whose application is to look at its tokens at the time named.
fn note(
    jobs: &mut std::collections::BTreeMap<JobId, crate::job::Job>,
    stores: bool,
    now: u64,
    event: &Event<'_>,
) -> Option<(JobId, u64)> {
    let id = event.job()?;
    let job = jobs.get_mut(&id)?;
    if let Some(event) = keep(event) {
        if let Event::TakenOver { how: TakeOver::Restarted, .. } = &event {
            job.text.clear();
            job.tokens = 0;
            job.pieces.clear();
        }
        if let Event::Ended { ending, .. } = &event {
            job.ending.get_or_insert((now, ending.clone()));
        }
        job.events.push((now, event));
        return None;
    }
    let Event::Tokens { peer, n, text, ids, .. } = event else { return None };
    if stores {
        job.pieces.push((*peer, *n, text.len(), ids.map(<[u8]>::to_vec)));
    }
    job.tokens += u64::from(*n);
    job.delivered += u64::from(*n);
    job.text.push_str(text);
    job.first_token.get_or_insert(now);
    let pause = match job.pace {
        Pace::AtOnce => 1,
        Pace::Every(ms) => ms.max(1),
        Pace::Never => return None,
    };
    if job.app_due {
        return None;
    }
    job.app_due = true;
    Some((id, now + pause))
}
